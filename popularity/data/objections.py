"""Columns with a fitting name and the wrong content: what their cells say against them."""

from __future__ import annotations

import pandas as pd

from popularity.data.artists import holds_dicts
from popularity.data.columns import NEVER, Objection, match_columns, normalise
from popularity.data.numbers import BLANK, CODES
from popularity.data.texts import URI

_SAMPLE = 10_000  # rows that are looked at
_ADDRESS_NAMES = ("url", "link", "href")
_OTHER_THING = URI + r"(?:intl-\w+/)?(?:artist|album|playlist|user|show|episode)[:/]"
_SPOTIFY_ID = r"(?:^|[:/])[0-9A-Za-z]{22}(?:[?#].*)?$"


class Objections:
    """Look at the cells of candidate columns.

    Args:
        frame: the file as read.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame.head(_SAMPLE)
        title = match_columns(list(frame)).mapped.get("title")
        self._titles = 0 if title is None else self._cells(title).nunique()

    def __call__(self, canonical: str, column: str) -> Objection:
        """What speaks against reading ``canonical`` from ``column``."""
        cells = self._cells(column)
        if cells.empty:
            return Objection(1, "it is empty")
        if canonical == "track_id":
            return self._against_id(column, cells)
        if canonical == "popularity":
            return self._against_popularity(column)
        if not pd.api.types.is_string_dtype(cells.dtype):
            return Objection(1, "it holds numbers") if canonical in ("title", "artist", "genre") else Objection()
        if canonical in ("title", "artist", "genre") and _share(cells, r"\d+(?:\.0)?") > 0.9:
            # some titles are numbers, 1999, but not nine in ten
            return Objection(1, "it holds numbers")
        if canonical == "artist" and cells.map(holds_dicts).mean() > 0.5:
            return Objection(1, "it holds dicts")
        if canonical == "artist" and _share(cells, rf".*{URI}.*") > 0.5:
            return Objection(1, "it holds addresses")
        if canonical == "duration_ms" and _share(cells, r"\d{4}-\d\d.*") > 0.5:
            return Objection(NEVER, "it holds dates")
        return Objection()

    def _cells(self, column: str) -> pd.Series:
        """Cells of the sample that hold something."""
        cells = self._frame[column].dropna()
        if not pd.api.types.is_string_dtype(cells.dtype):
            return cells
        return cells[~cells.str.strip().str.lower().isin((*BLANK, *CODES))]

    def _against_id(self, column: str, cells: pd.Series) -> Objection:
        text = cells.astype("str").str.strip()
        spotify = text.str.contains(_SPOTIFY_ID)
        if text.str.contains(_OTHER_THING).mean() > 0.5:
            return Objection(NEVER, "it holds addresses of artists, albums or playlists")
        if normalise(column).endswith(_ADDRESS_NAMES) and spotify.mean() < 0.5:
            return Objection(NEVER, "it holds no addresses of Spotify tracks")
        if 2 * text.nunique() < self._titles:
            return Objection(NEVER, f"{text.nunique():,} values for {self._titles:,} titles")
        return Objection() if spotify.mean() > 0.5 else Objection(1, "its values do not look like Spotify's ids")

    def _against_popularity(self, column: str) -> Objection:
        for side, other in (("x", "y"), ("y", "x")):
            twin = column[:-1] + (other if column[-1:].islower() else other.upper())
            merged = column[-2:].lower() in (f"_{side}", f".{side}", f" {side}")
            if merged and twin in self._frame and not self._frame[twin].equals(self._frame[column]):
                return Objection(NEVER, f"which of {column!r} and {twin!r} is the song's? Say so with columns")
        return Objection()


def _share(cells: pd.Series, pattern: str) -> float:
    return float(cells.str.fullmatch(pattern).fillna(False).mean())
