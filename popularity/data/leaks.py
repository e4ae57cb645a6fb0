"""Columns that leak the target, kept on request to show what they do."""

from __future__ import annotations

import numpy as np

from popularity.data.columns import ColumnMatch, normalise
from popularity.data.numbers import read_numbers
from popularity.data.raw import RawTable
from popularity.errors import InputError


def read_leak(raw: RawTable, match: ColumnMatch, asked: str) -> tuple[str, np.ndarray]:
    """Give the column of a leak and its numbers (n,); two words become 0 and 1 in alphabetical order.

    Args:
        raw: the file.
        match: which column is what.
        asked: a kind of leak or a column; ``row_number`` is always there.

    Raises:
        InputError: no such leak, or a column of more than two words.
    """
    if asked == "row_number":
        return "", np.arange(len(raw.frame), dtype=np.float64)
    columns = [column for column, leak in match.leaks.items() if leak == asked or normalise(column) == normalise(asked)]
    if not columns:
        have = ", ".join(match.leaks) or "none"
        raise InputError(f"{raw.path}: expected a leak column for {asked!r}, got {have} (row_number is always there)")
    cells = raw.frame[columns[0]]
    numbers = read_numbers(cells, whole=True)
    words = sorted(set(cells[numbers.unreadable]))
    if words and len(words) == cells.nunique() <= 2:
        return columns[0], (cells == words[-1]).to_numpy(np.float64)
    if words:
        raise InputError(f"{raw.path}: column {columns[0]!r}: expected numbers or two words, got {words[0]!r}")
    return columns[0], numbers.values
