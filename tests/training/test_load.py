"""Several commands at once: fits in one folder, predictions with one checkpoint."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import make_songs
from tests.test_fit import PLAIN
from tests.training import test_kills
from tests.training.test_kills import log_of, start

nothing_left_running = test_kills.nothing_left_running


@pytest.mark.slow
def test_fits_that_begin_at_once_have_folders_of_their_own(song_file: Path, tmp_path: Path) -> None:
    fits = [start(tmp_path, song_file, epochs=1) for _ in range(4)]
    for process in fits:
        process.join()
    assert [process.exitcode for process in fits] == [0] * 4, log_of(tmp_path)
    runs = sorted((tmp_path / "small").iterdir())
    assert [run.name for run in runs] == [f"version_{number}" for number in range(4)]
    assert len({(run / "metrics.csv").read_text() for run in runs}) == 1, "all had the same seed"
    assert all((run / "checkpoints" / "last.ckpt").is_file() for run in runs)


@pytest.mark.slow
def test_predictions_at_once_are_those_of_one(song_file: Path, tmp_path: Path) -> None:
    start(tmp_path, song_file, epochs=1).join()
    checkpoint = tmp_path / "small" / "version_0" / "checkpoints" / "best.ckpt"
    songs = tmp_path / "songs.csv"
    make_songs(30, seed=5).to_csv(songs, index=False)
    processes = []
    for number in range(8):
        output = str(tmp_path / f"out_{number}.csv")
        arguments = ["predict", "--ckpt_path", str(checkpoint), "--data.predict_source", str(songs), "--output", output]
        process = test_kills.PROCESSES.Process(
            target=test_kills.command, args=([*arguments, *PLAIN], tmp_path / "log", 0.0)
        )
        process.start()
        processes.append(process)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8, log_of(tmp_path)
    texts = {(tmp_path / f"out_{number}.csv").read_text() for number in range(8)}
    assert len(texts) == 1
    assert len(pd.read_csv(tmp_path / "out_0.csv")) == 30
