"""One checkpoint predicts songs with all audio columns and with those that ``features`` writes, if trained for it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from popularity.__main__ import main
from popularity.data.schema import NOT_ESTIMATED
from popularity.errors import InputError
from tests.conftest import Lazy, make_songs, quick_fit

torch = Lazy("torch")
splits = Lazy("popularity.data.splits")
checkpoint = Lazy("popularity.training.checkpoints")
regressor = Lazy("popularity.inference.regressor")
page = Lazy("popularity.inference.app_page")

PLAIN = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, song_file) -> dict[bool, Path]:
    """A checkpoint that was trained with the flag, and one without."""
    from popularity.data.songs import load_songs

    folder, songs = tmp_path_factory.mktemp("models"), load_songs(str(song_file)).songs[:80]
    paths = {}
    for flag in (False, True):
        fit = quick_fit(songs, splits.make_split(songs, "random"), **{"data.optional_audio": flag})
        paths[flag] = folder / f"{flag}.ckpt"
        checkpoint.save_checkpoint(paths[flag], fit.module, fit.datamodule)
        assert fit.datamodule.train_dataloader().hide_audio == 0.5 * flag
        assert fit.datamodule.test_dataloader().hide_audio == 0
    return paths


@pytest.fixture
def few(tmp_path, monkeypatch) -> pd.DataFrame:
    """Songs to predict, in the folder that the command is run in."""
    monkeypatch.chdir(tmp_path)
    songs = make_songs(12, seed=1).drop(columns=["popularity", *NOT_ESTIMATED])
    songs.to_csv("few.csv", index=False)
    return songs


def predict(path, *flags):
    return main(["predict", "--ckpt_path", str(path), "--files", "few.csv", "--output", "out.csv", *PLAIN, *flags])


@pytest.mark.slow
def test_the_checkpoint_decides(checkpoints, few, capsys):
    assert predict(checkpoints[True]) == 0
    table = pd.read_csv("out.csv")
    assert table["predicted_popularity"].between(0, 100).all()
    assert table["warning"].str.contains("missing: acousticness, danceability").all()
    Path("out.csv").unlink()
    capsys.readouterr()
    for flags in ([], ["--data.optional_audio", "true"]):
        assert predict(checkpoints[False], *flags) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: few.csv: no column for acousticness, danceability, energy")
        assert error.endswith("; a model does without them after fit --data.optional_audio true")
        assert not Path("out.csv").exists()


def test_so_does_it_in_python(checkpoints, few):
    load = regressor.PopularityRegressor.load
    assert len(load(checkpoints[True]).predict(few)) == len(few)
    with pytest.raises(InputError, match="no column for acousticness"):
        load(checkpoints[False]).predict(few)


def test_so_does_it_on_the_page(checkpoints, few):
    content = Path("few.csv").read_bytes()
    _, table, _ = page.predicted_file(page.load(str(checkpoints[True])), "few.csv", content)
    assert table["predicted_popularity"].between(0, 100).all()
    with pytest.raises(InputError, match=r"^few.csv: no column for acousticness"):
        page.predicted_file(page.load(str(checkpoints[False])), "few.csv", content)


@pytest.mark.slow
def test_explain_and_what_if_take_such_files(checkpoints, few, capsys):
    songs = ["--ckpt_path", str(checkpoints[True]), "--source", "few.csv"]
    assert main(["what_if", *songs, "--vary", "tempo", "--steps", "3"]) == 0
    assert main(["explain", *songs, "--parts", "importance", "--shuffles", "2"]) == 0


def test_training_hides_the_columns_of_other_songs_at_each_pass(song_file):
    from popularity.data.songs import load_songs
    from popularity.features.song import FeatureEncoder
    from popularity.training.batches import Order, SongBatches

    songs, encoder, epoch = load_songs(str(song_file)).songs, FeatureEncoder(), [0]
    encoder.fit(songs)
    order = Order(shuffle=True, epoch=lambda: epoch[0])
    passes = []
    for hide in (0.5, 0.5, 0.0):
        batches = SongBatches(encoder, songs, 32, training=True, hide_audio=hide, order=order)
        hidden = torch.zeros(len(songs), dtype=torch.bool)
        for batch in batches:
            hidden[batch["song_number"]] = batch["numeric"][:, 0].isnan()
        passes.append(hidden)
        epoch[0] += 1
    assert [0.4 < hidden.float().mean() < 0.6 for hidden in passes] == [True, True, False]
    assert not passes[2].any()
    assert (passes[0] != passes[1]).float().mean() > 0.3
