"""Rows that are no songs: empty ones, headers, removed tracks, local files, podcasts, rows without popularity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from popularity.data.columns import ColumnMatch, normalise
from popularity.data.schema import REQUIRED

_LOCAL_FLAGS = ("islocal", "local", "trackislocal")


@dataclass(frozen=True)
class LeftOut:
    """Rows that were left out for one reason.

    Attributes:
        reason: in words.
        count: how many.
        example: the first of them, as a person finds it in the file.
    """

    reason: str
    count: int
    example: str

    def __str__(self) -> str:
        return f"{self.count:,} {self.reason} (such as {self.example})"


def no_songs(songs: pd.DataFrame, frame: pd.DataFrame, match: ColumnMatch, *, learn: bool) -> dict[str, np.ndarray]:
    """Find the rows that are no songs.

    Args:
        songs: (n,) the converted table.
        frame: (n,) the file as read.
        match: which column is what.
        learn: the songs are learned from. Then removed tracks, local files and rows without popularity are no songs
            either: Spotify gives them a popularity of 0 that nobody measured.

    Returns:
        reason -> (n,) bool. No row has two reasons.
    """
    empty = np.logical_and.reduce([songs[name].isna().to_numpy(bool) for name in match.mapped])
    found: dict[str, np.ndarray] = {"empty": empty, "headers in mid-file": _headers(frame, match)}
    if learn:
        found["removed from Spotify"] = _removed(songs, match)
        found["local files or podcasts"] = _local(frame, match)
        found["without popularity"] = songs["popularity"].isna().to_numpy(bool)
    taken = np.zeros(len(songs), bool)
    for reason, rows in found.items():
        found[reason] = rows & ~taken
        taken |= rows
    return found


def _headers(frame: pd.DataFrame, match: ColumnMatch) -> np.ndarray:
    """Rows that repeat the header, as files have that were put together from several."""
    repeated = np.zeros(len(frame), bool)
    columns = [match.mapped[name] for name in REQUIRED if name in match.mapped][:2]
    if columns and all(pd.api.types.is_string_dtype(frame[column].dtype) for column in columns):
        repeated = np.logical_and.reduce([frame[column].eq(column).fillna(False).to_numpy(bool) for column in columns])
    return repeated


def _removed(songs: pd.DataFrame, match: ColumnMatch) -> np.ndarray:
    """Rows without title, artist, length and popularity, where the file has these columns."""
    if not {"title", "artist", "duration_ms", "popularity"} <= match.mapped.keys():
        return np.zeros(len(songs), bool)
    gone: pd.Series = songs[["title", "artist", "duration_ms"]].isna().all(axis=1) & ~(songs["popularity"] > 0)
    return np.asarray(gone, bool)


def _local(frame: pd.DataFrame, match: ColumnMatch) -> np.ndarray:
    """Rows whose address or flag says that this is a file on the listener's own machine, or an episode of a podcast."""
    local = np.zeros(len(frame), bool)
    if "track_id" in match.mapped:
        cells = frame[match.mapped["track_id"]]
        if pd.api.types.is_string_dtype(cells.dtype):
            local |= cells.str.contains("spotify:(?:local|episode):").fillna(False).to_numpy(bool)
    for column in frame:
        if normalise(str(column)) in _LOCAL_FLAGS:
            words = frame[column].astype("str").str.strip().str.lower()
            local |= words.isin(("true", "1", "1.0", "yes", "local")).fillna(False).to_numpy(bool)
    return local
