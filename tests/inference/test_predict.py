"""`predict` from the command line: where predictions go, and what is never overwritten."""

from __future__ import annotations

import os
import stat
import threading
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from popularity.__main__ import main
from tests.conftest import make_songs

PLAIN = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
SMALL = ["--model.net.width", "4", "--model.net.layers", "1", "--model.net.d_state", "2", "--data.batch_size", "32"]
SMALL += ["--choice.candidates", "null", "--choice.calibrate", "false"]  # nothing is chosen: no fits of candidates
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
    reader.join(timeout=10)
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
