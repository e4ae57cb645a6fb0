"""`explain` and `what_if` from the command line."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from popularity.__main__ import main
from tests.conftest import make_songs

SMALL = ["--model.net.mlp_width", "0", "--model.net.width", "4", "--model.net.layers", "1", "--model.net.d_state", "2"]
SMALL += ["--data.batch_size", "32"]
SMALL += ["--plots.every_n_epochs", "0", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
SMALL += ["--trainer.enable_progress_bar", "false", "--name", "run"]
SONG = "danceability=.6,energy=.7,valence=.4,tempo=120,loudness=-6,acousticness=.1,liveness=.1,speechiness=.05"
SONG += ",duration_ms=200000,instrumentalness=0.01"


def fit(folder: Path, *flags: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "--data.source", "songs.csv", "--log_dir", "logs", *SMALL, *flags]) == 0
    return folder / "logs" / "run" / "version_0" / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A checkpoint of a small model; `songs.csv` is beside its logs."""
    folder = tmp_path_factory.mktemp("run")
    make_songs(60).to_csv(folder / "songs.csv", index=False)
    return fit(folder)


@pytest.fixture
def here(trained, tmp_path, monkeypatch) -> Path:
    """A folder with the songs that the checkpoint was trained on, and with others."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(trained.parents[4] / "songs.csv", "songs.csv")
    make_songs(20, seed=1).drop(columns="popularity").to_csv("new.csv", index=False)
    return tmp_path


def explain(trained: Path, *flags: str) -> int:
    return main(["explain", "--ckpt_path", str(trained), "--sample", "12", "--shuffles", "2", *flags])


def what_if(trained: Path, *flags: str) -> int:
    return main(["what_if", "--ckpt_path", str(trained), *flags])


def test_everything_of_the_songs_held_out(trained, here, capsys):
    pytest.importorskip("captum")
    assert explain(trained, "--songs", "3", "--features", "energy,tempo") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("12 songs, held out by the fit of this checkpoint\n")
    assert "parts add up" in printed
    folder = Path("explain")
    songs = pd.read_csv(folder / "songs.csv")
    assert len(songs) == 3
    total = songs["baseline"] + songs["having_known_songs"] + songs["known_songs"] + songs["features"]
    np.testing.assert_allclose(total, songs["predicted_popularity"], atol=0.02)
    parts = pd.read_csv(folder / "attributions.csv")
    np.testing.assert_allclose(parts.groupby("song")["points"].sum(), songs["features"], atol=0.01)
    held_out = {f"Song {i}" for i in range(60)}
    assert set(songs["title"].str.replace(" (Live)", "")) <= held_out
    known = pd.read_csv(folder / "known_songs.csv")
    table = pd.read_csv("songs.csv").set_index("track_name")
    for row in known.to_dict("records"):
        assert table.loc[row["known_title"], "artist_name"] == row["known_artist"]
        assert table.loc[row["known_title"], "popularity"] == row["known_popularity"]
    same = known[known["relation"] == "same artist"].merge(songs, on="song")
    assert len(same)
    assert (same["known_artist"] == same["artist"]).all()
    importance = pd.read_csv(folder / "importance.csv")
    assert (importance["mse_rise_low"] <= importance["mse_rise_high"]).all()
    curves = pd.read_csv(folder / "individual_curves.csv").groupby(["feature", "value"])["prediction"].mean()
    dependence = pd.read_csv(folder / "partial_dependence.csv").set_index(["feature", "value"])["prediction"]
    np.testing.assert_allclose(curves.sort_index(), dependence.sort_index(), atol=1e-3)
    assert set(pd.read_csv(folder / "accumulated_local_effects.csv")["feature"]) == {"energy", "tempo"}
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures >= {"importance_mse_rise.png", "importance_change.png", "curves_energy.png", "curves_tempo.png"}
    assert pictures >= {f"song_{number}.png" for number in songs["song"]}
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    assert len(events.Tags()["images"]) == len(pictures)


@pytest.mark.slow
def test_songs_of_a_file_without_popularity(trained, here, capsys):
    pytest.importorskip("captum")
    new = ["--source", "new.csv", "--parts", "importance,songs"]
    assert explain(trained, *new, "--rows", "3, 1", "--output", "a") == 0
    printed = capsys.readouterr().out
    assert "20 songs\n" in printed
    assert "mean change of a prediction" in printed
    assert pd.read_csv("a/songs.csv")["song"].tolist() == [3, 1]
    assert pd.read_csv("a/songs.csv")["title"].tolist() == ["Song 2", "Song 0 (Live)"]
    assert not Path("a/importance_mse_rise.png").exists()
    Path("songs.csv").unlink()
    assert explain(trained, *new, "--rows", "3,1", "--output", "b") == 0
    assert "known songs stay without names: " in capsys.readouterr().out
    assert pd.read_csv("b/known_songs.csv")["known_title"].str.startswith("known song ").all()
    for name in ("importance", "songs", "attributions"):
        assert Path(f"a/{name}.csv").read_bytes() == Path(f"b/{name}.csv").read_bytes(), "other numbers"


@pytest.mark.slow
def test_without_captum(trained, here, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.delitem(sys.modules, "captum.attr", raising=False)
    assert explain(trained) == 2
    assert capsys.readouterr().err == (
        "error: --parts songs: the package captum is missing, install this project's extra [explain]\n"
    )
    assert explain(trained, "--parts", "curves", "--features", "energy") == 0


def test_text_is_no_formula(trained, here):
    pytest.importorskip("captum")
    new = make_songs(2, seed=3).drop(columns="popularity")
    new["track_name"] = "=1+1"
    new.to_csv("formula.csv", index=False)
    assert explain(trained, "--source", "formula.csv", "--parts", "songs", "--rows", "1") == 0
    assert pd.read_csv("explain/songs.csv")["title"][0] == "'=1+1"
    attributions = pd.read_csv("explain/attributions.csv").set_index("feature")
    assert attributions["points"].dtype == attributions["value"].dtype == "float64"
    assert attributions["value"]["loudness"] == pytest.approx(new["loudness"][0])
    assert attributions["text"]["title"] == "'=1+1"


@pytest.mark.slow
def test_one_feature_is_a_line_and_two_are_a_map(trained, here, capsys):
    assert what_if(trained, "--song", SONG, "--artist", "Artist 3", "--vary", "energy", "--steps", "5") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("no name - Artist 3: predicted ")
    assert "correlation is not cause" in printed
    line = pd.read_csv("what_if/what_if.csv")
    assert list(line) == ["energy", "prediction", "low", "high"]
    assert len(line) == 5
    assert ((line["low"] < line["prediction"]) & (line["prediction"] < line["high"])).all()
    for step in (0, 4):  # a value of the line is what is predicted of a song that has it
        own = SONG.replace("energy=.7", f"energy={line['energy'][step]}")
        assert what_if(trained, "--song", own, "--artist", "Artist 3", "--vary", "mode", "--output", "own") == 0
        told = float(capsys.readouterr().out.split("predicted ")[1].split()[0])
        assert told == pytest.approx(line["prediction"][step], abs=0.06)
    source = ["--source", "new.csv", "--row", "2"]
    assert what_if(trained, *source, "--vary", "energy,key", "--steps", "4", "--output", "map") == 0
    assert capsys.readouterr().out.startswith("Song 1 - ")
    grid = pd.read_csv("map/what_if.csv")
    assert len(grid) == 4 * 12
    assert len(grid[["energy", "key"]].drop_duplicates()) == 48
    for picture in ("what_if/what_if.png", "map/what_if.png"):
        assert Path(picture).read_bytes().startswith(b"\x89PNG")


def test_a_counterfactual(trained, here, capsys):
    change = ["--change", "energy,danceability"]
    assert what_if(trained, "--source", "new.csv", "--counterfactual", "100", *change) == 0
    printed = capsys.readouterr().out
    assert "100 cannot be reached by these features inside the range of the training songs; the closest" in printed
    found = pd.read_csv("what_if/counterfactual.csv")
    assert set(found["feature"]) == {"energy", "danceability"}
    assert not found["reached"].any()
    closest, before = found["prediction"][0], float(printed.split("predicted ")[1].split()[0])
    train = pd.read_csv("songs.csv")
    assert all(train[row.feature].min() <= row.after <= train[row.feature].max() for row in found.itertuples())
    assert closest > before + 0.1, "the model of this test must read energy or danceability"
    target = before + 0.3 * (closest - before)
    assert what_if(trained, "--source", "new.csv", "--counterfactual", f"{target}", *change, "--output", "near") == 0
    assert f"counterfactual: {target:g} is reached by" in capsys.readouterr().out
    near = pd.read_csv("near/counterfactual.csv")
    assert near["reached"].all()
    assert near["prediction"][0] >= target - 1e-3


@pytest.mark.slow
def test_a_network_of_the_first_project(tmp_path, monkeypatch, capsys):
    """13 columns, one number: no intervals, no known songs, and the ranges are in the training songs."""
    pytest.importorskip("captum")
    make_songs(60).to_csv(tmp_path / "songs.csv", index=False)
    monkeypatch.setattr(f"{__name__}.SMALL", [word for word in SMALL if not word.startswith("--model")][4:])
    flags = ["--model.net", "SingleTokenMamba", "--data.encoder", "ColumnEncoder", "--model.head", "MSEHead"]
    trained = fit(tmp_path, *flags)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert explain(trained, "--parts", "songs", "--songs", "1") == 0
    assert "known songs: this network reads none" in capsys.readouterr().out
    assert not Path("explain/known_songs.csv").exists()
    assert what_if(trained, "--song", SONG, "--vary", "energy", "--steps", "3") == 0
    assert "no intervals: the head of this network gives a number" in capsys.readouterr().out
    assert list(pd.read_csv("what_if/what_if.csv")) == ["energy", "prediction"]
    energy = pd.read_csv("what_if/what_if.csv")["energy"]
    assert 0 <= energy.min() < 0.1 < 0.9 < energy.max() <= 1


BAD = {
    "explain --ckpt_path none.ckpt": "none.ckpt: expected a checkpoint, there is no such file",
    "explain": "expected --ckpt_path (see python -m popularity explain --help)",
    "explain --ckpt_path CKPT --parts curve": (
        "--parts: expected some of importance, curves, songs, got 'curve'; did you mean curves?"
    ),
    "explain --ckpt_path CKPT --parts ,": "--parts: expected some of importance, curves, songs, got ''",
    "explain --ckpt_path CKPT --rows 3,99": "--rows: expected numbers from 1 to 12, got '99'",
    "explain --ckpt_path CKPT --rows x": "--rows: expected numbers from 1 to 12, got 'x'",
    "explain --ckpt_path CKPT --shuffles 1": "--shuffles: expected at least 2, got 1",
    "explain --ckpt_path CKPT --song 3": "unknown flag --song; did you mean --songs?",
    "what_if --ckpt_path CKPT --vary energy": (
        'expected a song: give --song "danceability=.8,energy=.7,..." or --source FILE --row N'
    ),
    "what_if --ckpt_path CKPT --source new.csv": (
        "expected something to change: give --vary FEATURES or --counterfactual POPULARITY"
    ),
    "what_if --ckpt_path CKPT --source new.csv --title x --vary energy": "expected one song, got --title and --source",
    "what_if --ckpt_path CKPT --source new.csv --row 21 --vary energy": "--row: expected a number from 1 to 20, got 21",
    "what_if --ckpt_path CKPT --source new.csv --vary energy,tempo,key": (
        "--vary: expected one or two features, got 3"
    ),
    "what_if --ckpt_path CKPT --source new.csv --counterfactual 170": (
        "--counterfactual: expected a popularity from 0 to 100, got 170"
    ),
    "what_if --ckpt_path CKPT --source new.csv --vary energy --change tempo": (
        "--change: expected --counterfactual POPULARITY as well, which it narrows"
    ),
    "what_if --ckpt_path CKPT --artist A --counterfactual 70": (
        "--counterfactual: expected a song with features that this network reads, found none"
    ),
}


@pytest.mark.parametrize("command", BAD)
def test_bad_command_lines_are_one_line(command, trained, here, capsys):
    pytest.importorskip("captum")
    before = sorted(Path().iterdir())
    assert main([str(trained) if word == "CKPT" else word for word in command.split()]) == 2
    assert capsys.readouterr().err == f"error: {BAD[command]}\n"
    assert sorted(Path().iterdir()) == before


def test_songs_that_have_changed_since_the_fit(trained, here, capsys):
    make_songs(60, seed=5).to_csv("songs.csv", index=False)
    assert explain(trained, "--parts", "importance") == 2
    assert "songs.csv have changed since this checkpoint was trained on them\n" in capsys.readouterr().err


def test_songs_of_the_fit_that_are_elsewhere(trained, here, capsys):
    """The path in a checkpoint is that of the fit, from the folder where it was run."""
    Path("songs.csv").unlink()
    assert explain(trained, "--parts", "importance") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {trained}: the songs that the checkpoint was trained on cannot be read (")
    assert error.endswith("; if they are elsewhere, give --source FILE\n")
    assert error.count("\n") == 1
