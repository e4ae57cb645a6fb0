"""Cells of public files turned into canonical values: numbers, units, keys, dates, artists. All by column."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from popularity.data.columns import normalise
from popularity.data.schema import AUDIO_UNIT

_NO_NUMBER = ("", "na", "n/a", "#n/a", "nan", "null", "none")
_NO_TEXT = ("", "NA", "NaN", "nan")  # songs and artists are called None and Null
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_GROUPED = r"^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$"

_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_LIST = re.compile(rf"\[\s*(?:(?:{_QUOTED.pattern})[\s,]*)*\]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))")

_NATURAL = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_KEYS = {
    letter + sign: (step + shift) % 12
    for letter, step in _NATURAL.items()
    for sign, shift in (("", 0), ("#", 1), ("♯", 1), ("b", -1), ("♭", -1))
}
_WORDS: dict[str, Mapping[str, int]] = {
    "key": _KEYS,
    "mode": {"major": 1, "minor": 0},
    "explicit": {"true": 1, "false": 0, "yes": 1, "no": 0, "explicit": 1},
    "time_signature": {f"{beats}/{unit}": beats for beats in range(1, 8) for unit in (2, 4, 8, 16)},
}
_MISSING_CODE = {"key": -1, "tempo": 0, "time_signature": 0, "duration_ms": 0}
_WHOLE = ("duration_ms", "popularity")  # whole numbers, so "228,639" is grouped and not a decimal comma
_MILLISECONDS = {"durationsec": 1000, "dur": 1000, "lengthduration": 1000, "durationmin": 60_000}


@dataclass(frozen=True)
class Converted:
    """One canonical column.

    Attributes:
        values: (n,) converted, missing where the cell is blank, means missing or cannot be read.
        unreadable: (n,) bool, cells that hold something that cannot be read.
        conversion: what was done, in words; "" where the cells were taken as they are.
        coded_missing: how many cells held a number that means missing, such as tempo 0.
    """

    values: pd.Series
    unreadable: np.ndarray
    conversion: str = ""
    coded_missing: int = 0


def convert_number(canonical: str, column: str, cells: pd.Series) -> Converted:
    """Convert a numeric column, all but the per-cent question, which the file as a whole answers (`per_cent`).

    Args:
        canonical: name in the song table.
        column: name in the file, which gives the unit of a duration.
        cells: (n,) as read.
    """
    values, unreadable, notes = numbers(cells, grouped=canonical in _WHOLE)
    if unreadable.any() and (words := _WORDS.get(canonical)):
        found = _by_distinct(cells[unreadable], lambda cell: words.get(cell.casefold().split("/")[0], words.get(cell)))
        spelled = np.array([np.nan if value is None else value for value in found], np.float64)
        values[unreadable] = spelled
        unreadable[unreadable] = np.isnan(spelled)
        notes.append("words to numbers")
    coded = np.zeros(len(values), bool)
    if canonical in _MISSING_CODE:
        coded = values == _MISSING_CODE[canonical]
        values[coded] = np.nan
    if canonical == "duration_ms" and (factor := _MILLISECONDS.get(normalise(column))):
        values *= factor
        notes.append("seconds to ms" if factor == 1000 else "minutes to ms")
    return Converted(pd.Series(values), unreadable, ", ".join(notes), int(coded.sum()))


def per_cent(columns: Mapping[str, str], converted: dict[str, Converted]) -> None:
    """Divide by 100, in place, the 0-1 features that are given in per cent.

    A column is in per cent if its name has the sign. For the others the file decides as a whole: where most of them run
    beyond 1, those that hold whole numbers only, or run beyond 1, are in per cent.

    Args:
        columns: canonical name -> column of the file.
        converted: canonical name -> converted column.
    """
    unit = [name for name in AUDIO_UNIT if name in converted]
    signed = [name for name in unit if "%" in columns[name]]
    rest = [name for name in unit if name not in signed]
    beyond = [name for name in rest if (converted[name].values > 1).mean() > 0.5]
    if 2 * len(beyond) > len(rest):
        signed += [name for name in rest if name in beyond or (converted[name].values.dropna() % 1 == 0).all()]
    for name in signed:
        old = converted[name]
        notes = ", ".join(filter(None, (old.conversion, "per cent / 100")))
        converted[name] = Converted(old.values / 100, old.unreadable, notes)


def convert_text(canonical: str, cells: pd.Series, exportify: bool) -> Converted:
    """Convert a text column: blanks off the ends, missing where nothing is left, ids and artists to one spelling.

    Args:
        canonical: name in the song table.
        cells: (n,) as read.
        exportify: whether artists are split at commas.
    """
    text = cells.astype("str").str.strip()
    text = text.mask(text.isin(_NO_TEXT))
    note = ""
    if canonical == "track_id":
        address = text.str.contains("spotify", regex=False).fillna(False).astype(bool) & text.str.contains(
            "[:/]"
        ).fillna(False)
        if address.any():
            text = text.mask(address, text.str.extract(r"([0-9A-Za-z]{22})(?:\?.*)?$", expand=False))
            note = "last 22 characters of the URI"
    if canonical == "artist":
        commas = exportify and not text.str.contains(";", regex=False).any()
        names = pd.Series(_by_distinct(text, lambda cell: join_artists(cell, commas)), dtype="str").mask(
            lambda s: s == ""
        )
        if not names.equals(text):
            note = "split at ','" if commas else "split at ';' or as a list"
        text = names
    return Converted(text.astype("str"), np.zeros(len(text), bool), note)


def join_artists(cell: str, commas: bool) -> str:
    """Bring the artists in one cell to names joined by ";".

    Args:
        cell: ``A;B``, ``['A', 'B']`` or one name.
        commas: whether commas part names too; Exportify writes a comma inside a name as ``\\,``.

    >>> join_artists("['Dan + Shay', \\"Destiny's Child\\"]", commas=False)
    "Dan + Shay;Destiny's Child"
    >>> join_artists("Tyler, The Creator", commas=False)
    'Tyler, The Creator'
    """
    names: list[str] = cell.split(";")
    if cell.startswith("[") and cell.endswith("]"):
        if _LIST.fullmatch(cell):  # and not a name in brackets, such as [spunge]
            names = [part for item in _QUOTED.findall(cell) for part in _unescape(item[1:-1]).split(";")]
    elif commas:
        names = [re.sub(r"\\,", ",", name) for name in re.split(r"(?<!\\),", cell)]
    return ";".join(filter(None, (name.strip() for name in names)))


def _unescape(text: str) -> str:
    """Undo the escapes of Python and JSON; JSON writes a character beyond the first 65,536 as two."""
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(lambda m: chr(int(m[1] or m[2], 16)) if m[1] or m[2] else m[3], text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def convert_date(cells: pd.Series) -> Converted:
    """Convert ``YYYY``, ``YYYY-MM`` and ``YYYY-MM-DD`` (a time of day may follow) to the first day of that period."""
    text = cells.astype("str").str.strip()
    blank = (text.isna() | text.str.lower().isin(_NO_NUMBER)).to_numpy(bool)
    dates = np.array(_by_distinct(text.mask(blank), _date), "datetime64[us]")
    coded = text.str.fullmatch(r"0+(\.0|-00(-00)?)?").fillna(False).to_numpy(bool)
    values = pd.Series(dates.astype("datetime64[us]"))
    return Converted(values, np.isnat(dates) & ~blank & ~coded, "", int(coded.sum()))


def _date(cell: str) -> np.datetime64 | None:
    match = re.match(r"(\d{4})(?:\.0$|(?:-(\d\d?))?(?:-(\d\d?))?(?:[T ].*)?$)", cell)
    if not match:
        return None
    year, month, day = (int(part or 1) for part in match.groups())
    try:
        return np.datetime64(f"{year:04}-{month:02}-{day:02}", "us") if year else None
    except ValueError:
        return None


def numbers(cells: pd.Series, grouped: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read numbers; give values (n,) float64, unreadable (n,) bool and notes on what had to be done."""
    if not pd.api.types.is_string_dtype(cells.dtype):
        return *_finite(cells.to_numpy(np.float64, na_value=np.nan, copy=True), np.zeros(len(cells), bool)), []
    text = pc.utf8_trim_whitespace(pa.array(cells, pa.large_string(), from_pandas=True))
    text = pc.if_else(pc.is_in(pc.utf8_lower(text), pa.array(_NO_NUMBER, pa.large_string())), None, text)
    notes = []
    unreadable = np.zeros(len(text), bool)
    try:
        numbers = pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        for pattern, sign, note, wanted in (
            (_GROUPED, "", "thousands commas removed", grouped),
            (r"^[+-]?\d*,\d+$", ".", "decimal commas", True),
        ):
            hits = pc.match_substring_regex(text, pattern)
            if wanted and pc.any(hits).as_py():
                text = pc.if_else(hits, pc.replace_substring(text, ",", sign), text)
                notes.append(note)
        readable = pc.match_substring_regex(text, _NUMBER)
        unreadable = pc.fill_null(pc.invert(readable), False).to_numpy(zero_copy_only=False)
        numbers = pc.cast(pc.if_else(readable, text, None), pa.float64())
    return *_finite(np.array(numbers.to_numpy(zero_copy_only=False), np.float64), unreadable.astype(bool)), notes


def _finite(values: np.ndarray, unreadable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    infinite = np.isinf(values)
    return np.where(infinite, np.nan, values), unreadable | infinite


def _by_distinct(cells: pd.Series, convert: Callable[[str], Any]) -> list[Any]:
    """Apply a function to each distinct text once; missing cells give None."""
    codes, distinct = pd.factorize(cells)
    converted = np.array([convert(str(cell).strip()) for cell in distinct] + [None], object)
    return list(converted[codes])  # code -1, missing, takes the last
