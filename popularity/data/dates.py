"""Release dates in any common order, to the first day of the period that they name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

import numpy as np
import pandas as pd

from popularity.data.decisions import Decisions
from popularity.data.epochs import Epochs, decide_epochs
from popularity.data.months import begins_with_month, find_month
from popularity.data.numbers import BLANK, CODES
from popularity.data.units import Converted

_ISO = re.compile(
    r"(\d{4})(?:[.,]0+$|(?:[-/.]\s?(\d\d?)(?:[-/.]\s?(\d\d?)(?:Z|[+-]\d\d:?\d\d)?)?)?)\.?(?P<rest>[T\s].*)?$"
)
_WITH_BLANKS = re.compile(r"(\d{4}) (\d\d?)(?: (\d\d?)(?:[T\s].*)?)?$")
_COMPACT = re.compile(
    r"(19\d\d|20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?:[T ].*|(?:(?:[01]\d|2[0-3])[0-5]\d[0-5]\d)?(?:\.0)?)$"
)
_GROUPED_YEAR = re.compile(r"([12])[,.\s'’](\d{3})(?:[.,]0+)?$")  # a thousands sign in a year
_QUARTER = re.compile(r"(?:Q[1-4]|[1-4]Q)[\s/-]*\d{4}$|\d{4}[\s/-]*Q[1-4]$", re.IGNORECASE)
_YEAR_LAST = re.compile(r"(\d\d?)([-/.])\s?(\d\d?)\2\s?(\d{4}|\d\d)\.?(?:[T\s,].*)?$")
_MONTH_YEAR = re.compile(r"(\d\d?)[-/.](\d{4})$")
_SERIAL = re.compile(r"([1-5]\d{4})(?:[.,]\d+)?$")  # days since 1899-12-30, as a spreadsheet counts
# With a small `e`, as Python writes all digits of a large float; spreadsheets write `E`, and round
_NUMBER = re.compile(r"-?\d{1,19}(?:\.\d{1,15})?(?:e\+?\d\d?)?$")
_TIME = re.compile(r"\d\d?:\d\d(?::\d\d(?:\.\d+)?)?(?:\s*(?:GMT|UTC)?\s*[+-]\d\d:?\d\d\b)?")
_IDEOGRAPHS = re.compile(r"(\d{4})\s*[年년](?:\s*(\d\d?)\s*[月월]\s*(?:(\d\d?)\s*[日일])?)?")
_DAY_SECOND = re.compile(r"(\d{4})-(1[3-9]|2\d|3[01])-(0[1-9]|1[0-2])(?!\d)")
_DAY_THIRD = re.compile(r"\d{4}-\d\d-(1[3-9]|2\d|3[01])(?!\d)")
_NO_DATE = (*CODES, "-1")
_ZEROS = re.compile(r"0+(?:\.0|[-/.]00?(?:[-/.]00?)?)?")
# The first and the last day of programs, and day 0 of spreadsheets: year, and day and month in any order
_NO_DAYS = {"0001": {1}, "9999": {12, 31}, "1900": {0, 1}, "1899": {12, 30}}
_EARLIEST = np.datetime64("1860-01-01", "us")  # the year of the first recording
_LATEST = np.datetime64("2101-01-01", "us")
_PIVOT = 30  # two-digit years below are of this century


@dataclass(frozen=True)
class _YearLast:
    """A date whose year stands last: the first two numbers may be day and month or month and day."""

    first: int
    second: int
    year: int
    dots: bool

    @property
    def unsure(self) -> bool:
        """Whether both orders give a date, and not the same one."""
        return max(self.first, self.second) <= 12 and self.first != self.second

    def read(self, day_first: bool | None) -> np.datetime64 | None:
        """The day, or the first of January where nothing tells the order; None for no such day."""
        if not self.unsure:
            day_first = self.first > 12
        if day_first is None:
            return _day(self.year, 1, 1)
        return _day(self.year, *((self.second, self.first) if day_first else (self.first, self.second)))


#: What a cell alone tells: an order of day and month, or a number since 1970, waits for the rest of the column.
_Cell: TypeAlias = np.datetime64 | _YearLast | int | None


@dataclass(frozen=True)
class _Column:
    """What the cells of a column tell together.

    Attributes:
        day_first: whether the day stands before the month; None where nothing tells.
        day_before_dots: the same of dates with dots, where it usually does.
        epochs: how numbers are dates; None for no such numbers.
    """

    day_first: bool | None
    day_before_dots: bool
    epochs: Epochs | None

    @property
    def zero(self) -> bool:
        """Whether 0 is a date."""
        return self.epochs is not None and self.epochs.zero

    def read(self, cell: _Cell) -> np.datetime64 | None:
        """The day that a cell names, None for none."""
        if isinstance(cell, _YearLast):
            return cell.read(self.day_before_dots if cell.dots else self.day_first)
        if isinstance(cell, int):
            return self.epochs.read(cell) if self.epochs else None
        return cell

    def notes(self, cells: list[_Cell]) -> list[str]:
        """What was decided, in words."""
        slashed = [cell for cell in cells if isinstance(cell, _YearLast) and not cell.dots]
        notes = []
        if self.day_first is None and any(cell.unsure for cell in slashed):
            notes.append("day and month may stand in either order: only the year is kept")
        elif slashed:
            notes.append("month/day/year" if self.day_first is False else "day/month/year")
        if not self.day_before_dots:
            notes.append("month.day.year")
        return [*notes, self.epochs.note] if self.epochs else notes


def convert_date(cells: pd.Series, decisions: Decisions | None = None) -> Converted:
    """Convert dates to ``datetime64[us]``, a year, a quarter or a month to its first day.

    Read are ``2001``, ``2001-02``, ``2001-02-04`` (a time of day may follow, a day or month ``00`` is not known),
    ``2001. 2. 4.``, ``20010204``, ``2/4/2001``, ``4.2.2001``, ``4 Feb 2001``, ``Feb 4, 2001``, ``4 février 2001``,
    ``2001年2月4日``, ``Q1 2001``, the days that spreadsheets count, and seconds or parts of them since 1970.
    A number above 12 anywhere in the column tells the order of day and month; where none does, the day stands first
    in dates with dots, and of others only the year is kept. Years before 1860 and after 2100 are unreadable.

    Args:
        cells: (n,) as read.
        decisions: made on earlier parts of the same file.
    """
    decisions = decisions or Decisions()
    codes, distinct = pd.factorize(cells.astype("str"))
    texts = [str(cell).strip() for cell in distinct]
    day_second = decisions.once("year-day-month", lambda: _day_second(texts))
    if day_second:
        texts = [re.sub(r"^(\d{4})-(\d\d)-(\d\d)(?!\d)", r"\1-\3-\2", text) for text in texts]
    parsed = [_parse(text) for text in texts]
    blank = np.array([text.lower() in BLANK for text in texts] + [True])  # the last is for code -1: missing
    coded = np.array([_is_code(text) for text in texts] + [False])
    told = [cell for cell, none in zip(parsed, blank | coded, strict=False) if not none]
    column = _decide(told, decisions)
    if column.zero:
        coded &= np.array([not (isinstance(cell, int) and cell == 0) for cell in parsed] + [True])
    values = np.array([*map(column.read, parsed), None], "datetime64[us]")
    values[blank | coded | (values < _EARLIEST) | (values >= _LATEST)] = np.datetime64("NaT")
    unreadable = np.isnat(values) & ~blank & ~coded
    notes = (*(["year-day-month"] if day_second else []), *column.notes(told))
    return Converted(pd.Series(values[codes]), unreadable[codes], notes, int(coded[codes].sum()))


def _day_second(texts: list[str]) -> bool | None:
    """Whether year-day-month is written; None where no number above 12 tells."""
    second, third = any(map(_DAY_SECOND.match, texts)), any(map(_DAY_THIRD.match, texts))
    return second and not third if second or third else None


def _is_code(text: str) -> bool:
    """Whether a cell means that there is no date."""
    if text.lower() in _NO_DATE or _ZEROS.fullmatch(text):
        return True
    *others, year = sorted(re.findall(r"\d+", _TIME.sub("", text))[:3], key=len) or [""]
    return year in _NO_DAYS and {int(number) for number in others} == _NO_DAYS[year]


def _decide(cells: list[_Cell], decisions: Decisions) -> _Column:
    """Decide about a column by its distinct cells, blanks and codes left out."""
    year_last = [cell for cell in cells if isinstance(cell, _YearLast)]

    def day_first(*, dots: bool) -> bool | None:
        return _order([cell for cell in year_last if cell.dots == dots])

    before_dots = decisions.once("day before dots", lambda: day_first(dots=True))
    return _Column(
        decisions.once("day first", lambda: day_first(dots=False)),
        before_dots is not False,
        decisions.once("epochs", lambda: decide_epochs(cells)),
    )


def _order(dates: list[_YearLast]) -> bool | None:
    """Whether the day stands first; None where no number above 12 tells, or they tell both."""
    day_first = any(date.first > 12 for date in dates)
    month_first = any(date.second > 12 for date in dates)
    return day_first if day_first != month_first else None


def _parse(cell: str) -> _Cell:
    if match := _COMPACT.match(cell):
        return _day(*(int(part) for part in match.groups()))
    if _QUARTER.match(cell):
        quarter, year = sorted(re.findall(r"\d+", cell), key=len)
        return _day(int(year), 3 * int(quarter) - 2, 1)
    match = _WITH_BLANKS.match(cell) or _ISO.match(cell)
    if match and (match[2] or not begins_with_month(match["rest"] or "")):
        return _day(int(match[1]), int(match[2] or 1) or 1, int(match[3] or 1) or 1)
    if match := _GROUPED_YEAR.match(cell):
        return _day(int(match[1] + match[2]), 1, 1)
    if match := _YEAR_LAST.match(cell):
        return _YearLast(int(match[1]), int(match[3]), _century(match[4]), match[2] == ".")
    if match := _MONTH_YEAR.match(cell):
        return _day(int(match[2]), int(match[1]), 1)
    if match := _SERIAL.match(cell):
        return np.datetime64("1899-12-30", "us") + np.timedelta64(int(match[1]), "D")
    if _NUMBER.match(cell):
        return int(Decimal(cell))
    if match := _IDEOGRAPHS.match(cell):
        return _day(int(match[1]), int(match[2] or 1), int(match[3] or 1))
    month = find_month(cell)
    return _with_month(cell, month) if month else None


def _with_month(cell: str, month: int) -> np.datetime64 | None:
    """Read a date whose month is a word; of its numbers the one of four digits, or else the last, is the year."""
    numbers = re.findall(r"\d{1,5}", _TIME.sub("", cell))
    if not numbers:
        return None
    at = next((at for at, number in enumerate(numbers) if len(number) == 4), len(numbers) - 1)
    year = numbers.pop(at)
    return _day(_century(year), month, int(numbers[0]) if numbers else 1)


def _century(year: str) -> int:
    number = int(year)
    return number if len(year) == 4 else number + (2000 if number < _PIVOT else 1900)


def _day(year: int, month: int, day: int) -> np.datetime64 | None:
    try:
        return np.datetime64(f"{year:04}-{month:02}-{day:02}", "us")
    except ValueError:
        return None
