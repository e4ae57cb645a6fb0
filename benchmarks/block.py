"""One block, forward and forward + backward, against published ones: ``python benchmarks/block.py``.

Needs the packages of ``benchmarks/constraints.txt``, in an environment of their own; those missing are skipped.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection

import torch
from common import SHAPES, cpu_clock, median_times, save, short, table
from peers import PEERS
from torch import Tensor, nn

from popularity.models import scan
from popularity.models.mamba import Mamba

LONG = 512  # tokens above which peers that loop over them take minutes: their backward pass is quadratic
OURS = {"C++ kernels": "cpp", "plain PyTorch": "torch"}


class Forced(nn.Module):
    """Our block with one implementation."""

    def __init__(self, block: Mamba, name: str) -> None:
        super().__init__()
        self.block, self.name = block, name

    def forward(self, u: Tensor) -> Tensor:
        """(batch, length, d_model) -> the same."""
        os.environ[scan.VARIABLE] = self.name
        return self.block(u)


def candidates(shape: tuple[int, ...], only: Collection[str] = ()) -> dict[str, nn.Module]:
    """Blocks by name, all with the same parameters: ours, and the peers, or only those named in ``only``."""
    _, _, d_model, d_state = shape
    ours = Mamba(d_model, d_state)
    found: dict[str, nn.Module] = {name: Forced(ours, value) for name, value in OURS.items()}
    for name, make in PEERS.items():
        if (shape[1] > LONG and name != "mambapy") or (only and name not in only):
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


def measure(shape: tuple[int, ...], rounds: int, only: set[str]) -> dict[str, dict[str, float]]:
    """Milliseconds, forward and forward + backward, by block."""
    batch, length, d_model, _ = shape
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

    clock = cpu_clock()
    there = median_times({name: forward(block) for name, block in blocks.items()}, rounds, clock)
    back = median_times({name: both(block) for name, block in blocks.items()}, rounds, clock)
    return {name: {"forward": there[name] * 1e3, "both": back[name] * 1e3} for name in blocks}


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", type=int, nargs="*", default=range(len(SHAPES)), help="numbers of shapes, from 0")
    parser.add_argument("--only", nargs="*", default=[], help="peers to take")
    parser.add_argument("--name", default="block", help="of the files under results/")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    figures = {}
    for number in arguments.shapes:
        shape = SHAPES[number]
        figures[short(shape)] = measure(shape, arguments.rounds, set(arguments.only))
        print(short(shape), figures[short(shape)], flush=True)
    parts = []
    for kind, title in (("both", "forward + backward"), ("forward", "forward")):
        names = list(dict.fromkeys(name for times in figures.values() for name in times))
        rows = [
            [name, *(cell(times, name, kind) for times in figures.values())] for name in names
        ]  # fmt: skip
        parts.append(f"{title}: ms (times the C++ kernels')\n\n" + table(["block", *figures], rows))
    save(arguments.name, figures, "\n\n".join(parts))


def cell(times: dict[str, dict[str, float]], name: str, kind: str) -> str:
    """Milliseconds and the ratio to our kernels'."""
    if name not in times:
        return "-"
    return f"{times[name][kind]:.1f} ({times[name][kind] / times['C++ kernels'][kind]:.1f})"


if __name__ == "__main__":
    main()
