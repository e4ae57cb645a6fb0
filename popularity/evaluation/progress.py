"""What one sees while jobs run: how many are done, how long the rest will take, the scores so far."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from popularity.evaluation.protocol import Job


class Board:
    """A bar and a table in a terminal, a line per job elsewhere.

    Args:
        jobs: all that the comparison consists of.
        finished: the results there are already.
        workers: processes that work on the rest.
        console: where it is shown.
    """

    def __init__(
        self, jobs: Iterable[Job], finished: dict[Job, dict[str, Any]], workers: int, console: Console | None = None
    ) -> None:
        self.console = console or Console()
        self.workers = workers
        self.waiting = dict.fromkeys(job for job in jobs if job not in finished)
        self.results = dict(finished)
        self.failed: dict[Job, str] = {}
        self.total = len(self.results) + len(self.waiting)
        columns = (TextColumn("jobs"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        self.bar = Progress(*columns, console=self.console)
        self.task: TaskID = self.bar.add_task("", total=self.total, completed=len(self.results))
        self.live = Live(console=self.console, get_renderable=self._render, refresh_per_second=2)

    def __enter__(self) -> Board:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def ended(self, job: Job, result: dict[str, Any]) -> None:
        """Take in a result."""
        del self.waiting[job]
        if result["error"]:
            self.failed[job] = result["error"]
            told = f"[red]failed[/red] ({_short(result['error'])})"
        else:
            self.results[job] = result
            told = f"MSE {result['metrics']['mse']:.2f}" if "metrics" in result else "done"
        count, left = self.total - len(self.waiting), _clock(self.seconds_left())
        self.bar.update(self.task, completed=count, description=left)
        if result["error"] or not self.console.is_terminal:
            seconds = f"{_elapsed(result):.1f} s" if result["seconds"] is not None else "-"
            self.console.print(
                f"{count}/{self.total}  {job}: {told}, {seconds}; {left}", soft_wrap=True, highlight=False
            )

    def seconds_left(self) -> float | None:
        """How long the waiting jobs will take if each takes as long as those of its model took; None if unknown."""
        taken = defaultdict(list)
        for job, result in self.results.items():
            taken[job.model, job.cutoff].append(_elapsed(result))
        if not taken:
            return None
        means = {key: statistics.fmean(seconds) for key, seconds in taken.items()}
        typical = statistics.fmean(means.values())
        return sum(means.get((job.model, job.cutoff), typical) for job in self.waiting) / self.workers

    def _render(self) -> Group:
        table = Table()
        for name in ("model", "folds", "MSE", "sd", "seconds"):
            table.add_column(name, justify="left" if name == "model" else "right")
        scores = defaultdict(list)
        for job, result in self.results.items():
            if "metrics" in result:
                scores[job.model].append((result["metrics"]["mse"], result["seconds"]))
        for model, rows in sorted(scores.items(), key=lambda item: statistics.fmean(mse for mse, _ in item[1])):
            values = [mse for mse, _ in rows]
            spread = f"{statistics.stdev(values):.2f}" if len(values) > 1 else "-"
            seconds = statistics.fmean(seconds for _, seconds in rows)
            table.add_row(model, str(len(rows)), f"{statistics.fmean(values):.2f}", spread, f"{seconds:.1f}")
        return Group(*([table] if scores else []), self.bar)


def _elapsed(result: dict[str, Any]) -> float:
    """What a job took here; its `seconds` are the model's, with those of what was there already."""
    return float(result.get("elapsed", result["seconds"]))


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else f"{timedelta(seconds=round(seconds))} left"


def _short(error: str, limit: int = 200) -> str:
    text = " ".join(error.split()).replace("[", r"\[")
    return text if len(text) <= limit else f"{text[:limit]} ..."
