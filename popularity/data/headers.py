"""Where the header of a table is: below a title, a ``sep=;`` line or blank lines, and with which delimiter."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from popularity.data.columns import match_columns
from popularity.data.raw import MOST_COLUMNS

DELIMITERS = ",;\t|"
_LOOKED_AT = 12  # lines; a title, a date and a source stand above some headers
_FEWEST_NAMES = 5  # canonical columns in a line for it to be a header rather than the first line


@dataclass(frozen=True)
class Header:
    """The header of a text table.

    Attributes:
        start: where it begins in the text, in bytes.
        line: its line, from 1.
        delimiter: what parts its names.
        names: its names.
        quoted: whether its first name stands in quotes.
    """

    start: int
    line: int
    delimiter: str
    names: list[str]
    quoted: bool


def find_header(text: bytes) -> Header:
    """Find the header of a text table: the first line that is not blank, unless a later one names far more columns.

    Args:
        text: UTF-8; not blank.
    """
    candidates: list[tuple[int, Header]] = []
    start, line, said = 0, 0, ""
    while start < len(text) and len(candidates) < _LOOKED_AT:
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        words = text[start : min(end, start + (1 << 16))].decode("utf-8", "ignore").strip("\r\ufeff")
        line += 1
        if line == 1 and words.lower().startswith("sep=") and len(words) == 5:
            said = words[-1]
        elif words.strip():
            delimiter = said or _delimiter(words)
            names = _names(text, start, delimiter)
            header = Header(start, line, delimiter, names, words.lstrip().startswith('"'))
            # a line of more names is refused: nobody should wait for each of them to be looked up
            candidates.append((len(match_columns(names[:MOST_COLUMNS]).mapped), header))
        start = end + 1
    if not candidates:  # nothing but "sep=;"
        return Header(0, 1, ",", [text.decode("utf-8", "ignore").strip()], False)
    best, header = max(candidates, key=lambda candidate: candidate[0])
    return header if best >= _FEWEST_NAMES and best > 2 * candidates[0][0] else candidates[0][1]


def find_header_row(rows: Sequence[Sequence[str]]) -> int:
    """Find the header among the rows of a spreadsheet, by the same rule."""
    filled = [position for position, row in enumerate(rows[:50]) if any(row)][:_LOOKED_AT]
    if not filled:
        return 0
    found = {position: len(match_columns(rows[position]).mapped) for position in filled}
    best = max(filled, key=lambda position: found[position])
    return best if found[best] >= _FEWEST_NAMES and found[best] > 2 * found[filled[0]] else filled[0]


def _delimiter(header: str) -> str:
    """The delimiter that is met most often outside quotes."""
    unquoted = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=unquoted.count)


def _names(text: bytes, start: int, delimiter: str) -> list[str]:
    """The names of a header; a quoted name may have a line break in it."""
    words = io.StringIO(text[start : start + (1 << 20)].decode("utf-8", "ignore").lstrip("\ufeff"), newline="")
    try:
        return next(csv.reader(words, delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # a name of more than 128 KB
        return []
