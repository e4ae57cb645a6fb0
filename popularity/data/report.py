"""What the loader understood of a file: the object that every verb prints and each run keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from popularity.data.albums import Nameless
from popularity.data.duplicates import Conflicts
from popularity.data.rows import LeftOut
from popularity.data.schema import AUDIO
from popularity.data.validation import Unread
from popularity.errors import printable

_SHOWN = 12  # columns of one kind in the short form


@dataclass(frozen=True)
class LoadReport:
    """What the loader understood of a file.

    Attributes:
        path: the file.
        form: what kind of file it is, in words.
        rows: rows in the file.
        songs: rows in the song table.
        mapped: (canonical name, column of the file, conversion in words) for each column in use.
        absent: canonical columns that the file has not.
        ignored: (column of the file, why it is not used).
        leaks: (column of the file, kind of leak) for each column dropped as a leak.
        missing: canonical name -> songs of the file without a value, for the columns in use.
        coded_missing: canonical name -> how many cells held a code that means missing, such as tempo 0 or ``?``.
        duplicates: rule -> rows removed by it; empty where duplicates were kept.
        conflicts: the removed rows that have another popularity than the row kept.
        nameless: songs without an artist, in a file that has artists.
        left_out: rows that are no songs, by reason.
        unread: cells of optional columns that could not be read and count as missing.
    """

    path: Path
    form: str
    rows: int
    songs: int
    mapped: tuple[tuple[str, str, str], ...]
    absent: tuple[str, ...]
    ignored: tuple[tuple[str, str], ...]
    leaks: tuple[tuple[str, str], ...]
    missing: dict[str, int]
    coded_missing: dict[str, int]
    duplicates: dict[str, int]
    conflicts: Conflicts = field(default_factory=Conflicts)
    nameless: Nameless | None = None
    left_out: tuple[LeftOut, ...] = ()
    unread: tuple[Unread, ...] = field(default=())

    @property
    def blank(self) -> tuple[str, ...]:
        """Audio columns of the file without a value in any song."""
        songs = self.rows - sum(left.count for left in self.left_out)
        return tuple(name for name in AUDIO if songs and self.missing.get(name, 0) == songs)

    @property
    def differing(self) -> str:
        """How many of the duplicates contradict the row that was kept, to be put behind their number."""
        if not self.conflicts.rows:
            return ""
        repeats, points = sum(self.duplicates.values()), self.conflicts.mean_difference
        have = "has" if self.conflicts.rows == 1 else "have"
        return (
            f"; {self.conflicts.rows:,} of {repeats:,} {have} another popularity than the row kept, by {points:.1f} "
            "points on average"
        )

    def lines(self) -> list[str]:
        """The short form: file, rows and songs, columns with conversions, and what was left out and why."""
        lines = [f"{self.path} ({self.form}): {self.rows:,} rows, {self.songs:,} songs"]
        converted = [
            f"{name} from {column!r}{f': {conversion}' if conversion else ''}"
            for name, column, conversion in self.mapped
            if conversion or column.casefold() != name
        ]
        if converted:
            lines.append(f"columns: {_listed(converted, '; ')}")
        if absent := [name for name in self.absent if name in AUDIO]:
            lines.append(f"not in the file: {', '.join(absent)}")
        if self.blank:
            lines.append(f"empty in every row: {', '.join(self.blank)}")
        if refused := [f"{column!r} ({why})" for column, why in self.ignored if _worth_a_line(why)]:
            lines.append(f"not used: {_listed(refused, '; ')}")
        if leaks := [repr(column) for column, leak in self.leaks if leak != "row_number"]:
            lines.append(f"not used, for they leak the popularity: {_listed(leaks)}")
        if self.left_out:
            lines.append(f"left out: {', '.join(str(left) for left in self.left_out)}")
        lines += [str(unread) for unread in self.unread]
        if removed := [f"{count:,} {rule}" for rule, count in self.duplicates.items() if count]:
            lines.append(f"duplicates removed: {', '.join(removed)}{self.differing}")
        if self.nameless:
            lines.append(f"songs without an artist: {self.nameless}")
        return [printable(line) for line in lines]

    def with_more(self, part: LoadReport) -> LoadReport:
        """The report of a file of which this is the report so far, and ``part`` that of the rows that follow."""
        left_out = {left.reason: left for left in self.left_out}
        for left in part.left_out:
            count = left_out[left.reason].count if left.reason in left_out else 0
            left_out[left.reason] = replace(left_out.get(left.reason, left), count=count + left.count)
        unread = {cells.name: cells for cells in self.unread}
        for cells in part.unread:
            count = unread[cells.name].count if cells.name in unread else 0
            unread[cells.name] = replace(unread.get(cells.name, cells), count=count + cells.count)
        return replace(
            self,
            rows=self.rows + part.rows,
            songs=self.songs + part.songs,
            missing=_sum(self.missing, part.missing),
            coded_missing=_sum(self.coded_missing, part.coded_missing),
            left_out=tuple(left_out.values()),
            unread=tuple(unread.values()),
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON knows."""
        return {**asdict(self), "path": str(self.path), "mapped": [list(column) for column in self.mapped]}


def _worth_a_line(why: str) -> bool:
    """Whether people should know why a column is not used: its cells do not fit its name, or it is a target too."""
    return why.startswith("popularity is read from ") or (why.startswith("not ") and ": " in why)


def _sum(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {name: first.get(name, 0) + second.get(name, 0) for name in (*first, *second)}


def _listed(names: list[str], separator: str = ", ") -> str:
    more = len(names) - _SHOWN
    return separator.join(names[:_SHOWN]) + (f"{separator}and {more} more" if more > 0 else "")
