"""What a second thread brings, forward + backward, wall time: ``python benchmarks/threads.py``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch
from common import SHAPES, median_times, save, short, table

from popularity.models import scan
from popularity.models.mamba import Mamba

ROUNDS = 25


def main() -> None:
    """Measure, print, save."""
    torch.manual_seed(0)
    os.environ[scan.VARIABLE] = "cpp"
    figures = {}
    for shape in SHAPES:
        batch, length, d_model, d_state = shape
        block = Mamba(d_model, d_state)
        u, dout = torch.randn(batch, length, d_model, requires_grad=True), torch.randn(batch, length, d_model)

        def run(threads: int, block: Mamba = block, u: torch.Tensor = u, dout: torch.Tensor = dout) -> None:
            torch.set_num_threads(threads)
            block(u).backward(dout)

        candidates: dict[str, Callable[[], object]] = {"1": lambda: run(1), "2": lambda: run(2)}
        times = median_times(candidates, ROUNDS, time.perf_counter)
        figures[short(shape)] = {"1": times["1"] * 1e3, "2": times["2"] * 1e3, "ratio": times["1"] / times["2"]}
    rows = [[shape, *(f"{values[name]:.2f}" for name in ("1", "2", "ratio"))] for shape, values in figures.items()]
    save("threads", figures, table(["batch,length,d_model,d_state", "1 thread, ms", "2 threads, ms", "ratio"], rows))


if __name__ == "__main__":
    main()
