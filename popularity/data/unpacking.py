"""From a file to the bytes of the table in it: gzip, bzip2, xz, Zstandard and zip; other kinds of file are named."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, cast

import pyarrow as pa

from popularity.errors import InputError

TABLES = (".csv", ".tsv", ".tab", ".parquet", ".json", ".jsonl", ".ndjson", ".xlsx", ".psv")
_BESIDE = re.compile(r"read.?me|licen[cs]e|notice|metadata|datapackage|schema", re.IGNORECASE)
_PACKED = (".gz", ".bz2", ".xz", ".zst")
#: A packed table of more bytes than the first number may hold at most so many times the bytes of its file: tables
#: shrink 3 to 30 times. Others are made to fill the memory.
_FREE, _RATIO = 256 << 20, 100

#: Of `zipfile`: RuntimeError for a password, NotImplementedError for a way of packing that it does not know, ValueError
#: for a place before the start of the file.
_ZIP_ERRORS = (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, zlib.error)

# first bytes -> what it is and what to do
_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: run `git lfs pull`, or download the file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls): save it as .xlsx or CSV"),
    (b"SQLite format 3\0", "an SQLite database: export the table as CSV"),
    (b"\x80\x04\x95", "a Python pickle: save the table as CSV or Parquet"),
    (b"\x80\x05\x95", "a Python pickle: save the table as CSV or Parquet"),
    (b"ARROW1", "an Arrow (Feather) file: save the table as CSV or Parquet"),
    (b"\x89HDF", "an HDF5 file: save the table as CSV or Parquet"),
    (b"ORC", "an ORC file: save the table as CSV or Parquet"),
    (b"RDX", "an R data file: save the table as CSV"),
    (b"RDA", "an R data file: save the table as CSV"),
    (b"%PDF", "a PDF: save the table as CSV"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"<!doctype html", "a web page (HTML), not a table: download the file itself"),
    (b"<html", "a web page (HTML), not a table: download the file itself"),
    (b"<table", "a web page (HTML), not a table: open it in a spreadsheet and save it as CSV"),
    (b"{\\rtf", "a text document (RTF): save the table as CSV"),
    (b"<?xml", "an XML file: save the table as CSV"),
)
#: First bytes -> what packs a file.
_PACKERS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"PK\3\4": "zip",
}
_ZIPPED_KINDS = (
    ("content.xml", "an OpenDocument spreadsheet: save it as .xlsx or CSV"),
    ("Index/Document.iwa", "an Apple Numbers document: export it as CSV"),
    ("xl/workbook.bin", "a binary Excel workbook (.xlsb): save it as .xlsx or CSV"),
    ("word/document.xml", "a Word document: save the table as CSV"),
)


def unpack(path: Path, content: bytes) -> tuple[bytes, str]:
    """Give the bytes of the table in a file and what they were wrapped in, in words.

    Args:
        path: of the file, for messages.
        content: its bytes.

    Raises:
        InputError: an archive that is damaged or does not hold exactly one table, or a kind of file that is no table.
    """
    wrapping = ""
    for _ in range(3):  # a .csv.gz in a zip is met; more layers are somebody's joke
        inner = _one_layer(path, content)
        if inner is None:
            break
        content, word = inner
        wrapping += f", {word}"
    _refuse_other_kinds(path, content)
    return content, wrapping


def _one_layer(path: Path, content: bytes) -> tuple[bytes, str] | None:
    if content[:2] == b"\x1f\x8b":
        return _decompress(path, "gzip", content, lambda file: gzip.GzipFile(fileobj=file)), "gzipped"
    if content[:3] == b"BZh":
        return _decompress(path, "bzip2", content, bz2.BZ2File), "bzip2"
    if content[:6] == b"\xfd7zXZ\0":
        return _decompress(path, "xz", content, lzma.LZMAFile), "xz"
    if content[:4] == b"\x28\xb5\x2f\xfd":
        return _decompress(path, "Zstandard", content, lambda file: pa.input_stream(file, "zstd")), "Zstandard"
    if content[:4] in (b"PK\3\4", b"PK\5\6"):
        if is_workbook(content):
            refuse_bomb(path, len(content), _unpacked_size(content))
            return None
        return _unzip(path, content), "zipped"
    return None


@contextmanager
def open_unpacked(path: Path, file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Open what a file at its start holds, unpacked as it is read: for tables too large to be held in memory.

    Args:
        path: of the file, for messages.
        file: can be sought in. Of a zip file with several members, nothing is unpacked.

    Raises:
        InputError: the archive turns out to be damaged while it is read.
    """
    first = file.read(6)
    file.seek(0)
    kind = next((name for magic, name in _PACKERS.items() if first.startswith(magic)), "")
    try:
        with _unpacked(kind, file) as stream:
            yield stream
    except (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException) as error:
        if not kind:
            raise
        raise InputError(f"{path}: the {kind} file is cut off or damaged ({error})") from error


def _unpacked(kind: str, file: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    if kind == "gzip":
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if kind == "bzip2":
        return bz2.BZ2File(file)
    if kind == "xz":
        return lzma.LZMAFile(file)
    if kind == "Zstandard":
        kept = SimpleNamespace(read=file.read, closed=False, close=lambda: None)  # Arrow closes what it has read
        return nullcontext(pa.input_stream(pa.PythonFile(kept, "r"), compression="zstd"))
    if kind == "zip":
        with suppress(*_ZIP_ERRORS):  # what is wrong with it is said when it is read as a whole
            archive = zipfile.ZipFile(file)
            if len(archive.namelist()) == 1:
                return archive.open(archive.namelist()[0])
        file.seek(0)
    return nullcontext(file)


def _decompress(path: Path, kind: str, content: bytes, reader: Callable[..., Any]) -> bytes:
    limit = max(_FREE, _RATIO * len(content))
    try:
        with reader(io.BytesIO(content)) as stream:
            found = bytes(stream.read(limit + 1))
    except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        raise InputError(f"{path}: the {kind} file is cut off or damaged ({error})") from error
    refuse_bomb(path, len(content), len(found))
    return found


def refuse_bomb(path: Path, packed: int, size: int) -> None:
    """Refuse a small file whose table would fill the memory.

    Args:
        path: of the file, for messages.
        packed: its size in bytes.
        size: of the table in bytes.

    Raises:
        InputError: the table is out of proportion.
    """
    if size > max(_FREE, _RATIO * packed):
        raise InputError(
            f"{path}: expected a table of at most {_RATIO} times the {packed:,} bytes of the packed file, "
            "got a larger one: if it is what you want, unpack it first"
        )


def _unpacked_size(content: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return sum(part.file_size for part in archive.infolist())


def _unzip(path: Path, content: bytes) -> bytes:
    """Give the content of the one table inside a zip file; a licence or a read-me beside it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for part, what in _ZIPPED_KINDS:
                if part in archive.namelist():
                    raise InputError(f"{path}: expected a table, got {what}")
            names = [
                name
                for name in archive.namelist()
                if not name.endswith("/") and not name.startswith("__MACOSX/") and not Path(name).name.startswith(".")
            ]
            names = [name for name in names if not _BESIDE.search(Path(name).name)] or names
            tables = [name for name in names if _plain_suffix(name) in TABLES]
            tables = tables or [name for name in names if _plain_suffix(name) in (".txt", ".dat")]
            if len(tables) != 1:
                found = ", ".join(tables[:5]) or "none"
                raise InputError(f"{path}: expected one table in the zip file, got {len(tables)}: {found}")
            refuse_bomb(path, len(content), archive.getinfo(tables[0]).file_size)
            with archive.open(tables[0]) as stream:
                table = stream.read(max(_FREE, _RATIO * len(content)) + 1)  # the size in the archive may be a lie
            refuse_bomb(path, len(content), len(table))
            return table
    except _ZIP_ERRORS as error:
        raise InputError(f"{path}: the zip file is damaged or locked, or packed in an unknown way ({error})") from error


def _plain_suffix(name: str) -> str:
    """The suffix of a file name in lower case, without that of a compression."""
    path = Path(name.lower())
    return Path(path.stem).suffix if path.suffix in _PACKED else path.suffix


def is_workbook(content: bytes) -> bool:
    """Whether the bytes are an Excel workbook (.xlsx)."""
    if content[:4] != b"PK\3\4":
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except _ZIP_ERRORS:
        return False


def _refuse_other_kinds(path: Path, content: bytes) -> None:
    start = content[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, what in _KINDS:
        if start.startswith(magic) or (magic[:1] == b"<" and start.lower().startswith(magic)):
            raise InputError(f"{path}: expected a table, got {what}")
    if content[257:262] == b"ustar":
        raise InputError(f"{path}: expected a table, got a tar archive: unpack it first")
