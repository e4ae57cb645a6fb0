"""Rows that are not songs: empty ones, headers, removed tracks, local files, podcasts, rows without popularity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from popularity.data.columns import ColumnMatch, normalise
from popularity.data.schema import REQUIRED

_SUMMARIES = (
    *("total", "totals", "sum", "average", "averages", "avg", "mean", "median", "count", "std", "min", "max"),
    *("summe", "gesamt", "mittelwert", "durchschnitt", "moyenne", "promedio", "média", "media", "gemiddelde", "平均"),
)
_WHOLE = ("key", "mode", "time_signature")
_KINDS = ("type", "tracktype", "itemtype", "mediatype")
_NO_TRACK = r"spotify:(?:local|episode):|open\.spotify\.com/(?:intl-\w+/)?episode/"
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
    found: dict[str, np.ndarray] = {
        "empty": empty,
        "headers in mid-file": _headers(frame, match),
        "sums or means": _summaries(songs, frame, match),
    }
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


def _summaries(songs: pd.DataFrame, frame: pd.DataFrame, match: ColumnMatch) -> np.ndarray:
    """Rows without a name below a table, such as "Average": called so, or with a fraction where songs have a number."""
    names = [name for name in ("track_id", "title", "artist") if name in match.mapped]
    if len(names) < 2:
        return np.zeros(len(songs), bool)
    missing = songs[names].isna().sum(axis=1).to_numpy()
    nameless = np.flatnonzero(missing >= len(names) - 1)
    cells = frame.iloc[nameless].astype("str")
    called = np.zeros(len(nameless), bool)
    for position in range(min(3, cells.shape[1])):
        called |= cells.iloc[:, position].str.strip(" :").str.lower().isin(_SUMMARIES).fillna(False).to_numpy(bool)
    fraction = np.zeros(len(nameless), bool)
    for name in _WHOLE:
        if name in match.mapped:
            fraction |= (pd.to_numeric(cells[match.mapped[name]], "coerce") % 1 > 0).to_numpy(bool)
    summary = np.zeros(len(songs), bool)
    summary[nameless] = called | (fraction & (missing[nameless] == len(names)))
    return summary


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
            local |= cells.str.contains(_NO_TRACK).fillna(False).to_numpy(bool)
    for column in frame:
        if normalise(str(column)) in _KINDS:
            words = frame[column].astype("str").str.strip().str.lower()
            local |= words.isin(("episode", "podcast")).fillna(False).to_numpy(bool)
        if normalise(str(column)) in _LOCAL_FLAGS:
            words = frame[column].astype("str").str.strip().str.lower()
            local |= words.isin(("true", "1", "1.0", "yes", "local")).fillna(False).to_numpy(bool)
    return local
