"""Small tables of songs, written as public files write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def raw_songs() -> pd.DataFrame:
    """40 songs by 8 artists, in the units and names that Spotify's own interface uses."""
    rng = np.random.default_rng(0)
    n = 40
    units = ("acousticness", "danceability", "energy", "instrumentalness", "liveness", "speechiness", "valence")
    return pd.DataFrame(
        {
            "track_id": [f"{i:022}" for i in range(n)],
            "track_name": [f"Song {i}" for i in range(n)],
            "artists": [f"Artist {i % 8}" for i in range(n)],
            **{name: rng.uniform(0.01, 0.99, n).round(4) for name in units},
            "duration_ms": rng.integers(60_000, 400_000, n),
            "loudness": -rng.uniform(2, 20, n).round(3),
            "tempo": rng.uniform(60, 200, n).round(3),
            "key": rng.integers(0, 12, n),
            "mode": rng.integers(0, 2, n),
            "time_signature": 4,
            "popularity": rng.permutation(100)[:n],
        }
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write a table, text or bytes under a name and give the path."""

    def write(content: pd.DataFrame | bytes | str, name: str = "songs.csv", **options: Any) -> str:
        path = tmp_path / name
        if isinstance(content, pd.DataFrame):
            if name.endswith(".parquet"):
                content.to_parquet(path)
            else:
                content.to_csv(path, index=False, **options)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write
