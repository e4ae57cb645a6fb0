"""Tables larger than memory, in parts: Parquet by rows, CSV and JSON lines by blocks of whole rows.

Each part is read by the code that reads whole files. Files of up to `PART_BYTES`, and formats that hold one large
value (JSON, workbooks, UTF-16), are a single part.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import stat
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import IO

from popularity.data.decoding import decode, is_wide
from popularity.data.formats import looks_like_json, parquet_parts, parquet_rows, read_json_lines
from popularity.data.headers import Header, find_header
from popularity.data.raw import RawTable
from popularity.data.reading import read_content, read_table
from popularity.data.sources import parquet_files
from popularity.data.text_table import read_text_table
from popularity.data.unpacking import open_unpacked
from popularity.errors import InputError

#: Of a part of text, and the largest file that is read as a whole; 150 bytes a song is usual.
PART_BYTES = 16 << 20
#: Of a part of Parquet.
PART_ROWS = 100_000
#: A Parquet file of more rows is read in parts to learn from it too: what its cells mean, the first part then decides.
LARGE_ROWS = 200_000
#: As a path: standard input.
STANDARD_INPUT = Path("standard input")
_TRIED = 1000  # line breaks that are looked at, to find one between two rows


def is_large(path: Path) -> bool:
    """Whether a table is read in parts even where all of it is needed: a folder, or a Parquet file of many rows.

    Raises:
        InputError: a Parquet file is damaged, or its table out of proportion.
    """
    if path.is_dir():
        return True
    return path.is_file() and parquet_rows(path) > LARGE_ROWS


def _read_folder(folder: Path) -> Iterator[RawTable]:
    """Read the Parquet files of a folder as one table.

    Raises:
        InputError: there are none, or a file lacks a column of the first.
    """
    names: list[str] = []
    files = parquet_files(folder)
    for file in files:
        parquet_rows(file)  # refuses what would fill the memory
        for part in read_parts(file):
            names = names or list(part.frame.columns)
            if lacking := [name for name in names if name not in part.frame]:
                raise InputError(f"{file}: expected the columns of {files[0].name}, got none named {lacking[0]!r}")
            form = f"Parquet, {len(files):,} file{'s' if len(files) > 1 else ''}"
            yield replace(part, path=folder, file=file.name, form=form)


def read_parts(path: Path) -> Iterator[RawTable]:
    """Read a table in one or more parts, in the order of the file.

    Args:
        path: of the file, or `STANDARD_INPUT`; or of a folder, whose Parquet files are one table.

    Raises:
        InputError: as `popularity.data.reading.read_table`, or a file of a folder lacks a column of the first.
    """
    if path.is_dir() and parquet_files(path):
        yield from _read_folder(path)
        return
    if path != STANDARD_INPUT and not (path.is_file() or path.is_fifo()):  # a device may have no end
        read_table(path)  # says what is wrong
    with _opened(path) as file:
        several = False
        for part in _large(path, file):
            several = True
            yield part
        if not several:
            file.seek(0)
            yield read_content(path, file.read())


def _large(path: Path, file: IO[bytes]) -> Iterator[RawTable]:
    """The parts of a large table; nothing of one that is read as a whole."""
    if file.read(4) == b"PAR1":
        file.seek(0)
        yield from parquet_parts(path, file, PART_ROWS)
        return
    file.seek(0)
    with open_unpacked(path, file) as stream:
        start = stream.read(PART_BYTES)
        more = stream.read(1)
        if more and (lines := _lines_of(path, start)) is not None:
            yield from lines.read(start + more, stream)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that can be sought in: what comes through a pipe goes to a temporary file first."""
    try:
        with nullcontext(sys.stdin.buffer) if path == STANDARD_INPUT else open(path, "rb") as source:
            if _is_device(source):
                raise InputError(f"{path}: expected a file or a pipe, got a device")
            if path != STANDARD_INPUT and source.seekable():
                yield source
                return
            with tempfile.TemporaryFile() as file:
                shutil.copyfileobj(source, file)
                file.seek(0)
                yield file
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _is_device(source: IO[bytes]) -> bool:
    """Whether an open file is a device, which may have no end; a terminal has one."""
    try:
        mode = os.fstat(source.fileno()).st_mode
    except OSError:  # an object of Python alone
        return False
    return (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not source.isatty()


def _lines_of(path: Path, start: bytes) -> _Lines | None:
    """How a large text is cut; None for one that is read as a whole."""
    if b"\n" not in start or is_wide(start):
        return None
    text, _ = decode(path, start[: start.rfind(b"\n") + 1])
    if looks_like_json(text):
        first = text.lstrip().split(b"\n", 2)[:2]
        return _JsonLines(path) if all(_is_record(line) for line in first) else None
    header = find_header(text)
    # one name alone: whole lines in quotes, which only the whole text tells
    return _Rows(path, header, _end_of_header(text, header)) if len(header.names) > 1 else None


def _is_record(line: bytes) -> bool:
    """Whether a line is a JSON record by itself, null or blank, and not a piece of a larger value."""
    try:
        return isinstance(json.loads(line.strip().removesuffix(b",") or b"null"), dict | None)
    except (ValueError, RecursionError):
        return False


def _end_of_header(text: bytes, header: Header) -> bytes:
    """The text up to the end of the header, whose quoted names may have line breaks in them."""
    end = text.find(b"\n", header.start)
    while text.count(b'"', header.start, end) % 2 and (following := text.find(b"\n", end + 1)) > 0:
        end = following
    return text[: end + 1]


class _Lines(ABC):
    """Cuts a text into parts of whole rows and reads each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, start: bytes, stream: IO[bytes]) -> Iterator[RawTable]:
        """Read the parts of a stream whose start has been read already."""
        rest, rows, line = start, 0, 1
        while rest:
            more = stream.read(PART_BYTES)
            while more and (cut := self.cut(rest)) == 0:
                rest, more = rest + more, stream.read(PART_BYTES)
            block, rest = (rest[:cut], rest[cut:] + more) if more else (rest, b"")
            if block.strip():
                table = self.parse(block, line)
                table = replace(table, form=f"{table.form}, in parts", rows_before=rows)
                rows += len(table.frame)
                yield table
            line += block.count(b"\n")

    @abstractmethod
    def cut(self, block: bytes) -> int:
        """Where the last whole row of a block ends; 0 where no end of a row is found."""

    @abstractmethod
    def parse(self, block: bytes, line: int) -> RawTable:
        """Read a block that begins at this line of the file."""


class _JsonLines(_Lines):
    def cut(self, block: bytes) -> int:
        return block.rfind(b"\n") + 1

    def parse(self, block: bytes, line: int) -> RawTable:
        return read_json_lines(self.path, decode(self.path, block)[0], line)


class _Rows(_Lines):
    """Rows of a CSV; each part but the first is read below a copy of the header."""

    def __init__(self, path: Path, header: Header, above: bytes) -> None:
        super().__init__(path)
        self.delimiter, self.fields, self.above = header.delimiter, len(header.names), above

    def cut(self, block: bytes) -> int:
        """A line break with a whole row on either side: counting quotes would fail from the first stray one on."""
        following = block.rfind(b"\n")
        for _ in range(_TRIED):
            end = block.rfind(b"\n", 0, max(following, 0))
            begin = block.rfind(b"\n", 0, max(end, 0))
            if begin < 0:
                return 0
            if self._is_row(block[begin + 1 : end]) and self._is_row(block[end + 1 : following]):
                return end + 1
            following = end
        return 0

    def _is_row(self, line: bytes) -> bool:
        """Whether a line alone is a row; R writes one field more than names."""
        if line.count(b'"') % 2:
            return False
        text = line.decode("utf-8", "replace").strip("\r")
        try:
            row = next(csv.reader([text], delimiter=self.delimiter, skipinitialspace=True), [])
        except csv.Error:  # a field of more than 128 KB
            return False
        return len(row) in (self.fields, self.fields + 1)

    def parse(self, block: bytes, line: int) -> RawTable:
        text, encoding = decode(self.path, block)
        if line == 1:
            return read_text_table(self.path, text, encoding)
        table = read_text_table(self.path, self.above + text, encoding)
        return table if table.first_line is None else replace(table, first_line=line)
