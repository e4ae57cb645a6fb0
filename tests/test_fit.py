"""The main job from end to end on made-up songs: what a run leaves behind, and what can be done with it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from popularity.__main__ import main
from tests.conftest import make_songs

SMALL = ["--model.net.width", "8", "--model.net.layers", "1", "--model.net.d_state", "4", "--model.net.members", "1"]
SMALL += ["--model.net.mlp_width", "0"]
SMALL += ["--data.batch_size", "32", "--choice.calibrate", "false"]  # nothing is held out
SMALL += ["--plots.every_n_epochs", "0", "--trainer.log_every_n_steps", "1"]
PLAIN = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def fit(folder: Path, source: Path, *more: str, name: str = "small", epochs: int = 3) -> Path:
    """Fit a small model; the run's folder."""
    arguments = ["--name", name, "--log_dir", str(folder), "--data.source", str(source)]
    code = main(["fit", *arguments, "--trainer.max_epochs", str(epochs), *SMALL, *PLAIN, *more])
    assert code == 0
    return max((folder / name).glob("version_*"), key=lambda path: int(path.name[8:]))


def scores(run: Path) -> dict[str, float]:
    """The test scores in a run's metrics.csv."""
    with open(run / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row.get("test/mse")]
    return {key: float(value) for key, value in rows[-1].items() if key.startswith("test/")}


@pytest.fixture(scope="module")
def run(tmp_path_factory, song_file) -> Path:
    return fit(tmp_path_factory.mktemp("runs"), song_file)


def test_a_run_leaves_everything_behind(run):
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "before_last.ckpt"}
    assert list(run.glob("events.out.tfevents.*"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["net"]["init_args"]["width"] == 8
    assert "ckpt_path" not in config
    record = json.loads((run / "data.json").read_text())
    assert len(record["sha256"]) == 64
    assert record["train_songs"] + record["validation_songs"] + record["test_songs"] == record["songs"]
    with open(run / "metrics.csv") as file:
        columns = set(next(csv.reader(file)))
    names = {"mse", "rmse", "mae", "r2", "spearman", "pearson"}
    assert {f"{stage}/{name}" for stage in ("val", "test") for name in names} <= columns
    assert {"train/loss", "train/r2", "lr-AdamW/pg1", "epoch", "step"} <= columns


def test_metrics_are_in_popularity_points(run, song_file, tmp_path):
    """The test table is what scikit-learn says of the predictions on the test songs."""
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    from popularity.data.songs import load_songs
    from popularity.data.splits import make_split

    songs = load_songs(str(song_file)).songs
    test = songs.iloc[make_split(songs, "random", folds=5, fold=0, seed=0, validation=0.1).test]
    path = tmp_path / "test.csv"
    test.to_csv(path, index=False)
    output = tmp_path / "predictions.csv"
    predict(run, path, output)
    predicted = pd.read_csv(output)["predicted_popularity"]
    found = scores(run)
    assert found["test/mse"] == pytest.approx(mean_squared_error(test["popularity"], predicted), rel=1e-3)
    assert found["test/rmse"] == pytest.approx(found["test/mse"] ** 0.5, rel=1e-4)
    assert found["test/mae"] == pytest.approx(mean_absolute_error(test["popularity"], predicted), rel=1e-3)
    assert found["test/r2"] == pytest.approx(r2_score(test["popularity"], predicted), abs=1e-3)


def predict(run: Path, songs: Path, output: Path) -> None:
    checkpoint = run / "checkpoints" / "best.ckpt"
    arguments = ["--ckpt_path", str(checkpoint), "--data.predict_source", str(songs), "--output", str(output)]
    assert main(["predict", *arguments, *PLAIN]) == 0


def test_predict_writes_a_line_per_song_in_input_order(run, tmp_path):
    songs = make_songs(50, seed=7).drop(columns="popularity")
    songs = pd.concat([songs, songs.head(3)], ignore_index=True)  # repeated songs stay: one line per input song
    songs.loc[5, "artist_name"] = None
    path, output = tmp_path / "songs.csv", tmp_path / "predictions.csv"
    songs.to_csv(path, index=False)
    predict(run, path, output)
    table = pd.read_csv(output, dtype={"track_id": str})
    assert table.columns.tolist()[:4] == ["track_id", "artist", "title", "predicted_popularity"]
    assert table["track_id"].tolist() == songs["track_id"].tolist()
    assert table["title"].tolist() == songs["track_name"].tolist()
    assert table["predicted_popularity"].between(0, 100).all()
    assert table["predicted_popularity"].nunique() > 10
    assert table["predicted_popularity"][:3].tolist() == table["predicted_popularity"][50:].tolist()


def test_where_no_songs_are_held_out_validate_says_so(tmp_path, song_file, capsys):
    run = fit(tmp_path, song_file, "--data.validation", "0", epochs=1)
    assert main(["validate", "--ckpt_path", str(run / "checkpoints" / "last.ckpt"), *PLAIN]) == 2
    assert "error: validate: the fit of this checkpoint held out no songs" in capsys.readouterr().err


@pytest.mark.slow
def test_test_with_a_checkpoint_alone_scores_the_songs_it_was_not_trained_on(tmp_path, song_file, capsys):
    """The data settings come from the checkpoint, so that nobody tests on training songs by forgetting a flag."""
    run = fit(tmp_path, song_file, "--data.fold", "3", "--data.split", "artist", epochs=1)
    expected = scores(run)
    capsys.readouterr()
    assert main(["test", "--ckpt_path", str(run / "checkpoints" / "best.ckpt"), *PLAIN]) == 0
    printed = capsys.readouterr().out
    assert f"{expected['test/mse']:.2f}" in printed
    assert main(["validate", "--ckpt_path", str(run / "checkpoints" / "best.ckpt"), *PLAIN]) == 0


def test_the_best_checkpoint_is_tested_with_its_averaged_weights(run):
    """Testing right after a fit must not bring back the weights before averaging."""
    import torch

    from popularity.inference.checkpoint import load_checkpoint, read_checkpoint
    from popularity.inference.predictor import predict_songs

    checkpoint = read_checkpoint(run / "checkpoints" / "best.ckpt")
    averaged, current = checkpoint["state_dict"], checkpoint["current_model_state"]
    name = "net.members.0.readout.1.weight"
    assert not torch.equal(averaged[name], current[name])

    module, data = load_checkpoint(run / "checkpoints" / "best.ckpt")
    data.load()
    test = data.songs("test")
    mse = np.mean((predict_songs(module, data.encoder, test).mean - test["popularity"].to_numpy()) ** 2)
    assert scores(run)["test/mse"] == pytest.approx(mse, rel=1e-4)


def test_same_seed_same_metrics_to_the_last_digit(run, tmp_path, song_file):
    again = fit(tmp_path, song_file)
    assert (again / "metrics.csv").read_text() == (run / "metrics.csv").read_text()
    other = fit(tmp_path, song_file, "--seed_everything", "1")
    assert (other / "metrics.csv").read_text() != (run / "metrics.csv").read_text()


def test_a_resumed_run_ends_like_one_that_never_stopped(tmp_path, song_file):
    whole = fit(tmp_path / "whole", song_file, epochs=4)
    # stop after two of four epochs, with the schedule of four
    stopped = fit(tmp_path / "parts", song_file, "--trainer.callbacks+=tests.test_fit.StopAfterTwo", epochs=4)
    assert scores(stopped) != scores(whole)
    names = (stopped / "metrics.csv").read_text().splitlines()[0].split(",")
    with open(stopped / "metrics.csv", "a") as file:  # as if killed after a later step was logged
        file.write(",".join("99" if name == "step" else "" for name in names) + "\n")
    resumed = fit(tmp_path / "parts", song_file, "--ckpt_path", "last", epochs=4)
    assert resumed == stopped, "a resumed run stays in its folder"
    assert scores(resumed) == scores(whole)
    with open(resumed / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    epochs = [row["epoch"] for row in rows if row.get("val/mse")]
    assert epochs == ["0", "1", "2", "3"], "the lines before the stop are kept"
    assert "99" not in {row["step"] for row in rows}, "those behind the checkpoint are not"


def test_resume_refuses_other_data(run, tmp_path, capsys):
    other = tmp_path / "other.csv"
    make_songs(200, seed=5).to_csv(other, index=False)
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    code = main(
        ["fit", "--data.source", str(other), "--ckpt_path", checkpoint, *SMALL, *PLAIN, "--log_dir", str(tmp_path)]
    )
    assert code == 2
    assert "trained on other data" in capsys.readouterr().err


def test_resume_refuses_other_model_settings(run, song_file, capsys):
    """Lightning would let the checkpoint's settings win without a word."""
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    arguments = ["--data.source", str(song_file), "--ckpt_path", checkpoint, "--log_dir", str(run.parent.parent)]
    assert main(["fit", *arguments, *SMALL, *PLAIN, "--model.learning_rate", "0.5"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert "model.learning_rate 0.0028, here it is 0.5" in error[0]


@pytest.mark.slow
def test_config_files_layer(tmp_path, song_file):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("model:\n  net:\n    init_args: {width: 8, d_state: 4, layers: 1}\ntrainer:\n  max_epochs: 1\n")
    second.write_text(
        f"model:\n  net:\n    init_args: {{d_state: 2}}\ndata:\n  source: {song_file}\n  batch_size: 64\n"
    )
    arguments = ["-c", str(first), "-c", str(second), "--log_dir", str(tmp_path), "--name", "layers"]
    assert main(["fit", *arguments, *PLAIN]) == 0
    config = yaml.safe_load((tmp_path / "layers" / "version_0" / "config.yaml").read_text())
    net = config["model"]["net"]["init_args"]
    assert (net["width"], net["d_state"], config["data"]["batch_size"]) == (8, 2, 64)


def test_checkpoint_holds_tensors_and_plain_types(run):
    import torch

    for name in ("best", "last"):
        checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["PopularityDataModule"]["fingerprint"]["songs"] > 200


def __getattr__(name: str):
    """A callback class for the command line, made when asked for: Lightning is slow to import."""
    if name != "StopAfterTwo":
        raise AttributeError(name)
    from lightning.pytorch import Callback

    class StopAfterTwo(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.should_stop = trainer.current_epoch == 1

    return StopAfterTwo


@pytest.mark.slow
def test_a_saved_config_repeats_a_run_that_has_chosen(tmp_path, song_file):
    """Weights do not depend on the fit without held-out songs that came before them."""
    small = ["--model.net.width", "[4, 8]", "--model.net.d_state", "4", "--plots.every_n_epochs", "0", *PLAIN]
    more = ["--data.source", str(song_file), "--log_dir", str(tmp_path), "--trainer.max_epochs", "2"]
    assert main(["fit", *small, *more]) == 0
    first = tmp_path / "mamba" / "version_0"
    assert yaml.safe_load((first / "config.yaml").read_text())["model"]["net"]["init_args"]["members"] in (1, 2)
    assert main(["fit", "-c", str(first / "config.yaml")]) == 0
    assert scores(tmp_path / "mamba" / "version_1") == scores(first)
