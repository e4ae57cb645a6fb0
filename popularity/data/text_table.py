"""CSV and its relatives into a table of texts, stray quotes and blanks before quotes included."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from popularity.data.columns import match_columns
from popularity.data.headers import Header, find_header
from popularity.data.raw import RawTable, distinct_names, more_rows, refuse_wide
from popularity.data.rows import NOTE
from popularity.data.schema import REQUIRED
from popularity.errors import InputError, one_line

_BLOCK_BYTES = 16 << 20  # Arrow's unit of parsing; no row may be longer
_SAMPLE_BYTES = 1 << 20
# "The \"B\" side": MySQL and Spark write a quote inside a cell with a backslash, others double it
_BACKSLASHED = re.compile(rb'[,;\t|\n](?:"(?:[^"\\\n]|\\[^"\n])*|[^",;\t|\r\n]*)\\"[^",;\t|\r\n]')
# below a header: sqlcmd's dashes, "---,---", and the line of a Markdown table, "|---|:--|"
_RULE = re.compile(rb"(?=.*---)[-+:=|,;\t ]+\r?")
_NAMED = {",": "CSV", "\t": "TSV", ";": "CSV with semicolons", "|": "CSV with bars"}


def read_text_table(path: Path, text: bytes, encoding: str) -> RawTable:
    """Read a table of texts.

    Args:
        path: for messages.
        text: UTF-8, not blank.
        encoding: what the file was written in, for the report.

    Raises:
        InputError: rows of different lengths, or a quote that is never closed.
    """
    if b"\n" not in text:
        text = text.replace(b"\r", b"\n")  # as Macs wrote lines long ago
    header = find_header(text)
    refuse_wide(path, len(header.names))
    body = text[header.start :]
    if len(header.names) == 1 and (unwrapped := _unwrap_lines(body)) is not None:
        return read_text_table(path, unwrapped, f"{encoding}, whole lines in quotes")
    body, ruled, below = _without_frame(body, header)
    short = 0
    if _blank_before_quote(body, header.delimiter):
        table = _from_rows(path, header, _skipping_blanks(path, body, header.delimiter))
    else:
        table, short = _by_arrow(path, header, body)
    form = f"{_NAMED.get(header.delimiter, 'CSV')}, {encoding}"
    if header.line > 1 and text[: header.start].strip():
        form += f", header in line {header.line}"
    if short:
        form += f", {short:,} row{'s' if short > 1 else ''} without the last cells"
    if below:
        form += f", {below} line{'s' if below > 1 else ''} below the table left out"
    in_step = body.rstrip(b"\r\n").count(b"\n") == table.num_rows
    frame = table.rename_columns(distinct_names(table.column_names)).to_pandas()
    return RawTable(path, frame, form, header.line + 1 + ruled if in_step else None, header.quoted)


def _without_frame(body: bytes, header: Header) -> tuple[bytes, bool, int]:
    """Take away the line of dashes below the header and what stands below the table.

    Returns:
        The rest, whether there was a line of dashes, and how many lines with words stood below.
    """
    names, _, rows = body.partition(b"\n")
    ruled = bool(_RULE.fullmatch(rows.partition(b"\n")[0]))
    if ruled:
        body = names + b"\n" + rows.partition(b"\n")[2]
    below, delimiter = 0, header.delimiter.encode()
    while (start := (kept := body.rstrip(b"\r\n")).rfind(b"\n") + 1) > 0:
        last = kept[start:].strip()
        note = re.fullmatch(NOTE, last.decode("utf-8", "replace").strip('"'))
        if last.count(delimiter) >= len(header.names) - 1 or not (note or _RULE.fullmatch(last)):
            break
        if kept.count(b'"', 0, start) % 2:  # the end of a cell of several lines
            break
        body, below = kept[:start], below + bool(note)
    return body, ruled, below


def _by_arrow(path: Path, header: Header, body: bytes) -> tuple[pa.Table, int]:
    """Read with Arrow's parser; where a quote swallows whole lines, read again line by line.

    Returns:
        The table, and how many of its rows lack their last cells.
    """
    try:
        table, ragged = _parse(body, header)
    except pa.ArrowException as error:
        rows = _line_by_line(body, header)
        if rows is None:
            raise InputError(f"{path}: cannot be read as a CSV table ({one_line(str(error), 200)})") from error
        return _from_rows(path, header, rows), 0
    if ragged and table.num_rows == 0 and all(row.actual_columns == len(header.names) + 1 for row in ragged):
        # one field more than names in every row: R writes no name above its row names, others end rows by a delimiter
        trailing = all(row.text.rstrip("\r\n").endswith(header.delimiter) for row in ragged)
        names = [*header.names, ""] if trailing else ["", *header.names]
        table, ragged = _parse(body, header, names)
    if (ragged or _swallows_lines(table, header.delimiter)) and b'"' in body:
        rows = _line_by_line(body, header)
        if rows is not None:
            return _from_rows(path, header, rows), 0
    if ragged and table.num_rows:  # rows that all lack a cell may lack their first one
        rows = _filled_up(body, header, min(row.actual_columns for row in ragged))
        if rows is not None:
            return _from_rows(path, header, rows), len(ragged)
    if ragged:
        first = ragged[0]
        raise InputError(
            f"{path}: row {first.number - 1}: expected {first.expected_columns} fields as in the header, "
            f"got {first.actual_columns}{more_rows(len(ragged) - 1)}"
        )
    return table, 0


def _parse(body: bytes, header: Header, names: list[str] | None = None) -> tuple[pa.Table, list[pa_csv.InvalidRow]]:
    """Read with Arrow; give the table and the rows of another length. ``names`` are taken instead of the header's."""
    ragged: list[pa_csv.InvalidRow] = []

    def skip(row: pa_csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    start = io.StringIO(body[:_BLOCK_BYTES].decode("utf-8", "ignore"), newline="")
    # Only a single thread numbers the rows that it refuses.
    read = pa_csv.ReadOptions(
        use_threads=False, block_size=_BLOCK_BYTES, column_names=names, skip_rows=1 if names else 0
    )
    parse = pa_csv.ParseOptions(
        delimiter=header.delimiter,
        newlines_in_values=True,
        invalid_row_handler=skip,
        escape_char="\\" if b'\\"' in body and _BACKSLASHED.search(body) else False,
    )

    def texts(columns: list[str]) -> pa.Table:
        ragged.clear()
        types = pa_csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()))
        whole = io.BytesIO(body if body.endswith((b"\n", b"\r")) else body + b"\n")
        return pa_csv.read_csv(whole, read, parse, types)

    table = texts(names or next(csv.reader(start, delimiter=header.delimiter)))
    if any(column.type != pa.string() for column in table.columns):
        # Arrow reads other names than Python after a blank line or with backslashes
        table = texts(table.column_names)
    return table, ragged


def _swallows_lines(table: pa.Table, delimiter: str) -> bool:
    """Whether a cell holds a line with as many delimiters as a whole row has: its quote was no opening one."""
    fewest = len(table.column_names) - 1
    for column in table.columns:
        broken = pc.match_substring(column, "\n")
        if fewest > 1 and pc.any(broken).as_py():
            cells = column.filter(broken).to_pylist()
            if any(line.count(delimiter) >= fewest for cell in cells for line in cell.split("\n")[1:]):
                return True
    return False


def _line_by_line(body: bytes, header: Header) -> list[list[str]] | None:
    """Read every line alone, as CSV or, where that fails, with quotes as plain characters.

    Returns:
        The rows without the header, or None if some line has another number of fields either way.
    """
    rows = []
    for line in body.decode("utf-8").split("\n")[1:]:
        line = line.rstrip("\r")
        if not line.strip():
            continue
        quoted = _fields(line, header.delimiter) if line.count('"') % 2 == 0 else []
        plain = line.split(header.delimiter)
        if len(quoted) == len(header.names):
            rows.append(quoted)
        elif len(plain) == len(header.names):
            rows.append(plain)
        else:
            return None
    return rows


def _filled_up(body: bytes, header: Header, fewest: int) -> list[list[str]] | None:
    """Give rows their last cells where these are empty, and a program such as Excel left out their delimiters.

    Returns:
        The rows without the header, or None where one may be half of a row: it lacks a column that a prediction needs,
        or the file ends in it without a line break.
    """
    mapped = match_columns(header.names).mapped
    needed = [header.names.index(mapped[name]) for name in REQUIRED if name in mapped]
    if len(needed) < len(REQUIRED) or fewest <= max(needed):
        return None
    escape = "\\" if b'\\"' in body and _BACKSLASHED.search(body) else None
    try:
        words = io.StringIO(body.decode("utf-8"), newline="")
        rows = [row for row in csv.reader(words, delimiter=header.delimiter, escapechar=escape) if row]
    except csv.Error:
        return None
    if len(rows[-1]) < len(header.names) and not body.endswith((b"\n", b"\r")):
        return None
    return [[*row, *[""] * (len(header.names) - len(row))] for row in rows[1:]]


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a field of more than 128 KB
        return []


def _blank_before_quote(body: bytes, delimiter: str) -> bool:
    """Whether cells open with a blank and then a quote, which Arrow takes for plain characters."""
    lines = body[:_SAMPLE_BYTES].decode("utf-8", "ignore").split("\n")[:200]
    return any(re.match(' +"', cell) for line in lines if ' "' in line for cell in _fields(line, delimiter))


def _skipping_blanks(path: Path, body: bytes, delimiter: str) -> list[list[str]]:
    words = io.StringIO(body.decode("utf-8"), newline="")
    try:
        rows = [row for row in csv.reader(words, delimiter=delimiter, skipinitialspace=True) if row]
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as a CSV table ({one_line(str(error), 200)})") from error
    return rows[1:]


def _from_rows(path: Path, header: Header, rows: list[list[str]]) -> pa.Table:
    """A table of texts from rows of fields."""
    wrong = [number for number, row in enumerate(rows, 1) if len(row) != len(header.names)]
    if wrong:
        raise InputError(
            f"{path}: row {wrong[0]}: expected {len(header.names)} fields as in the header, "
            f"got {len(rows[wrong[0] - 1])}{more_rows(len(wrong) - 1)}"
        )
    columns = list(zip(*rows, strict=True)) or [()] * len(header.names)
    return pa.table([pa.array(column, pa.string()) for column in columns], names=header.names)


def _unwrap_lines(body: bytes) -> bytes | None:
    """Undo quotes around whole lines, as a spreadsheet writes a table that it took for a single column."""
    words = io.StringIO(body.decode("utf-8"), newline="")
    try:
        rows = list(csv.reader(words))
    except csv.Error:
        return None
    if not rows or any(len(row) > 1 for row in rows) or not rows[0] or rows[0][0].count(",") < 4:
        return None
    return "\n".join(row[0] for row in rows if row).encode("utf-8")
