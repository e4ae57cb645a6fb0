"""What the benchmarks share: alternating measurements in one process, the machine's description, tables and files.

With one thread, times are CPU time of that thread, since wall time on a shared machine varies too much; with several
they are wall time. Candidates take turns; the result is the median over the rounds, without the first. In its turn each
runs twice and the second run counts: in training a network follows itself and finds the caches as it left them.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

PATIENCE = 3.0
RESULTS = Path(__file__).parent / "results"
# batch, length, d_model, d_state
SHAPES = ((256, 14, 64, 16), (1024, 14, 64, 16), (256, 32, 128, 16), (32, 256, 128, 16), (8, 1024, 128, 16))


def median_times(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float],
    pick: Callable[[list[float]], float] = statistics.median,
) -> dict[str, float]:
    """Seconds by candidate: the median, or another statistic ``pick``, of the second runs in ``rounds`` rounds.

    One round with one run goes before. A candidate that takes longer than ``PATIENCE`` seconds runs only once.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    first: dict[str, float] = {}
    for _ in range(rounds + 1):
        for name, run in candidates.items():
            if first.get(name, 0) > PATIENCE:
                continue
            if name in first:
                run()
            start = clock()
            run()
            taken = clock() - start
            if name in first:
                times[name].append(taken)
            else:
                first[name] = taken
    return {name: pick(values or [first[name]]) for name, values in times.items()}


def cpu_clock() -> Callable[[], float]:
    """CPU time of this thread with one thread, wall time with several."""
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


def machine() -> dict[str, Any]:
    """What the measurements depend on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    gpu = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda} if torch.cuda.is_available() else {}
    return {
        **gpu,
        "cpu": model,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load average": round(os.getloadavg()[1], 1),  # of the last five minutes: other work shares caches and cores
    }


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def save(name: str, figures: object, text: str) -> None:
    """Print ``text`` and write it, and the numbers, with the machine's description, under ``results/``."""
    description = machine()
    said = ", ".join(f"{key} {value}" for key, value in description.items())
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": description, "figures": figures}, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(f"{said}\n\n{text}\n")
    print(f"{said}\n\n{text}")


def short(shape: Sequence[int]) -> str:
    """A shape as it is written in the tables."""
    return ",".join(map(str, shape))
