"""Folders of runs, and a CSV log that a resumed run goes on with."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from popularity.errors import InputError
from popularity.io import write_atomically


class _AppendingWriter(ExperimentWriter):
    def _check_log_dir_exists(self) -> None:
        """Go on with the lines that are there, where Lightning's writer would delete them."""
        if self._fs.isfile(self.metrics_file_path):
            with self._fs.open(self.metrics_file_path, "r", newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])


class AppendingCSVLogger(CSVLogger):
    """``metrics.csv`` of a run, which grows when the run is resumed; Lightning's own logger starts the file anew."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer behind this logger."""
        if self._experiment is None:
            self._experiment = _AppendingWriter(log_dir=self.log_dir)
        return self._experiment

    @rank_zero_only
    def drop_from(self, step: int) -> None:
        """Drop the lines of an interrupted run that lie behind its checkpoint: they will be logged again."""
        path = Path(self.log_dir) / ExperimentWriter.NAME_METRICS_FILE
        if not path.is_file():
            return
        with open(path, newline="") as file:
            header, *rows = csv.reader(file)
        place = header.index("step")
        with write_atomically(path) as file:
            csv.writer(file).writerows([header, *(row for row in rows if int(row[place]) < step)])


def run_version(checkpoint: Path, runs: Path) -> int | None:
    """N if a checkpoint is ``runs/version_N/checkpoints/*.ckpt``, else None."""
    run = checkpoint.resolve().parent.parent
    found = run.parent == runs.resolve() and run.name.startswith("version_") and run.name[8:].isdigit()
    return int(run.name[8:]) if found else None


def last_checkpoint(folder: Path) -> Path:
    """``last.ckpt`` of the newest run in a folder of runs."""
    found = [path for path in folder.glob("version_*/checkpoints/last.ckpt") if path.parts[-3][8:].isdigit()]
    if not found:
        raise InputError(f"--ckpt_path last: no version_N/checkpoints/last.ckpt in {folder}")
    return max(found, key=lambda path: int(path.parts[-3][8:]))
