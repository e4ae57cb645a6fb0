"""One block, forward and forward + backward, against other implementations: ``python benchmarks/block.py``.

S6 (``--blocks mamba``) beside published blocks, which need the packages of ``benchmarks/constraints.txt`` in an
environment of their own; those missing are skipped. Mamba-2 (``--blocks mamba2``) likewise, and beside its limit: the
time of the block's matrix products alone at the rate of a large product, measured in turn with them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection, Mapping

import torch
from common import SHAPES, cpu_clock, median_times, save, short, table
from peers import MAMBA2_PEERS, PEERS
from torch import Tensor, nn

from popularity.models import scan
from popularity.models.mamba import Mamba
from popularity.models.mamba2 import Mamba2

Shape = tuple[int, ...]  # batch, length, d_model, d_state, and for Mamba-2 headdim
MAMBA2_SHAPES = (
    (256, 17, 48, 16, 16), (1024, 17, 64, 16, 16), (256, 32, 128, 64, 64), (32, 256, 128, 64, 64),
    (4, 1024, 256, 128, 64),
)  # fmt: skip
BLOCKS = {"mamba": ("block", SHAPES), "mamba2": ("block_mamba2", MAMBA2_SHAPES)}  # file under results/, shapes
LIMIT, SIZE = "matrix products alone", 1024  # the large product is of two square matrices of this size
LONG = 512  # tokens above which peers that loop over them take minutes: their backward pass is quadratic
OURS = {"C++ kernels": "cpp", "plain PyTorch": "torch"}


class Forced(nn.Module):
    """Our block with one implementation."""

    def __init__(self, block: Mamba | Mamba2, name: str) -> None:
        super().__init__()
        self.block, self.name = block, name

    def forward(self, u: Tensor) -> Tensor:
        """(batch, length, d_model) -> the same."""
        os.environ[scan.VARIABLE] = self.name
        return self.block(u)


def candidates(shape: Shape, only: Collection[str] = ()) -> dict[str, nn.Module]:
    """Blocks by name, all with the same parameters: ours and peers, or only those named in ``only``."""
    _, length, d_model, d_state, *headdim = shape
    ours = Mamba2(d_model, d_state=d_state, headdim=headdim[0]) if headdim else Mamba(d_model, d_state)
    found: dict[str, nn.Module] = {name: Forced(ours, value) for name, value in OURS.items()}
    peers: Mapping[str, Callable[..., nn.Module]] = MAMBA2_PEERS if headdim else PEERS
    for name, make in peers.items():
        if (length > LONG and not headdim and name != "mambapy") or (only and name not in only):
            continue
        try:
            found[name] = make(ours)
        except ImportError as error:
            print(f"left out: {name} ({error})")
    return found


def check(blocks: dict[str, nn.Module], d_model: int) -> None:
    """All blocks compute the same."""
    u = torch.randn(2, 5, d_model)
    with torch.no_grad():
        results = {name: block(u) for name, block in blocks.items()}
    wanted = results["plain PyTorch"]
    for name, result in results.items():
        difference = float((result - wanted).norm() / wanted.norm())
        if difference > 1e-4:
            raise SystemExit(f"{name}: expected the result of plain PyTorch, got one {difference:.1e} away")


def measure(shape: Shape, rounds: int, only: set[str]) -> dict[str, dict[str, float]]:
    """Milliseconds, forward and forward + backward, by block."""
    batch, length, d_model = shape[:3]
    blocks = candidates(shape, only)
    check(blocks, d_model)
    u = torch.randn(batch, length, d_model, requires_grad=True)
    dout = torch.randn(batch, length, d_model)

    def forward(block: nn.Module) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad():
                block(u)

        return run

    def both(block: nn.Module) -> Callable[[], object]:
        def run() -> None:
            u.grad = None
            for parameter in block.parameters():
                parameter.grad = None
            block(u).backward(dout)

        return run

    clock, turns = cpu_clock(), {name: both(block) for name, block in blocks.items()}
    if isinstance(blocks["plain PyTorch"].block, Mamba2):
        large, product = torch.randn(SIZE, SIZE), torch.empty(SIZE, SIZE)
        turns[LIMIT] = lambda: torch.mm(large, large, out=product)
    there = median_times({name: forward(block) for name, block in blocks.items()}, rounds, clock)
    back = median_times(turns, rounds, clock)
    figures = {name: {"forward": there[name] * 1e3, "both": back[name] * 1e3} for name in blocks}
    if LIMIT in back:
        limit = products(blocks["plain PyTorch"], batch * length) * back[LIMIT] / SIZE**3 * 1e3
        figures[LIMIT] = {"forward": limit, "both": 3 * limit}  # the backward pass has twice as many
    return figures


def products(block: nn.Module, tokens: int) -> int:
    """Multiplications of the block's projections in the forward pass."""
    return tokens * sum(part.weight.numel() for part in block.modules() if isinstance(part, nn.Linear))


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", nargs="*", choices=BLOCKS, default=list(BLOCKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", type=int, nargs="*", default=range(len(SHAPES)), help="numbers of shapes, from 0")
    parser.add_argument("--only", nargs="*", default=[], help="peers to take")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for block in arguments.blocks:
        torch.manual_seed(0)
        name, shapes = BLOCKS[block]
        figures = {}
        for number in arguments.shapes:
            shape = shapes[number]
            figures[short(shape)] = measure(shape, arguments.rounds, set(arguments.only))
            print(short(shape), figures[short(shape)], flush=True)
        save(name, figures, text(figures))


def text(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """Two tables, forward + backward and forward."""
    parts = []
    for kind, title in (("both", "forward + backward"), ("forward", "forward")):
        names = list(dict.fromkeys(name for times in figures.values() for name in times))
        rows = [[name, *(cell(times, name, kind) for times in figures.values())] for name in names]
        parts.append(f"{title}: ms (times the C++ kernels')\n\n" + table(["block", *figures], rows))
    return "\n\n".join(parts)


def cell(times: dict[str, dict[str, float]], name: str, kind: str) -> str:
    """Milliseconds and the ratio to our kernels'."""
    if name not in times:
        return "-"
    return f"{times[name][kind]:.1f} ({times[name][kind] / times['C++ kernels'][kind]:.2f})"


if __name__ == "__main__":
    main()
