"""Files that were made to do harm: every one is a song table or one line, and takes neither memory nor time."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popularity.data.songs import load_songs, songs_in_parts
from popularity.errors import InputError
from tests.conftest import make_songs

SONGS = make_songs(12)
CSV = SONGS.to_csv(index=False).encode()
ROW = b"a,b\n"
WIDE = SimpleNamespace(mapped={})


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bombs of 5 MB in place of some GB."""
    monkeypatch.setattr("popularity.data.unpacking._FREE", 1 << 18)


def zipped(content: bytes, name: str = "songs.csv") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def workbook(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.writestr("xl/sharedStrings.xml", content)
    return file.getvalue()


def parquet(content: bytes) -> bytes:
    file = io.BytesIO()
    pd.DataFrame(np.ones((len(content), 4)), columns=list("abcd")).to_parquet(file)
    return file.getvalue()


def lying_zip(content: bytes) -> bytes:
    """The archive says that the table has 100 bytes."""
    found, size = bytearray(zipped(content)), len(content).to_bytes(4, "little")
    while (place := found.find(size)) >= 0:
        found[place : place + 4] = (100).to_bytes(4, "little")
    return bytes(found)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda content: gzip.compress(content, 1),
    "bzip2": bz2.compress,
    "xz": lambda content: lzma.compress(content, preset=0),
    "zip": zipped,
    "workbook": workbook,
    "parquet": parquet,
}


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("kind", PACKERS)
def test_a_bomb_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(PACKERS[kind](ROW * (5 << 18)))
    with pytest.raises(InputError, match="expected a table of at most 100 times"):
        load_songs(str(path))


@pytest.mark.usefixtures("small_limit")
def test_a_zip_file_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bomb.zip").write_bytes(lying_zip(ROW * (5 << 18)))
    with pytest.raises(InputError, match=r"bomb.zip: (the zip file is damaged|expected a table of at most 100 times)"):
        load_songs(str(tmp_path / "bomb.zip"))


@pytest.mark.parametrize("damage", ["password", "way of packing", "place"])
def test_a_zip_file_that_cannot_be_opened_is_one_line(damage: str, tmp_path: Path) -> None:
    found = bytearray(zipped(CSV))
    directory = found.rfind(b"PK\1\2")
    if damage == "place":  # of its member, by four bytes that say how long the directory is
        found[found.rfind(b"PK\5\6") + 12] ^= 0x80
    else:
        place, value = (8, 1) if damage == "password" else (10, 99)
        found[directory + place] = value
        found[place - 2] = value
    (tmp_path / "songs.zip").write_bytes(found)
    for load in (load_songs, lambda name: list(songs_in_parts(name))):
        with pytest.raises(InputError, match="the zip file is damaged or locked"):
            load(str(tmp_path / "songs.zip"))


def test_a_path_in_an_archive_leads_nowhere(tmp_path: Path) -> None:
    """Nothing in an archive is ever written to the disk."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "songs.zip").write_bytes(zipped(CSV, "../../songs.csv"))
    assert len(load_songs(str(tmp_path / "in" / "songs.zip")).songs) == 12
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "songs.zip"]


@pytest.mark.parametrize("kind", ["pipe", "device", "loop"])
def test_what_has_no_end_is_not_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if kind == "loop" else "/dev/zero")
    line = r"expected a file, got a pipe or a device|expected a file or one of"
    with pytest.raises(InputError, match=line):
        load_songs(str(path))
    if kind != "pipe":  # whose parts are read until its writer closes it
        with pytest.raises(InputError, match=line):
            next(songs_in_parts(str(path)))


def test_a_device_as_standard_input_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/zero") as zeros:
        monkeypatch.setattr("sys.stdin", zeros)
        monkeypatch.setattr("shutil.copyfileobj", None)  # it would fill the disk
        with pytest.raises(InputError, match="standard input: expected a file or a pipe, got a device"):
            next(songs_in_parts("-"))


def test_a_pipe_is_read_in_parts_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    os.mkfifo(path)
    writer = Thread(target=path.write_bytes, args=(CSV,))
    writer.start()
    assert sum(len(part.songs) for part in songs_in_parts(str(path))) == 12
    writer.join()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'[{"energy": 1}]\n' * 2 + b'[{"a":' * 50_000, "line 3: expected a JSON record"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "nested too deeply"),
        (b'{"columns": ["energy"], "data": [[1, 2]]}', "expected JSON records"),
        (b'{"columns": 3, "data": [[1, 2]]}', "expected JSON records"),
        (b'{"columns": [["energy"]], "data": [[1]]}', "no column for"),
        (b'[{"energy": ' + b"9" * 5_000 + b"}]", "cut off or damaged"),
        (CSV.replace(b"Song 3", b"So\0ng"), "got a binary file"),
        (b",".join(b"c%d" % number for number in range(20_000)) + b"\n1\n", "at most 10,000 columns, got 20,000"),
    ],
    ids=["deep", "deep lines", "deep records", "long row", "no names", "names in lists", "digits", "NUL", "columns"],
)
def test_one_line_for(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "songs").write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        load_songs(str(tmp_path / "songs"))
    assert "\n" not in str(refused.value)


def test_a_million_columns_are_not_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name takes 20 microseconds, and a header is looked for in several lines."""
    seen: list[int] = []
    monkeypatch.setattr("popularity.data.headers.match_columns", lambda names: seen.append(len(names)) or WIDE)
    (tmp_path / "songs").write_bytes(b",".join(b"c%d" % number for number in range(100_000)) + b"\n1\n")
    with pytest.raises(InputError, match="at most 10,000 columns, got 100,000"):
        load_songs(str(tmp_path / "songs"))
    assert max(seen) <= 10_000


def test_a_huge_field_is_read(tmp_path: Path) -> None:
    SONGS.assign(track_name=["x" * 5_000_000, *SONGS["track_name"][1:]]).to_csv(tmp_path / "songs.csv", index=False)
    assert load_songs(str(tmp_path / "songs.csv")).songs["title"].str.len().max() == 5_000_000


# --- fuzzing ----------------------------------------------------------------------------------------------------------

ODD = [
    "",
    "nan",
    "inf",
    "1e999",
    "9" * 5_000,
    "é",
    "'",
    '"',
    "[]",
    "{}",
    "2020-13-45",
    "0000-00-00",
    "-1",
    "a;b",
    "5%",
    "a\nb",
    "\x1b[31m",
]
CELLS = st.sampled_from([*ODD, "0.5", "120", "Song", "Artist"]) | st.text(max_size=8)
NAMES = st.sampled_from([*SONGS.columns, "name", "x", "a\nb", ""])
VALUES = CELLS | st.none() | st.booleans() | st.integers() | st.floats() | st.lists(CELLS, max_size=2)
TABLES = st.lists(NAMES, max_size=12).flatmap(
    lambda names: st.lists(st.lists(VALUES, min_size=len(names), max_size=len(names)), max_size=5).map(
        lambda rows: (names, rows)
    )
)


def songs_or_line(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        lines = load_songs(str(path), need_popularity=False).report.lines()
    except InputError as error:
        lines = [str(error)]
    assert all(line.isprintable() for line in lines)


# how long an example takes says nothing: machines are shared
fuzzed = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@fuzzed
@given(st.binary(max_size=300), st.sampled_from([b"", b"PAR1", b"PK\3\4", b"\x1f\x8b", b"{", b"[{", CSV[:300]]))
def test_any_bytes(tmp_path: Path, content: bytes, start: bytes) -> None:
    songs_or_line(tmp_path / "songs", start + content)


@fuzzed
@given(st.integers(0, len(CSV) - 1), st.binary(max_size=6), st.integers(0, 40))
def test_a_damaged_table(tmp_path: Path, place: int, content: bytes, lost: int) -> None:
    songs_or_line(tmp_path / "songs", CSV[:place] + content + CSV[place + lost :])


@fuzzed
@given(TABLES, st.sampled_from(["csv", "records", "columns", "split", "parquet"]))
def test_any_small_table(tmp_path: Path, table: tuple[list[str], list[list[Any]]], kind: str) -> None:
    names, rows = table
    content: Any
    if kind == "csv":
        content = "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)])
    elif kind == "parquet":
        file = io.BytesIO()
        frame = pd.DataFrame([[str(cell) for cell in row] for row in rows], columns=names or None, dtype="str")
        frame.loc[:, ~frame.columns.duplicated()].rename(columns=str).to_parquet(file)
        songs_or_line(tmp_path / "songs", file.getvalue())
        return
    else:
        records = [dict(zip(names, row, strict=True)) for row in rows]
        forms = {"records": records, "columns": {name: [one.get(name) for one in records] for name in names}}
        content = json.dumps(forms.get(kind, {"columns": names, "data": rows}))
    songs_or_line(tmp_path / "songs", content.encode("utf-8", "surrogatepass"))
