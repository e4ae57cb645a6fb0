"""The one way in for data: `load_songs` turns a named set or a file into the canonical song table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd

from popularity.data.albums import count_nameless
from popularity.data.columns import ColumnMatch, match_columns
from popularity.data.convert import canonical_table, convert
from popularity.data.decisions import Decisions
from popularity.data.duplicates import remove_duplicates
from popularity.data.fingerprint import fingerprint
from popularity.data.leaks import read_leak
from popularity.data.mapped import joined
from popularity.data.objections import Objections
from popularity.data.parts import STANDARD_INPUT, is_large, read_parts
from popularity.data.raw import RawTable
from popularity.data.reading import read_table
from popularity.data.report import LoadReport
from popularity.data.required import NoPopularity, refuse_blank, require_columns
from popularity.data.rows import LeftOut, no_songs
from popularity.data.schema import CANONICAL, REQUIRED
from popularity.data.sources import locate
from popularity.data.units import Converted
from popularity.data.validation import column_of, refuse_foreign_scales, validate
from popularity.errors import InputError

__all__ = ["NoPopularity", "SongTable", "load_songs", "songs_in_parts", "songs_of"]


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
    optional_audio: bool = False,
    leaks: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
) -> SongTable:
    """Load a named data set or a file into the canonical song table.

    Args:
        source: one of `popularity.data.sources.NAMES`, a path, or a folder of Parquet files, which are one table.
        cache_dir: where downloads are kept.
        deduplicate: remove duplicates; False keeps every song, in the order of the file.
        need_popularity: leave out songs without popularity; False is for prediction.
        optional_audio: audio columns may be missing, as long as some column differs between songs.
        leaks: leaks to keep as numeric columns ``leak_NAME``, only to show what they do: kinds such as ``streams`` or
            columns of the file; ``row_number`` is always there.
        columns: canonical name -> column of the file, where the file's own names do not say it.

    Raises:
        InputError: the source cannot be found or read, a column is missing, a value is impossible, or there is nothing
            to learn because every song has the same popularity.
        NoPopularity: an `InputError` too: the file is good but for its popularity.
    """
    path, required = locate(source, cache_dir), () if optional_audio else REQUIRED
    if is_large(path) and not leaks:
        tables = _in_parts(read_parts(path), columns, required, learn=need_popularity)
        return _finished(*_together(tables), deduplicate, need_popularity)
    return songs_of(
        read_table(path),
        deduplicate=deduplicate,
        need_popularity=need_popularity,
        optional_audio=optional_audio,
        leaks=leaks,
        columns=columns,
    )


def songs_of(
    raw: RawTable,
    *,
    deduplicate: bool = True,
    need_popularity: bool = True,
    optional_audio: bool = False,
    leaks: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
) -> SongTable:
    """Bring a table to the canonical song table; see :func:`load_songs`.

    Args:
        raw: as read.
        deduplicate: as there, like the rest.
        need_popularity: to learn from.
        optional_audio: needs none of them.
        leaks: to keep.
        columns: that the user names.
    """
    required = () if optional_audio else REQUIRED
    match = _match(raw, columns, need_popularity, required)
    songs, report = _converted(raw, match, Decisions(), leaks=leaks, learn=need_popularity, required=required)
    return _finished(songs, report, deduplicate, need_popularity)


def _together(tables: Iterable[SongTable]) -> tuple[pd.DataFrame, LoadReport]:
    """The parts of a table as one."""
    reports: list[LoadReport] = []

    def songs() -> Iterator[pd.DataFrame]:
        for table in tables:
            reports.append(table.report)
            yield table.songs

    return joined(songs()), reduce(LoadReport.with_more, reports)


def _finished(songs: pd.DataFrame, report: LoadReport, deduplicate: bool, learn: bool) -> SongTable:
    """Remove duplicates, and check and count what only the whole table tells."""
    if deduplicate:
        songs, duplicates, conflicts = remove_duplicates(songs)
        report = replace(report, songs=len(songs), duplicates=duplicates, conflicts=conflicts)
    if learn and songs["popularity"].nunique() < 2:
        value = songs["popularity"].iloc[0]
        raise InputError(f"{report.path}: every song has popularity {value:g}; there is nothing to learn")
    if learn:
        report = replace(report, nameless=count_nameless(songs))
    return SongTable(songs, report, fingerprint(songs))


def songs_in_parts(
    source: str,
    *,
    cache_dir: Path | None = None,
    optional_audio: bool = False,
    columns: Mapping[str, str] | None = None,
) -> Iterator[SongTable]:
    """Load songs to predict, a table larger than memory in parts: nothing is left out as a duplicate.

    Which column is what, units and the ways of writing are decided by the first part (more exactly, by the first part
    that tells), and hold for all. A file that is not large is one part, and read as :func:`load_songs` reads it.

    Args:
        source: as for :func:`load_songs`, or ``-`` for standard input.
        cache_dir: where downloads are kept.
        optional_audio: audio columns may be missing.
        columns: canonical name -> column of the file.

    Returns:
        Song tables without a fingerprint; after the first they may be empty.

    Raises:
        InputError: as :func:`load_songs`, of a later part when it is reached.
    """
    raws = read_parts(STANDARD_INPUT if source == "-" else locate(source, cache_dir))
    yield from _in_parts(raws, columns, () if optional_audio else REQUIRED, learn=False)


def _in_parts(
    raws: Iterable[RawTable], columns: Mapping[str, str] | None, required: Sequence[str], *, learn: bool
) -> Iterator[SongTable]:
    """Convert the parts of one table, by the decisions of the first."""
    decisions, match, header = Decisions(), None, list[str]()
    for raw in raws:
        first = match is None
        if match is None:
            match, header = _match(raw, columns, learn, required), list(raw.frame.columns)
        elif list(raw.frame.columns) != header:  # records name only the fields that they have
            raw = replace(raw, frame=raw.frame.reindex(columns=header))
        songs, report = _converted(raw, match, decisions, learn=learn, required=required, first=first)
        yield SongTable(songs, report, "")


def _match(raw: RawTable, columns: Mapping[str, str] | None, learn: bool, required: Sequence[str]) -> ColumnMatch:
    """Which column is what.

    Raises:
        InputError: a column is missing, or the user names one that there is not.
    """
    header = list(raw.frame.columns)
    if columns and not learn:  # a prediction does without it, whatever the columns of the fit were called
        columns = {name: column for name, column in columns.items() if name != "popularity" or column in header}
    try:
        match = match_columns(header, columns, Objections(raw.frame))
    except InputError as error:
        raise InputError(f"{raw.path}: {error}") from error
    require_columns(raw, match, (*required, "popularity") if learn else required)
    return match


def _converted(
    raw: RawTable,
    match: ColumnMatch,
    decisions: Decisions,
    *,
    leaks: Sequence[str] = (),
    learn: bool,
    required: Sequence[str],
    first: bool = True,
) -> tuple[pd.DataFrame, LoadReport]:
    """Convert and check a table, or a part of one; what only a whole table shows is checked of the first part."""
    converted = convert(raw, match, decisions)
    songs = canonical_table(converted, len(raw.frame))
    for asked in leaks:
        songs[f"leak_{asked}"] = read_leak(raw, match, asked)[1]
    songs, left_out = _leave_out(songs, raw, match, converted, learn, first)
    if first:
        if songs.empty:
            raise InputError(f"{raw.path}: expected songs, got none: {', '.join(map(str, left_out))}")
        refuse_foreign_scales(songs, raw, match.mapped, learn=learn)
    unreadable = {name: column.unreadable for name, column in converted.items()}
    unread = validate(songs, raw, match.mapped, unreadable, learn=learn)
    if first:
        refuse_blank(songs, raw, match, learn, required)
    songs = songs.reset_index(drop=True)
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
        missing={name: int(songs[name].isna().sum()) for name in converted},
        coded_missing={name: c.coded_missing for name, c in converted.items() if c.coded_missing},
        duplicates={},
        left_out=left_out,
        unread=unread,
    )
    return songs, report


def _leave_out(
    songs: pd.DataFrame,
    raw: RawTable,
    match: ColumnMatch,
    converted: Mapping[str, Converted],
    learn: bool,
    first: bool,
) -> tuple[pd.DataFrame, tuple[LeftOut, ...]]:
    """Drop the rows that are no songs; the index keeps the row numbers of the file.

    Raises:
        NoPopularity: most songs have no popularity.
    """
    found = no_songs(songs, raw.frame, match, learn=learn)
    if learn:  # a popularity that cannot be read refuses the file, it is not missing
        found["without popularity"] &= ~converted["popularity"].unreadable
        others = sum(int(rows.sum()) for reason, rows in found.items() if reason != "without popularity")
        without, left = int(found["without popularity"].sum()), len(songs) - others
        if first and 2 * without > left > 0:
            column = column_of("popularity", match.mapped)
            raise NoPopularity(f"{raw.path}: {column}: expected numbers, got none in {without:,} of {left:,} songs")
    left_out = tuple(
        LeftOut(reason, int(rows.sum()), raw.place(int(rows.argmax()))) for reason, rows in found.items() if rows.any()
    )
    keep = ~np.logical_or.reduce(list(found.values()))
    return (songs if keep.all() else songs[keep]), left_out
