"""Rows that are not songs: empty ones, headers, removed tracks, local files, podcasts, rows without popularity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from popularity.data.columns import ColumnMatch, normalise
from popularity.data.schema import AUDIO, REQUIRED, TEXT

_SUMMARIES = (
    *("total", "totals", "sum", "average", "averages", "avg", "mean", "median", "count", "std", "min", "max"),
    *("summe", "gesamt", "mittelwert", "durchschnitt", "moyenne", "promedio", "média", "media", "gemiddelde", "平均"),
)
_WHOLE = ("key", "mode", "time_signature")
_USUALLY_WHOLE = ("duration_ms", "popularity")
_EXTREME = 0.75  # of the values of a sum or a maximum are as large or as small as none of a song
_FEWEST_COLUMNS = 5  # in a table of fewer, one number may be all that is known of a song
NOTE = r"(?i:\(?\d[\d., ]* (?:rows?|row\(s\)|records?)(?!\w).*|(?:data )?(?:source|note|quelle|fuente|fonte)s? ?:.+)"
"""What programs and people write below a table, such as "(40 rows)" or "Source: Spotify"."""
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
    found: dict[str, np.ndarray] = {
        "empty": _empty(songs, match),
        "notes below the songs": _notes(songs, frame, match),
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


def _empty(songs: pd.DataFrame, match: ColumnMatch) -> np.ndarray:
    """Rows without a value; a popularity alone is no song, nor is any single number without a name."""
    filled = songs[list(match.mapped)].notna()
    told = filled.drop(columns=filled.columns.intersection(["popularity", "explicit"]))
    empty = ~(told if told.shape[1] else filled).any(axis=1)
    if {"track_id", "title", "artist"} & match.mapped.keys() and len(match.mapped) >= _FEWEST_COLUMNS:
        texts = filled.columns.intersection([*TEXT, "release_date"])
        empty |= ~filled[texts].any(axis=1) & (filled.sum(axis=1) == 1)
    return np.asarray(empty, bool)


def _notes(songs: pd.DataFrame, frame: pd.DataFrame, match: ColumnMatch) -> np.ndarray:
    """Rows of a single cell that holds a note."""
    notes = np.zeros(len(songs), bool)
    numbers = [name for name in ("popularity", *AUDIO) if name in match.mapped]
    if not numbers:
        return notes
    bare = np.flatnonzero(songs[numbers].isna().all(axis=1))
    cells = frame.iloc[bare].astype("str").apply(lambda column: column.str.strip())
    cells = cells.where(cells.notna() & (cells != ""))
    alone = (cells.count(axis=1) == 1).to_numpy()
    texts = cells[alone].bfill(axis=1).iloc[:, 0].astype("str")
    notes[bare[alone]] = texts.str.fullmatch(NOTE).to_numpy(bool)
    return notes


def _headers(frame: pd.DataFrame, match: ColumnMatch) -> np.ndarray:
    """Rows that repeat the header, as files have that were put together from several."""
    repeated = np.zeros(len(frame), bool)
    columns = [match.mapped[name] for name in REQUIRED if name in match.mapped][:2]
    if columns and all(pd.api.types.is_string_dtype(frame[column].dtype) for column in columns):
        repeated = np.logical_and.reduce([frame[column].eq(column).fillna(False).to_numpy(bool) for column in columns])
    return repeated


def _summaries(songs: pd.DataFrame, frame: pd.DataFrame, match: ColumnMatch) -> np.ndarray:
    """Rows without a name below a table, such as "Average": their numbers are not those of a song.

    A song may be called Total, and stand without an artist.
    """
    names = [name for name in ("track_id", "title", "artist") if name in match.mapped]
    summary = np.zeros(len(songs), bool)
    if len(names) < 2:
        return summary
    missing = songs[names].isna().sum(axis=1).to_numpy()
    nameless = np.flatnonzero(missing >= len(names) - 1)
    cells = frame.iloc[nameless].astype("str")
    called = np.zeros(len(nameless), bool)
    for position in range(min(3, cells.shape[1])):
        called |= cells.iloc[:, position].str.strip(" :").str.lower().isin(_SUMMARIES).fillna(False).to_numpy(bool)
    suspect = called | (missing[nameless] == len(names))
    rows, others = songs.iloc[nameless[suspect]], songs.drop(index=songs.index[nameless[suspect]])
    fraction = _fractions(rows, others, match)
    summary[nameless[suspect]] = fraction | (called[suspect] & _few_or_extreme(rows, others, match))
    return summary


def _fractions(rows: pd.DataFrame, others: pd.DataFrame, match: ColumnMatch) -> np.ndarray:
    """Which rows have a fraction where songs have whole numbers."""
    found = np.zeros(len(rows), bool)
    for name in (*_WHOLE, *_USUALLY_WHOLE):
        whole = others[name].dropna() % 1 == 0
        if name in match.mapped and (name in _WHOLE or (len(whole) and whole.all())):
            found |= (rows[name] % 1 > 0).to_numpy(bool)
    return found


def _few_or_extreme(rows: pd.DataFrame, others: pd.DataFrame, match: ColumnMatch) -> np.ndarray:
    """Which rows have few of the audio values, or mostly values as large or small as none of the other rows."""
    names = [name for name in AUDIO if name in match.mapped and name not in _WHOLE]
    filled = rows[names].notna().sum(axis=1)
    extreme = (rows[names] <= others[names].min()) | (rows[names] >= others[names].max())
    found: pd.Series = (2 * filled <= len(names)) | (extreme.sum(axis=1) >= _EXTREME * filled)
    return np.asarray(found, bool)


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
