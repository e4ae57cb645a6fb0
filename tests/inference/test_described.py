"""What every verb says of the file that it reads, and what a run keeps of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from popularity.__main__ import main
from tests.conftest import make_songs
from tests.inference.test_predict import PLAIN, SMALL, predict


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a run on a file whose popularity and titles only a flag names."""
    folder = tmp_path_factory.mktemp("run")
    renamed = {"popularity": "my_score", "track_name": "what"}
    make_songs(60).rename(columns=renamed).to_csv(folder / "songs.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        flags = ["--data.source", str(folder / "songs.csv"), "--data.columns", "{popularity: my_score, title: what}"]
        assert main(["fit", *flags, "--log_dir", "logs", *SMALL, *PLAIN]) == 0
    return folder / "logs" / "mamba" / "version_0"


@pytest.fixture
def checkpoint(run, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return run / "checkpoints" / "best.ckpt"


def test_a_run_keeps_what_was_read(run):
    read = json.loads((run / "data.json").read_text())["read"]
    assert read["rows"] == read["songs"] == 60
    assert ["popularity", "my_score", ""] in read["mapped"]


def test_test_and_validate_read_the_columns_of_the_fit(checkpoint, capsys):
    for verb, part in (("test", "test"), ("validate", "validation")):
        assert main([verb, "--ckpt_path", str(checkpoint), *PLAIN]) == 0
        shown = capsys.readouterr().out
        assert "songs.csv (CSV, utf-8): 60 rows, 60 songs" in shown
        assert f"{part} songs of songs.csv" in shown
        constant = next(line for line in shown.splitlines() if "training mean" in line)
        assert re.search(r"- │ +- │$", constant), "a constant has no correlation"


@pytest.mark.slow
def test_another_file_has_its_own_names_of_columns(checkpoint, capsys):
    """The flag of the fit is not held against a file that needs none, and can be given for one that does."""
    make_songs(60, seed=2).to_csv("other.csv", index=False)
    assert main(["test", "--ckpt_path", str(checkpoint), "--data.source", "other.csv", *PLAIN]) == 0
    make_songs(20, seed=3).drop(columns="popularity").rename(columns={"track_name": "named"}).to_csv("songs.csv")
    assert predict(checkpoint, "out.csv") == 0
    assert "though the model was trained with it: title" in capsys.readouterr().err
    assert predict(checkpoint, "out.csv", "--data.columns", "{title: named}") == 0
    assert "title from 'named'" in capsys.readouterr().err


def test_predict_says_whose_songs_are_known_and_what_is_missing(checkpoint, capsys):
    songs = make_songs(60).drop(columns=["popularity", "track_genre"])
    songs.loc[:29, "artist_name"] = [f"Nobody {i}" for i in range(30)]
    songs.to_csv("songs.csv", index=False)
    assert predict(checkpoint, "out.csv") == 0
    shown = capsys.readouterr().err
    training = set(make_songs(60)["artist_name"])
    artists = set(songs["artist_name"])
    known, every = re.search(r"artists with known songs: (\d+) of (\d+)", shown).groups()
    assert int(every) == len(artists)
    assert 0 < int(known) <= len(artists & training) < len(artists)
    assert re.search(r"warning: missing in every row, though .*: genre\n", shown)


def test_predict_without_most_audio_columns_is_not_silent(checkpoint, capsys):
    """Twelve of thirteen are empty: a number for each song would look like a prediction."""
    songs = make_songs(20).drop(columns="popularity")
    audio = ["acousticness", "danceability", "energy", "instrumentalness", "liveness", "loudness", "speechiness"]
    songs[[*audio, "tempo", "key", "mode", "time_signature", "duration_ms"]] = ""
    songs.to_csv("songs.csv", index=False)
    code = predict(checkpoint, "out.csv")
    shown = capsys.readouterr().err
    assert code == 2 or "warning: missing in every row" in shown
    assert "danceability" in shown
