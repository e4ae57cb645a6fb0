"""Which epochs a run keeps, and what keeping them costs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.test_fit import fit


@pytest.fixture(scope="module")
def worsened(tmp_path_factory: pytest.TempPathFactory, song_file: Path) -> tuple[Path, int]:
    """A run of five epochs whose best is not its last, and how often its state was serialised."""
    from lightning.pytorch import Trainer

    calls = []
    save = Trainer.save_checkpoint
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "save_checkpoint", lambda self, *given: calls.append(given) or save(self, *given))
        flags = ["--model.learning_rate", "0.3", "--model.warmup_steps", "0", "--model.schedule", "constant"]
        run = fit(tmp_path_factory.mktemp("worsened"), song_file, *flags, "--ema.decay", "0", epochs=5)
    return run, len(calls)


def test_the_best_and_the_last_epoch_are_kept(worsened: tuple[Path, int]) -> None:
    from popularity.inference.checkpoint import read_checkpoint

    run, _ = worsened
    with open(run / "metrics.csv") as file:
        errors = [float(row["val/mse"]) for row in csv.DictReader(file) if row.get("val/mse")]
    best = errors.index(min(errors))
    assert best < 4
    assert read_checkpoint(run / "checkpoints" / "best.ckpt")["epoch"] == best
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["epoch"] == 4


def test_each_epoch_is_written_once(worsened: tuple[Path, int], tmp_path: Path, song_file: Path) -> None:
    assert worsened[1] == 5
    run = fit(tmp_path, song_file, epochs=1)
    best, last = ((run / "checkpoints" / f"{name}.ckpt").read_bytes() for name in ("best", "last"))
    assert best == last


def test_checkpoints_every_second_epoch(tmp_path: Path, song_file: Path) -> None:
    from popularity.inference.checkpoint import read_checkpoint

    run = fit(tmp_path, song_file, "--checkpoint.every_n_epochs", "2", epochs=3)
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["epoch"] == 1


def test_a_run_may_keep_its_best_alone(tmp_path: Path, song_file: Path) -> None:
    run = fit(tmp_path, song_file, "--checkpoint.save_last", "false", epochs=2)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["best.ckpt"]
