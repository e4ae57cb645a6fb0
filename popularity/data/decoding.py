"""From bytes to text: UTF-8 with or without bad bytes, UTF-16, UTF-32 and Windows-1252; never a guess beyond these.

A byte means another letter in each one-byte encoding, and the bytes do not say which one it is. What is no Western text
is refused. A few letters that a Western text could have too do not show it: Hungarian Erdős is read as Erdõs.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from popularity.errors import InputError

_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 1 << 20
# In Western text letters beyond ASCII stand among plain ones; in other scripts whole words are beyond ASCII.
_LONG_RUN, _LONG_RUNS = 3, 0.2
# These never stand inside a word of Western text, but are letters in other one-byte encodings.
_IN_A_WORD = re.compile(r"[A-Za-zÀ-ÿ][¹²³¼½¾¿¡¢£¤¥¦§¨©ª«¬®¯°±µ¶·¸º»†‡‰ŽžŠŒœ‹›€„…ˆ˜™][a-zà-ÿ]|[a-z][ŽŠŒ‚ƒ„]|\ufffd")
# Turkish and Czech come out as Nordic letters in words that are not Nordic: Barýþ for Barış, Dvoøák for Dvořák, Èerný
# for Černý. In Icelandic a vowel, r, v or j follows þ; no Western language has an accent after ø, or ý, þ or ð in one
# word with ç, ü or a grave accent. (An x before þ makes a face.)
_NO_NORDIC_WORD = re.compile(
    r"þ(?<=[a-wyzà-ÿ]þ)(?![aeiouyáéíóúýæöørvj])|ø[áéíóúý]|[ýþð][a-zà-ÿ]*[çüèìòù]|[çüèìòù][a-zà-ÿ]*[ýþð]"
)


def decode(path: Path, content: bytes) -> tuple[bytes, str]:
    """Bring a text file to UTF-8 without a byte-order mark.

    A file that is neither UTF-8 nor marked otherwise is read as Windows-1252. Bytes of Windows-1252 in a file of UTF-8
    (one cell pasted from elsewhere) are read so one by one, the rest of the file stays.

    Args:
        path: for messages.
        content: the bytes of the file.

    Returns:
        The text as UTF-8 and the name of the encoding.

    Raises:
        InputError: a binary file, or text in an encoding that cannot be told.
    """
    for bom, encoding in _BOMS:
        if content.startswith(bom):
            return _recode(path, content, encoding), encoding.upper()
    if (wide := _wide(content)) is not None:
        return _recode(path, content, wide), wide.upper()
    if b"\0" in content[: 16 << 20]:
        raise InputError(f"{path}: expected a CSV, TSV, Excel, JSON or Parquet table, got a binary file")
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        content.decode("utf-8")
        return content, "utf-8"
    except UnicodeDecodeError:
        return _mixed(path, content)


def is_wide(content: bytes) -> bool:
    """Whether a text begins as UTF-16 or UTF-32, of which a line break is more than one byte."""
    return any(content.startswith(bom) for bom, _ in _BOMS) or _wide(content) is not None


def _recode(path: Path, content: bytes, encoding: str) -> bytes:
    try:
        return content.decode(encoding).lstrip("\ufeff").encode("utf-8")
    except UnicodeError as error:
        raise InputError(f"{path}: the {encoding.upper()} text is cut off or damaged ({error})") from error


def _wide(content: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of plain letters is zero."""
    even, odd = content[:2000:2], content[1:2000:2]
    if len(odd) < 8:
        return None
    if odd.count(0) > 0.7 * len(odd) and even.count(0) == 0:
        return "utf-16-le"
    if even.count(0) > 0.7 * len(even) and odd.count(0) == 0:
        return "utf-16-be"
    return None


def _mixed(path: Path, content: bytes) -> tuple[bytes, str]:
    bad = 0

    def western(error: UnicodeError) -> tuple[str, int]:
        nonlocal bad
        if not isinstance(error, UnicodeDecodeError):
            raise error
        bad += 1
        byte = error.object[error.start : error.start + 1]
        return byte.decode("cp1252", errors="replace"), error.start + 1

    codecs.register_error("popularity-western", western)
    text = content.decode("utf-8", errors="popularity-western")
    beyond = [len(run) for run in re.findall(rb"[\x80-\xff]+", content[:_SAMPLE])]
    good = sum(map(len, re.findall(r"[^\x00-\x7f]+", text))) - bad
    lonely = sum(run >= _LONG_RUN for run in beyond) <= _LONG_RUNS * len(beyond)
    mostly_utf8 = good > bad
    if not mostly_utf8 and (not lonely or _IN_A_WORD.search(text) or _NO_NORDIC_WORD.search(text[:_SAMPLE].lower())):
        raise InputError(f"{path}: the text is neither UTF-8 nor Windows-1252: save the table as UTF-8")
    if mostly_utf8:
        return text.encode("utf-8"), f"utf-8, {bad:,} byte{'s' if bad > 1 else ''} of Windows-1252"
    return text.encode("utf-8"), "Windows-1252"
