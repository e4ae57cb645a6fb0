"""Units, decided by the values: durations in any unit, shares in per cent, and units written in the cells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from popularity.data.decisions import Decisions
from popularity.data.duration_names import named_unit, names_clock
from popularity.data.numbers import by_distinct
from popularity.data.schema import AUDIO_UNIT

_UNIT_WORDS = {1: "", 1000: "seconds to ms", 60_000: "minutes to ms"}
_DAY = 86_400_000  # ms: a spreadsheet counts in days
_SONG = (
    30_000,
    1_800_000,
)  # ms: half of all songs of any table are longer than half a minute, shorter than half an hour
_HOUR = 3_600_000
_NEAR_ZERO = ("acousticness", "instrumentalness")

# A time of day too, on the first day that a spreadsheet or a computer knows: 12:03:31 AM, 1900-01-01 00:03:31
_CLOCK = re.compile(
    r"(?:0 days? |(?:1899-12-3[01]|1900-01-0[01]|1904-01-01|1970-01-01)[T ])?"
    r"(?:(\d+):)?(\d{1,3}):(\d{1,2}(?:[.,]\d+)?)(?: ?min(?:utes)?| ?mins|Z)?(?P<am> ?am)?",
    re.IGNORECASE,
)
_HOURS = r"h|hours?|hrs?|std|stunden?|horas?|heures?|시간|時間|小时"
_MINUTES = r"m|mins?|minut(?:e[ns]?|os?|i)|dk|dakika|мин|'(?!')|′|分|분"
_SECONDS = r"s|secs?|seconds?|sek|sekunden?|segs?|segundos?|secondes?|secondi|sn|saniye|сек|\"|″|''|秒|초"
_PARTS = re.compile(
    rf"(?:P(?:0D)?T)?(?:(\d+)\s*(?:{_HOURS})\.?[\s:,]*)?(?:(\d+(?:[.,]\d+)?)\s*(?:{_MINUTES})(?!s)\.?[\s:,]*)?"
    rf"(?:(\d+(?:[.,]\d+)?)\s*({_SECONDS})?\.?)?",
    re.IGNORECASE,
)
_MS = re.compile(r"(\d+(?:[.,]\d+)?)\s*(?:ms|msec|milliseconds?)", re.IGNORECASE)
_NUMBER = r"([+\-\u2212\u2013]?(?:\d+(?:[.,]\d*)?|[.,]\d+))"
_SUFFIX = {
    "loudness": re.compile(_NUMBER + r"\s*(?:dB|dBFS|dB FS|LUFS)", re.IGNORECASE),
    "tempo": re.compile(_NUMBER + r"\s*(?:BPM|beats per minute)", re.IGNORECASE),
    "popularity": re.compile(_NUMBER + r"\s*(?:%|/\s*100)"),
    "unit": re.compile(_NUMBER + r"\s*%"),
}


@dataclass(frozen=True)
class Converted:
    """One canonical column.

    Attributes:
        values: (n,) converted, missing where the cell is blank, means missing or cannot be read.
        unreadable: (n,) bool, cells that hold something that cannot be read.
        notes: what was done, in words; empty where the cells were taken as they are.
        coded_missing: how many cells held a code for a missing value, such as tempo 0.
        own_unit: (n,) bool, cells with their unit in them, such as ``71%`` or ``3:31``; None for no such cell.
    """

    values: pd.Series
    unreadable: np.ndarray
    notes: tuple[str, ...] = ()
    coded_missing: int = 0
    own_unit: np.ndarray | None = field(default=None, repr=False)

    @property
    def conversion(self) -> str:
        """The notes as one text."""
        return ", ".join(self.notes)


def with_unit(canonical: str, cells: pd.Series) -> np.ndarray:
    """Read cells that carry their unit, (n,) float64 in the canonical unit, NaN for all others."""
    if canonical == "duration_ms":
        return by_distinct(cells, _duration)
    pattern = _SUFFIX["unit" if canonical in AUDIO_UNIT else canonical]
    scale = 0.01 if canonical in AUDIO_UNIT else 1.0

    def read(cell: str) -> float | None:
        match = pattern.fullmatch(cell)
        if match is None:
            return None
        return float(match[1].replace(",", ".").replace("\u2212", "-").replace("\u2013", "-")) * scale

    return by_distinct(cells, read)


HAS_UNIT = (*AUDIO_UNIT, "duration_ms", "loudness", "tempo", "popularity")


def _duration(cell: str) -> float | None:
    """Milliseconds of ``3:31``, ``0:03:31``, ``[3:31]``, ``3 min 31 s``, ``3분 31초``, ``PT3M31S`` or ``211 s``."""
    if cell[:1] + cell[-1:] in ("[]", "()"):
        cell = cell[1:-1]
    if match := _CLOCK.fullmatch(cell):
        hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in match.groups()[:3])
        if match["am"]:
            hours %= 12  # the day begins at 12:00 AM
        return (hours * 3600 + minutes * 60 + seconds) * 1000 if seconds < 60 else None
    if match := _MS.fullmatch(cell):
        return float(match[1].replace(",", "."))
    match = _PARTS.fullmatch(cell)
    if match and (match[1] or match[2] or match[4]):
        hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in match.groups()[:3])
        return (hours * 3600 + minutes * 60 + seconds) * 1000
    return None


def to_milliseconds(column: str, duration: Converted, decisions: Decisions) -> Converted:
    """Bring a duration to milliseconds.

    The median tells the unit of the column whatever its name says, for no two units share a range of likely medians;
    the name decides only where no unit is likely. A cell that would be no song in that unit and is one in another is
    read in the other: public files mix minutes and milliseconds.
    """
    values = duration.values.to_numpy(np.float64, copy=True)
    own = duration.own_unit if duration.own_unit is not None else np.zeros(len(values), bool)
    notes = list(duration.notes)
    coded = values <= 0  # 0:00 too
    values[coded] = np.nan
    own, bare = own & ~coded, ~own & (values > 0)
    if bool(own.any()) and decisions.once("hours for minutes", lambda: _are_hours(values[own])):
        values[own] /= 60  # a spreadsheet takes 3:31 for a time of day and writes 03:31:00
        notes.append("hours:minutes taken as minutes:seconds")
    if bare.any():
        values[bare], notes_of_unit = _from_unit(column, values[bare], decisions)
        notes += notes_of_unit
        coded |= bare & np.isnan(values)
    missing = duration.coded_missing + int(coded.sum())
    return replace(duration, values=pd.Series(values), notes=tuple(notes), coded_missing=missing)


def _are_hours(values: np.ndarray) -> bool:
    return bool(np.nanmedian(values) >= _HOUR and (values % 60_000 == 0).all())


def _from_unit(column: str, values: np.ndarray, decisions: Decisions) -> tuple[np.ndarray, list[str]]:
    """Positive numbers to milliseconds, NaN where no unit makes a song, and what was done."""
    if decisions.once("fractions of a day", lambda: _are_days(values)):
        return values * _DAY, ["fractions of a day to ms"]
    if decisions.once("duration rescaled", lambda: len(values) > 1 and bool(values.max() <= 1)):
        return values * named_unit(column), []  # rescaled to 0 to 1, which is for the check of scales to refuse
    unit = decisions.once("unit of duration", lambda: int(_likely(np.median(values))) or named_unit(column))
    if unit == 60_000 and decisions.once("clocks", lambda: _are_clocks(values, names_clock(column))):
        values, unit = np.floor(values) * 60 + np.round(values % 1 * 100), 1000
        return values * unit, ["3.31 taken as 3 min 31 s, for no cell has more than .59"]
    ms = values * unit
    odd = (ms < 1000) | (ms > _HOUR)
    if unit == 1000 and decisions.once("whole seconds", lambda: bool(np.median(values % 1) == 0)):
        odd |= (values < 15) & (values % 1 != 0)
    other = np.where(odd, _likely(values), 0)
    mixed = odd & (other > 0) & (other != unit)
    ms = np.where(mixed, values * other, ms)
    ms[(ms < 1000) | (mixed & (unit == 60_000) & (other == 1000))] = np.nan  # 90 minutes or 90 seconds
    notes = [_UNIT_WORDS[unit]] if unit > 1 else []
    if mixed.any():
        notes.append(f"{int(mixed.sum()):,} cell{'s' if mixed.sum() > 1 else ''} in another unit")
    return ms, notes


def _are_days(values: np.ndarray) -> bool:
    """Whether a spreadsheet wrote 3:31 as a part of a day: half are songs of 1 to 15 minutes, and none takes hours."""
    return bool(60_000 <= np.median(values) * _DAY <= 900_000 and values.max() * _DAY <= 6 * _HOUR)


def _are_clocks(values: np.ndarray, named: bool) -> bool:
    """Whether a point stands between minutes and seconds: always two digits or fewer behind it, and never above 59.

    Of decimal fractions four in ten are: twenty cells do not leave them all out, and fewer are enough where the name of
    the column says ``mm.ss``.
    """
    seconds = values % 1 * 100
    two_digits = np.abs(seconds - np.round(seconds)) < 1e-6
    return (named or len(values) >= 20) and bool(two_digits.all() and (seconds < 59.5).all())


def _likely(values: np.ndarray) -> np.ndarray:
    """The unit, as milliseconds, in which each value is the length of a song; 0 for none."""
    fits = [(_SONG[0] <= values * unit) & (values * unit < _SONG[1]) for unit in _UNIT_WORDS]
    return np.select(fits, list(_UNIT_WORDS), 0)


def per_cent(columns: Mapping[str, str], converted: dict[str, Converted], decisions: Decisions) -> None:
    """Divide by 100, in place, the features from 0 to 1 that are given in per cent.

    A column is in per cent if its name has the sign or most of its values run beyond 1; a tenth of them is enough for
    acousticness and instrumentalness. The other columns follow where
    no column reads as a share: acousticness and instrumentalness, which a whole table of songs can have below 1 %, do
    not say which they are.

    Args:
        columns: canonical name -> column of the file.
        converted: canonical name -> converted column.
        decisions: about this file.
    """
    for name in decisions.once("per cent", lambda: _in_per_cent(columns, converted)):
        old = converted[name]
        own = old.own_unit if old.own_unit is not None else np.zeros(len(old.values), bool)
        values = old.values.where(own, old.values / 100)
        converted[name] = replace(old, values=values, notes=(*old.notes, "per cent / 100"))


def _in_per_cent(columns: Mapping[str, str], converted: Mapping[str, Converted]) -> set[str]:
    bare = {name: _bare(converted[name]) for name in AUDIO_UNIT if name in converted}
    bare = {name: values for name, values in bare.items() if len(values)}
    near_zero = {name for name in bare if name in _NEAR_ZERO}
    shares = {name for name in bare.keys() - near_zero if bare[name].max() <= 1 and (bare[name] % 1 != 0).any()}
    named = {name for name in bare if "%" in columns[name]} - shares
    beyond = {
        name
        for name in bare.keys() - named
        if (bare[name] > 1).mean() > (0.1 if name in near_zero else 0.5) and not _other_scale(name, bare[name])
    }
    chosen = named | beyond
    if beyond and not shares:
        chosen |= {name for name in bare if not _other_scale(name, bare[name])}
    return chosen


def _other_scale(name: str, values: np.ndarray) -> bool:
    """Whether a column beyond 1 is not in per cent either: it runs from 0 to 10, or mixes per cent and shares.

    Of ten songs one has more than 10 % in danceability, energy and valence; and hardly a song has less than 1 % in
    any feature but two.
    """
    if name in ("danceability", "energy", "valence") and len(values) >= 10 and bool(values.max() <= 10):
        return True
    return name not in _NEAR_ZERO and float(((values > 0) & (values < 1)).mean()) > 0.1


def _bare(column: Converted) -> np.ndarray:
    values: np.ndarray = column.values.to_numpy(np.float64)
    if column.own_unit is not None:
        values = values[~column.own_unit]
    known: np.ndarray = values[~np.isnan(values)]
    return known
