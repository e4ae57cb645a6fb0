"""Columns with a fitting name and the wrong content: what their cells say against them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from popularity.data.artists import holds_dicts
from popularity.data.columns import NEVER, ColumnMatch, Objection, copied_name, match_columns, named, normalise
from popularity.data.convert import convert
from popularity.data.numbers import BLANK, CODES
from popularity.data.raw import RawTable
from popularity.data.schema import AUDIO, NUMBERS
from popularity.data.texts import URI

_SAMPLE = 10_000  # rows that are looked at
_FEW = 1_000  # cells that are converted, and ids whose rows are compared
_ADDRESS_NAMES = ("url", "link", "href")
_OTHER_THING = URI + r"(?:intl-\w+/)?(?:artist|album|playlist|user|show|episode)[:/]"
_TRACK = r".*" + URI + r"(?:intl-\w+/)?track[:/].*"
_SPOTIFY_ID = r"(?:^|[:/])[0-9A-Za-z]{22}(?:[?#].*)?$"
_IDS = r"\W*[0-9A-Za-z]{22}(?:\W+[0-9A-Za-z]{22})*\W*"  # one, or a written list of them
_DATE, _FIRST_DAY = r"\d{4}-\d\d.*", r"(?:1899-12-3|1900-01-0|1904-01-01|1970-01-01).*"  # a time of day may stand on it
_MANY_MORE = 4  # times as many titles
_FLAGS = ("explicit", "key", "mode", "time_signature")  # may hold nothing but 0 and 1
_BETWEEN = {
    "popularity": (0, 100),
    "tempo": (0, 500),
    "loudness": (-100, 20),
    "key": (-1, 12),
    "mode": (-1, 1),
    "time_signature": (0, 7),
}


class Objections:
    """Look at the cells of candidate columns.

    Args:
        frame: the file as read.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._whole = frame.reset_index(drop=True)
        self._frame = self._whole.head(_SAMPLE)
        self._candidates: dict[str, list[str]] = {}  # canonical name -> columns whose names fit
        for column in frame:
            if name := named(column):
                self._candidates.setdefault(name[0], []).append(column)
        titles = self._candidates.get("title", [])
        self._title: str | None = None
        self._titles: dict[str, int] = {}  # column -> how many titles it holds
        self._titles = {c: self._cells(c).nunique() for c in titles if not self._against_words("title", c).level}
        self._title = match_columns(titles, objection=self).mapped.get("title")

    def __call__(self, canonical: str, column: str) -> Objection:
        """What speaks against reading ``canonical`` from ``column``."""
        alone = self._candidates.get(canonical) == [column]
        if alone and canonical not in ("track_id", "title", "duration_ms") and normalise(column) != "release":
            return Objection()
        cells = self._cells(column)
        if cells.empty:
            return Objection(1, "it is empty")
        if canonical == "track_id":
            return self._against_id(column, cells)
        if canonical in ("title", "artist", "album", "genre"):
            return self._against_words(canonical, column)
        if canonical == "duration_ms" and (alone or _share(cells, _DATE) > 0.5):
            dates = _share(cells, _DATE) - _share(cells, _FIRST_DAY) > 0.5
            return Objection(NEVER, "it holds dates") if dates else Objection()
        if canonical == "popularity" and (question := self._question(column)):
            return Objection(NEVER, question)
        return _against_values(canonical, column, cells.head(_FEW))

    def _cells(self, column: str, *, whole: bool = False) -> pd.Series:
        """Cells of the sample, or of the whole column, that hold something."""
        cells = (self._whole if whole else self._frame)[column].dropna()
        if not pd.api.types.is_string_dtype(cells.dtype):
            return cells
        return cells[~cells.str.strip().str.lower().isin((*BLANK, *CODES))]

    def _against_words(self, canonical: str, column: str) -> Objection:
        cells = self._cells(column)
        if not pd.api.types.is_string_dtype(cells.dtype):
            return Objection(1, "it holds numbers")
        if canonical == "title" and (_hold_ids(cells) or _share(cells, _TRACK) > 0.5):
            return Objection(NEVER, "it holds ids of tracks", instead="track_id")
        if _hold_ids(cells):
            return Objection(1, "it holds ids")
        if _share(cells, r"\d+(?:\.0)?") > 0.9:  # some titles are numbers, 1999, but not nine in ten
            return Objection(1, "it holds numbers")
        if canonical == "artist" and cells.map(holds_dicts).mean() > 0.5:
            return Objection(1, "it holds dicts")
        if canonical != "genre" and _share(cells, rf".*{URI}.*") > 0.5:
            return Objection(1, "it holds addresses")
        if canonical == "title" and (better := self._with_more_titles(column)):
            return Objection(1, f"{better!r} has many more titles")
        return self._fewer_than_copy(column, cells) if canonical == "title" else Objection()

    def _with_more_titles(self, column: str) -> str:
        """A column that holds many more titles, as that of songs beside that of playlists; "" for none."""
        others = {other: count for other, count in self._titles.items() if normalise(other) not in ("name", "names")}
        best = max(others, key=lambda other: others[other], default="")
        return best if best and others[best] > _MANY_MORE * self._titles.get(column, others[best]) else ""

    def _against_id(self, column: str, cells: pd.Series) -> Objection:
        text = cells.astype("str").str.strip()
        spotify = float(text.str.contains(_SPOTIFY_ID).mean()) > 0.5
        titles = self._titles.get(self._title or "", 0)
        if text.str.contains(_OTHER_THING).mean() > 0.5:
            return Objection(NEVER, "it holds addresses of artists, albums or playlists")
        if normalise(column).endswith(_ADDRESS_NAMES) and not spotify:
            return Objection(NEVER, "it holds no addresses of Spotify tracks")
        if 2 * text.nunique() < titles:
            return Objection(NEVER, f"{text.nunique():,} values for {titles:,} titles")
        if self._repeats_for_other_songs(column, spotify):
            return Objection(NEVER, "songs of other titles and other audio share its values")
        if not spotify:
            return Objection(1, "its values do not look like Spotify's ids")
        return self._fewer_than_copy(column, cells)

    def _repeats_for_other_songs(self, column: str, spotify: bool) -> bool:
        """Whether rows that share an id are mostly other songs: a count that starts again, or ids of artists."""
        audio = [other for name, other in match_columns(list(self._whole)).mapped.items() if name in AUDIO]
        ids = self._cells(column, whole=True).astype("str").str.strip()
        again = ids[ids.duplicated(keep=False)]
        if self._title is None or not audio or again.empty or (spotify and 10 * len(again) < len(ids)):
            return False  # a slip in a few ids of Spotify's leaves the others what they are
        again = again[again.isin(again.unique()[:_FEW])]
        rows = self._whole.loc[again.index]
        titles = rows[self._title].astype("str").str.casefold()
        songs = pd.DataFrame({"title": titles, "audio": pd.util.hash_pandas_object(rows[audio], index=False)})
        others = (songs != songs.groupby(again).transform("first")).all(axis=1)
        return float(others.groupby(again).any().mean()) > 0.5

    def _copies(self, column: str) -> list[str]:
        """The columns that a join gave one name, this one included, in their order."""
        name, kind = copied_name(column)
        families = {name} if kind in ("", "number") else set()
        return [c for c in self._frame if c in families or copied_name(c) == (name, kind or "number")]

    def _fewer_than_copy(self, column: str, cells: pd.Series) -> Objection:
        """A join of songs and artists has two ids and two names: the song's are more."""
        more = [copy for copy in self._copies(column) if self._cells(copy).nunique() > cells.nunique()]
        return Objection(1, f"{more[0]!r} has more values") if more else Objection()

    def _question(self, column: str) -> str:
        """What to ask where a join left two columns of popularities that differ; "" where it did not."""
        copies = [copy for copy in self._copies(column) if not self._cells(copy).empty]
        first = _numbers(self._frame[copies[0]])
        differ = [copy for copy in copies if not _numbers(self._frame[copy]).equals(first)]
        if not differ:
            return ""
        return f"which of {copies[0]!r} and {differ[0]!r} is the song's? Say so with --columns '{{popularity: ...}}'"


def _against_values(canonical: str, column: str, cells: pd.Series) -> Objection:
    """What speaks against a column of numbers or dates: that it cannot be read, or what is read."""
    numeric = pd.api.types.is_numeric_dtype(cells.dtype)
    if canonical in NUMBERS and not numeric and not pd.api.types.is_string_dtype(cells.dtype):
        return Objection(1, "it holds no numbers")
    raw = RawTable(Path(), cells.reset_index(drop=True).to_frame(), "")
    found = convert(raw, ColumnMatch({canonical: column}, {}, ()))[canonical]
    if 2 * found.unreadable.sum() > len(cells):
        if canonical == "release_date" and normalise(column) == "release":
            return Objection(NEVER, "it holds no dates", instead="album")
        return Objection(1, "most of its cells cannot be read")
    if canonical in NUMBERS and canonical not in _FLAGS and pd.to_numeric(cells, errors="coerce").isin((0, 1)).all():
        return Objection(1, "it holds nothing but 0 and 1")
    if canonical in _BETWEEN:
        (low, high), values = _BETWEEN[canonical], found.values.dropna()
        if 2 * (~values.between(low, high)).sum() > len(values):
            return Objection(1, f"most of its values are not from {low} to {high}")
    return Objection()


def _hold_ids(cells: pd.Series) -> bool:
    """Whether most cells are ids of Spotify's, or lists of them; a word of 22 letters is none."""
    return _share(cells, _IDS) > 0.5 and float(cells.str.contains(r"\d").mean()) > 0.5


def _numbers(cells: pd.Series) -> pd.Series:
    """Cells as numbers, to be compared however they are written; as they are where none is one."""
    numbers = pd.to_numeric(cells, errors="coerce").astype("float64")
    return numbers if numbers.notna().any() else cells


def _share(cells: pd.Series, pattern: str) -> float:
    if cells.empty or not pd.api.types.is_string_dtype(cells.dtype):
        return 0.0
    return float(cells.str.fullmatch(pattern).fillna(False).mean())
