"""What one sees during a comparison: a line per run, with the best model so far and the time left."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from operator import itemgetter
from typing import Any

from rich.console import Console

from popularity.errors import one_line
from popularity.evaluation.protocol import Protocol, Run, Settings

#: Seconds for 1,000 songs on one core that a run is expected to take before one of its model has ended: of a network,
#: and of the mean baseline in ``results/*/summary.csv``.
_NETWORK, _BASELINE = 20.0, 2.0


class Progress:
    """Lines such as ``12/75  lightgbm, repeat 0, fold 2: MSE 312.05, 8.1 s; best so far mamba 148.20; 0:12:30 left``.

    Of all `runs`, some are `finished`, with facts of their results. The time of a run grows with the number of `songs`.
    """

    def __init__(
        self, protocol: Protocol, runs: Sequence[Run], finished: Mapping[Run, Any], songs: int, console: Console
    ) -> None:
        self.protocol, self.console, self.songs = protocol, console, songs
        self.waiting, self.total = [run for run in runs if run not in finished], len(runs)
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
        means = {name: statistics.fmean(errors) for name, errors in self._mse.items()}
        parts = [f"{self.total - len(self.waiting)}/{self.total}  {run}: {told}"]
        parts += [f"best so far {name} {mean:.2f}" for name, mean in sorted(means.items(), key=itemgetter(1))[:1]]
        parts += [f"{timedelta(seconds=round(self.seconds_left()))} left"]
        self.console.print("; ".join(parts))

    def seconds_left(self) -> float:
        """How long the waiting runs will take if each takes as long as those of its model did, or as is usual."""
        means = {key: statistics.fmean(seconds) for key, seconds in self._seconds.items()}
        waiting = Counter((run.model, run.hits) for run in self.waiting)
        models = self.protocol.every
        expected = {key: means.get(key) or self._expected(key[0], models[key[0]], means) for key in waiting}
        return sum(count * expected[key] for key, count in waiting.items()) / self.protocol.workers

    def _expected(self, name: str, settings: Settings, means: Mapping[tuple[str, bool], float]) -> float:
        """Seconds of a run before the first one: as without hits, as other networks took, or as is usual."""
        if (name, False) in means:
            return means[name, False]
        if "configs" not in settings:
            return _BASELINE * self.songs / 1000
        models = self.protocol.every
        alike = [mean for (other, hits), mean in means.items() if not hits and "configs" in models[other]]
        return statistics.fmean(alike) if alike else _NETWORK * self.songs / 1000

    def _take(self, run: Run, facts: Mapping[str, Any]) -> None:
        self._seconds[run.model, run.hits].append(facts["elapsed"])
        if "metrics" in facts:
            self._mse[run.model].append(facts["metrics"]["mse"])
