"""Files as people have them: every encoding, packing and kind of table gives the same songs, or one clear line."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from popularity.data.decoding import decode
from popularity.data.songs import load_songs
from popularity.errors import InputError

Write = Callable[..., str]


@pytest.fixture
def songs(raw_songs: pd.DataFrame) -> pd.DataFrame:
    """Songs with letters beyond ASCII, commas and quotes."""
    titles = [f"Señal {i}, año" if i % 2 else f'The "B" side {i}' for i in range(len(raw_songs))]
    return raw_songs.assign(track_name=titles, album_name="Été")


def packed(content: bytes, form: str) -> bytes:
    if form == "zstd":
        return bytes(pa.compress(content, codec="zstd", asbytes=True))
    if form.startswith("zip"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("data/", "")
            archive.writestr("__MACOSX/._songs.csv", "x")
            archive.writestr("LICENSE.txt", "MIT")
            archive.writestr("README.md", "read me")
            archive.writestr("data/songs.csv", content)
        return buffer.getvalue()
    return {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[form](content)


@pytest.mark.parametrize("form", ["gzip", "bz2", "xz", "zip", "zstd"])
def test_packed(songs: pd.DataFrame, write: Write, form: str) -> None:
    content = songs.to_csv(index=False).encode()
    expected = load_songs(write(content)).fingerprint
    assert load_songs(write(packed(content, form), "songs.bin")).fingerprint == expected
    with pytest.raises(InputError, match=r"cut off or damaged|damaged or locked") as caught:
        load_songs(write(packed(content, form)[:-40], "songs.bin"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1", "iso-8859-15"]
)
def test_encodings(songs: pd.DataFrame, write: Write, encoding: str) -> None:
    text = songs.to_csv(index=False)
    expected = load_songs(write(text)).fingerprint
    assert load_songs(write(text.encode(encoding))).fingerprint == expected


@pytest.mark.parametrize(
    ("encoding", "title"),
    [
        ("cp1251", "Песня о любви"),
        ("shift-jis", "さくらの歌"),
        ("mac-roman", "Été à la plage"),
        ("cp437", "Été à la plage"),
        ("cp1254", "Barış Manço"),
        ("cp1254", "Aşkın"),
        ("cp1254", "Gülşen"),
        ("cp1250", "Dvořák"),
        ("cp1250", "Černý"),
    ],
)
def test_an_encoding_that_cannot_be_told_is_refused(
    raw_songs: pd.DataFrame, write: Write, encoding: str, title: str
) -> None:
    content = raw_songs.assign(track_name=title).to_csv(index=False).encode(encoding)
    with pytest.raises(InputError, match="neither UTF-8 nor Windows-1252: save the table as UTF-8"):
        load_songs(write(content))


@pytest.mark.parametrize(
    "title", ["Íþrótt, uppþvottur og alþjóð", "Dýrð í dauðaþögn", "Føroyar: løgtingið", "Køer på Øya :Þ", "Françoise"]
)
def test_letters_of_the_north_and_west(raw_songs: pd.DataFrame, write: Write, title: str) -> None:
    content = raw_songs.assign(track_name=title).to_csv(index=False).encode("cp1252")
    assert load_songs(write(content)).songs["title"][0] == title


def test_bad_bytes_among_utf8(songs: pd.DataFrame, write: Write) -> None:
    content = songs.to_csv(index=False).encode().replace("Señal 7".encode(), "Señal 7".encode("cp1252"))
    table = load_songs(write(content))
    assert table.songs["title"][7] == "Señal 7, año"
    assert "utf-8, 1 byte of Windows-1252" in table.report.form


def test_bytes_of_windows_late_in_a_long_file_are_a_small_part_of_it(tmp_path: Path) -> None:
    text = "".join(f"Canción {number};" for number in range(200_000)).encode()
    content = text + b"Se\xf1al;" * 12_000
    assert len(text) > 2 << 20
    assert decode(tmp_path, content)[1] == "utf-8, 12,000 bytes of Windows-1252"


def _zip(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), "x")  # no clock time in it: test names hold these bytes
    return buffer.getvalue()


def xlsx(songs: pd.DataFrame, **sheets: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    with pd.ExcelWriter(buffer, engine="openpyxl") as writer:
        for name, sheet in sheets.items():
            sheet.to_excel(writer, sheet_name=name, index=False)
        songs.to_excel(writer, sheet_name="songs", index=False)
    return buffer.getvalue()


KINDS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "semicolons": lambda songs: songs.to_csv(index=False, sep=";", decimal=",").encode(),
    "tabs": lambda songs: songs.to_csv(index=False, sep="\t").encode(),
    "bars": lambda songs: songs.to_csv(index=False, sep="|").encode(),
    "sep=;": lambda songs: b"sep=;\r\n" + songs.to_csv(index=False, sep=";").encode(),
    "a title above": lambda songs: b"My songs,,,\n\n2024-01-01\n" + songs.to_csv(index=False).encode(),
    "old Mac lines": lambda songs: songs.to_csv(index=False, lineterminator="\r").encode(),
    "Windows lines": lambda songs: songs.to_csv(index=False, lineterminator="\r\n").encode(),
    "all quoted": lambda songs: songs.to_csv(index=False, quoting=1).encode(),
    "blanks before quotes": lambda songs: songs.to_csv(index=False, quoting=1).replace('","', '", "').encode(),
    "a row number in front": lambda songs: songs.to_csv().encode(),
    "R's row names": lambda songs: songs.to_csv(sep="\t").removeprefix("\t").encode(),
    "a delimiter at the end": lambda songs: _ending(songs),
    "whole lines in quotes": lambda songs: _lines_in_quotes(songs),
    "backslashes": lambda songs: songs.to_csv(index=False, doublequote=False, escapechar="\\").encode(),
    "Excel": lambda songs: xlsx(songs),
    "Excel, second sheet": lambda songs: xlsx(songs, notes=pd.DataFrame({"note": ["read me"] * 99})),
    "JSON records": lambda songs: songs.to_json(orient="records").encode(),
    "JSON lines": lambda songs: songs.to_json(orient="records", lines=True).encode(),
    "JSON columns": lambda songs: songs.to_json().encode(),
    "JSON split": lambda songs: songs.to_json(orient="split").encode(),
    "JSON in an envelope": lambda songs: b'{"total": 40, "items": %s}' % songs.to_json(orient="records").encode(),
    "JSON in two envelopes": lambda songs: (
        b'{"tracks": {"n": 1, "items": %s}}' % songs.to_json(orient="records").encode()
    ),
    "indented JSON": lambda songs: songs.to_json(orient="records", indent=2).encode(),
}


def _ending(songs: pd.DataFrame) -> bytes:
    header, *rows = songs.to_csv(index=False).splitlines()
    return "\n".join([header, *(row + "," for row in rows)]).encode()


def _lines_in_quotes(songs: pd.DataFrame) -> bytes:
    lines = songs.to_csv(index=False).splitlines()
    return "\n".join('"' + line.replace('"', '""') + '"' for line in lines).encode()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same_songs(songs: pd.DataFrame, write: Write, kind: str) -> None:
    expected = load_songs(write(songs))
    found = load_songs(write(KINDS[kind](songs), "songs.bin"))
    pd.testing.assert_frame_equal(found.songs, expected.songs)


def test_a_stray_quote_does_not_swallow_rows(raw_songs: pd.DataFrame, write: Write) -> None:
    for delimiter in ("\t", ","):
        plain = raw_songs.to_csv(index=False, sep=delimiter)
        one = plain.replace("Song 3" + delimiter, '"Song 3' + delimiter)
        table = load_songs(write(one))
        assert len(table.songs) == 40
        assert table.songs["title"][3] == '"Song 3'
        two = one.replace("Song 9" + delimiter, '"Song 9' + delimiter)
        assert load_songs(write(two)).songs["title"].tolist()[8:10] == ["Song 8", '"Song 9']


def test_a_line_break_in_a_quoted_cell_is_no_row(raw_songs: pd.DataFrame, write: Write) -> None:
    notes = ["one, two\nthree, four" if i % 3 else "x" for i in range(40)]
    assert len(load_songs(write(raw_songs.assign(note=notes))).songs) == 40


def test_the_line_of_a_row_below_a_title(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs["energy"] = raw_songs["energy"].astype(object)
    raw_songs.loc[2, "energy"] = "loud"
    with pytest.raises(InputError, match=r"row 3 \(line 6\)"):
        load_songs(write("songs of 2024\n\n" + raw_songs.to_csv(index=False)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "a Git LFS pointer"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), r"an old Excel workbook \(.xls\)"),
        (b"SQLite format 3\0" + bytes(99), "an SQLite database"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", r"a web page \(HTML\)"),
        (b"%PDF-1.7\n", "a PDF"),
        (_zip("content.xml"), "an OpenDocument spreadsheet"),
        (_zip("Index/Document.iwa"), "an Apple Numbers document"),
        (gzip.compress(b"x" * 257 + b"ustar" + b"x" * 99, mtime=0), "a tar archive"),
        (b'[{"energy": 0.5}, {"energy"', "the JSON is cut off or damaged"),
        (b'{"energy": 0.5}\n{"energy"\n', "line 2: expected a JSON record"),
        (b"[]", "expected JSON records"),
        (b"[\n1, 2]", "expected JSON records"),
    ],
)
def test_what_is_no_table_is_named(write: Write, content: bytes, message: str) -> None:
    path = write(content, "songs.csv")
    with pytest.raises(InputError, match=message) as caught:
        load_songs(path)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


def test_without_openpyxl_a_workbook_is_named(
    raw_songs: pd.DataFrame, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(xlsx(raw_songs), "songs.xlsx")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"an Excel workbook: save it as CSV, or `pip install openpyxl`"):
        load_songs(path)


def test_records_within_records(raw_songs: pd.DataFrame, write: Write) -> None:
    records: list[dict[str, Any]] = json.loads(raw_songs.to_json(orient="records"))
    audio = ("energy", "key", "mode", "tempo", "loudness")
    nested = [
        {
            "track": {"name": r.pop("track_name"), "artists": [{"name": r.pop("artists")}], "id": r.pop("track_id")},
            "audio_features": {name: r.pop(name) for name in audio},
            **r,
        }
        for r in records
    ]
    expected = load_songs(write(raw_songs)).songs
    pd.testing.assert_frame_equal(load_songs(write(json.dumps(nested), "songs.json")).songs, expected)


@pytest.mark.parametrize("form", ["record", "list", "lines", "lines with CRLF"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_song_has_a_list_of_artists(count: int, form: str, raw_songs: pd.DataFrame, write: Write) -> None:
    """One song alone is a record with a list in it, and not a list of artists in an envelope."""
    records = json.loads(raw_songs.head(count).to_json(orient="records"))
    nested = [{"artists": [{"name": record.pop("artists")}, {"name": "B"}], **record} for record in records]
    lines = [json.dumps(record) for record in nested]
    text = {"record": lines[0], "list": json.dumps(nested), "lines": "\n".join(lines)}
    text["lines with CRLF"] = "\r\n".join(lines)
    found = load_songs(write(text[form], "songs.json"), need_popularity=False).songs
    assert found["title"].tolist() == raw_songs["track_name"][: 1 if form == "record" else count].tolist()


@pytest.mark.parametrize("character", "\u2028\u2029\x85\x0b\x0c")
def test_json_lines_end_at_line_breaks_alone(character: str, raw_songs: pd.DataFrame, write: Write) -> None:
    records = json.loads(raw_songs.head(3).to_json(orient="records"))
    written = character if character > " " else json.dumps(character)[1:-1]
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    lines[1] = lines[1].replace(records[1]["track_name"], f"A{written}B")
    titles = load_songs(write("\n".join(lines), "songs.jsonl"), need_popularity=False).songs["title"]
    assert titles.tolist()[1] == f"A{character}B"


def test_half_of_a_character_is_a_question_mark(raw_songs: pd.DataFrame, write: Write) -> None:
    """As JSON has it of an emoji that was cut in two."""
    records = json.loads(raw_songs.head(3).to_json(orient="records"))
    records[0]["track_name"], records[1]["artists"], records[2]["\ud800"] = "T \ud83d", ["A \udc00"], 1
    found = load_songs(write(json.dumps(records), "songs.json"), need_popularity=False).songs
    assert found["title"][0] == "T ?"
    assert found["artist"][1] == "A ?"


def test_songs_by_id(songs: pd.DataFrame, write: Write) -> None:
    by_id = songs.set_index("track_id").to_dict("index")
    found = load_songs(write(json.dumps(by_id, default=str), "songs.json")).songs
    assert found["track_id"].tolist() == songs["track_id"].tolist()
    assert found["title"].tolist() == songs["track_name"].tolist()


def test_playlists_of_songs_beside_other_records(songs: pd.DataFrame, write: Write) -> None:
    records = json.loads(songs.to_json(orient="records"))
    parts = [{"name": "A", "tracks": records[:25]}, {"name": "B", "tracks": records[25:]}]
    text = json.dumps({"info": {"made_by": "x", "version": 1}, "playlists": parts})
    assert load_songs(write(text, "songs.json")).songs["title"].tolist() == songs["track_name"].tolist()


def test_sheets_of_songs_that_are_not_read_are_named(songs: pd.DataFrame, write: Write) -> None:
    pytest.importorskip("openpyxl")
    stream = io.BytesIO()
    with pd.ExcelWriter(stream, engine="openpyxl") as book:
        songs.to_excel(book, sheet_name="2019", index=False)
        songs.head(3).to_excel(book, sheet_name="2020", index=False)
        songs[["track_id"]].to_excel(book, sheet_name="notes", index=False)
    table = load_songs(write(stream.getvalue(), "songs.xlsx"))
    assert "sheet '2019' of 3; not read, though songs too: '2020')" in table.report.lines()[0]


@pytest.mark.parametrize(("table", "beside"), [("songs.csv", "dataset-metadata.json"), ("songs.txt", "readme.txt")])
def test_what_stands_beside_the_table_in_a_zip(songs: pd.DataFrame, write: Write, table: str, beside: str) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(table, songs.to_csv(index=False))
        archive.writestr(beside, "{}")
    assert len(load_songs(write(stream.getvalue(), "songs.zip")).songs) == 40


@pytest.mark.parametrize("text", ["<table><tr><td>energy</td></tr></table>", "{\\rtf1 energy}"])
def test_a_document_is_named(write: Write, text: str) -> None:
    with pytest.raises(InputError, match=r"expected a table, got a (web page|text document)"):
        load_songs(write(text))
