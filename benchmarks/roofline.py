"""How far the block is from what the machine can do: ``python benchmarks/roofline.py``.

The bound is the time of the block's matrix products at the rate of a large product, plus the time to read each
operation's inputs and write its results once, at the bandwidth of a copy out of cache. All are measured in turn. Times
are the shortest of the rounds: the question is what the machine can do, and other work on it only adds time.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import torch
from block import BLOCKS
from common import cpu_clock, median_times, save, short, table

from popularity.models import scan
from popularity.models.mamba import Mamba
from popularity.models.mamba2 import Mamba2

SIZE = 1024  # of the square product: 2 SIZE^3 operations
COPIED = 1 << 24  # floats, far beyond any cache


def work(block: Mamba | Mamba2, tokens: int) -> tuple[float, float]:
    """Operations of the matrix products, and bytes read and written, of forward and backward together.

    A product costs two more of its size in the backward pass; the other operations' traffic is taken to grow likewise.
    The products within chunks of Mamba-2 are not counted: a scan token by token needs none.
    """
    w, d, n = block.d_model, block.d_inner, block.d_state
    if isinstance(block, Mamba2):
        mixed, h = block.conv_dim, block.nheads
        row = d + mixed + h
        products = 2 * tokens * (w * row + d * w)
        floats = (w + row) + (mixed + mixed) + (mixed + h + d) + (d + d + d) + (d + w)
        return 3.0 * products, 3.0 * 4 * tokens * floats
    r = block.dt_rank
    p = r + 2 * n
    products = 2 * tokens * (w * 2 * d + d * p + r * d + d * w)
    floats = (w + 2 * d) + (d + d) + (d + p) + (r + d) + (3 * d + 2 * n + d) + (d + w)
    return 3.0 * products, 3.0 * 4 * tokens * floats


def measure(shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """The bound, our time and the rates behind them."""
    batch, length, d_model, d_state, *headdim = shape
    block = Mamba2(d_model, d_state=d_state, headdim=headdim[0]) if headdim else Mamba(d_model, d_state)
    u, dout = torch.randn(batch, length, d_model, requires_grad=True), torch.randn(batch, length, d_model)
    a, b, c = (torch.randn(SIZE, SIZE) for _ in range(3))
    source, to = torch.randn(COPIED), torch.randn(COPIED)

    def train() -> None:
        u.grad = None
        for parameter in block.parameters():
            parameter.grad = None
        block(u).backward(dout)

    candidates: dict[str, Callable[[], object]] = {
        "product": lambda: torch.mm(a, b, out=c),
        "copy": lambda: to.copy_(source),
        "block": train,
    }
    times = median_times(candidates, rounds, cpu_clock(), min)
    rate, bandwidth = 2 * SIZE**3 / times["product"], 2 * 4 * COPIED / times["copy"]
    products, moved = work(block, batch * length)
    bound = products / rate + moved / bandwidth
    return {
        "GFlop/s": rate / 1e9,
        "GB/s": bandwidth / 1e9,
        "products ms": products / rate * 1e3,
        "memory ms": moved / bandwidth * 1e3,
        "bound ms": bound * 1e3,
        "block ms": times["block"] * 1e3,
        "ratio": times["block"] / bound,
    }


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", nargs="*", choices=BLOCKS, default=list(BLOCKS))
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ[scan.VARIABLE] = "cpp"
    for name in arguments.blocks:
        torch.manual_seed(0)
        file, shapes = BLOCKS[name]
        figures = {short(shape): measure(shape, arguments.rounds) for shape in shapes}
        header = list(next(iter(figures.values())))
        rows = [[shape, *(f"{values[key]:.2f}" for key in header)] for shape, values in figures.items()]
        columns = "batch,length,d_model,d_state" + ",headdim" * (name == "mamba2")
        save(file.replace("block", "roofline"), figures, table([columns, *header], rows))


if __name__ == "__main__":
    main()
