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
PREDICTION = np.linspace(0, 100, len(TITLES)) / 3


@pytest.fixture
def songs() -> pd.DataFrame:
    ids = [f"id{row}" for row in range(len(TITLES))]
    table = pd.DataFrame({"track_id": ids, "artist": "=cmd", "title": TITLES, "tempo": 120.0})
    return table.astype({"title": "str"})


def test_csv_is_the_default_and_holds_no_formulas(songs, tmp_path):
    for name in ("out.csv", "out", "out.txt"):
        write_predictions(tmp_path / name, songs, PREDICTION)
        read = pd.read_csv(tmp_path / name, keep_default_na=False)
        assert list(read) == ["track_id", "artist", "title", "predicted_popularity"]
        assert read["track_id"].tolist() == songs["track_id"].tolist()
        assert set(read["artist"]) == {"'=cmd"}
        kept = ["Plain", "'=1+1", "'+1 (feat. Ü)", "'-", "'@home", "'\tTab", "' Return", *TITLES[7:9], ""]
        assert read["title"].tolist() == kept
        assert read["predicted_popularity"].tolist() == PREDICTION.round(2).tolist()


def test_negative_numbers_stay_numbers(songs, tmp_path):
    write_predictions(tmp_path / "out.csv", songs, -PREDICTION)
    assert pd.read_csv(tmp_path / "out.csv")["predicted_popularity"].dtype == float


@pytest.mark.parametrize("name", ["out.parquet", "out.PARQUET", "out.jsonl"])
def test_other_formats_keep_texts_as_they_are(name, songs, tmp_path):
    write_predictions(tmp_path / name, songs, PREDICTION)
    if name.endswith(".jsonl"):
        lines = (tmp_path / name).read_text(encoding="utf-8").split("\n")
        assert lines.pop() == ""
        assert "Ü" in lines[2]
        read = pd.DataFrame([json.loads(line) for line in lines])
    else:
        read = pd.read_parquet(tmp_path / name)
    assert list(read) == ["track_id", "artist", "title", "predicted_popularity"]
    assert read["title"].astype(object).where(read["title"].notna(), None).tolist() == TITLES
    assert read["predicted_popularity"].tolist() == PREDICTION.round(2).tolist()


def test_standard_output(songs, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_output("-")
    write_predictions("-", songs, PREDICTION)
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


def test_a_prediction_for_each_song(songs, tmp_path):
    with pytest.raises(ValueError, match="expected 10 predictions, one per song, got 3"):
        write_predictions(tmp_path / "out.csv", songs, PREDICTION[:3])
    assert not list(tmp_path.iterdir())
