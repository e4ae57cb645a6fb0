"""Folders of runs, and one CSV file of metrics that a resumed run continues."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import Lazy

loggers = Lazy("popularity.training.loggers")


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def logger_in(folder: Path) -> Any:
    return loggers.MetricsCSV(SimpleNamespace(log_dir=str(folder)))


def test_metrics_of_one_step_share_a_row(tmp_path: Path) -> None:
    logger = logger_in(tmp_path)
    logger.log_metrics({"epoch": 0, "loss": 2.5}, 9)
    logger.log_metrics({"epoch": 0, "val/mse": 4.0}, 9)
    logger.log_metrics({"loss": 1.5}, 19)
    logger.log_metrics({"loss": 1.0}, 19)  # the same metric again: a row of its own
    assert not (tmp_path / "metrics.csv").exists()
    logger.finalize("success")
    assert rows(tmp_path) == [
        {"epoch": "0", "step": "9", "loss": "2.5", "val/mse": "4.0"},
        {"step": "19", "loss": "1.5"},
        {"step": "19", "loss": "1.0"},
    ]


def test_a_resumed_run_keeps_the_rows_before_its_first_step(tmp_path: Path) -> None:
    first = logger_in(tmp_path)
    for step in (9, 19, 29):
        first.log_metrics({"loss": float(step)}, step)
    first.save()
    again = logger_in(tmp_path)
    again.save()
    assert [row["step"] for row in rows(tmp_path)] == ["9", "19", "29"], "nothing is lost before something is logged"
    again.log_metrics({"loss": 0.5, "new": 1.0}, 19)
    again.save()
    assert rows(tmp_path) == [{"step": "9", "loss": "9.0"}, {"step": "19", "loss": "0.5", "new": "1.0"}]


def test_a_file_that_was_written_just_now_is_not_written_for_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(loggers.time, "monotonic", lambda: now)
    logger = logger_in(tmp_path)
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
        logger.save()
    assert [row["step"] for row in rows(tmp_path)] == ["0"]
    now += loggers.SECONDS
    logger.save()
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1", "2"]


def test_all_rows_are_written_before_a_checkpoint(tmp_path: Path) -> None:
    logger = logger_in(tmp_path)
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
        logger.save()
    loggers.MetricsFirst().on_save_checkpoint(SimpleNamespace(loggers=[logger]), None, {})
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1", "2"]


def test_a_test_that_knows_nothing_of_the_training_keeps_its_rows(tmp_path: Path) -> None:
    """With ddp_spawn both are in processes of their own; done again, the row takes the place of the one before."""
    first = logger_in(tmp_path)
    first.log_metrics({"epoch": 0, "train/loss": 2.0, "val/mse": 4.0}, 8)
    first.save()
    for mse in (5.0, 6.0):
        tested = logger_in(tmp_path)
        tested.log_metrics({"epoch": 0, "test/mse": mse}, 0)
        tested.save()
    assert rows(tmp_path) == [
        {"epoch": "0", "step": "8", "train/loss": "2.0", "val/mse": "4.0"},
        {"epoch": "1", "step": "9", "test/mse": "6.0"},
    ]


def test_the_version_of_a_checkpoint(tmp_path: Path) -> None:
    runs = tmp_path / "mamba"
    assert loggers.run_version(runs / "version_3" / "checkpoints" / "best.ckpt", runs) == 3
    assert loggers.run_version(runs / "version_x" / "checkpoints" / "best.ckpt", runs) is None
    assert loggers.run_version(tmp_path / "other" / "version_3" / "checkpoints" / "best.ckpt", runs) is None


def test_the_last_checkpoint_is_that_of_the_newest_run(tmp_path: Path) -> None:
    from popularity.errors import InputError

    with pytest.raises(InputError, match=r"expected version_N/checkpoints/last.ckpt in .*, found none"):
        loggers.last_checkpoints(tmp_path)
    for version in ("9", "10", "draft"):
        folder = tmp_path / f"version_{version}" / "checkpoints"
        folder.mkdir(parents=True)
        (folder / "last.ckpt").touch()
    assert [path.parts[-3] for path in loggers.last_checkpoints(tmp_path)] == ["version_10"]
    (tmp_path / "version_11" / "checkpoints").mkdir(parents=True)  # nothing was saved yet
    (tmp_path / "version_10" / "checkpoints" / "before_last.ckpt").touch()
    names = [path.name for path in loggers.last_checkpoints(tmp_path)]
    assert names == ["last.ckpt", "before_last.ckpt"], "the one to fall back to comes second"
    version = "version_11"
    assert loggers.newer_run(tmp_path / "version_10" / "checkpoints" / "last.ckpt", tmp_path) == tmp_path / version
    assert loggers.newer_run(tmp_path / version / "checkpoints" / "last.ckpt", tmp_path) is None


@pytest.mark.parametrize(
    "content", ["", "epoch,st", "epoch,step,loss\n0,9,2.5\n0,1", "epoch,step,loss\n0,9,2.5\n\0\0,x,\n"]
)
def test_a_damaged_file_does_not_stop_a_resumed_run(content: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(content)
    logger = logger_in(tmp_path)
    logger.log_metrics({"loss": 1.0}, 19)
    logger.save()
    whole = [{"epoch": "0", "step": "9", "loss": "2.5"}] if "2.5" in content else []
    assert rows(tmp_path) == [*whole, {"step": "19", "loss": "1.0"}]


def test_no_two_runs_take_one_number(tmp_path: Path) -> None:
    """Twenty runs that begin at once, as threads; each looks for the next number and makes the folder."""
    with ThreadPoolExecutor(20) as pool:
        numbers = list(pool.map(lambda _: loggers.take_version(tmp_path / "mamba"), range(20)))
    assert sorted(numbers) == list(range(20))
