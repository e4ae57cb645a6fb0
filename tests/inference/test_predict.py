"""`predict` from the command line: where predictions go, and what is never overwritten."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from popularity.__main__ import main
from tests.conftest import make_songs

PLAIN = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
SMALL = ["--model.net.width", "4", "--model.net.layers", "1", "--model.net.d_state", "2", "--data.batch_size", "32"]
SMALL += ["--choice.calibrate", "false", "--model.net.members", "1"]  # nothing is held out
SMALL += ["--model.net.mlp_width", "0"]
SMALL += ["--plots.every_n_epochs", "0", "--trainer.max_epochs", "1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A checkpoint of a small model."""
    folder = tmp_path_factory.mktemp("run")
    make_songs(60).to_csv(folder / "songs.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "--data.source", "songs.csv", "--log_dir", "logs", *SMALL, *PLAIN]) == 0
    return folder / "logs" / "mamba" / "version_0" / "checkpoints" / "best.ckpt"


@pytest.fixture
def songs(tmp_path, monkeypatch) -> Path:
    """Songs to predict, in the folder that the command is run in."""
    monkeypatch.chdir(tmp_path)
    make_songs(20, seed=1).drop(columns="popularity").to_csv("songs.csv", index=False)
    return Path("songs.csv")


def predict(trained: Path, output: str, *flags: str) -> int:
    arguments = ["--ckpt_path", str(trained), "--data.predict_source", "songs.csv", "--output", output]
    return main(["predict", *arguments, *PLAIN, *flags])


def test_a_checkpoint_is_read_once(trained, songs, monkeypatch):
    """Lightning reads it again for its hyper-parameters, whole: gigabytes where many songs are known."""
    import torch

    read, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *given, **options: read.append(given) or load(*given, **options))
    assert predict(trained, "new.csv") == 0
    assert len(read) == 1


@pytest.mark.slow
def test_links_pipes_and_standard_output(trained, songs, capfd):
    """The same predictions, wherever they go."""
    assert predict(trained, "plain.csv") == 0
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("songs.csv (CSV, utf-8): 20 rows, 20 songs\n")
    assert shown.err.endswith("20 predictions written to plain.csv\n")
    expected = Path("plain.csv").read_text()
    assert len(pd.read_csv("plain.csv")) == 20

    Path("folder").mkdir()
    Path("folder/target.csv").write_text("old\n")
    Path("link.csv").symlink_to("folder/target.csv")
    assert predict(trained, "link.csv") == 0
    assert Path("link.csv").is_symlink()
    assert Path("folder/target.csv").read_text() == expected

    os.mkfifo("fifo")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(Path("fifo").read_text()), daemon=True)
    reader.start()
    assert predict(trained, "fifo") == 0
    reader.join(timeout=60)
    assert read == [expected]
    assert stat.S_ISFIFO(os.stat("fifo").st_mode)

    capfd.readouterr()
    assert predict(trained, "-", "--trainer.enable_progress_bar", "true") == 0
    shown = capfd.readouterr()
    assert shown.out == expected, "nothing else on standard output: it is read by another program"
    assert "Predicting" in shown.err
    assert shown.err.endswith("20 predictions written to standard output\n")

    assert predict(trained, "out.parquet") == 0
    parquet = pd.read_parquet("out.parquet")["predicted_popularity"]
    assert parquet.tolist() == pd.read_csv(StringIO(expected))["predicted_popularity"].tolist()


NUMBERS = ["predicted_popularity", *(f"{end}_{share}" for share in (50, 80, 95) for end in ("low", "high"))]


def read(path: str = "out.csv") -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False)


def test_columns(trained, songs, capsys):
    """Intervals around the prediction, chances that fall with the cut-off, known songs, warnings; reasons if wanted."""
    table = pd.read_csv(songs)
    table.loc[3, ["artist_name", "tempo"]] = ["Nobody at all", 499]
    table.loc[4, "track_name"] = "=1+1"
    table.to_csv("songs.csv", index=False)
    assert predict(trained, "out.csv", "--cutoffs", "30,50") == 0
    found = read()
    assert list(found) == [
        *("track_id", "artist", "title", *NUMBERS),
        *("chance_30", "chance_50", "known_songs", "warning"),
    ]
    for share in (50, 80, 95):
        assert (found[f"low_{share}"] <= found[f"high_{share}"]).all()
    assert (found["low_95"] <= found["predicted_popularity"]).all()
    assert (found["predicted_popularity"] <= found["high_95"]).all()
    assert (found["chance_50"] <= found["chance_30"]).all()
    assert found["chance_30"].between(0, 1).all()
    assert found["known_songs"][3] == 0
    assert found["known_songs"].max() > 0
    assert "tempo 499 outside " in found["warning"][3]
    assert (found["warning"] == "").any()
    assert found["title"][4] == "'=1+1"
    assert "Predicting" not in capsys.readouterr().err

    assert predict(trained, "why.csv", "--cutoffs", "30,50", "--reasons", "true") == 0
    why = read("why.csv")
    pd.testing.assert_frame_equal(why.drop(columns="reasons"), found)
    told = why["reasons"].str.split("; ")
    assert (told.str.len() <= 3).all()
    assert told.explode().str.fullmatch(r"[a-z' ]+ (raises|lowers) it by \d+\.\d").mean() > 0.9


def test_the_first_columns_are_those_of_the_network_alone(trained, songs):
    """The number is that of `predict_songs`, whatever is told beside it."""
    from popularity.data.songs import load_songs
    from popularity.inference.checkpoint import load_checkpoint
    from popularity.inference.predictor import predict_songs

    assert predict(trained, "out.csv") == 0
    module, data = load_checkpoint(trained)
    table = load_songs("songs.csv", deduplicate=False, need_popularity=False).songs
    expected = predict_songs(module, data.encoder, table, batch_size=data.hparams["batch_size"]).mean
    assert read()["predicted_popularity"].tolist() == expected.round(2).tolist()


def test_several_files_patterns_and_standard_input(trained, songs, monkeypatch, capsys):
    Path("lists").mkdir()
    table = pd.read_csv(songs)
    table[:4].to_csv("lists/b.csv", index=False)
    table[4:9].to_parquet("lists/a.parquet")
    stdin = TextIOWrapper(BytesIO(table[9:12].to_csv(index=False).encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    arguments = ["--ckpt_path", str(trained), "--files", "lists/*", "-", "songs.csv", "--output", "out.csv"]
    assert main(["predict", *arguments, *PLAIN]) == 0
    found = read()
    names = ["lists/a.parquet"] * 5 + ["lists/b.csv"] * 4 + ["standard input"] * 3 + ["songs.csv"] * 20
    assert found["file"].tolist() == names
    assert list(found)[-1] == "file"
    assert found["title"].tolist()[:9] == [*table["track_name"][4:9], *table["track_name"][:4]]
    assert capsys.readouterr().err.count("artists with known songs") == 4
    assert main(["predict", "--ckpt_path", str(trained), "--data.predict_source", "lists/*.csv", *PLAIN]) == 0
    assert "file" not in read("predictions.csv")
    assert len(read("predictions.csv")) == 4


@pytest.mark.slow
def test_parts_of_a_file(trained, songs, monkeypatch, capsys):
    """What one part says of units holds for the next, and the predictions are those of the whole file."""
    table = pd.concat([pd.read_csv(songs)] * 10, ignore_index=True)
    table["artist_name"] = [f"Nobody {row}" for row in range(len(table))]  # no histories, in which there is chance
    table.to_csv("songs.csv", index=False)
    assert predict(trained, "whole.csv") == 0
    monkeypatch.setattr("popularity.data.parts.PART_BYTES", 9000)
    monkeypatch.setattr("popularity.inference.files.SONGS_AT_ONCE", 32)
    capsys.readouterr()
    for output in ("out.csv", "out.parquet", "out.jsonl"):
        assert predict(trained, output) == 0
    shown = capsys.readouterr().err
    assert "first part: songs.csv (CSV, utf-8, in parts): " in shown
    assert "all parts: songs.csv (CSV, utf-8, in parts): 200 rows, 200 songs\n" in shown
    whole = read("whole.csv")
    for found in (read(), pd.read_parquet("out.parquet"), pd.read_json("out.jsonl", lines=True, dtype=False)):
        assert found["title"].tolist() == whole["title"].tolist()
        np.testing.assert_allclose(found[NUMBERS], whole[NUMBERS], atol=0.02)


def test_one_song(trained, songs, capsys):
    song = ["--song", "danceability=.8,energy=.7,bpm=499", "--artist", "Artist 3", "--title", "1999"]
    flags = ["--ckpt_path", str(trained), *song, "--cutoffs", "50", *PLAIN]
    assert main(["predict", *flags]) == 0
    shown = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert shown["title"] == "1999"
    assert 0 < float(shown["predicted popularity"]) < 100
    assert float(shown["low 80"]) < float(shown["high 80"])
    assert int(shown["known songs"]) > 0
    assert "tempo 499 outside" in shown["warning"]
    assert "missing: album, genre, " in shown["warning"]
    assert " it by " in shown["reasons"]
    assert {path.name for path in Path().iterdir()} == {"songs.csv"}
    assert main(["predict", *flags, "--output", "out.jsonl"]) == 0
    (row,) = pd.read_json("out.jsonl", lines=True, dtype=False).to_dict("records")
    assert row["predicted_popularity"] == float(shown["predicted popularity"])
    assert row["reasons"] == shown["reasons"]


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--files", "no*.csv"], "no*.csv: expected a file or a pattern of files, got a pattern that no file matches"),
        (["--files", "-", "-"], "-: expected standard input once, got it twice"),
        (["--files", "songs.csv", "--song", "energy=.5"], "predict: expected one of --files and --song, got both"),
        (["--song", "energy=.5,nergy=.4"], "--song: expected columns of a song, got 'nergy'; did you mean energy?"),
        (["--files", "songs.csv", "--cutoffs", "120"], "--cutoffs: expected numbers from 1 to 100 such as 50,70, "),
        (["--files", "songs.csv", "--output", "songs.csv"], "songs.csv: expected another file to write to, this is "),
        (["--files", "songs.csv", "--output", ""], "expected the name of a file to write, got an empty text"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(flags, error, trained, songs, capsys):
    assert main(["predict", "--ckpt_path", str(trained), *flags, *PLAIN]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {error}")
    assert shown.count("\n") == 1
    assert {path.name for path in Path().iterdir()} == {"songs.csv"}


def test_a_wrong_row_in_a_later_part_leaves_the_old_predictions(trained, songs, monkeypatch, capsys):
    table = pd.concat([pd.read_csv(songs)] * 10, ignore_index=True)
    table.loc[190, "tempo"] = 900
    table.to_csv("songs.csv", index=False)
    Path("out.csv").write_text("yesterday's\n")
    monkeypatch.setattr("popularity.data.parts.PART_BYTES", 9000)
    assert predict(trained, "out.csv") == 2
    assert "songs.csv: column 'tempo', row 191 (line 192): expected beats per minute" in capsys.readouterr().err
    assert Path("out.csv").read_text() == "yesterday's\n"
    assert {path.name for path in Path().iterdir()} == {"songs.csv", "out.csv"}


@pytest.mark.slow
def test_a_model_without_a_distribution_says_that_it_has_no_intervals(tmp_path, songs, capsys):
    make_songs(60).to_csv("train.csv", index=False)
    head = ["--model.head", "popularity.models.heads.MSEHead"]
    assert main(["fit", "--data.source", "train.csv", "--log_dir", "logs", *SMALL, *PLAIN, *head]) == 0
    checkpoint = Path("logs/mamba/version_0/checkpoints/best.ckpt")
    capsys.readouterr()
    assert predict(checkpoint, "out.csv") == 0
    assert "predicts a number and no distribution: intervals are not written" in capsys.readouterr().err
    assert list(read()) == ["track_id", "artist", "title", "predicted_popularity", "known_songs", "warning"]
    assert predict(checkpoint, "out2.csv", "--cutoffs", "50") == 2
    assert "--cutoffs: expected a model with a distribution" in capsys.readouterr().err
    assert not Path("out2.csv").exists()


MEMORY = """
import resource, sys
from popularity.__main__ import main
from popularity.data import parts
from popularity.inference import files
parts.PART_BYTES, files.SONGS_AT_ONCE = 1 << 20, 2048
assert main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("output", ["out.csv", "out.parquet"])
def test_memory_does_not_grow_with_the_file(output, trained, songs):
    """By fewer bytes a song than its row in a song table takes: 80 on a quiet machine, up to 400 on a busy one."""
    header, body = pd.read_csv(songs).to_csv(index=False).split("\n", 1)
    used = []
    for copies in (2000, 10_000):
        Path("large.csv").write_text(header + "\n" + body * copies)
        flags = ["--ckpt_path", str(trained), "--files", "large.csv", "--output", output, "--data.batch_size", "512"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        command = [sys.executable, "-c", MEMORY, "predict", *flags, *PLAIN]
        used.append(int(subprocess.check_output(command, env=environment, text=True)) / 1024)
        assert len(pd.read_csv(output) if output.endswith("csv") else pd.read_parquet(output)) == 20 * copies
    assert (used[1] - used[0]) * 2**20 / (20 * 8000) < 600


@pytest.mark.parametrize("output", ["songs.csv", "./songs.csv", "link.csv", "best.ckpt"])
def test_an_output_that_is_an_input_is_refused(output, trained, songs, capsys):
    Path("link.csv").symlink_to("songs.csv")
    Path("best.ckpt").symlink_to(trained)
    before = songs.read_bytes(), trained.read_bytes()
    assert predict(trained, output) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {output}: expected another file to write to, this is the input ")
    assert error.count("\n") == 1
    assert (songs.read_bytes(), trained.read_bytes()) == before
    assert {path.name for path in Path().iterdir()} == {"songs.csv", "link.csv", "best.ckpt"}


def test_an_ending_of_another_format_is_refused_before_any_work(trained, songs, capsys):
    assert predict(trained, "out.xlsx") == 2
    assert capsys.readouterr().err == "error: out.xlsx: expected a name ending in .csv, .parquet or .jsonl, got .xlsx\n"


@pytest.mark.parametrize(
    "flags", [("limit_predict_batches", "1"), ("limit_predict_batches", "0.5"), ("fast_dev_run", "true")]
)
def test_a_limit_on_batches_is_refused_in_one_line(flags, trained, songs, capsys):
    """One batch is a limit as well, although 1 equals 1.0, which is all batches."""
    assert predict(trained, "out.csv", f"--trainer.{flags[0]}", flags[1], "--data.batch_size", "8") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: predict writes a line for every song")
    assert error.count("\n") == 1
    assert not Path("out.csv").exists()
