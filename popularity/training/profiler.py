"""Where the time of a fit goes, as a table that fits a terminal."""

from __future__ import annotations

import math
import re
import time

from lightning.pytorch.profilers import SimpleProfiler

_WIDTH, _LEAST = 60, 0.002


class ShortProfiler(SimpleProfiler):
    """Lightning's simple profiler, but for a summary of what took at least 0.2 % of the time.

    Actions lie within each other: a step is part of its batch, which is part of its epoch.
    """

    _told = False

    def describe(self) -> None:
        """Log the summary at the end of a fit; a test that follows it is no reason to log it again."""
        if self._stage == "fit" or not self._told:
            super().describe()
            self._told = True

    def summary(self) -> str:
        """Share of the time, seconds, calls and milliseconds per call of each action, the longest first."""
        whole = time.perf_counter() - self.start_time
        totals = {name: math.fsum(seconds) for name, seconds in self.recorded_durations.items()}
        lines = [f"{'action':<{_WIDTH}}   share   seconds    calls   ms each"]
        for name, seconds in sorted(totals.items(), key=lambda item: -item[1]):
            if seconds >= _LEAST * whole:
                calls = len(self.recorded_durations[name])
                lines.append(
                    f"{_short(name):<{_WIDTH}} {seconds / whole:7.1%} {seconds:9.2f} {calls:8,} "
                    f"{seconds / calls * 1e3:9.2f}"
                )
        return "\n".join(["", *lines, f"{'in all':<{_WIDTH}} {1:7.1%} {whole:9.2f}", ""])


def _short(action: str) -> str:
    """``[Callback]EMA.on_train_end`` as ``EMA.on_train_end``, without a callback's settings, cut to the width."""
    return re.sub(r"^\[\w+\]\.?|\{.*\}", "", action)[:_WIDTH]
