"""Numbers that go bad: a fit either ends in predictions without NaN or in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Lazy, make_songs, quick_fit

if TYPE_CHECKING:
    from popularity.data.splits import Split
    from popularity.training.fit import Fit

callbacks = Lazy("popularity.training.callbacks")


def loaded(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    from popularity.data.songs import load_songs

    table.to_csv(folder / "songs.csv", index=False)
    return load_songs(str(folder / "songs.csv"), deduplicate=False).songs


def halves(songs: pd.DataFrame) -> Split:
    from popularity.data.splits import Split

    rows = np.arange(len(songs))
    return Split(rows[len(rows) // 2 :], rows[:0], rows[: len(rows) // 2])


def test_a_loss_that_diverges_names_the_step_and_the_songs(tmp_path: Path) -> None:
    songs = loaded(tmp_path, make_songs(80))
    with pytest.raises(callbacks.DivergedError) as ended:
        quick_fit(songs, halves(songs), epochs=3, **{"model.learning_rate": 1e30, "model.warmup_steps": 0})
    message = str(ended.value)
    assert "\n" not in message
    assert message.startswith("epoch 0, step 2: expected a finite loss, got ")
    ids = dict(enumerate(songs["track_id"], 1))
    named = [row for row, song in ids.items() if f"{row} ({song})" in message]
    assert len(named) == 20, "of 20 songs in a batch"
    assert all(row > 40 for row in named), "the second half of the table is trained on"


def test_a_batch_of_many_songs_is_cut_short(tmp_path: Path) -> None:
    songs = loaded(tmp_path, make_songs(120))
    with pytest.raises(callbacks.DivergedError, match=r"\) and 10 more$"):
        quick_fit(songs, halves(songs), epochs=3, **{"model.learning_rate": 1e30, "model.warmup_steps": 0})


def one_value(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(energy=0.5, tempo=120.0, key=3, mode=1, time_signature=4, duration_ms=200_000)


def one_category(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(track_genre="pop", album_name="The album", release_date="2001-01-01")


def unseen(table: pd.DataFrame) -> pd.DataFrame:
    new = table.index < len(table) // 2
    return table.assign(
        track_genre=np.where(new, "new genre", "pop"),
        artist_name=np.where(new, "Somebody new", table["artist_name"]),
        key=np.where(new, 11, 1),
        time_signature=np.where(new, 5, 4),
    )


def extremes(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(popularity=np.where(table.index % 2, 0, 100))


def nearly_all_zero(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(popularity=(table.index == len(table) - 1) * 100)


def one_artist(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(artist_name="One")


def learned_without_nan(songs: pd.DataFrame) -> Fit:
    """A fit to half of the songs that predicts a popularity for each of the others."""
    from popularity.inference.predictor import predict_songs

    split = halves(songs)
    fit = quick_fit(songs, split)
    predicted = predict_songs(fit.module, fit.datamodule.encoder, songs.iloc[split.test]).mean
    assert np.isfinite(predicted).all()
    assert ((predicted >= 0) & (predicted <= 100)).all()
    return fit


KINDS = [one_value, one_category, unseen, extremes, nearly_all_zero, one_artist]


@pytest.mark.parametrize("change", KINDS, ids=lambda kind: kind.__name__)
def test_odd_songs_are_learned_without_nan(change: Callable[[pd.DataFrame], pd.DataFrame], tmp_path: Path) -> None:
    learned_without_nan(loaded(tmp_path, change(make_songs(80))))


@pytest.mark.slow
def test_an_artist_of_ten_thousand_songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit, then `predict` from its checkpoint: songs by this artist, by one nobody knows, and without all options."""
    from popularity.__main__ import main
    from popularity.data.schema import OPTIONAL
    from popularity.training.checkpoints import save_checkpoint

    fit = learned_without_nan(loaded(tmp_path, one_artist(make_songs(20_000))))
    monkeypatch.chdir(tmp_path)
    save_checkpoint("one.ckpt", fit.module, fit.datamodule)
    new = one_artist(make_songs(50, seed=1)).drop(columns="popularity").assign(track_id=None)
    new.loc[7, "artist_name"] = "Nobody at all"
    new.to_csv("new.csv", index=False)
    names = {"track_name": "title", "artist_name": "artist", "album_name": "album", "track_genre": "genre"}
    new.rename(columns=names).drop(columns=[*OPTIONAL], errors="ignore").to_csv("bare.csv", index=False)
    assert "artist" not in Path("bare.csv").read_text()
    for name in ("new", "bare"):
        flags = ["--data.predict_source", f"{name}.csv", "--output", f"{name}_out.csv", "--cutoffs", "50"]
        assert main(["predict", "--ckpt_path", "one.ckpt", *flags, "--trainer.accelerator", "cpu"]) == 0
    by_one, bare = pd.read_csv("new_out.csv"), pd.read_csv("bare_out.csv")
    history = fit.datamodule.hparams["encoder"]["init_args"]["history"]
    assert by_one["known_songs"].drop(7).eq(history).all(), "of 10,000, as many as a history holds"
    assert by_one["known_songs"][7] == 0
    assert bare["known_songs"].eq(0).all()
    ends = ["low_95", "low_80", "low_50", "high_50", "high_80", "high_95"]
    for found in (by_one, bare):
        assert len(found) == 50
        numbers = found[["predicted_popularity", *ends, "chance_50"]].to_numpy()
        assert np.isfinite(numbers).all()
        assert ((numbers >= 0) & (numbers <= 100)).all()
        assert (np.diff(found[ends]) >= 0).all()
        assert found["predicted_popularity"].between(found["low_95"], found["high_95"]).all()


@pytest.mark.parametrize("popularity", [0, 100])
def test_songs_of_one_popularity_are_one_line(popularity: int, tmp_path: Path) -> None:
    from popularity.errors import InputError

    with pytest.raises(InputError, match=f"every song has popularity {popularity}; there is nothing to learn"):
        loaded(tmp_path, make_songs(40).assign(popularity=popularity))
