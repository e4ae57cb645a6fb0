"""The check that a song table is one: impossible values and columns on another scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pandera.pandas as pa

from popularity.data.raw import RawTable, more_rows
from popularity.data.schema import CANONICAL, OPTIONAL, RANGES, song_schema
from popularity.errors import InputError

_EXPECTED_DATE = "a date such as 2019, 2019-06 or 2019-06-14"
_FEWEST_TO_JUDGE = 20  # a column's scale shows in its spread, and a handful of songs has none


@dataclass(frozen=True)
class Unread:
    """Cells of an optional column that could not be read and count as missing.

    Attributes:
        name: canonical name.
        count: how many cells.
        example: the first of them as written.
        place: its row.
    """

    name: str
    count: int
    example: str
    place: str

    def __str__(self) -> str:
        cells = "cell" if self.count == 1 else "cells"
        return f"{self.name}: {self.count:,} {cells} taken as missing, such as {self.example} in {self.place}"


def validate(
    songs: pd.DataFrame, raw: RawTable, columns: Mapping[str, str], unreadable: Mapping[str, np.ndarray], *, learn: bool
) -> tuple[Unread, ...]:
    """Check every value of a song table, in place.

    A value that is impossible or cannot be read becomes missing in an optional column, and in the popularity where
    nothing is learned; anywhere else it refuses the file.

    Args:
        songs: the canonical table; its index holds row numbers of the file.
        raw: the file, for what the message quotes.
        columns: canonical name -> column of the file.
        unreadable: canonical name -> (rows of the file,) bool, cells whose text could not be converted.
        learn: whether the songs are learned from: every one must have a popularity.

    Returns:
        What became missing.

    Raises:
        InputError: file, column, row, what was expected and found, how many more rows have this problem.
    """
    some = {name: cells[songs.index] for name, cells in unreadable.items() if cells.any()}
    wrong = {name: cells for name, cells in some.items() if cells.any()}
    try:
        song_schema(learn).validate(songs.reset_index(drop=True)[list(CANONICAL)], lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        if cases["index"].isna().any():  # a column of another type: our fault, not the file's
            raise
        for name, rows in cases.groupby("column")["index"]:
            wrong.setdefault(str(name), np.zeros(len(songs), bool))[rows.to_numpy(np.int64)] = True
    fatal = {name: rows for name, rows in wrong.items() if name not in OPTIONAL and (learn or name != "popularity")}
    if fatal:
        _refuse(songs, raw, columns, fatal)
    unread = []
    for name in CANONICAL:
        if name in wrong:
            row = int(songs.index[int(wrong[name].argmax())])
            unread.append(Unread(name, int(wrong[name].sum()), _found(raw, columns[name], row), raw.place(row)))
            songs.loc[wrong[name], name] = np.nan
    return tuple(unread)


def _refuse(songs: pd.DataFrame, raw: RawTable, columns: Mapping[str, str], wrong: Mapping[str, np.ndarray]) -> None:
    rows = np.logical_or.reduce(list(wrong.values()))
    first = int(rows.argmax())
    name = next(name for name in CANONICAL if name in wrong and wrong[name][first])
    expected = _EXPECTED_DATE if name == "release_date" else RANGES[name][0]
    row = int(songs.index[first])
    raise InputError(
        f"{raw.path}: {column_of(name, columns)}, {raw.place(row)}: expected {expected}, "
        f"got {_found(raw, columns[name], row)}{more_rows(int(rows.sum()) - 1)}"
    )


def _found(raw: RawTable, column: str, row: int) -> str:
    value = raw.frame[column].iloc[row]
    if pd.isna(value) or not str(value).strip():
        return "an empty cell"
    return repr(value[:60] if isinstance(value, str) else getattr(value, "item", lambda: value)())


def refuse_foreign_scales(songs: pd.DataFrame, raw: RawTable, columns: Mapping[str, str], *, learn: bool) -> None:
    """Refuse a column that as a whole is not what its name says: a z-scored loudness, a rescaled tempo, a play count.

    Args:
        songs: as for `validate`, like the rest.
        raw: the file as it was read.
        columns: canonical name -> column of the file.
        learn: the songs are for training.

    Raises:
        InputError: the column, what was expected and what was found.
    """

    def refuse(name: str, expected: str, found: str) -> None:
        raise InputError(f"{raw.path}: {column_of(name, columns)}: expected {expected}, got {found}")

    loudness = songs["loudness"].dropna()
    above = (loudness > 0).mean()
    if (len(loudness) >= _FEWEST_TO_JUDGE and above > 0.25) or (len(loudness) >= 5 and above == 1):
        scale = f"a mean of {loudness.mean():.3g} and a standard deviation of {loudness.std():.3g}"
        refuse("loudness", "decibels, mostly below 0", f"{scale} (standardised or rescaled?)")
    tempo = songs["tempo"].median()
    slowest = 20 if songs["tempo"].count() < _FEWEST_TO_JUDGE else 60  # half the songs of any table are faster
    if not (pd.isna(tempo) or slowest <= tempo <= 400):
        refuse("tempo", "beats per minute", f"a median of {tempo:.3g} (standardised or rescaled?)")
    minutes = songs["duration_ms"].median() / 60_000
    if not (pd.isna(minutes) or 1 / 60 <= minutes <= 720):
        refuse("duration_ms", "lengths of songs", f"a median of {minutes:.3g} minutes")
    popularity = songs["popularity"].dropna()
    if not learn or popularity.empty:
        return
    if (popularity > 100).mean() > 0.5:
        found = f"a median of {popularity.median():,.0f} (a play count?)"
        refuse("popularity", "Spotify's popularity from 0 to 100", found)
    if popularity.between(0, 1).all() and popularity.nunique() > 1:
        refuse("popularity", "Spotify's popularity from 0 to 100", "only values from 0 to 1 (a hit-or-not target?)")
    if len(popularity) >= _FEWEST_TO_JUDGE and popularity.max() <= 10 and (popularity % 1 != 0).mean() > 0.5:
        found = f"values from {popularity.min():.3g} to {popularity.max():.3g} with decimals (rescaled?)"
        refuse("popularity", "Spotify's popularity from 0 to 100", found)


def column_of(name: str, columns: Mapping[str, str]) -> str:
    """A column as messages name it: the file's own name first."""
    return f"column {columns[name]!r}" + (f" ({name})" if columns[name] != name else "")
