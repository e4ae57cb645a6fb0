"""Text to numbers: missing codes, signs, decimal commas, thousands separators and units written in the cells."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

BLANK = ("", "na", "n/a", "#n/a", "nan", "null", "none", "<na>", "nat")
CODES = (
    *("?", "-", "--", "–", "—", ".", "\\n", "n.a.", "nil", "missing", "unknown", "undefined", "empty_field"),
    *("not available", "(null)", "[null]", "#value!", "#ref!", "#div/0!", "#name?", "#num!", "#null!"),
)
"""Words that mean a missing value, in lower case. `BLANK` ones are what programs write for an empty cell."""

_PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_COMMAS = r"^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$"  # 1,234 and 1,234.5; the first may be a decimal comma too
_SURELY_COMMAS = r"^[+-]?\d{1,3}(,\d{3}){2,}(\.\d*)?$|^[+-]?\d{1,3},\d{3}\.\d*$"
_DECIMAL = r"^[+-]?\d*,\d+([eE][+-]?\d+)?$"
_SURELY_DECIMAL = r"^[+-]?(0|\d{4,})?,\d+([eE][+-]?\d+)?$|^[+-]?\d*,(\d{1,2}|\d{4,})([eE][+-]?\d+)?$"
_DOTS = r"^[+-]?\d{1,3}(\.\d{3})+(,\d*)?$"
_SURELY_DOTS = r"^[+-]?\d{1,3}(\.\d{3}){2,}(,\d*)?$|^[+-]?\d{1,3}\.\d{3},\d*$"
_SPACED = r"^[+-]?\d{1,3}([ '’]\d{3})+([.,]\d*)?$"


@dataclass
class Numbers:
    """A column of numbers.

    Attributes:
        values: (n,) float64, NaN where a cell is missing or cannot be read.
        unreadable: (n,) bool, cells that hold something that is no number.
        coded: (n,) bool, cells that hold a code for a missing value, such as ``?``.
        notes: what had to be done, in words.
    """

    values: np.ndarray
    unreadable: np.ndarray
    coded: np.ndarray
    notes: list[str]


def has_decimal_commas(columns: Iterable[pd.Series]) -> bool:
    """Whether a file writes decimal commas: one cell that cannot be read otherwise, such as ``0,486``, tells."""
    for cells in columns:
        if pd.api.types.is_string_dtype(cells.dtype):
            text = clean(pa.array(cells, pa.large_string(), from_pandas=True))
            if pc.any(pc.match_substring_regex(text, _SURELY_DECIMAL)).as_py():
                return True
    return False


def read_numbers(
    cells: pd.Series, *, whole: bool = False, decimal_commas: Callable[[], bool] = lambda: False
) -> Numbers:
    """Read a column of numbers.

    Args:
        cells: (n,) as read.
        whole: the column holds whole numbers, so a lone ``228,639`` is grouped and not a decimal comma.
        decimal_commas: whether the file writes decimal commas; asked only where it matters.
    """
    no = np.zeros(len(cells), bool)
    if not pd.api.types.is_string_dtype(cells.dtype):
        values = cells.to_numpy(np.float64, na_value=np.nan, copy=True)
        return _finite(Numbers(values, no, no.copy(), []))
    raw = pa.array(cells, pa.large_string(), from_pandas=True)
    try:
        return _finite(Numbers(_to_numpy(pc.cast(raw, pa.float64())), no, no.copy(), []))
    except pa.ArrowInvalid:
        text = clean(raw)
    lower = pc.utf8_lower(text)
    coded = pc.fill_null(pc.is_in(lower, pa.array(CODES, pa.large_string())), False)
    text = pc.if_else(pc.or_(coded, pc.is_in(lower, pa.array(BLANK, pa.large_string()))), None, text)
    notes: list[str] = []
    try:
        numbers = pc.cast(text, pa.float64())
        unreadable = no
    except pa.ArrowInvalid:
        text, notes = _without_separators(text, whole, decimal_commas)
        readable = pc.match_substring_regex(text, _PLAIN)
        unreadable = _to_numpy(pc.fill_null(pc.invert(readable), False)).astype(bool)
        numbers = pc.cast(pc.if_else(readable, text, None), pa.float64())
    return _finite(Numbers(_to_numpy(numbers), unreadable, _to_numpy(coded).astype(bool), notes))


def clean(text: pa.Array) -> pa.Array:
    """Cells without blanks at their ends, with plain minus signs and plain blanks."""
    text = pc.utf8_trim_whitespace(text)
    for odd, plain in (
        ("\N{MINUS SIGN}", "-"),
        ("\N{EN DASH}", "-"),
        ("\N{NO-BREAK SPACE}", " "),
        ("\N{NARROW NO-BREAK SPACE}", " "),
    ):
        text = pc.replace_substring(text, odd, plain)
    return text


def plain_letters(text: str) -> str:
    """Small letters without accents: ``AĞUSTOS`` and ``ağustos`` are one."""
    folded = unicodedata.normalize("NFD", text.casefold().replace("ı", "i").replace("ł", "l"))
    return "".join(letter for letter in folded if not unicodedata.combining(letter))


def by_distinct(cells: pd.Series, read: Callable[[str], float | None]) -> np.ndarray:
    """Read each distinct text once: (n,) float64, NaN where a cell is missing or the function gives None."""
    codes, distinct = pd.factorize(cells)
    found = [read(str(cell).strip()) for cell in distinct]
    numbers: np.ndarray = np.array([np.nan if number is None else number for number in (*found, None)], np.float64)
    values: np.ndarray = numbers[codes]  # code -1, missing, takes the last
    return values


def _without_separators(text: pa.Array, whole: bool, decimal_commas: Callable[[], bool]) -> tuple[pa.Array, list[str]]:
    """Remove thousands separators and turn decimal commas into points."""
    notes = []

    def has(pattern: str) -> bool:
        return bool(pc.any(pc.match_substring_regex(text, pattern)).as_py())

    def rewrite(pattern: str, note: str, *changes: tuple[str, str]) -> None:
        nonlocal text
        hits = pc.match_substring_regex(text, pattern)
        if pc.any(hits).as_py():
            changed = text
            for old, new in changes:
                changed = pc.replace_substring(changed, old, new)
            text = pc.if_else(hits, changed, text)
            notes.append(note)

    rewrite(_SPACED, "thousands blanks removed", (" ", ""), ("'", ""), ("’", ""))
    if has(",") or has(_SURELY_DOTS):
        decimal = (
            has(_SURELY_DECIMAL) or has(_SURELY_DOTS) or not (has(_SURELY_COMMAS) or (whole and not decimal_commas()))
        )
        if decimal:
            rewrite(_DOTS if whole else _SURELY_DOTS, "thousands points removed", (".", ""))
            rewrite(_DECIMAL, "decimal commas", (",", "."))
        else:
            rewrite(_COMMAS, "thousands commas removed", (",", ""))
    elif whole and has(r"^[+-]?\d{1,3}(\.\d{3})+$") and decimal_commas():
        rewrite(_DOTS, "thousands points removed", (".", ""))
    return text, notes


def _to_numpy(array: pa.Array) -> np.ndarray:
    return np.array(array.to_numpy(zero_copy_only=False))


def _finite(numbers: Numbers) -> Numbers:
    infinite = np.isinf(numbers.values)
    numbers.values[infinite] = np.nan
    numbers.unreadable = numbers.unreadable | infinite
    return numbers
