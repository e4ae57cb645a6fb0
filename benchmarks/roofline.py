"""How far the block is from what the machine can do: ``python benchmarks/roofline.py``.

The bound is the time of the block's matrix products at the rate of a large product, plus the time to read each
operation's inputs and write its results once, at the bandwidth of a copy out of cache. All are measured in turn. Times
are the shortest of the rounds: the question is what the machine can do, and other work on it only adds time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from common import SHAPES, cpu_clock, median_times, save, short, table

from popularity.models import scan
from popularity.models.mamba import Mamba

SIZE = 1024  # of the square product: 2 SIZE^3 operations
COPIED = 1 << 24  # floats, far beyond any cache
ROUNDS = 25


def work(block: Mamba, tokens: int) -> tuple[float, float]:
    """Operations of the matrix products, and bytes read and written, of forward and backward together.

    A product costs two more of its size in the backward pass; the other operations' traffic is taken to grow likewise.
    """
    w, d, n, r = block.d_model, block.d_inner, block.d_state, block.dt_rank
    p = r + 2 * n
    products = 2 * tokens * (w * 2 * d + d * p + r * d + d * w)
    floats = (w + 2 * d) + (d + d) + (d + p) + (r + d) + (3 * d + 2 * n + d) + (d + w)
    return 3.0 * products, 3.0 * 4 * tokens * floats


def measure(shape: tuple[int, ...]) -> dict[str, Any]:
    """The bound, our time and the rates behind them."""
    batch, length, d_model, d_state = shape
    block = Mamba(d_model, d_state)
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
    times = median_times(candidates, ROUNDS, cpu_clock(), min)
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
    torch.set_num_threads(1)
    torch.manual_seed(0)
    os.environ[scan.VARIABLE] = "cpp"
    figures = {short(shape): measure(shape) for shape in SHAPES}
    header = list(next(iter(figures.values())))
    rows = [[shape, *(f"{values[name]:.2f}" for name in header)] for shape, values in figures.items()]
    save("roofline", figures, table(["batch,length,d_model,d_state", *header], rows))


if __name__ == "__main__":
    main()
