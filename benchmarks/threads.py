"""What a second thread brings, forward + backward: ``python benchmarks/threads.py``.

Wall time, and CPU time of the calling thread, which works on its half of the batch and on everything that is not
shared, and sleeps while it waits. Other work on the machine makes the first longer, up to no gain at all where it takes
a core; the second is what two free cores would give.
"""

from __future__ import annotations

import os
import time

os.environ["OMP_WAIT_POLICY"] = "passive"  # or waiting for the other thread would count as work
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
            u.grad = None
            block.zero_grad()
            block(u).backward(dout)

        candidates: dict[str, Callable[[], object]] = {"1": lambda: run(1), "2": lambda: run(2)}
        found: dict[str, float] = {}
        for kind, clock in (("wall", time.perf_counter), ("CPU", time.thread_time)):
            times = median_times(candidates, ROUNDS, clock)
            found |= {f"{kind} 1": times["1"] * 1e3, f"{kind} 2": times["2"] * 1e3}
            found[f"{kind} ratio"] = times["1"] / times["2"]
        figures[short(shape)] = found
    header = list(next(iter(figures.values())))
    rows = [[shape, *(f"{values[name]:.2f}" for name in header)] for shape, values in figures.items()]
    save("threads", figures, "ms by threads\n\n" + table(["batch,length,d_model,d_state", *header], rows))


if __name__ == "__main__":
    main()
