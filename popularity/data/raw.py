"""A table as its file holds it, and how messages name its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from popularity.errors import InputError

#: Tables of songs have a few dozen columns; a million of them would fill the memory.
MOST_COLUMNS = 10_000


@dataclass(frozen=True)
class RawTable:
    """A table as its file holds it.

    Attributes:
        path: where it was read from.
        frame: one row per row of the file. From a CSV every column is text as written, "" where the cell is empty;
            other kinds keep numbers as numbers, lists and dicts are texts, and dates are texts.
        form: what the file turned out to be, in words.
        first_line: the line on which the first row stands, None where rows and lines do not run in step (quoted line
            breaks, blank lines, Parquet).
        quoted_header: whether the names in the header of a CSV stand in quotes.
        rows_before: rows of the file before these, where a file is read in parts.
        file: its name, where several files are one table.
    """

    path: Path
    frame: pd.DataFrame
    form: str
    first_line: int | None = None
    quoted_header: bool = False
    rows_before: int = 0
    file: str = ""

    def place(self, row: int) -> str:
        """Name the row with this number (from 0) as a person counts it: from 1, with line and file where known."""
        line = f" (line {row + self.first_line})" if self.first_line is not None else ""
        return f"row {row + self.rows_before + 1}{line}{f' of {self.file}' if self.file else ''}"


def more_rows(count: int) -> str:
    """Say how many more rows have the same problem, nothing for none."""
    return f" ({count:,} more row{'s have' if count > 1 else ' has'} this problem)" if count else ""


def refuse_wide(path: Path, count: int) -> None:
    """Refuse a table of far too many columns.

    Raises:
        InputError: there are more than 10,000.
    """
    if count > MOST_COLUMNS:
        raise InputError(f"{path}: expected at most {MOST_COLUMNS:,} columns, got {count:,} or more")


def distinct_names(names: Sequence[str]) -> list[str]:
    """Give a repeated column name a number that no other name has, so that every column can be named."""
    taken = set(names)
    numbers: dict[str, int] = {}
    result = []
    for name in names:
        number, distinct = numbers.get(name, 0) + 1, name
        while number > 1 and (distinct := f"{name} ({number})") in taken:
            number += 1
        taken.add(distinct)
        numbers[name] = number
        result.append(distinct)
    return result
