"""Trainer flags and settings that people use: each leaves a run that is whole, and nothing where it should not be."""

from __future__ import annotations

import csv
import os
import signal
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from popularity.__main__ import main
from tests.test_fit import scores

PLAIN = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
SMALL = ["--model.net.width", "4", "--model.net.layers", "1", "--model.net.d_state", "2", "--data.batch_size", "64"]
SMALL += ["--choice.calibrate", "false", "--model.net.members", "1"]  # nothing is held out
SMALL += ["--model.net.mlp_width", "0"]
SMALL += ["--plots.every_n_epochs", "0", "--trainer.enable_model_summary", "false", *PLAIN]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Whatever is written into the working folder shows."""
    monkeypatch.chdir(tmp_path)


def fit(source: Path, *more: str, epochs: int = 2) -> Path:
    arguments = ["--data.source", str(source), "--log_dir", "logs", "--trainer.max_epochs", str(epochs)]
    assert main(["fit", *arguments, *SMALL, *more]) == 0
    return Path("logs/mamba/version_0")


@pytest.fixture(scope="module")
def plain(tmp_path_factory, song_file) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("plain"))
        return fit(song_file).resolve()


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed", "bf16-true"])
def test_precision(precision, plain, song_file):
    """The averaged weights follow, gradients are clipped, and metrics keep counting in at least single precision."""
    run = fit(song_file, "--trainer.precision", precision)
    expected, found = scores(plain), scores(run)
    assert found["test/mse"] == pytest.approx(expected["test/mse"], rel=5e-3 if precision == "64-true" else 0.05)
    assert found["test/r2"] == pytest.approx(expected["test/r2"], abs=0.05)
    assert found["test/rmse"] == pytest.approx(found["test/mse"] ** 0.5, rel=1e-4)
    import torch

    from popularity.inference.checkpoint import read_checkpoint

    average = read_checkpoint(run / "checkpoints" / "best.ckpt")["state_dict"]["net.members.0.readout.1.weight"]
    assert average.dtype == (torch.float64 if precision == "64-true" else torch.float32)


@pytest.mark.slow
def test_metrics_of_a_model_in_half_precision_are_not_rounded(song_file):
    """R2 from sums in bfloat16 is off by several hundredths: compare with the predictions of the same checkpoint."""
    run = fit(song_file, "--trainer.precision", "bf16-true", "--choice.calibrate", "true")
    from popularity.data.songs import load_songs
    from popularity.data.splits import make_split

    songs = load_songs(str(song_file)).songs
    test = songs.iloc[make_split(songs).test]
    test.to_csv("test.csv", index=False)
    checkpoint = str(run / "checkpoints" / "best.ckpt")
    arguments = ["--ckpt_path", checkpoint, "--data.predict_source", "test.csv", "--output", "out.csv"]
    assert main(["predict", *arguments, "--trainer.precision", "bf16-true", *PLAIN]) == 0
    error = pd.read_csv("out.csv")["predicted_popularity"].to_numpy() - test["popularity"].to_numpy()
    found = scores(run)
    assert found["test/mse"] == pytest.approx((error**2).mean(), rel=1e-3)
    assert found["test/r2"] == pytest.approx(1 - (error**2).mean() / test["popularity"].var(ddof=0), abs=2e-3)


def test_a_checkpoint_does_not_ask_to_be_compiled(plain):
    """Prediction would compile for a minute what it runs for a second."""
    from popularity.inference.checkpoint import read_checkpoint

    settings = read_checkpoint(plain / "checkpoints" / "best.ckpt")["hyper_parameters"]
    assert settings["net"]["init_args"]["width"] == 4
    assert "compile_network" not in settings


def test_fast_dev_run_leaves_nothing(song_file):
    fit(song_file, "--trainer.fast_dev_run", "true")
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "flags",
    [
        ["--data.validation", "0"],
        ["--trainer.limit_val_batches", "0"],
        ["--trainer.overfit_batches", "1"],
        ["--trainer.accumulate_grad_batches", "2", "--ema.decay", "0"],
    ],
)
def test_a_run_with_these_flags_is_whole(flags, song_file):
    run = fit(song_file, *flags)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "before_last.ckpt"}
    assert scores(run)["test/mse"] > 0


def test_a_run_that_ends_before_its_first_validation(song_file):
    with pytest.warns(UserWarning, match="could not find the monitored key"):
        run = fit(song_file, "--trainer.max_steps", "1")
    assert not (run / "checkpoints" / "best.ckpt").exists()
    assert scores(run)["test/mse"] > 0


def test_without_a_logger_nothing_is_written_outside_the_folder_of_runs(song_file):
    fit(song_file, "--trainer.logger", "false")
    assert [path.name for path in Path().iterdir()] == ["logs"]
    assert Path("logs/mamba/checkpoints/best.ckpt").is_file()


def test_without_checkpoints_the_last_weights_are_tested(song_file):
    run = fit(song_file, "--trainer.enable_checkpointing", "false")
    assert not list(Path().rglob("*.ckpt"))
    assert scores(run)["test/mse"] > 0


def test_without_test_batches_there_is_no_table(song_file, capsys):
    fit(song_file, "--trainer.limit_test_batches", "0")
    assert "test songs" not in capsys.readouterr().out


@pytest.mark.slow
def test_several_checkpoints_need_names_of_their_own(song_file, capsys):
    """All of the best three would be written to best.ckpt, the worst of them last."""
    arguments = ["fit", "--data.source", str(song_file), "--checkpoint.save_top_k", "3", *SMALL]
    assert main(arguments) == 2
    assert "--checkpoint.filename" in capsys.readouterr().err
    run = fit(song_file, "--checkpoint.save_top_k", "3", "--checkpoint.filename", "best-{epoch}")
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert names == {"best-epoch=0.ckpt", "best-epoch=1.ckpt", "last.ckpt", "before_last.ckpt"}


@pytest.mark.parametrize(("flag", "value"), [("fold", "3"), ("split_seed", "1"), ("split", "artist")])
def test_a_checkpoint_is_not_scored_on_songs_it_was_trained_on(flag, value, plain, song_file, capsys):
    checkpoint = str(plain / "checkpoints" / "best.ckpt")
    assert main(["test", "--ckpt_path", checkpoint, f"--data.{flag}", value, *PLAIN]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert flag in error


def test_another_source_may_be_scored_in_any_split(plain, song_file, tmp_path):
    other = tmp_path / "other.csv"
    pd.read_csv(song_file, dtype=str).head(100).to_csv(other, index=False)
    checkpoint = str(plain / "checkpoints" / "best.ckpt")
    assert main(["test", "--ckpt_path", checkpoint, "--data.source", str(other), "--data.fold", "3", *PLAIN]) == 0


def test_predict_takes_one_device_of_several(plain, song_file, monkeypatch):
    """With two devices in reach and none asked for, the rows must still come out in order, in one file."""
    from popularity.training import trainer

    asked: dict[str, object] = {}
    build = trainer.trainer_of
    monkeypatch.setattr(trainer, "trainer_of", lambda settings: asked.update(settings) or build(settings))
    arguments = ["--ckpt_path", str(plain / "checkpoints" / "best.ckpt"), "--data.predict_source", str(song_file)]
    assert main(["predict", *arguments, *PLAIN]) == 0
    assert asked["devices"] == 1
    Path("predictions.csv").unlink()
    assert main(["predict", *arguments, *PLAIN, "--trainer.devices", "2"]) == 2
    assert not Path("predictions.csv").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupted_and_resumed_run_has_every_epoch_once(song_file, capsys):
    """Ctrl-C, then --ckpt_path last: the same folder, no epoch twice, none left out.

    Python drops an interrupt that meets an object's ``__del__``. Then, as a person would, it is sent again.
    """
    import torch

    last = Path("logs/mamba/version_0/checkpoints/last.ckpt").absolute()

    def interrupt() -> None:
        deadline = time.monotonic() + 300
        while not last.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
        for _ in range(4):
            os.kill(os.getpid(), signal.SIGINT)
            if stopped.wait(60):
                break

    stopped = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    # a shell that starts tests in the background makes them ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(AssertionError, match="130"):
            fit(song_file, "--early_stopping.patience", "10000", epochs=5000)
        assert "--ckpt_path last" in capsys.readouterr().err
    finally:
        stopped.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    done = torch.load(last, weights_only=True)["epoch"]
    run = fit(song_file, "--early_stopping.patience", "10000", "--ckpt_path", "last", epochs=done + 2)
    with open(run / "metrics.csv") as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file) if row.get("val/mse")]
    assert epochs == list(range(done + 2))
    assert len(list(run.parent.iterdir())) == 1
