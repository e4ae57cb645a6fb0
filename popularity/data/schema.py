"""The canonical song table: its columns, their ranges, and the check that a table keeps to them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pandas as pd
import pandera.pandas as pa

from popularity.data.reading import RawTable, further
from popularity.errors import InputError

AUDIO_UNIT: tuple[str, ...] = (
    "acousticness",
    "danceability",
    "energy",
    "instrumentalness",
    "liveness",
    "speechiness",
    "valence",
)
"""The seven audio features that run from 0 to 1."""

AUDIO: tuple[str, ...] = (
    "acousticness",
    "danceability",
    "duration_ms",
    "energy",
    "instrumentalness",
    "key",
    "liveness",
    "loudness",
    "mode",
    "speechiness",
    "tempo",
    "time_signature",
    "valence",
)
"""The 13 audio columns, in the order of the project this one set out from."""

OPTIONAL_AUDIO: tuple[str, ...] = ("instrumentalness", "key", "mode", "time_signature")
REQUIRED: tuple[str, ...] = tuple(name for name in AUDIO if name not in OPTIONAL_AUDIO)
"""Audio columns that a file must have; the other four are absent from some public files."""

TEXT: tuple[str, ...] = ("track_id", "title", "artist", "album", "genre", "subgenre")
NUMERIC: tuple[str, ...] = (
    "explicit",
    *AUDIO_UNIT,
    "duration_ms",
    "loudness",
    "tempo",
    "key",
    "mode",
    "time_signature",
    "popularity",
)
CANONICAL: tuple[str, ...] = (*TEXT, "release_date", *NUMERIC)
"""Every column of the song table, in order: texts are `str`, the date is `datetime64[us]`, numbers are `float64`."""

_CHECKS: dict[str, tuple[str, pa.Check]] = {
    "explicit": ("0 or 1, true or false", pa.Check.isin((0, 1))),
    **{name: ("a number from 0 to 1", pa.Check.in_range(0, 1)) for name in AUDIO_UNIT},
    "duration_ms": ("a duration above 0 and at most a day", pa.Check.in_range(0, 86_400_000, include_min=False)),
    "loudness": ("decibels from -100 to 20", pa.Check.in_range(-100, 20)),
    "tempo": ("beats per minute from 0 to 500", pa.Check.in_range(0, 500, include_min=False)),
    "key": ("a key from 0 to 11, -1, or a letter such as C#", pa.Check.isin(range(12))),
    "mode": ("0 or 1, Minor or Major", pa.Check.isin((0, 1))),
    "time_signature": ("a time signature from 0 to 7 or such as 4/4", pa.Check.isin(range(1, 8))),
    "popularity": ("a number from 0 to 100", pa.Check.in_range(0, 100)),
}
_EXPECTED_DATE = "a date such as 2019, 2019-06 or 2019-06-14"

_FEWEST_TO_JUDGE = 20  # a column's scale shows in its spread, and a handful of songs has none


@cache
def song_schema(need_popularity: bool) -> pa.DataFrameSchema:
    """Build the schema of the song table; every value may be missing, the popularity only where it is not needed."""
    columns = {name: pa.Column(str, nullable=True) for name in TEXT}
    columns["release_date"] = pa.Column("datetime64[us]", nullable=True)
    for name, (_, check) in _CHECKS.items():
        columns[name] = pa.Column("float64", check, nullable=not (need_popularity and name == "popularity"))
    return pa.DataFrameSchema(columns, ordered=True)


def validate(
    songs: pd.DataFrame,
    raw: RawTable,
    columns: Mapping[str, str],
    unreadable: Mapping[str, np.ndarray],
    need_popularity: bool,
) -> None:
    """Check every value of a song table and refuse the table at the first row that is wrong.

    Args:
        songs: the canonical table, row by row as in the file.
        raw: the file, for what the message quotes.
        columns: canonical name -> column of the file.
        unreadable: canonical name -> (n,) bool, cells whose text could not be converted.
        need_popularity: whether every song must have a popularity.

    Raises:
        InputError: file, column, row, what was expected, what came, how many further rows are wrong.
    """
    wrong = {name: cells.copy() for name, cells in unreadable.items() if cells.any()}
    try:
        song_schema(need_popularity).validate(songs[list(CANONICAL)], lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        if cases["index"].isna().any():  # a column of another type: our fault, not the file's
            raise
        for name, rows in cases.groupby("column")["index"]:
            wrong.setdefault(str(name), np.zeros(len(songs), bool))[rows.to_numpy(np.int64)] = True
    if not wrong:
        blank = next((name for name in REQUIRED if need_popularity and songs[name].isna().all()), None)
        if blank:
            raise InputError(f"{raw.path}: {_column(blank, columns)}: expected numbers, came no value in any row")
        return
    rows = np.logical_or.reduce(list(wrong.values()))
    row = int(rows.argmax())
    name = next(name for name in CANONICAL if name in wrong and wrong[name][row])
    expected = _EXPECTED_DATE if name == "release_date" else _CHECKS[name][0]
    value = raw.frame[columns[name]].iloc[row]
    came = "an empty cell" if pd.isna(value) or not str(value).strip() else repr(_shown(value))
    raise InputError(
        f"{raw.path}: {_column(name, columns)}, {raw.place(row)}: expected {expected}, came {came}"
        f"{further(int(rows.sum()) - 1)}"
    )


def refuse_foreign_scales(
    songs: pd.DataFrame, raw: RawTable, columns: Mapping[str, str], need_popularity: bool
) -> None:
    """Refuse a column that as a whole is not what its name says: a z-scored loudness, a play count, seconds as ms.

    Args:
        songs, raw, columns, need_popularity: as for `validate`.

    Raises:
        InputError: the column, what was expected and what came.
    """

    def refuse(name: str, expected: str, came: str) -> None:
        raise InputError(f"{raw.path}: {_column(name, columns)}: expected {expected}, came {came}")

    loudness = songs["loudness"].dropna()
    if len(loudness) >= _FEWEST_TO_JUDGE and (loudness > 0).mean() > 0.25:
        scale = f"a mean of {loudness.mean():.3g} and a standard deviation of {loudness.std():.3g}"
        refuse("loudness", "decibels, mostly below 0", f"{scale} (standardised or rescaled?)")
    minutes = songs["duration_ms"].median() / 60_000
    if not (pd.isna(minutes) or 1 / 60 <= minutes <= 720 or minutes <= 0):
        refuse(
            "duration_ms", "song lengths in the unit that the column's name says", f"a median of {minutes:.3g} minutes"
        )
    popularity = songs["popularity"].dropna()
    if not need_popularity or popularity.empty:
        return
    if (popularity > 100).mean() > 0.5:
        refuse(
            "popularity",
            "Spotify's popularity from 0 to 100",
            f"a median of {popularity.median():,.0f} (a play count?)",
        )
    if popularity.between(0, 1).all() and popularity.nunique() > 1:
        refuse("popularity", "Spotify's popularity from 0 to 100", "only values from 0 to 1 (a hit-or-not target?)")


def _column(name: str, columns: Mapping[str, str]) -> str:
    return f"column {columns[name]!r}" + (f" ({name})" if columns[name] != name else "")


def _shown(value: object) -> object:
    return value[:60] if isinstance(value, str) else getattr(value, "item", lambda: value)()
