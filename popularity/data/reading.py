"""Tables as they come: CSV, TSV, either of them in .gz or .zip, and Parquet, into one pandas DataFrame."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from popularity.errors import InputError

_BOM = b"\xef\xbb\xbf"
_BLOCK_BYTES = 16 << 20  # Arrow's unit of parsing; no row may be longer


@dataclass(frozen=True)
class RawTable:
    """A table as its file holds it.

    Attributes:
        path: where it was read from.
        frame: one row per row of the file. From a CSV every column is text as written, "" where the cell is empty;
            Parquet columns keep their type, lists of texts are joined with ";" and dates are texts.
        form: what the file turned out to be, in words.
        first_line: the line on which the first row stands, None where rows and lines do not run in step (quoted line
            breaks, blank lines, Parquet).
    """

    path: Path
    frame: pd.DataFrame
    form: str
    first_line: int | None = None

    def place(self, row: int) -> str:
        """Name the row with this number (from 0) as a person counts it: from 1, with the line where it is known."""
        return f"row {row + 1}" + (f" (line {row + self.first_line})" if self.first_line is not None else "")


def read_table(path: Path) -> RawTable:
    """Read a table of any of the accepted kinds; what a file is, its first bytes say, not its name.

    Args:
        path: the file.

    Raises:
        InputError: no such file, a directory, an empty or cut-off file, rows of different lengths, no rows.
    """
    if path.is_dir():
        raise InputError(f"{path}: expected a file, came a directory")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if content[:2] == b"\x1f\x8b":
        table = _parse(path, _gunzip(path, content), ", gzipped")
    elif content[:4] in (b"PK\3\4", b"PK\5\6"):
        table = _parse(path, _unzip(path, content), ", zipped")
    else:
        table = _parse(path, content, "")
    if table.frame.empty:
        raise InputError(f"{path}: has a header and no rows")
    return table


def _gunzip(path: Path, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path}: the gzip file is cut off or damaged ({error})") from error


def _unzip(path: Path, content: bytes) -> bytes:
    """Give the content of the one table inside a zip file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
            tables = [name for name in names if name.lower().endswith((".csv", ".tsv", ".txt", ".parquet"))]
            if len(tables) != 1:
                found = ", ".join(tables[:5]) or "none"
                raise InputError(
                    f"{path}: expected one CSV, TSV or Parquet file in the zip, came {len(tables)}: {found}"
                )
            return archive.read(tables[0])
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, zlib.error) as error:
        raise InputError(f"{path}: the zip file is damaged or locked ({error})") from error


def _parse(path: Path, content: bytes, wrapping: str) -> RawTable:
    if not content.strip():
        raise InputError(f"{path}: the file is empty")
    if content[:4] == b"PAR1":
        return _parse_parquet(path, content, wrapping)
    if b"\0" in content[:_BLOCK_BYTES]:
        raise InputError(f"{path}: expected a CSV, TSV or Parquet table, came a binary file")
    return _parse_text(path, content, wrapping)


def _parse_parquet(path: Path, content: bytes, wrapping: str) -> RawTable:
    try:
        table = pa_parquet.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: the Parquet file is cut off or damaged ({_one_line(error)})") from error
    columns = [_plain(column) for column in table.columns]
    names = _distinct(table.column_names)
    return RawTable(path, pa.table(columns, names=names).to_pandas(), f"Parquet{wrapping}")


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bring a Parquet column to text, number or truth value."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return column
    try:
        if pa.types.is_decimal(kind):
            return column.cast(pa.float64())
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            return pc.binary_join(column.cast(pa.list_(pa.string())), ";")
        return column.cast(pa.string())
    except pa.ArrowException:  # nested kinds, of which no column in use is one
        return pa.chunked_array([[None if cell is None else str(cell) for cell in column.to_pylist()]], pa.string())


def _parse_text(path: Path, content: bytes, wrapping: str) -> RawTable:
    try:
        content.decode("utf-8")
        encoding = "utf-8"
    except UnicodeDecodeError:
        content = content.decode("latin-1").encode("utf-8")
        encoding = "latin-1"
    start = content.removeprefix(_BOM).lstrip(b"\r\n")
    first_line = start[:_BLOCK_BYTES].splitlines()[0].decode("utf-8")
    delimiter = _delimiter(first_line)
    ragged: list[pa_csv.InvalidRow] = []

    def skip(row: pa_csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    names = next(
        csv.reader(io.StringIO(start[:_BLOCK_BYTES].decode("utf-8", "ignore"), newline=""), delimiter=delimiter)
    )
    try:
        table = pa_csv.read_csv(
            io.BytesIO(start if start.endswith((b"\n", b"\r")) else start + b"\n"),
            # Only a single thread numbers the rows that it refuses.
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
            convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowException as error:
        raise InputError(f"{path}: cannot be read as a CSV table ({_one_line(error)})") from error
    if ragged:
        bad = ragged[0]
        raise InputError(
            f"{path}: row {bad.number - 1}: expected {bad.expected_columns} fields as in the header, "
            f"came {bad.actual_columns}{further(len(ragged) - 1)}"
        )
    named = {",": "CSV", "\t": "TSV", ";": "CSV with semicolons"}[delimiter]
    in_step = content.endswith(start) and content[: -len(start)] in (b"", _BOM)
    in_step &= start.rstrip(b"\r\n").count(b"\n") == table.num_rows
    frame = table.rename_columns(_distinct(table.column_names)).to_pandas()
    return RawTable(path, frame, f"{named}, {encoding}{wrapping}", 2 if in_step else None)


def _delimiter(header: str) -> str:
    """Sniff the delimiter from the header: of comma, semicolon and tab the one met most often outside quotes."""
    unquoted = "".join(header.split('"')[::2])
    return max(",;\t", key=unquoted.count)


def _distinct(names: list[str]) -> list[str]:
    """Give a repeated column name a number, so that every column can be named."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


def further(count: int) -> str:
    """Say how many more rows are wrong, nothing for none."""
    return f" ({count:,} further row{'s are' if count > 1 else ' is'} wrong)" if count else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
