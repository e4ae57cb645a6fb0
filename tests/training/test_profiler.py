"""The summary of where time goes can be read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Lazy

ROOT = Path(__file__).resolve().parents[2]

profiler = Lazy("popularity.training.profiler")


def test_the_summary_names_what_took_long_and_fits_a_terminal():
    found = profiler.ShortProfiler()
    found.start_time -= 10
    found.recorded_durations["[Callback]ModelCheckpoint{'monitor': 'val/mse', 'mode': 'min'}.on_train_end"] = [1.0, 2.0]
    found.recorded_durations["[_TrainingEpochLoop].train_dataloader_next"] = [4.0]
    found.recorded_durations["[Callback]EMA.on_train_start"] = [1e-4]
    lines = found.summary().splitlines()
    actions = [line.split()[0] for line in lines if line]
    assert actions == ["action", "train_dataloader_next", "ModelCheckpoint.on_train_end", "in"]
    assert lines[3].split()[1:] == ["30.0%", "3.00", "2", "1500.00"]
    assert max(map(len, lines)) <= 100


@pytest.mark.slow
def test_a_fit_with_the_profiling_config_prints_one_table(song_file: Path, tmp_path: Path) -> None:
    """Once, though the fit is followed by a test; the parts of a step stand in it, and lie within their whole."""
    command = [sys.executable, "-m", "popularity", "fit", "-c", "configs/debug/profile.yaml"]
    command += ["--data.source", str(song_file), "--log_dir", str(tmp_path), "--trainer.accelerator", "cpu"]
    command += ["--model.net.members", "1", "--data.batch_size", "32", "--plots.every_n_epochs", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = done.stdout + done.stderr
    assert "test songs of" in printed, "the fit was followed by a test"
    assert len(re.findall(r"^action +share +seconds +calls +ms each$", printed, re.MULTILINE)) == 1
    assert len(re.findall(r"^in all +100\.0% +[\d.]+$", printed, re.MULTILINE)) == 1
    rows = re.findall(r"^(\S+) +[\d.]+% +([\d.]+) +([\d,]+) +[\d.]+$", printed, re.MULTILINE)
    seconds = {action: float(spent) for action, spent, _ in rows}
    calls = {action: int(count) for action, _, count in rows}
    assert calls["run_training_epoch"] == 2
    batch, step = "run_training_batch", "PopularityModule.optimizer_step"
    passes = ("SingleDeviceStrategy.training_step", "SingleDeviceStrategy.backward")
    assert {calls[name] for name in (batch, step, *passes)} == {2 * 6}  # of 173 songs, 32 at a time
    assert seconds["run_training_epoch"] > seconds[batch] >= seconds[step] > max(seconds[name] for name in passes) > 0
