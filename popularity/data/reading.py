"""Tables as they come, into one pandas DataFrame: what a file is, its first bytes say, not its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from popularity.data.decoding import decode
from popularity.data.formats import looks_like_json, read_json, read_parquet, read_workbook
from popularity.data.raw import RawTable
from popularity.data.text_table import read_text_table
from popularity.data.unpacking import is_workbook, unpack
from popularity.errors import InputError


def read_table(path: Path) -> RawTable:
    """Read a table: CSV, TSV, Parquet, Excel, JSON or JSON lines, plain or in gzip, bzip2, xz, Zstandard or zip.

    Args:
        path: the file.

    Raises:
        InputError: no such file, a directory, an empty or cut-off file, a file that is no table, rows of different
            lengths, no rows.
    """
    if path.is_dir():
        raise InputError(f"{path}: expected a file, got a directory")
    if path.exists() and not path.is_file():  # reading it may have no end
        raise InputError(f"{path}: expected a file, got a pipe or a device: write the table to a file first")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return read_content(path, content)


def read_content(path: Path, content: bytes) -> RawTable:
    """Read the bytes of a file as :func:`read_table` does.

    Args:
        path: for messages.
        content: of the file.
    """
    content, wrapping = unpack(path, content)
    if content[:4] == b"PAR1":
        table = read_parquet(path, content)
    elif is_workbook(content):
        table = read_workbook(path, content)
    else:
        text, encoding = decode(path, content)
        if not text.strip():
            raise InputError(f"{path}: the file is empty")
        table = read_json(path, text) if looks_like_json(text) else read_text_table(path, text, encoding)
    if table.frame.empty:
        raise InputError(f"{path}: has a header and no rows")
    return replace(table, form=table.form + wrapping)
