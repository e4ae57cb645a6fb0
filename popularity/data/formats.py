"""Tables that are not text: Parquet, Excel workbooks, JSON and JSON lines."""

from __future__ import annotations

import datetime
import io
import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pa_parquet

from popularity.data.columns import match_columns
from popularity.data.headers import find_header_row
from popularity.data.json_records import FEWEST_COLUMNS, find_records, json_values
from popularity.data.raw import RawTable, distinct_names, refuse_wide
from popularity.data.unpacking import refuse_bomb
from popularity.errors import InputError, one_line


def read_parquet(path: Path, content: bytes) -> RawTable:
    """Read a Parquet file: numbers stay, lists of texts are joined with ";", fields of structs become columns.

    Raises:
        InputError: the file is cut off or damaged.
    """
    try:
        _refuse_sizes(path, pa_parquet.read_metadata(io.BytesIO(content)), len(content))
        table = pa_parquet.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    return _of_parquet(path, table)


def parquet_rows(path: Path) -> int:
    """Number of rows in a Parquet file; 0 for a file of another kind.

    Raises:
        InputError: the file is damaged, or its table out of proportion.
    """
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"PAR1":
                return 0
            sizes = pa_parquet.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    _refuse_sizes(path, sizes, path.stat().st_size)
    return int(sizes.num_rows)


def _refuse_sizes(path: Path, sizes: pa_parquet.FileMetaData, packed: int) -> None:
    refuse_bomb(path, packed, 8 * sizes.num_rows * sizes.num_columns)  # a repeated value takes no space in the file
    refuse_wide(path, sizes.num_columns)


def parquet_parts(path: Path, file: IO[bytes], rows: int) -> Iterator[RawTable]:
    """Read a large Parquet file in parts, as :func:`read_parquet` reads a whole one; nothing of one of few rows.

    Args:
        path: for messages.
        file: can be sought in.
        rows: of a part, at least.

    Raises:
        InputError: the file is cut off or damaged.
    """
    try:
        parquet, before = pa_parquet.ParquetFile(file), 0
        if parquet.metadata.num_rows <= rows:
            return
        batches: list[pa.RecordBatch] = []
        for batch in chain(parquet.iter_batches(rows), [None]):
            if batch is not None:
                batches.append(batch)
            if batches and (batch is None or sum(map(len, batches)) >= rows):
                part = _of_parquet(path, pa.Table.from_batches(batches))
                yield replace(part, form="Parquet, in parts", rows_before=before)
                before, batches = before + len(part.frame), []
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: the Parquet file is cut off or damaged ({one_line(str(error), 200)})")


def _of_parquet(path: Path, table: pa.Table) -> RawTable:
    while any(pa.types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    columns = [_plain(column) for column in table.columns]
    names = distinct_names(table.column_names)
    return RawTable(path, pa.table(columns, names=names).to_pandas(), "Parquet")


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bring a Parquet column to text, number or truth value."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_boolean(kind) and column.null_count:  # pandas has no truth value that is missing
        return column.cast(pa.uint8())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return column
    try:
        if pa.types.is_decimal(kind):
            return column.cast(pa.float64())
        if pa.types.is_duration(kind):
            return pc.divide(column.cast(pa.duration("us"), safe=False).cast(pa.int64()), pa.scalar(1000.0))  # ms
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            return _joined(column.cast(pa.list_(pa.string())))
        return column.cast(pa.string())
    except pa.ArrowException:  # nested kinds, such as the dicts that Spotify's interface gives for artists
        return pa.chunked_array([[_text(cell) for cell in column.to_pylist()]], pa.string())


def _joined(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Join the texts of each list with ";"; Arrow gives no text at all for a list with a null in it."""
    if not pc.list_flatten(column).null_count:
        return pc.binary_join(column, ";")
    lists = column.to_pylist()
    texts = [None if names is None else ";".join(name for name in names if name is not None) for names in lists]
    return pa.chunked_array([texts], pa.string())


def looks_like_json(text: bytes) -> bool:
    """Whether a text is JSON or JSON lines rather than a table with delimiters."""
    start = text[:200].lstrip()
    return start.startswith((b"{", b"["))


def read_json(path: Path, text: bytes, first_line: int = 1) -> RawTable:
    """Read records: a list of them, one in each line, one column in each key, or as `find_records` finds them.

    Fields of a record within a record become columns named ``outer.inner``; lists stay texts.

    Args:
        path: for messages.
        text: UTF-8.
        first_line: of the text in the file.

    Raises:
        InputError: the JSON is damaged or holds no records.
    """
    return _read_json(path, text, first_line, is_part=False)


def read_json_lines(path: Path, text: bytes, first_line: int) -> RawTable:
    """Read a part of a file of JSON lines as :func:`read_json` reads the whole, be it one record, or nulls alone."""
    return _read_json(path, text, first_line, is_part=True)


def _read_json(path: Path, text: bytes, first_line: int, is_part: bool) -> RawTable:
    try:
        values = json_values(path, text, first_line)
        lines = is_part or len(values) > 1
        found = values if lines else values[0]
        records = [{}] * len(values) if is_part and not any(values) else find_records(found)
        frame = pd.json_normalize(records)
    except RecursionError as error:
        raise InputError(f"{path}: expected JSON records, got values that are nested too deeply") from error
    if not records:
        got = "lists without column names" if _are_lists(found) else "none"
        raise InputError(f'{path}: expected JSON records such as [{{"energy": 0.5, ...}}, ...], got {got}')
    for name in frame:
        if frame[name].dtype == object:
            frame[name] = pd.Series([_text(cell) for cell in frame[name]], dtype="str", index=frame.index)
    frame.columns = pd.Index(distinct_names([str(name) for name in frame.columns]))
    return RawTable(path, frame, "JSON lines" if lines else "JSON")


def _are_lists(found: Any) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(row, list) for row in found)


def read_workbook(path: Path, content: bytes) -> RawTable:
    """Read the sheet of an Excel workbook that looks most like a table of songs.

    Raises:
        InputError: openpyxl is not installed, or the workbook is damaged.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise InputError(
            f"{path}: an Excel workbook: save it as CSV, or `pip install openpyxl` to read it as it is"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl warns of styles and charts that it leaves out
            book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
            sheets = {
                sheet.title: [[_text(cell) or "" for cell in row] for row in sheet.iter_rows(values_only=True)]
                for sheet in book.worksheets
            }
    except Exception as error:  # openpyxl lets through whatever the XML inside raises
        raise InputError(f"{path}: the Excel workbook is damaged ({one_line(str(error), 200)})") from error
    tables = {title: _table(rows) for title, rows in sheets.items()}
    title = max(tables, key=lambda name: (len(match_columns(list(tables[name])).mapped), tables[name].size), default="")
    if not title or not tables[title].columns.size:
        raise InputError(f"{path}: the Excel workbook is empty")
    form = "Excel workbook" + (f", sheet {title!r} of {len(tables)}" if len(tables) > 1 else "")
    others = [
        repr(name)
        for name, table in tables.items()
        if name != title and len(match_columns(list(table)).mapped) >= FEWEST_COLUMNS
    ]
    if others:
        form += f"; not read, though songs too: {', '.join(others)}"
    return RawTable(path, tables[title], form)


def _table(rows: list[list[str]]) -> pd.DataFrame:
    """Rows of texts as a table under its header; what stands right of the header is left away where it is blank."""
    if not rows:
        return pd.DataFrame()
    position = find_header_row(rows)
    width = max((len(row) for row in rows), default=0)
    names = [*rows[position], *[""] * (width - len(rows[position]))]
    body = [[*row, *[""] * (width - len(row))] for row in rows[position + 1 :]]
    kept = [i for i in range(width) if names[i] or any(row[i] for row in body)]
    frame = pd.DataFrame([[row[i] for i in kept] for row in body], dtype="str")
    frame.columns = pd.Index(distinct_names([names[i] for i in kept])) if len(frame) else frame.columns
    return frame


def _text(cell: Any) -> str | None:
    """A cell as text: what a CSV would hold; None where it is blank."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    if isinstance(cell, list) and len(cell) == 1 and isinstance(cell[0], int | float):
        return _text(cell[0])  # as R's jsonlite writes a number
    if isinstance(cell, list | dict):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)
