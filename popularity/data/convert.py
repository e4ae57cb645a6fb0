"""Columns of a file into canonical columns: one pass by column, then what only the whole file can tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from popularity.data.columns import ColumnMatch, is_exportify, normalise
from popularity.data.dates import convert_date
from popularity.data.decisions import Decisions
from popularity.data.numbers import by_distinct, has_decimal_commas, read_numbers
from popularity.data.pitch import read_keys, read_word
from popularity.data.raw import RawTable
from popularity.data.schema import AUDIO, AUDIO_UNIT, CANONICAL, NUMBERS, TEXT
from popularity.data.texts import Written, add_names, convert_text
from popularity.data.units import HAS_UNIT, Converted, per_cent, to_milliseconds, with_unit

_WHOLE = ("duration_ms", "popularity")  # whole numbers, so "228,639" is grouped and not a decimal comma
_USUAL_CODES = (-1, -99, -999, -9999)
_CODES = {"loudness": (-999, -9999), "tempo": (0, *_USUAL_CODES), "time_signature": (0, *_USUAL_CODES)}
_SECOND_ARTISTS = re.compile("secondaryartists?names|featuredartist(s|names?)?|artist(name)?[2-9]|secondartist")


def convert(raw: RawTable, match: ColumnMatch, decisions: Decisions | None = None) -> dict[str, Converted]:
    """Convert every column in use.

    Args:
        raw: the file.
        match: which column is what.
        decisions: made on earlier parts of the same file; by default all are made on these rows.

    Returns:
        canonical name -> converted column.
    """
    decisions = decisions or Decisions()
    header = list(raw.frame.columns)
    numeric = [raw.frame[column] for name, column in match.mapped.items() if name in NUMBERS]

    def decimal_commas() -> bool:
        return decisions.once("decimal commas", lambda: has_decimal_commas(numeric))

    converted: dict[str, Converted] = {}
    for name, column in match.mapped.items():
        cells = raw.frame[column]
        if name in TEXT:
            written = Written(is_exportify(header), raw.quoted_header)
            converted[name] = convert_text(name, cells, written, decisions, column)
        elif name == "release_date":
            converted[name] = convert_date(cells, decisions)
        else:
            converted[name], mode = _convert_number(name, cells, decimal_commas, decisions)
            if mode is not None and "mode" not in match.mapped:
                converted["mode"] = Converted(mode, np.zeros(len(mode), bool), (f"from {column!r}",))
    if "duration_ms" in converted:
        converted["duration_ms"] = to_milliseconds(match.mapped["duration_ms"], converted["duration_ms"], decisions)
    per_cent(match.mapped, converted, decisions)
    _never_analysed(converted)
    for column in header:
        if "artist" in converted and _SECOND_ARTISTS.fullmatch(normalise(column)):
            artist = converted["artist"]
            others = convert_text("artist", raw.frame[column], Written(), decisions, column)
            both = add_names(artist.values, others.values)
            converted["artist"] = replace(artist, values=both, notes=(*artist.notes, f"and {column!r}"))
    return {name: converted[name] for name in CANONICAL if name in converted}


def canonical_table(converted: Mapping[str, Converted], rows: int) -> pd.DataFrame:
    """Put converted columns in the canonical order; those that the file has not are missing in every row.

    Args:
        converted: canonical name -> converted column of ``rows`` rows.
        rows: number of rows.
    """
    return pd.DataFrame(
        {name: converted[name].values if name in converted else _absent(name, rows) for name in CANONICAL}
    )


def _absent(name: str, rows: int) -> pd.Series:
    if name in TEXT:
        return pd.Series(np.nan, index=range(rows), dtype="str")
    if name == "release_date":
        return pd.Series(np.full(rows, np.datetime64("NaT", "us")))
    return pd.Series(np.full(rows, np.nan))


def _from_1(keys: np.ndarray) -> bool | None:
    """Whether keys run from 1 to 12, as people count; None where neither end of a range is met."""
    return bool((keys == 12).any() and not (keys == 0).any()) if np.isin(keys, (0, 12)).any() else None


def _never_analysed(converted: dict[str, Converted]) -> None:
    """Make missing, in place, the features of songs that have none: files hold zeros for them, tempo included."""
    shares = [converted[name].values for name in AUDIO_UNIT if name in converted]
    if len(shares) < len(AUDIO_UNIT) - 1 or "tempo" not in converted:
        return
    none = np.logical_and.reduce([~(converted["tempo"].values > 0), *(values == 0 for values in shares)])
    if none.any():
        for name in converted.keys() & set(AUDIO) - {"duration_ms"}:
            old = converted[name]
            new = int((none & old.values.notna()).sum())
            converted[name] = replace(old, values=old.values.mask(none), coded_missing=old.coded_missing + new)


def _convert_number(
    name: str, cells: pd.Series, decimal_commas: Callable[[], bool], decisions: Decisions
) -> tuple[Converted, pd.Series | None]:
    """Convert a numeric column; for a key also the mode that its cells give, None where they give none."""
    numbers = read_numbers(cells, whole=name in _WHOLE, decimal_commas=decimal_commas)
    values, unreadable, notes = numbers.values, numbers.unreadable, numbers.notes
    own_unit: np.ndarray | None = None
    mode: pd.Series | None = None
    if unreadable.any():
        odd = cells[unreadable]
        if name in HAS_UNIT:
            found = with_unit(name, odd)
            own_unit = np.zeros(len(values), bool)
            own_unit[unreadable] = ~np.isnan(found)
            note = "units in the cells"
        elif name == "key":
            found, modes = read_keys(odd, decisions)
            if not np.isnan(modes).all():
                mode = pd.Series(np.full(len(values), np.nan))
                mode[unreadable] = modes
            note = "words to numbers"
        else:
            found = by_distinct(odd, lambda cell: read_word(name, cell))
            note = "words to numbers"
        values[unreadable] = found
        if name != "explicit" and not np.isnan(found).all():  # True and False are its usual form
            notes.append(note)
        unreadable = unreadable.copy()
        unreadable[unreadable] = np.isnan(found)
    if name == "key" and decisions.once("keys from 1", lambda: _from_1(values)):
        values = np.where(values > 0, values - 1, np.nan)  # as people count; Spotify begins with 0
        notes.append("1 to 12 taken as 0 to 11")
    coded = numbers.coded.copy()
    if name != "duration_ms":  # its codes depend on its unit
        code = np.isin(values, _CODES.get(name, _USUAL_CODES))
        values[code] = np.nan
        coded |= code
    return Converted(pd.Series(values), unreadable, tuple(notes), int(coded.sum()), own_unit), mode
