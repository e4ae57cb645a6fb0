"""Dates as numbers: seconds since the start of 1970, or thousandths, millionths or billionths of a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_DAY = 86_400  # seconds
_UNITS = {1: "seconds", 10**3: "milliseconds", 10**6: "microseconds", 10**9: "nanoseconds"}  # parts of a second
# Seconds to 1860 and 2035: half of the dates of any column lie between them
_FIRST, _LAST = -3_471_292_800, 2_051_222_400
_LARGE = 10**8  # smaller numbers may be anything: three years in seconds, a day in milliseconds
_TIMES_OF_DAY = range(19 * 10**12, 21 * 10**12)  # YYYYMMDDhhmmss, here only where it names no day


@dataclass(frozen=True)
class Epochs:
    """How the numbers of a column are dates.

    Attributes:
        per_second: the unit: how many make a second.
        usual: most cells are such numbers, so small ones are dates too.
        zero: 0 is the first of January 1970, and not a code for a missing date.
    """

    per_second: int
    usual: bool
    zero: bool

    @property
    def note(self) -> str:
        """The unit in words."""
        return f"{_UNITS[self.per_second]} since 1970"

    def read(self, number: int) -> np.datetime64 | None:
        """The day of a number, None for no date."""
        days = number // (self.per_second * _DAY)
        if abs(days) > 100_000 or not (self.usual or abs(number) >= _LARGE):
            return None
        return np.datetime64("1970-01-01", "us") + np.timedelta64(days, "D")


def decide_epochs(dates: Sequence[object]) -> Epochs | None:
    """Decide how the numbers of a column are dates.

    The unit is the largest in which most numbers are dates of songs. Zero is a date where other cells are from 1970
    or before, for a column that begins later has it for songs without a date.

    Args:
        dates: the distinct cells that are neither blank nor a code, numbers among them as int.

    Returns:
        None where no number tells.
    """
    numbers = [date for date in dates if isinstance(date, int)]
    tell = [n for n in numbers if (abs(n) >= _LARGE or n % _DAY == 0) and n not in _TIMES_OF_DAY]
    for unit in _UNITS if tell else ():
        if 2 * sum(_FIRST <= n / unit < _LAST for n in tell) > len(tell):
            usual = 2 * len(tell) > len(dates)
            return Epochs(unit, usual, zero=usual and min(tell) < 365 * _DAY * unit)
    return None
