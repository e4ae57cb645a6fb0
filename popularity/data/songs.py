"""The one way in for data: `load_songs` turns a named set or a file into the canonical song table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from popularity.data.columns import ColumnMatch, match_columns
from popularity.data.convert import canonical_table, convert
from popularity.data.duplicates import remove_duplicates
from popularity.data.leaks import read_leak
from popularity.data.objections import Objections
from popularity.data.raw import RawTable
from popularity.data.reading import read_table
from popularity.data.report import LoadReport
from popularity.data.rows import LeftOut, no_songs
from popularity.data.schema import CANONICAL, REQUIRED, TEXT
from popularity.data.sources import locate
from popularity.data.units import Converted
from popularity.data.validation import column_of, refuse_foreign_scales, validate
from popularity.errors import InputError


class NoPopularity(InputError):
    """A file without the popularity of its songs: nothing to learn from, but good for prediction."""


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
    columns: Mapping[str, str] | None = None,
) -> SongTable:
    """Load a named data set or a file into the canonical song table.

    Args:
        source: one of `popularity.data.sources.NAMES` or a path.
        cache_dir: where downloads are kept.
        deduplicate: remove duplicates; False keeps every song, in the order of the file.
        need_popularity: leave out songs without popularity; False is for prediction.
        leaks: leaks to keep as numeric columns ``leak_NAME``, only to show what they do: kinds such as ``streams`` or
            columns of the file; ``row_number`` is always there.
        columns: canonical name -> column of the file, where the file's own names do not say it.

    Raises:
        InputError: the source cannot be found or read, a column is missing, a value is impossible, or there is nothing
            to learn because every song has the same popularity.
        NoPopularity: an `InputError` too: the file is good but for its popularity.
    """
    raw = read_table(locate(source, cache_dir))
    header = list(raw.frame.columns)
    if columns and not need_popularity:  # a prediction does without it, whatever the columns of the fit were called
        columns = {name: column for name, column in columns.items() if name != "popularity" or column in header}
    try:
        match = match_columns(header, columns, Objections(raw.frame))
    except InputError as error:
        raise InputError(f"{raw.path}: {error}") from error
    _require_columns(raw, match, need_popularity)
    converted = convert(raw, match)
    songs = canonical_table(converted, len(raw.frame))
    for asked in leaks:
        songs[f"leak_{asked}"] = read_leak(raw, match, asked)[1]
    songs, left_out = _leave_out(songs, raw, match, converted, need_popularity)
    refuse_foreign_scales(songs, raw, match.mapped, learn=need_popularity)
    unreadable = {name: column.unreadable for name, column in converted.items()}
    unread = validate(songs, raw, match.mapped, unreadable, learn=need_popularity)
    _refuse_blank(songs, raw, match, need_popularity)
    songs = songs.reset_index(drop=True)

    missing = {name: int(songs[name].isna().sum()) for name in converted}
    duplicates: dict[str, int] = {}
    if deduplicate:
        songs, duplicates = remove_duplicates(songs)
    if need_popularity and songs["popularity"].nunique() < 2:
        value = songs["popularity"].iloc[0]
        raise InputError(f"{raw.path}: every song has popularity {value:g}; there is nothing to learn")
    kept = {read_leak(raw, match, asked)[0] for asked in leaks}
    report = LoadReport(
        path=raw.path,
        form=raw.form,
        rows=len(raw.frame),
        songs=len(songs),
        mapped=tuple((name, match.mapped.get(name, ""), column.conversion) for name, column in converted.items()),
        absent=tuple(name for name in CANONICAL if name not in converted),
        ignored=match.ignored,
        leaks=tuple((column, leak) for column, leak in match.leaks.items() if column not in kept),
        missing=missing,
        coded_missing={name: c.coded_missing for name, c in converted.items() if c.coded_missing},
        duplicates=duplicates,
        left_out=left_out,
        unread=unread,
    )
    return SongTable(songs, report, fingerprint(songs))


def _leave_out(
    songs: pd.DataFrame, raw: RawTable, match: ColumnMatch, converted: Mapping[str, Converted], learn: bool
) -> tuple[pd.DataFrame, tuple[LeftOut, ...]]:
    """Drop the rows that are no songs; the index keeps the row numbers of the file.

    Raises:
        InputError: no row is left.
        NoPopularity: most songs have no popularity.
    """
    found = no_songs(songs, raw.frame, match, learn=learn)
    if learn:  # a popularity that cannot be read refuses the file, it is not missing
        found["without popularity"] &= ~converted["popularity"].unreadable
        others = sum(int(rows.sum()) for reason, rows in found.items() if reason != "without popularity")
        without, left = int(found["without popularity"].sum()), len(songs) - others
        if 2 * without > left > 0:
            column = column_of("popularity", match.mapped)
            raise NoPopularity(f"{raw.path}: {column}: expected numbers, got none in {without:,} of {left:,} songs")
    left_out = tuple(
        LeftOut(reason, int(rows.sum()), raw.place(int(rows.argmax()))) for reason, rows in found.items() if rows.any()
    )
    keep = ~np.logical_or.reduce(list(found.values()))
    if not keep.any():
        raise InputError(f"{raw.path}: expected songs, got none: {', '.join(map(str, left_out))}")
    return (songs if keep.all() else songs[keep]), left_out


def _refuse_blank(songs: pd.DataFrame, raw: RawTable, match: ColumnMatch, learn: bool) -> None:
    """Refuse a file whose audio columns are empty: one of them to learn from, most of them to predict from."""
    blank = [name for name in REQUIRED if songs[name].isna().all()]
    if learn and blank:
        raise InputError(f"{raw.path}: {column_of(blank[0], match.mapped)}: expected numbers, got no value in any row")
    if 2 * len(blank) > len(REQUIRED):
        raise InputError(
            f"{raw.path}: expected audio features, got no value in any row for {len(blank)} of the {len(REQUIRED)} "
            f"columns that a prediction needs: {', '.join(blank)}"
        )


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


def _require_columns(raw: RawTable, match: ColumnMatch, need_popularity: bool) -> None:
    wanted = (*REQUIRED, "popularity") if need_popularity else REQUIRED
    lacking = [name for name in wanted if name not in match.mapped]
    if not lacking:
        return
    header = list(raw.frame.columns)
    found = ", ".join(header[:25]) + (f" and {len(header) - 25} more" if len(header) > 25 else "")
    refused = ", ".join(f"{column!r}" for column, leak in match.leaks.items() if leak != "row_number")
    note = f" ({refused} cannot stand in for it)" if "popularity" in lacking and refused else ""
    fault = NoPopularity if lacking == ["popularity"] else InputError
    hints = "".join(f"; {why}" for name in lacking for _, why in match.ignored if why.startswith(f"not {name}: "))
    raise fault(f"{raw.path}: no column for {', '.join(lacking)}{note}{hints}; the file has {found}")
