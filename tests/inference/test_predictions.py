"""Predictions are written in the format of the ending, and no cell of them is run by a spreadsheet."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from popularity.errors import InputError
from popularity.inference.predictions import check_output, write_predictions

TITLES = ["Plain", "=1+1", "+1 (feat. Ü)", "-", "@home", "\tTab", "\rReturn", 'say "so", twice', "two\nlines", None]
PREDICTION = (np.linspace(0, 100, len(TITLES)) / 3).round(2)
COLUMNS = ["track_id", "artist", "title", "predicted_popularity", "known_songs", "warning"]


@pytest.fixture
def songs() -> pd.DataFrame:
    ids = [f"id{row}" for row in range(len(TITLES))]
    table = pd.DataFrame({"track_id": ids, "artist": "=cmd", "title": TITLES, "predicted_popularity": PREDICTION})
    return table.assign(known_songs=3, warning="-").astype({"title": "str"})


def in_parts(songs: pd.DataFrame) -> list[pd.DataFrame]:
    """As predictions come, the first part without a single text."""
    return [songs.iloc[-1:].astype({"title": "str"}), songs.iloc[:0], songs.iloc[:4], songs.iloc[4:-1]]


def test_csv_is_the_default_and_holds_no_formulas(songs, tmp_path):
    for name in ("out.csv", "out", "out.txt"):
        assert write_predictions(tmp_path / name, [songs[:4], songs[4:]]) == len(songs)
        read = pd.read_csv(tmp_path / name, keep_default_na=False)
        assert list(read) == COLUMNS
        assert read["track_id"].tolist() == songs["track_id"].tolist()
        assert set(read["artist"]) == {"'=cmd"}
        assert set(read["warning"]) == {"'-"}
        kept = ["Plain", "'=1+1", "'+1 (feat. Ü)", "'-", "'@home", "'\tTab", "' Return", *TITLES[7:9], ""]
        assert read["title"].tolist() == kept
        assert read["predicted_popularity"].tolist() == PREDICTION.tolist()


@pytest.mark.parametrize("sign", "=+-@＝＋－＠\t\n")
def test_text_that_begins_like_a_formula(songs, tmp_path, sign):
    write_predictions(tmp_path / "out.csv", [songs[:1].assign(title=f"{sign}1")])
    assert pd.read_csv(tmp_path / "out.csv", keep_default_na=False)["title"].tolist() == [f"'{sign}1"]


def test_negative_numbers_stay_numbers(songs, tmp_path):
    write_predictions(tmp_path / "out.csv", [songs.assign(predicted_popularity=-PREDICTION)])
    assert pd.read_csv(tmp_path / "out.csv")["predicted_popularity"].dtype == float


@pytest.mark.parametrize("name", ["out.parquet", "out.PARQUET", "out.jsonl"])
def test_other_formats_keep_texts_as_they_are(name, songs, tmp_path):
    assert write_predictions(tmp_path / name, [songs[:4], songs[4:]]) == len(songs)
    if name.endswith(".jsonl"):
        lines = (tmp_path / name).read_text(encoding="utf-8").split("\n")
        assert lines.pop() == ""
        assert "Ü" in lines[2]
        read = pd.DataFrame([json.loads(line) for line in lines])
    else:
        read = pd.read_parquet(tmp_path / name)
    assert list(read) == COLUMNS
    assert read["title"].astype(object).where(read["title"].notna(), None).tolist() == TITLES
    assert read["predicted_popularity"].tolist() == PREDICTION.tolist()


def test_standard_output(songs, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_output("-")
    write_predictions("-", [songs])
    printed = capfd.readouterr().out
    assert pd.read_csv(io.StringIO(printed))["track_id"].tolist() == songs["track_id"].tolist()
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", ["out.xlsx", "out.JSON", "out.csv.gz"])
def test_endings_of_other_formats_are_refused(name, tmp_path):
    with pytest.raises(InputError, match=rf"{name}: expected a name ending in .csv, .parquet or .jsonl, got \.\w+$"):
        check_output(tmp_path / name)


def test_the_output_is_not_an_input(tmp_path):
    (tmp_path / "songs.csv").touch()
    with pytest.raises(InputError, match="this is the input"):
        check_output(tmp_path / "songs.csv", [tmp_path / "songs.csv"])


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_parts_make_one_file(name, songs, tmp_path):
    assert write_predictions(tmp_path / name, in_parts(songs)) == len(songs)
    ordered = pd.concat(in_parts(songs), ignore_index=True)
    assert write_predictions(tmp_path / f"whole_{name}", [ordered]) == len(songs)
    read = [path.read_bytes() for path in (tmp_path / name, tmp_path / f"whole_{name}")]
    if name.endswith("parquet"):  # the groups of rows differ
        read = [pd.read_parquet(tmp_path / path).to_json() for path in (name, f"whole_{name}")]
    assert read[0] == read[1]


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet", "-"])
def test_a_part_that_fails_leaves_nothing_behind(name, songs, tmp_path, monkeypatch, capfd):
    def tables():
        yield songs
        raise InputError("songs.csv: row 11: no song")

    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="row 11"):
        write_predictions(name, tables())
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().out == ""
