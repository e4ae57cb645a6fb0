"""The summary of where time goes can be read."""

from __future__ import annotations

from tests.conftest import Lazy

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
