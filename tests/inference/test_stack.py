"""A stack from the command line: every verb works with the one checkpoint of Mamba and boosted trees."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

from popularity.__main__ import main
from tests.conftest import Lazy, make_songs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("lightgbm") is None, reason="LightGBM is not installed"),
]
checkpoints = Lazy("popularity.inference.checkpoint")
SMALL = ["--model.net.width", "4", "--model.net.members", "1", "--model.net.mlp_width", "0", "--data.batch_size", "32"]
SMALL += ["--trainer.accelerator", "cpu", "--plots.every_n_epochs", "0", "--trainer.enable_progress_bar", "false"]
SMALL += ["--data.source", "songs.csv", "--log_dir", "logs", "--early_stopping.patience", "9"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a stack of one epoch, and songs."""
    folder = tmp_path_factory.mktemp("stack")
    make_songs(150).to_csv(folder / "songs.csv", index=False)
    make_songs(20, seed=1).drop(columns="popularity").to_csv(folder / "new.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "-c", "stack", "--trainer.max_epochs", "1", *SMALL]) == 0
    return folder


@pytest.fixture
def checkpoint(folder, monkeypatch) -> str:
    monkeypatch.chdir(folder)
    return "logs/stack/version_0/checkpoints/best.ckpt"


def test_predictions_rest_on_both(checkpoint, capsys):
    assert main(["predict", "--ckpt_path", checkpoint, "--files", "new.csv", "--output", "out.csv"]) == 0
    found = pd.read_csv("out.csv")
    assert (found["low_80"] < found["high_80"]).all()
    module, data = checkpoints.load_checkpoint(checkpoint)
    assert 0 < float(module.calibration.weight) <= 1
    assert "x trees" in str(module.calibration)
    from popularity.data.songs import load_songs
    from popularity.inference.predictor import predict_songs

    songs = load_songs("new.csv", need_popularity=False, deduplicate=False).songs
    again = predict_songs(module, data.encoder, songs, samples=data.hparams["samples"]).mean
    np.testing.assert_allclose(found["predicted_popularity"], again, atol=0.006)
    module.calibration.weight.fill_(0.0)
    alone = predict_songs(module, data.encoder, songs, samples=data.hparams["samples"]).mean
    assert np.abs(alone - again).max() > 0.1


def test_it_is_scored_again(checkpoint, capsys):
    for verb in ("test", "validate"):
        assert main([verb, "--ckpt_path", checkpoint, "--trainer.accelerator", "cpu"]) == 0
    assert "MSE" in capsys.readouterr().out


def test_it_is_explained(checkpoint, tmp_path, capsys):
    pytest.importorskip("captum")
    few = ["--sample", "10", "--shuffles", "2", "--songs", "2", "--features", "energy"]
    assert main(["explain", "--ckpt_path", checkpoint, *few, "--output", str(tmp_path / "why")]) == 0
    assert "parts add up" in capsys.readouterr().out
    importance = pd.read_csv(tmp_path / "why" / "importance.csv")
    assert "danceability" in set(importance["feature"])
    change = ["--source", "new.csv", "--counterfactual", "100", "--change", "danceability"]
    assert main(["what_if", "--ckpt_path", checkpoint, *change, "--output", str(tmp_path / "what_if")]) == 0
    assert (tmp_path / "what_if" / "counterfactual.csv").exists()


def test_reasons_are_told_of_both(checkpoint, capsys):
    few = ["--files", "new.csv", "--reasons", "true", "--output", "why.csv"]
    assert main(["predict", "--ckpt_path", checkpoint, *few]) == 0
    assert pd.read_csv("why.csv")["reasons"].str.contains(" it by ").any()
    assert main(["predict", "--ckpt_path", checkpoint, "--song", "energy=.5,danceability=.7", "--artist", "A"]) == 0
    assert "predicted popularity: " in capsys.readouterr().out


def test_its_card_is_that_of_both(checkpoint, tmp_path):
    few = ["--sample", "10", "--shuffles", "2", "--output", str(tmp_path / "card.html")]
    assert main(["report", "--ckpt_path", checkpoint, *few]) == 0
    assert "StackedEncoder" in (tmp_path / "card.html").read_text(encoding="utf-8")


def test_it_is_not_exported(checkpoint, capsys):
    assert main(["export", "--ckpt_path", checkpoint, "--format", "pt2"]) == 2
    error = capsys.readouterr().err.strip()
    assert "expected HistoryEncoder, FeatureEncoder or ColumnEncoder, got StackedEncoder" in error
    assert "\n" not in error


def test_the_page_shows_it(checkpoint):
    testing = pytest.importorskip("streamlit.testing.v1")
    page = f"from popularity.inference.app_page import page\npage({checkpoint!r})\n"
    assert not testing.AppTest.from_string(page, default_timeout=300).run().exception


def test_a_fit_goes_on(checkpoint):
    assert main(["fit", "-c", "stack", "--trainer.max_epochs", "2", "--ckpt_path", "last", *SMALL]) == 0
    after = checkpoints.read_checkpoint("logs/stack/version_0/checkpoints/last.ckpt")
    assert after["epoch"] == 2
    assert after["PopularityDataModule"]["encoder"]["trees"].keys() == {"features", "boosters"}
