"""Release dates in any common order, to the first day of the period that they name."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np
import pandas as pd

from popularity.data.decisions import Decisions
from popularity.data.numbers import BLANK, CODES
from popularity.data.units import Converted

_ISO = re.compile(r"(\d{4})(?:\.0$|(?:[-/.](\d\d?))?(?:[-/.](\d\d?))?(?:[T ].*)?$)")
_COMPACT = re.compile(r"(19\d\d|20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?:\.0)?$")
_YEAR_LAST = re.compile(r"(\d\d?)([-/.])\s?(\d\d?)\2\s?(\d{4}|\d\d)(?:[T ,].*)?$")
_MONTH_YEAR = re.compile(r"(\d\d?)[-/.](\d{4})$")
_EPOCH = re.compile(r"-?\d{9,19}(?:\.0)?$")
_SERIAL = re.compile(r"[1-5]\d{4}(?:\.0)?$")  # days since 1899-12-30, as a spreadsheet counts
# How the months begin in English, German, French, Spanish, Portuguese and Italian, without accents
_MONTHS = (
    *("jan ene gen", "feb fev", "mar", "apr abr avr", "may mai mag", "jun juin giu", "jul juil lug", "aug ago aou"),
    *("sep set", "oct okt out ott", "nov", "dec dez dic"),
)
_MONTH = {start: month for month, starts in enumerate(_MONTHS, 1) for start in starts.split()}
_MONTH_WORD = re.compile(rf"\b({'|'.join(sorted(_MONTH, reverse=True))})[a-z]*\b")
_IDEOGRAPHS = re.compile(r"(\d{4})\s*[年년]\s*(\d\d?)\s*[月월]\s*(?:(\d\d?)\s*[日일])?")
_DAY_SECOND = re.compile(r"(\d{4})-(1[3-9]|2\d|3[01])-(0[1-9]|1[0-2])(?!\d)")
_DAY_THIRD = re.compile(r"\d{4}-\d\d-(1[3-9]|2\d|3[01])(?!\d)")
_NO_DATE = (*CODES, "-1")
_ZEROS = re.compile(r"0+(?:\.0|[-/.]00?(?:[-/.]00?)?)?")
_PIVOT = 30  # two-digit years below are of this century


@dataclass(frozen=True)
class _Slashed:
    """A date whose year stands last: the first two numbers may be day and month or month and day."""

    first: int
    second: int
    year: int

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


def convert_date(cells: pd.Series, decisions: Decisions | None = None) -> Converted:
    """Convert dates to ``datetime64[us]``, a year or a month to its first day.

    Read are ``2001``, ``2001-02``, ``2001-02-04`` (a time of day may follow, a day or month ``00`` is not known),
    ``20010204``, ``2/4/2001``, ``4.2.2001``, ``4 Feb 2001``, ``Feb 4, 2001``, ``4 février 2001``,
    ``2001年2月4日`` and seconds or parts of them since 1970.
    A number above 12 anywhere in the column tells the order of day and month; where none does, only the year is kept.

    Args:
        cells: (n,) as read.
        decisions: made on earlier parts of the same file.
    """
    decisions = decisions or Decisions()
    codes, distinct = pd.factorize(cells.astype("str"))
    texts = [str(cell).strip() for cell in distinct]
    blank = np.array([text.lower() in BLANK for text in texts] + [True])  # the last is for code -1: missing
    coded = np.array([text.lower() in _NO_DATE or _ZEROS.fullmatch(text) is not None for text in texts] + [False])
    day_second = decisions.once("year-day-month", lambda: _day_second(texts))
    if day_second:
        texts = [re.sub(r"^(\d{4})-(\d\d)-(\d\d)(?!\d)", r"\1-\3-\2", text) for text in texts]
    parsed = [_parse(text) if not none else None for text, none in zip(texts, (blank | coded)[:-1], strict=True)]
    slashed = [date for date in parsed if isinstance(date, _Slashed)]
    day_first = decisions.once("day first", lambda: _order(slashed))
    dates = [date.read(day_first) if isinstance(date, _Slashed) else date for date in parsed]
    values = np.array([*dates, None], "datetime64[us]")
    notes = ["year-day-month"] if day_second else []
    if slashed and day_first is None and any(date.unsure for date in slashed):
        notes.append("day and month may stand in either order: only the year is kept")
    elif slashed:
        notes.append("month/day/year" if day_first is False else "day/month/year")
    unreadable = np.isnat(values) & ~blank & ~coded
    return Converted(pd.Series(values[codes]), unreadable[codes], tuple(notes), int(coded[codes].sum()))


def _day_second(texts: list[str]) -> bool | None:
    """Whether year-day-month is written; None where no number above 12 tells."""
    second, third = any(map(_DAY_SECOND.match, texts)), any(map(_DAY_THIRD.match, texts))
    return second and not third if second or third else None


def _order(dates: list[_Slashed]) -> bool | None:
    """Whether the day stands first; None where no number above 12 tells, or they tell both."""
    day_first = any(date.first > 12 for date in dates)
    month_first = any(date.second > 12 for date in dates)
    return day_first if day_first != month_first else None


def _parse(cell: str) -> np.datetime64 | _Slashed | None:
    if match := _COMPACT.match(cell):
        return _day(*(int(part) for part in match.groups()))
    if match := _ISO.match(cell):
        year, month, day = (int(part or 1) or 1 for part in match.groups())
        return _day(year, month, day) if int(match[1]) else None
    if match := _YEAR_LAST.match(cell):
        first, second, year = int(match[1]), int(match[3]), _century(match[4])
        return _day(year, second, first) if match[2] == "." else _Slashed(first, second, year)
    if match := _MONTH_YEAR.match(cell):
        return _day(int(match[2]), int(match[1]), 1)
    if _EPOCH.match(cell):
        digits = len(cell.lstrip("-").removesuffix(".0"))
        seconds = int(float(cell)) // (10**9 if digits > 17 else 10**6 if digits > 14 else 1000 if digits > 10 else 1)
        return np.datetime64("1970-01-01", "us") + np.timedelta64(seconds // 86_400, "D")
    if _SERIAL.match(cell):
        return np.datetime64("1899-12-30", "us") + np.timedelta64(int(float(cell)), "D")
    if match := _IDEOGRAPHS.match(cell):
        return _day(int(match[1]), int(match[2]), int(match[3] or 1))
    if word := _MONTH_WORD.search(_plain(cell)):
        return _with_month(cell, _MONTH[word[1]])
    return None


def _plain(cell: str) -> str:
    """Small letters without accents."""
    return "".join(c for c in unicodedata.normalize("NFD", cell.casefold()) if not unicodedata.combining(c))


def _with_month(cell: str, month: int) -> np.datetime64 | None:
    """Read a date whose month is a word; of its numbers the one of four digits, or else the last, is the year."""
    numbers = re.findall(r"\d+", re.sub(r"\d\d?:\d\d(:\d\d)?", "", cell))
    year = next((number for number in numbers if len(number) == 4), numbers[-1] if numbers else "")
    if not year:
        return None
    rest = [int(number) for number in numbers if number != year]
    return _day(_century(year), month, rest[0] if rest else 1)


def _century(year: str) -> int:
    number = int(year)
    return number if len(year) == 4 else number + (2000 if number < _PIVOT else 1900)


def _day(year: int, month: int, day: int) -> np.datetime64 | None:
    try:
        return np.datetime64(f"{year:04}-{month:02}-{day:02}", "us")
    except ValueError:
        return None
