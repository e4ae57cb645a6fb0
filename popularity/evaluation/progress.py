"""What one sees during a comparison: a line per run, with the best model so far and the time left."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from rich.console import Console

from popularity.evaluation.protocol import Run
from popularity.parsing import one_line


class Progress:
    """Lines such as ``12/75  lightgbm, repeat 0, fold 2: MSE 312.05, 8.1 s; best so far mamba 148.20; 0:12:30 left``.

    Args:
        runs: all that the comparison consists of.
        finished: facts of the results that there are already.
        workers: processes that work on the rest.
        console: where it is shown.
    """

    def __init__(
        self, runs: Iterable[Run], finished: Mapping[Run, Mapping[str, Any]], workers: int, console: Console
    ) -> None:
        self.waiting = [run for run in runs if run not in finished]
        self.total = len(self.waiting) + len(finished)
        self.workers = workers
        self.console = console
        self._seconds: dict[tuple[str, bool], list[float]] = defaultdict(list)
        self._mse: dict[str, list[float]] = defaultdict(list)
        for run, facts in finished.items():
            self._take(run, facts)

    def ended(self, run: Run, facts: Mapping[str, Any]) -> None:
        """Print the line of a run that has ended."""
        self.waiting.remove(run)
        if facts["error"]:
            told = f"failed ({one_line(facts['error'], 200)})"
        else:
            self._take(run, facts)
            told = f"MSE {facts['metrics']['mse']:.2f}, " if "metrics" in facts else ""
            told += f"{facts['elapsed']:.1f} s"
        best = min(self._mse, key=lambda name: statistics.fmean(self._mse[name]), default=None)
        parts = [f"{self.total - len(self.waiting)}/{self.total}  {run}: {told}"]
        parts += [f"best so far {best} {statistics.fmean(self._mse[best]):.2f}"] if best else []
        left = self.seconds_left()
        parts += [f"{timedelta(seconds=round(left))} left"] if left is not None else []
        self.console.print("; ".join(parts))

    def seconds_left(self) -> float | None:
        """How long the waiting runs will take if each takes as long as those of its model did; None if unknown."""
        if not self._seconds:
            return None
        means = {key: statistics.fmean(seconds) for key, seconds in self._seconds.items()}
        typical = statistics.fmean(means.values())
        return sum(means.get((run.model, run.hits), typical) for run in self.waiting) / self.workers

    def _take(self, run: Run, facts: Mapping[str, Any]) -> None:
        self._seconds[run.model, run.hits].append(facts["elapsed"])
        if "metrics" in facts:
            self._mse[run.model].append(facts["metrics"]["mse"])
