"""The one way in for data: `load_songs` turns a named set or a file into the canonical song table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from popularity.data.columns import ColumnMatch, is_exportify, match_columns, normalise
from popularity.data.convert import Converted, convert_date, convert_number, convert_text, numbers, per_cent
from popularity.data.duplicates import remove_duplicates
from popularity.data.reading import RawTable, read_table
from popularity.data.schema import CANONICAL, NUMERIC, REQUIRED, TEXT, refuse_foreign_scales, validate
from popularity.data.sources import locate
from popularity.errors import InputError


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
        missing: canonical name -> rows of the file without a value, for the columns in use.
        coded_missing: canonical name -> how many of those held a number that means missing, such as tempo 0.
        duplicates: rule -> rows removed by it; empty where duplicates were kept.
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


@dataclass(frozen=True)
class SongTable:
    """Songs, ready to be split.

    Attributes:
        songs: canonical song table (see `popularity.data.schema.CANONICAL`), index 0 to n - 1.
        report: what the loader understood.
        fingerprint: SHA-256 of the content of `songs`, in hexadecimal.
    """

    songs: pd.DataFrame
    report: LoadReport
    fingerprint: str


def load_songs(
    source: str,
    *,
    cache_dir: Path | None = None,
    deduplicate: bool = True,
    need_popularity: bool = True,
    leaks: Sequence[str] = (),
) -> SongTable:
    """Load a named data set or a file into the canonical song table.

    Args:
        source: one of `popularity.data.sources.NAMES` or a path.
        cache_dir: where downloads are kept.
        deduplicate: remove duplicates; False keeps every row, in the order of the file.
        need_popularity: refuse songs without popularity; False is for prediction.
        leaks: leaks to keep as numeric columns ``leak_NAME``, only to show what they do: kinds such as ``streams`` or
            columns of the file; ``row_number`` is always there.

    Raises:
        InputError: the source cannot be found or read, a column is missing, a value is impossible, or there is nothing
            to learn because every song has the same popularity.
    """
    raw = read_table(locate(source, cache_dir))
    header = list(raw.frame.columns)
    match = match_columns(header)
    _require_columns(raw, match, need_popularity)

    converted: dict[str, Converted] = {}
    for name, column in match.mapped.items():
        cells = raw.frame[column]
        if name in NUMERIC:
            converted[name] = convert_number(name, column, cells)
        elif name in TEXT:
            converted[name] = convert_text(name, cells, is_exportify(header))
        else:
            converted[name] = convert_date(cells)
    per_cent(match.mapped, converted)
    songs = pd.DataFrame(
        {name: converted[name].values if name in converted else _absent(name, len(raw.frame)) for name in CANONICAL}
    )
    refuse_foreign_scales(songs, raw, match.mapped, need_popularity)
    validate(songs, raw, match.mapped, {name: c.unreadable for name, c in converted.items()}, need_popularity)
    kept = {f"leak_{asked}": _leak(raw, match, asked) for asked in leaks}
    for name, (_, values) in kept.items():
        songs[name] = values

    missing = {name: int(songs[name].isna().sum()) for name in converted}
    duplicates: dict[str, int] = {}
    if deduplicate:
        songs, duplicates = remove_duplicates(songs)
    if need_popularity and songs["popularity"].nunique() < 2:
        value = songs["popularity"].iloc[0]
        raise InputError(f"{raw.path}: every song has popularity {value:g}; there is nothing to learn")
    report = LoadReport(
        path=raw.path,
        form=raw.form,
        rows=len(raw.frame),
        songs=len(songs),
        mapped=tuple((name, match.mapped[name], converted[name].conversion) for name in match.mapped),
        absent=tuple(name for name in CANONICAL if name not in match.mapped),
        ignored=match.ignored,
        leaks=tuple((c, leak) for c, leak in match.leaks.items() if c not in {column for column, _ in kept.values()}),
        missing=missing,
        coded_missing={name: c.coded_missing for name, c in converted.items() if c.coded_missing},
        duplicates=duplicates,
    )
    return SongTable(songs, report, fingerprint(songs))


def fingerprint(songs: pd.DataFrame) -> str:
    """SHA-256 of a song table's content: its column names, values and order of rows, in hexadecimal.

    Numbers enter as little-endian float64 and texts as UTF-8, so machines and library versions agree; the index does
    not enter.
    """
    digest = hashlib.sha256()
    for name in songs.columns:
        column = songs[name]
        digest.update(f"\x1d{name}\x1d".encode())
        if name in TEXT:
            digest.update("\x1e".join(column.fillna("\x00").tolist()).encode())
        elif name == "release_date":
            digest.update(column.to_numpy("datetime64[us]").astype("<i8").tobytes())
        else:
            values = column.to_numpy("<f8") + 0.0  # no negative zero
            digest.update(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes())
    return digest.hexdigest()


def _absent(name: str, rows: int) -> pd.Series:
    if name in TEXT:
        return pd.Series(np.nan, index=range(rows), dtype="str")
    if name == "release_date":
        return pd.Series(np.full(rows, np.datetime64("NaT", "us")))
    return pd.Series(np.full(rows, np.nan))


def _require_columns(raw: RawTable, match: ColumnMatch, need_popularity: bool) -> None:
    wanted = (*REQUIRED, "popularity") if need_popularity else REQUIRED
    lacking = [name for name in wanted if name not in match.mapped]
    if not lacking:
        return
    header = list(raw.frame.columns)
    found = ", ".join(header[:25]) + (f" and {len(header) - 25} more" if len(header) > 25 else "")
    refused = ", ".join(f"{column!r}" for column, leak in match.leaks.items() if leak != "row_number")
    note = f" ({refused} cannot stand in for it)" if "popularity" in lacking and refused else ""
    raise InputError(f"{raw.path}: no column for {', '.join(lacking)}{note}; the file has {found}")


def _leak(raw: RawTable, match: ColumnMatch, asked: str) -> tuple[str, np.ndarray]:
    """Give the name of a leak column and its numbers (n,); two words become 0 and 1 in alphabetical order."""
    if asked == "row_number":
        return "", np.arange(len(raw.frame), dtype=np.float64)
    columns = [column for column, leak in match.leaks.items() if leak == asked or normalise(column) == normalise(asked)]
    if not columns:
        have = ", ".join(match.leaks) or "none"
        raise InputError(f"{raw.path}: expected a leak column for {asked!r}, came {have} (row_number is always there)")
    cells = raw.frame[columns[0]]
    values, unreadable, _ = numbers(cells, grouped=True)
    words = sorted(set(cells[unreadable]))
    if words and len(words) == cells.nunique() <= 2:
        return columns[0], (cells == words[-1]).to_numpy(np.float64)
    if words:
        raise InputError(f"{raw.path}: column {columns[0]!r}: expected numbers or two words, came {words[0]!r}")
    return columns[0], values
