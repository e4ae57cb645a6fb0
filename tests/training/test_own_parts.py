"""Parts from outside: an own network by class path, an optimiser of PyTorch's by name."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
import yaml

from popularity.__main__ import main
from tests.conftest import make_songs
from tests.test_fit import PLAIN, SMALL, fit

DATA = SMALL[SMALL.index("--data.batch_size") :]


def test_an_own_network_is_fitted_tested_and_predicted_with(tmp_path: Path, song_file: Path, capsys) -> None:
    own = ["--model.net", "tests.training.own_parts.MyNet", "--model.net.width", "6"]
    arguments = ["--name", "own", "--log_dir", str(tmp_path), "--data.source", str(song_file), *DATA, *PLAIN]
    assert main(["fit", *arguments, "--trainer.max_epochs", "2", *own]) == 0
    assert "MyNet" in capsys.readouterr().out
    run = tmp_path / "own" / "version_0"
    config = yaml.safe_load((run / "config.yaml").read_text())["model"]["net"]
    assert config == {"class_path": "tests.training.own_parts.MyNet", "init_args": {"width": 6}}

    checkpoint = str(run / "checkpoints" / "best.ckpt")
    assert main(["test", "--ckpt_path", checkpoint, *PLAIN, *own[:2]]) == 0
    songs, output = tmp_path / "songs.csv", tmp_path / "out.csv"
    make_songs(20, seed=3).drop(columns="popularity").to_csv(songs, index=False)
    arguments = ["--ckpt_path", checkpoint, "--data.predict_source", str(songs), "--output", str(output)]
    assert main(["predict", *arguments, *PLAIN, *own[:2]]) == 0
    found = pd.read_csv(output)["predicted_popularity"]
    assert found.between(0, 100).all()
    assert found.nunique() > 10

    from popularity.inference.checkpoint import load_checkpoint
    from popularity.inference.predictor import predict_songs

    module, data = load_checkpoint(checkpoint, classes=own[1:2])
    assert type(module.net).__name__ == "MyNet"
    data.hparams["predict_source"] = str(songs)
    data.setup("predict")
    again = predict_songs(module, data.encoder, data.predict_table.songs).mean
    assert found.tolist() == pytest.approx(again.tolist(), abs=0.01)


def test_an_optimiser_by_name(tmp_path: Path, song_file: Path) -> None:
    from popularity.inference.checkpoint import read_checkpoint

    run = fit(tmp_path, song_file, "--optimizer", "SGD", "--optimizer.lr", "0.01", epochs=2)
    (group,) = read_checkpoint(run / "checkpoints" / "last.ckpt")["optimizer_states"][0]["param_groups"]
    assert group["lr"] == 0.01
    assert "momentum" in group
    with open(run / "metrics.csv") as file:
        assert {float(row["lr-SGD"]) for row in csv.DictReader(file) if row["lr-SGD"]} == {0.01}


@pytest.mark.slow
def test_an_optimiser_and_a_schedule_by_name(tmp_path: Path, song_file: Path) -> None:
    schedule = ["--lr_scheduler", "StepLR", "--lr_scheduler.step_size", "1", "--lr_scheduler.gamma", "0.5"]
    run = fit(tmp_path, song_file, "--optimizer", "SGD", "--optimizer.lr", "0.04", *schedule, epochs=3)
    with open(run / "metrics.csv") as file:
        assert {float(row["lr-SGD"]) for row in csv.DictReader(file) if row["lr-SGD"]} == {0.04, 0.02, 0.01}
