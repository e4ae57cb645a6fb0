"""A table read in parts is the table read whole: units, dialect, names and row numbers."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from popularity.data import parts
from popularity.data.songs import load_songs, songs_in_parts
from popularity.errors import InputError
from tests.conftest import make_songs

ROWS = 400


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 8000)
    monkeypatch.setattr(parts, "PART_ROWS", 60)


@pytest.fixture
def frame() -> pd.DataFrame:
    """Titles with quotes, delimiters and line breaks, and a few missing cells."""
    table = make_songs(ROWS, seed=3)
    table.loc[::5, "track_name"] = 'He said "no", twice'
    table.loc[::9, "track_name"] = "two\nlines, of a title"
    table.loc[::11, "artist_name"] = "Ólafur, The Second"
    table.loc[::13, "key"] = np.nan
    return table


def same_as_whole(path: Path, fewest: int = 4) -> pd.DataFrame:
    whole = load_songs(str(path), deduplicate=False, need_popularity=False).songs
    tables = list(songs_in_parts(str(path)))
    assert len(tables) >= fewest
    read = pd.concat([table.songs for table in tables], ignore_index=True)
    pd.testing.assert_frame_equal(read, whole)
    assert sum(table.report.songs for table in tables) == len(whole)
    return read


def as_csv(**options: object) -> Callable[[pd.DataFrame, Path], None]:
    return lambda table, path: table.to_csv(path, index=False, **options)


def gzipped(table: pd.DataFrame, path: Path) -> None:
    path.write_bytes(gzip.compress(table.to_csv(index=False).encode()))


def zstandard(table: pd.DataFrame, path: Path) -> None:
    with pa.output_stream(path, compression="zstd") as file:
        file.write(table.to_csv(index=False).encode())


def zipped(table: pd.DataFrame, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("songs.csv", table.to_csv(index=False))


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "plain.csv": as_csv(),
    "semicolons.csv": as_csv(sep=";", decimal=","),
    "windows.csv": as_csv(lineterminator="\r\n", encoding="cp1252"),
    "everything_quoted.csv": as_csv(quoting=1),
    "with_row_names.csv": lambda table, path: table.to_csv(path, index_label=False),
    "title_above.csv": lambda table, path: path.write_text("My songs\n\n" + table.to_csv(index=False)),
    "songs.csv.gz": gzipped,
    "songs.csv.xz": lambda table, path: table.to_csv(path, index=False),
    "songs.csv.bz2": lambda table, path: table.to_csv(path, index=False),
    "songs.csv.zst": zstandard,
    "songs.zip": zipped,
    "songs.parquet": lambda table, path: table.to_parquet(path, row_group_size=37),
    "songs.jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_parts_are_the_whole(name, frame, tmp_path):
    WRITERS[name](frame, tmp_path / name)
    read = same_as_whole(tmp_path / name)
    assert read["title"].str.contains("\n").any()
    assert read["danceability"].tolist() == frame["danceability"].tolist()


def dashed(table: pd.DataFrame) -> str:
    header, rest = table.to_csv(index=False).split("\n", 1)
    return f"{header}\n{','.join('---' for _ in table)}\n{rest}\n(400 rows)\n"


def markdown(table: pd.DataFrame) -> str:
    rows = [list(table), ["---"] * table.shape[1], *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows) + "\n"


def without_last_cells(table: pd.DataFrame) -> str:
    notes = ["x" if row % 30 < 14 else None for row in range(ROWS)]
    lines = table.assign(genre="pop", note=notes, more=notes).to_csv(index=False).splitlines()
    return "\n".join(line.rstrip(",") for line in lines) + "\n"


@pytest.mark.parametrize("written", [dashed, markdown, without_last_cells])
def test_lines_around_a_table_and_rows_without_their_last_cells(written, frame, tmp_path):
    (tmp_path / "songs.csv").write_text(written(frame.assign(track_name="Song")))
    assert len(same_as_whole(tmp_path / "songs.csv")) == ROWS


def pair(record: dict) -> dict:
    song = {name: record.pop(name) for name in ("track_id", "track_name", "popularity")}
    return {"song": song | {"artists": [{"name": record.pop("artist_name")}]}, "features": record}


def mongo(record: dict) -> dict:
    return {name: {"$numberDouble": str(v)} if isinstance(v, float) else v for name, v in record.items()}


JSON_LINES: dict[str, Callable[[list[dict]], list[str]]] = {
    "commas": lambda records: [json.dumps(record) + "," for record in records],
    "nulls": lambda records: [line for record in records for line in (json.dumps(record), "null")],
    "objects": lambda records: [json.dumps({"id": 1, "_source": record}) for record in records],
    "pairs": lambda records: [json.dumps(pair(record)) for record in records],
    "MongoDB": lambda records: [json.dumps(mongo(record)) for record in records],
    "playlists": lambda records: [
        json.dumps({"name": "P", "tracks": {"items": records[i : i + 9]}}) for i in range(0, ROWS, 9)
    ],
}


@pytest.mark.parametrize("form", JSON_LINES)
def test_json_lines_of_every_form(form, frame, tmp_path):
    lines = JSON_LINES[form](json.loads(frame.to_json(orient="records")))
    (tmp_path / "songs.jsonl").write_text("\n".join(lines) + "\n")
    assert len(same_as_whole(tmp_path / "songs.jsonl")) == ROWS


def test_a_last_part_of_nulls(frame, tmp_path, monkeypatch):
    text = frame.to_json(orient="records", lines=True)
    (tmp_path / "songs.jsonl").write_text(text + "null\nnull\n")
    monkeypatch.setattr(parts, "PART_BYTES", len(text) + 2)
    assert len(same_as_whole(tmp_path / "songs.jsonl", fewest=2)) == ROWS


@pytest.mark.parametrize("form", ["over several lines", "by key", "first in a line"])
def test_json_that_is_not_a_record_a_line_is_read_whole(form, frame, tmp_path):
    records = json.loads(frame.to_json(orient="records"))
    by_key = ",\n".join(f'"{record["track_id"]}": {json.dumps(record)}' for record in records)
    several = [json.dumps(record, indent=1) for record in records]
    text = {
        "over several lines": "\n".join(several),
        "by key": f"{{{by_key}}}",
        "first in a line": "\n".join([json.dumps(records[0]), *several[1:]]),
    }[form]
    (tmp_path / "songs.json").write_text(text)
    assert len(same_as_whole(tmp_path / "songs.json", fewest=1)) == ROWS


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_of_two_bytes_to_a_character_the_whole_is_read(encoding, frame, tmp_path):
    path = tmp_path / "songs.csv"
    path.write_bytes(frame.to_csv(index=False).encode(encoding))
    assert len(same_as_whole(path, fewest=1)) == ROWS


def test_a_last_part_of_one_record(frame, tmp_path, monkeypatch):
    """It is a song, and not the list of artists within it."""
    records = [{**record, "artists": [{"name": record.pop("artist_name")}]} for record in frame.to_dict("records")]
    path, lines = tmp_path / "songs.jsonl", [json.dumps(record) + "\n" for record in records]
    path.write_text("".join(lines))
    monkeypatch.setattr(parts, "PART_BYTES", len("".join(lines[:-1])) + 10)
    assert [len(table.songs) for table in songs_in_parts(str(path))] == [ROWS - 1, 1]
    same_as_whole(path, fewest=2)


def test_units_are_decided_once(frame, tmp_path):
    """The last part alone would be read otherwise: its songs are as long in minutes as others in seconds."""
    frame["duration_ms"] = [200] * (ROWS - 20) + [25] * 20
    frame = frame.rename(columns={"duration_ms": "duration"})
    shares = ["danceability", "energy", "valence", "speechiness", "liveness", "acousticness", "instrumentalness"]
    frame[shares] = (frame[shares] * 100).round(2)
    frame.loc[ROWS - 20 :, shares] = 0.5  # per cent, though a share by itself
    frame["release_date"] = ["31/01/2001"] + ["02/03/2001"] * (ROWS - 1)
    frame["key"] = [12, *([1] * (ROWS - 1))]
    frame.to_csv(tmp_path / "songs.csv", index=False)
    read = same_as_whole(tmp_path / "songs.csv")
    last = read.iloc[-1]
    assert last["duration_ms"] == 25_000
    assert last["danceability"] == pytest.approx(0.005)
    assert last["release_date"] == pd.Timestamp("2001-03-02")
    assert last["key"] == 0


def test_a_decision_waits_for_rows_that_tell(frame, tmp_path):
    frame["release_date"] = ["02/03/2001"] * (ROWS - 1) + ["31/01/2001"]
    frame.to_csv(tmp_path / "songs.csv", index=False)
    dates = pd.concat([table.songs["release_date"] for table in songs_in_parts(str(tmp_path / "songs.csv"))])
    assert dates.iloc[0] == pd.Timestamp("2001-01-01"), "only the year, while nothing tells which number is the month"
    assert dates.iloc[-1] == pd.Timestamp("2001-01-31")


def test_a_stray_quote_does_not_swallow_the_parts_behind_it(frame, tmp_path):
    frame["track_name"] = "Song"
    frame.loc[20, "track_name"] = "@"
    text = frame.to_csv(index=False).replace(",@,", ',"Heroes,')
    (tmp_path / "songs.csv").write_text(text)
    read = same_as_whole(tmp_path / "songs.csv")
    assert read["title"][20] == '"Heroes'


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_errors_name_the_row_of_the_file(ending, frame, tmp_path):
    frame["track_name"] = "Song"
    frame.loc[350, "tempo"] = 900
    path = tmp_path / f"songs.{ending}"
    WRITERS["plain.csv" if ending == "csv" else "songs.jsonl"](frame, path)
    place = "row 351 (line 352)" if ending == "csv" else "row 351"
    found = []
    error = re.escape(f"songs.{ending}: column 'tempo', {place}: expected beats")
    with pytest.raises(InputError, match=error):
        found.extend(songs_in_parts(str(path)))
    assert sum(len(table.songs) for table in found) > 200


def test_fields_that_only_some_records_have(frame, tmp_path):
    lines = frame.to_json(orient="records", lines=True).splitlines()
    records = [json.loads(line) for line in lines]
    for record in records[200:]:
        del record["track_genre"]
    records[-1]["unheard_of"] = 1
    (tmp_path / "songs.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    assert same_as_whole(tmp_path / "songs.jsonl")["genre"].isna().sum() == ROWS - 200


def test_the_reports_of_the_parts_add_up_to_that_of_the_whole(frame, tmp_path):
    frame["track_name"] = "Song"
    frame = frame.astype({"key": object, "tempo": object})
    frame.loc[[30, 31, 350], "key"] = "H#"
    frame.loc[[40, 360, 370], "tempo"] = 0
    frame.loc[[50, 380]] = None
    frame.loc[[390], "artist_name"] = "?"
    path = tmp_path / "songs.csv"
    frame.to_csv(path, index=False)
    reports = [table.report for table in songs_in_parts(str(path))]
    total, whole = reports[0], load_songs(str(path), deduplicate=False, need_popularity=False).report
    for report in reports[1:]:
        total = total.with_more(report)
    assert total.lines()[1:] == whole.lines()[1:]
    assert "2 empty (such as row 51" in total.lines()[-2]
    assert total.lines()[-1] == "key: 3 cells taken as missing, such as 'H#' in row 31 (line 32)"
    assert (total.rows, total.songs, total.missing) == (whole.rows, whole.songs, whole.missing)
    assert total.coded_missing == whole.coded_missing


def test_standard_input(frame, tmp_path, monkeypatch):
    class Stdin:
        buffer = io.BytesIO(frame.to_csv(index=False).encode())

    monkeypatch.setattr("sys.stdin", Stdin)
    tables = list(songs_in_parts("-"))
    assert len(tables) > 4
    assert sum(len(table.songs) for table in tables) == ROWS
    assert tables[0].report.lines()[0].startswith("standard input (CSV, utf-8, in parts): ")
    assert not Stdin.buffer.closed


def test_a_part_without_a_song_is_empty(frame, tmp_path):
    text = frame.to_csv(index=False) + ("," * (len(frame.columns) - 1) + "\n") * 2000
    (tmp_path / "songs.csv").write_text(text)
    tables = list(songs_in_parts(str(tmp_path / "songs.csv")))
    assert len(tables[-1].songs) == 0
    assert sum(len(table.songs) for table in tables) == ROWS


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2", "zst"])
def test_a_small_packed_file_is_read_whole_and_a_damaged_one_is_refused(kind, frame, tmp_path):
    path = tmp_path / f"songs.csv.{kind}"
    writer = zstandard if kind == "zst" else as_csv()
    writer(frame[:20], path)
    assert len(same_as_whole(path, fewest=1)) == 20
    writer(frame, path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=rf"songs.csv.{kind}: the \w+ file is cut off or damaged"):
        list(songs_in_parts(str(path)))
