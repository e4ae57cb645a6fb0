"""Folders of runs, and a log of all metrics as one CSV file that a resumed run continues."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from popularity.errors import InputError
from popularity.io import write_atomically


class MetricsCSV(Logger):
    """Writes ``metrics.csv``: a row per logged step and a column per metric, as Lightning's own ``CSVLogger`` does.

    Lightning's logger starts the file anew when a run is resumed. This one keeps the rows of the run that lie before
    the first step logged after resuming; later rows belong to an interrupted epoch that is trained again.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self._rows: list[dict[str, Any]] = []
        self._resumed = self.path.is_file()
        self._unsaved = False

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.path.parent.parent.name

    @property
    def version(self) -> str:
        """Folder of the run."""
        return self.path.parent.name

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``config.yaml`` holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row, or complete the last one if it has the same step."""
        step = 0 if step is None else step
        if self._resumed:
            self._resumed = False
            with open(self.path, newline="", encoding="utf-8") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["step"]) < step]
        row = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        if "epoch" in metrics:
            row = {"epoch": int(metrics["epoch"]), **row}
        repeated = {"step"} | (row.keys() - {"epoch"}) & (self._rows[-1].keys() if self._rows else set())
        if self._rows and self._rows[-1]["step"] == step and repeated == {"step"}:
            self._rows[-1].update(row)
        else:
            self._rows.append({"step": step, **row})
        self._unsaved = True

    @rank_zero_only
    def save(self) -> None:
        """Write the file; it is never half written."""
        if not self._unsaved:
            return
        names = list(dict.fromkeys(["epoch", "step", *(name for row in self._rows for name in row)]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(self.path) as file:
            writer = csv.DictWriter(file, names, restval="")
            writer.writeheader()
            writer.writerows(self._rows)
        self._unsaved = False

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()


def run_version(checkpoint: Path, runs: Path) -> int | None:
    """N if a checkpoint is ``runs/version_N/checkpoints/*.ckpt``, else None."""
    run = checkpoint.resolve().parent.parent
    found = run.parent == runs.resolve() and run.name.startswith("version_") and run.name[8:].isdigit()
    return int(run.name[8:]) if found else None


def last_checkpoint(folder: Path) -> Path:
    """``last.ckpt`` of the newest run in a folder of runs.

    Raises:
        InputError: there is none.
    """
    found = [path for path in folder.glob("version_*/checkpoints/last.ckpt") if path.parts[-3][8:].isdigit()]
    if not found:
        raise InputError(f"--ckpt_path last: expected version_N/checkpoints/last.ckpt in {folder}, found none")
    return max(found, key=lambda path: int(path.parts[-3][8:]))
