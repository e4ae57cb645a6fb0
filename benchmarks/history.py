"""Time and memory of finding the histories of a million songs: ``python benchmarks/history.py [SONGS]``.

The songs are made up. The busiest artist has thousands of songs, most have a few; a tenth of the titles credits
somebody else, and a tenth of the songs are on albums by many artists. Seconds are CPU time of one process; memory is
the peak of what the search itself allocates, beside the table.
"""

from __future__ import annotations

import sys
import time
import tracemalloc

import numpy as np
import pandas as pd

from popularity.data.schema import CANONICAL, TEXT
from popularity.features.keys import keys_of
from popularity.features.related import RelatedSongs


def made_up_songs(count: int, seed: int = 0) -> pd.DataFrame:
    """A canonical song table of ``count`` rows."""
    rng = np.random.default_rng(seed)
    artists = count // 5
    artist = (rng.pareto(1.1, count) * 0.0015 * artists).astype(np.int64) % artists
    guest = np.where(rng.random(count) < 0.1, rng.integers(0, artists, count), -1)
    # an album has its day; the busiest artist has a hundred albums
    album = np.where(
        rng.random(count) < 0.1, rng.integers(-count // 100, 0, count), 100 * artist + rng.integers(0, 100, count)
    )
    day = np.abs(album * 7919) % 10_000
    columns: dict[str, object] = {
        "track_id": [f"{i:022d}" for i in range(count)],
        "title": [f"Song {i}" + (f" (feat. Artist {g})" if g >= 0 else "") for i, g in enumerate(guest)],
        "artist": [f"Artist {a}" for a in artist],
        "album": [f"Album {a}" for a in album],
        "release_date": np.datetime64("1990-01-01", "us") + day.astype("timedelta64[D]"),
    }
    for name in CANONICAL:
        if name not in columns:
            columns[name] = pd.Series([None] * count, dtype="str") if name in TEXT else rng.random(count)
    return pd.DataFrame({name: columns[name] for name in CANONICAL})


def measure(count: int) -> dict[str, float]:
    """CPU seconds and peak memory (10^9 bytes) of finding every song's candidates among the others."""
    songs = made_up_songs(count)
    began = time.process_time()
    _find(songs)
    seconds = time.process_time() - began
    tracemalloc.start()  # slows Python down: measured apart
    _find(songs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"songs": count, "seconds": seconds, "peak_gb": peak / 1e9}


def _find(songs: pd.DataFrame) -> None:
    keys = keys_of(songs)
    RelatedSongs(keys).candidates(keys, np.arange(len(songs)))


if __name__ == "__main__":
    result = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    print(f"{result['songs']:,.0f} songs: {result['seconds']:.1f} s of CPU, peak {result['peak_gb']:.2f} GB")
