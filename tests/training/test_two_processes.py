"""Training in two processes gives what one process gives with the same global batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.test_fit import PLAIN, SMALL, fit, scores

#: Dropout is random in each process.
STILL = [f"--model.net.{name}=0" for name in ("dropout", "feature_dropout", "interaction_dropout")]


@pytest.mark.slow
def test_two_processes_give_the_metrics_of_one(tmp_path: Path, song_file: Path):
    """Of songs in two files, which both processes read whole and train on in halves."""
    songs, folder = pd.read_csv(song_file), tmp_path / "songs"
    folder.mkdir()
    for number, part in enumerate((songs[:50], songs[50:])):
        part.to_parquet(folder / f"{number}.parquet", index=False)
    one = fit(tmp_path / "one", folder, *STILL, "--data.batch_size", "32")
    arguments = ["--name", "small", "--log_dir", str(tmp_path / "two"), "--data.source", str(folder)]
    several = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "16"]
    command = ["fit", *arguments, "--trainer.max_epochs", "3", *SMALL, *PLAIN, *STILL, *several]
    result = subprocess.run(
        [sys.executable, "-m", "popularity", *command],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.count("test songs of") == 1, "one process alone prints the table"
    runs = list((tmp_path / "two" / "small").iterdir())
    assert [run.name for run in runs] == ["version_0"], "one log folder"
    assert {path.name for path in (runs[0] / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "before_last.ckpt"}
    together, alone = scores(runs[0]), scores(one)
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        assert together[name] == pytest.approx(value, rel=1e-4, abs=1e-4), name
