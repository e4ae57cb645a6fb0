"""Folders of runs, and a log of all metrics as one CSV file that a resumed run continues."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from popularity.errors import InputError
from popularity.io import check_folder, write_atomically
from popularity.training.checkpoints import BEFORE_LAST, LAST

#: Lightning saves after each row. The file is written whole, so that a long run would mostly write: seconds in between.
SECONDS = 2.0


class MetricsCSV(Logger):
    """Writes ``metrics.csv``: a row per logged step and a column per metric, as Lightning's own ``CSVLogger`` does.

    Lightning's logger starts the file anew when a run is resumed. This one keeps the rows of the run that lie before
    the first step logged after resuming; later rows belong to an interrupted epoch that is trained again.

    Args:
        beside: logger whose folder it shares.
    """

    def __init__(self, beside: Logger) -> None:
        super().__init__()
        self._beside = beside
        self._rows: list[dict[str, Any]] | None = None
        self._unsaved = False
        self._saved_at = -SECONDS

    @property
    def path(self) -> Path:
        """The file."""
        return Path(str(self._beside.log_dir)) / "metrics.csv"

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
        if self._rows is None:
            found = rows_of(self.path)
            if step == 0 and any(name.startswith("test/") for name in metrics):
                # training was in processes that have ended (ddp_spawn), and this one has not heard of their steps
                trained = [row for row in found if _of_training(row)]
                step = 1 + max((row["step"] for row in trained), default=-1)
                metrics = metrics | {"epoch": 1 + max((int(row["epoch"]) for row in trained), default=-1)}
            self._rows = [row for row in found if row["step"] < step]
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
        """Write the file, unless that was done just now."""
        if time.monotonic() - self._saved_at >= SECONDS:
            self.write()

    @rank_zero_only
    def write(self) -> None:
        """Write all rows; the file is never half written."""
        if not self._unsaved or self._rows is None:
            return
        names = list(dict.fromkeys(["epoch", "step", *(name for row in self._rows for name in row)]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(self.path) as file:
            writer = csv.DictWriter(file, names, restval="")
            writer.writeheader()
            writer.writerows(self._rows)
        self._unsaved, self._saved_at = False, time.monotonic()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.write()


class MetricsFirst(Callback):
    """Writes all metrics before a checkpoint: a run that goes on from it does not log the steps before again."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write what is left."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                logger.write()


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``metrics.csv``, none if there is no such file; a row that was cut off or damaged is left out."""
    try:
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or ()
            found = [row for row in reader if None not in row and None not in row.values()]
    except (FileNotFoundError, csv.Error):
        return []
    return [{**row, "step": int(row["step"])} for row in found if "step" in names and row["step"].isdigit()]


def _of_training(row: dict[str, Any]) -> bool:
    return any(value for name, value in row.items() if name.startswith(("train/", "val/")))


def take_version(runs: Path) -> int:
    """The number of a new run: its folder ``version_N`` is made here, so that no other run takes the same.

    Args:
        runs: folder of the runs of one name.

    Raises:
        InputError: the folder is not writable.
    """
    while True:
        numbers = [int(path.name[8:]) for path in runs.glob("version_*") if path.name[8:].isdigit()]
        number = max(numbers, default=-1) + 1
        if rank_zero_only.rank != 0:  # type: ignore[attr-defined]  # of several processes, the first writes
            return number
        check_folder(runs)
        runs.mkdir(parents=True, exist_ok=True)
        try:
            (runs / f"version_{number}").mkdir()
        except FileExistsError:  # a run that began at the same time was faster
            continue
        return number


def run_version(checkpoint: Path, runs: Path) -> int | None:
    """N if a checkpoint is ``runs/version_N/checkpoints/*.ckpt``, else None."""
    run = checkpoint.resolve().parent.parent
    found = run.parent == runs.resolve() and run.name.startswith("version_") and run.name[8:].isdigit()
    return int(run.name[8:]) if found else None


def last_checkpoints(folder: Path) -> list[Path]:
    """``last.ckpt`` of the newest run in a folder of runs, then the one to use if that is damaged or missing.

    Raises:
        InputError: there is none.
    """
    found = [path for name in (LAST, BEFORE_LAST) for path in folder.glob(f"version_*/checkpoints/{name}")]
    found = [path for path in found if path.parts[-3][8:].isdigit()]
    if not found:
        raise InputError(f"--ckpt_path last: expected version_N/checkpoints/{LAST} in {folder}, found none")
    newest = max(int(path.parts[-3][8:]) for path in found)
    return [path for path in found if int(path.parts[-3][8:]) == newest]


def newer_run(checkpoint: Path, runs: Path) -> Path | None:
    """A run that began after that of a checkpoint and has saved nothing yet, if there is one."""
    number = run_version(checkpoint, runs)
    later = [path for path in runs.glob("version_*") if path.name[8:].isdigit() and int(path.name[8:]) > (number or 0)]
    return max(later, key=lambda path: int(path.name[8:]), default=None)
