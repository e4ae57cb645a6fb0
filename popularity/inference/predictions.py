"""Predictions as a table on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from popularity.io import write_atomically


def write_predictions(path: str | Path, songs: pd.DataFrame, prediction: np.ndarray) -> None:
    """Write one line per song, in the order given: ``track_id, artist, title, predicted_popularity``.

    Args:
        path: CSV file; it appears whole or not at all.
        songs: a song table of ``n`` rows.
        prediction: ``(n,)`` popularity in points.

    Raises:
        InputError: the file cannot be written.
    """
    if len(songs) != len(prediction):
        raise ValueError(f"{len(prediction)} predictions for {len(songs)} songs")
    table = songs[["track_id", "artist", "title"]].assign(predicted_popularity=np.round(prediction, 2))
    with write_atomically(Path(path)) as file:
        table.to_csv(file, index=False, lineterminator="\n")
