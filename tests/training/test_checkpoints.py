"""Which epochs a run keeps."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.test_fit import fit

#: The highest error counts as the best: training then ends far from it.
UPSIDE_DOWN = ["--checkpoint.mode", "max", "--model.learning_rate", "0.02"]


def kept(run: Path, name: str) -> int:
    """The epoch of a checkpoint; the last one is saved when the next epoch would begin."""
    from popularity.inference.checkpoint import read_checkpoint

    epoch: int = read_checkpoint(run / "checkpoints" / f"{name}.ckpt")["epoch"]
    return epoch - (name == "last")


def best_epoch(run: Path) -> int:
    with open(run / "metrics.csv") as file:
        errors = [float(row["val/mse"]) for row in csv.DictReader(file) if row.get("val/mse")]
    return errors.index(max(errors))


@pytest.fixture(scope="module")
def worsened(tmp_path_factory: pytest.TempPathFactory, song_file: Path) -> Path:
    """A run of five epochs whose best is not its last."""
    return fit(tmp_path_factory.mktemp("worsened"), song_file, *UPSIDE_DOWN, epochs=5)


def test_the_best_and_the_last_epoch_are_kept(worsened: Path) -> None:
    assert sorted(path.name for path in (worsened / "checkpoints").iterdir()) == [
        "before_last.ckpt",
        "best.ckpt",
        "last.ckpt",
    ]
    assert best_epoch(worsened) < 4
    assert kept(worsened, "best") == best_epoch(worsened)
    assert kept(worsened, "last") == 4


@pytest.mark.slow
def test_a_resumed_run_remembers_its_best(worsened: Path, song_file: Path) -> None:
    """An epoch after resuming becomes the best one only if it is better than all before."""
    again = fit(worsened.parents[1], song_file, *UPSIDE_DOWN, "--ckpt_path", "last", epochs=6)
    assert again == worsened
    assert kept(worsened, "best") == best_epoch(worsened) < 4
    assert kept(worsened, "last") == 5


@pytest.mark.slow
def test_the_best_error_so_far_is_logged_and_survives_resuming(worsened: Path, tmp_path: Path, song_file: Path) -> None:
    """``best/val_mse`` is the running minimum of ``val/mse``."""
    fit(tmp_path, song_file, epochs=1)
    run = fit(tmp_path, song_file, "--ckpt_path", "last", "--model.learning_rate", "0.0028", epochs=2)
    for folder in (worsened, run):
        with open(folder / "metrics.csv") as file:
            rows = [row for row in csv.DictReader(file) if row.get("val/mse")]
        best = [float(row["best/val_mse"]) for row in rows]
        errors = [float(row["val/mse"]) for row in rows]
        assert best == [min(errors[: i + 1]) for i in range(len(errors))]


@pytest.mark.slow
def test_checkpoints_every_second_epoch(tmp_path: Path, song_file: Path) -> None:
    run = fit(tmp_path, song_file, "--checkpoint.every_n_epochs", "2", epochs=3)
    assert kept(run, "last") == 1


def test_without_validation_the_last_epoch_is_the_model(tmp_path: Path, song_file: Path) -> None:
    run = fit(tmp_path, song_file, "--data.validation", "0", epochs=2)
    assert kept(run, "best") == kept(run, "last") == 1


def test_the_best_epoch_of_a_fit_is_tested_without_a_second_copy_of_its_known_songs(
    tmp_path: Path, song_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from popularity.features.encoder import HistoryEncoder
    from popularity.inference.checkpoint import load_checkpoint

    loaded = []
    load = HistoryEncoder.load_state
    monkeypatch.setattr(HistoryEncoder, "load_state", lambda self, state: (loaded.append(1), load(self, state))[1])
    fit(tmp_path, song_file, epochs=1)
    assert not loaded
    load_checkpoint(next(tmp_path.rglob("best.ckpt")))
    assert loaded
