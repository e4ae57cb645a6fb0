"""The history model as a whole: one song's prediction is its own, and a checkpoint remembers whom it knows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.conftest import quick_fit


@pytest.fixture(scope="module", autouse=True)
def _imports() -> None:
    """What is slow to import: with the first of these tests, not while tests are collected."""
    global torch, PopularityModule, Split, load_songs
    import torch

    from popularity.data.songs import load_songs
    from popularity.data.splits import Split
    from popularity.training.module import PopularityModule


@pytest.fixture(scope="module")
def songs(song_file) -> pd.DataFrame:
    return load_songs(str(song_file)).songs


@pytest.fixture(scope="module")
def split(songs) -> Split:
    rows = np.random.default_rng(0).permutation(len(songs))
    return Split(np.sort(rows[60:]), rows[:0], np.sort(rows[:60]))


@pytest.fixture(scope="module")
def model(songs, split) -> PopularityModule:
    return quick_fit(songs, split, members=2, retrieved=2, drawn_histories=2)


def test_a_prediction_does_not_depend_on_the_songs_beside_it(model, songs, split):
    """Nobody here has more songs than a history holds, so that nothing is left to chance."""
    test = songs.iloc[split.test]
    together = model.raw_of(test)
    assert together.shape == (60, 60)
    torch.testing.assert_close(model.raw_of(test, batch_size=7), together, atol=1e-4, rtol=1e-4)
    order = np.random.default_rng(1).permutation(60)
    torch.testing.assert_close(model.raw_of(test.iloc[order]), together[order], atol=1e-4, rtol=1e-4)
    for i in range(0, 60, 11):
        torch.testing.assert_close(model.raw_of(test.iloc[[i]])[0], together[i], atol=1e-4, rtol=1e-4)


def test_predicting_twice_gives_the_same_numbers(model, songs, split):
    """Also where histories are drawn by chance: not by the state of a generator that others use."""
    test = songs.iloc[split.test].assign(artist="Artist 1")
    first = model.raw_of(test)
    torch.rand(3)
    assert torch.equal(model.raw_of(test), first)


def test_a_loaded_model_knows_the_songs_it_was_trained_on(model, songs, split):
    test = songs.iloc[split.test]
    loaded = PopularityModule(**model.hparams)
    assert len(loaded.net.memory.label) == 1
    loaded.load_state_dict(model.state_dict())
    assert len(loaded.net.memory.label) == len(split.train)
    assert torch.equal(loaded.raw_of(test), model.raw_of(test))
    loaded.net.memory.label.neg_()
    assert not torch.allclose(loaded.raw_of(test), model.raw_of(test), atol=1e-3), "and reads them"


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_another_precision(dtype, model, songs, split):
    """A network that a fit left in half precision or double predicts as it is."""
    test = songs.iloc[split.test]
    other = PopularityModule(**model.hparams)
    other.load_state_dict(model.state_dict())
    other.to(getattr(torch, dtype))
    head = model.net.head
    found, expected = head.predict(other.raw_of(test)), head.predict(model.raw_of(test))
    torch.testing.assert_close(found.float(), expected, atol=1e-3 if dtype == "float64" else 2.0, rtol=0)


def test_in_training_each_member_draws_its_own_histories(model, songs, split):
    rows = model.encoder.draw(
        model.encoder.encode(songs.iloc[split.train], training=True), torch.Generator().manual_seed(0), training=True
    )
    assert rows["known"].shape[1] == 2
    assert not torch.equal(rows["kind"][:, 0], rows["kind"][:, 1])


@pytest.mark.parametrize(
    "settings",
    [
        {"history": 0},
        {"titles": False},
        {"block": "none", "head": "mse"},
        {"one_token": True, "bidirectional": False},
        {"members": 3, "hide_history": 1.0, "thin_history": 1.0},
    ],
    ids=str,
)
def test_settings_of_the_ablations_learn_and_predict(settings, songs, split):
    model = quick_fit(songs, split, epochs=2, **settings)
    prediction = model.net.head.predict(model.raw_of(songs.iloc[split.test]))
    assert prediction.shape == (60,)
    assert prediction.std() > 0.1
    if settings.get("history") == 0:
        assert model.encoder.draw(
            model.encoder.encode(songs.head(5)), torch.Generator().manual_seed(0), training=False
        )["known"].shape == (5, 4, 0)
