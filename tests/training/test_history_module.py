"""The history model as a whole: a prediction depends on its song alone, and a checkpoint keeps the known songs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Lazy, quick_fit

if TYPE_CHECKING:
    from torch import Tensor

    from popularity.data.splits import Split
    from popularity.training.fit import Fit

torch = Lazy("torch")
predictor = Lazy("popularity.inference.predictor")


@pytest.fixture(scope="module")
def songs(song_file) -> pd.DataFrame:
    from popularity.data.songs import load_songs

    return load_songs(str(song_file)).songs


@pytest.fixture(scope="module")
def split(songs) -> Split:
    from popularity.data.splits import Split

    rows = np.random.default_rng(0).permutation(len(songs))
    return Split(np.sort(rows[60:]), rows[:0], np.sort(rows[:60]))


@pytest.fixture(scope="module")
def fit(songs, split) -> Fit:
    return quick_fit(songs, split, **{"data.encoder.retrieved": 2, "data.encoder.eval_samples": 2})


def raw(fit: Fit, songs: pd.DataFrame, **options: Any) -> Tensor:
    encoder = fit.datamodule.encoder
    return predictor.outputs_and_known(fit.module, encoder, encoder.encode(songs), **options)[0]


def another(fit: Fit) -> Fit:
    """A fit that was built from the same config and took over the state of the first, as a checkpoint keeps it."""
    from popularity.training.fit import build_fit

    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    other = build_fit(fit.config, trainer=silent)
    other.module.load_state_dict(fit.module.state_dict())
    other.datamodule.encoder.load_state(fit.datamodule.state_dict()["encoder"])
    return other


@pytest.fixture(scope="module")
def crowded(songs) -> pd.DataFrame:
    """Two of five songs are by one artist, whose name a title could be split at; one of five credits that artist."""
    number, artist = np.arange(len(songs)) % 5, "Tyler, The Creator"
    credited = songs["title"] + f" (feat. {artist})"
    return songs.assign(
        artist=songs["artist"].mask(number < 2, artist), title=songs["title"].mask(number == 4, credited)
    )


@pytest.fixture(scope="module")
def crowded_fit(crowded, split) -> Fit:
    return quick_fit(crowded, split, **{"data.encoder.history": 6, "data.encoder.retrieved": 2})


def test_a_prediction_does_not_depend_on_the_songs_beside_it(crowded_fit, crowded, split):
    """Also where there are more known songs than a history holds, and where other songs would tell what a name is."""
    test = crowded.iloc[split.test]
    together = raw(crowded_fit, test)
    assert together.shape == (60, 60)
    torch.testing.assert_close(raw(crowded_fit, test, batch_size=7), together, atol=1e-5, rtol=1e-5)
    order = np.random.default_rng(1).permutation(60)
    torch.testing.assert_close(raw(crowded_fit, test.iloc[order]), together[order], atol=1e-5, rtol=1e-5)
    for i in range(0, 60, 7):
        torch.testing.assert_close(raw(crowded_fit, test.iloc[[i]])[0], together[i], atol=1e-5, rtol=1e-5)


def test_one_sample_is_read_where_all_are_alike(crowded_fit, crowded, split, monkeypatch):
    test, net, shapes = crowded.iloc[split.test], crowded_fit.module.net, list[tuple[int, ...]]()
    forward = net.forward
    monkeypatch.setattr(net, "forward", lambda batch: (shapes.append(batch["role"].shape), forward(batch))[1])
    found = raw(crowded_fit, test, batch_size=4)
    few, many = (sum(songs for samples, songs, _ in shapes if samples == count) for count in (1, 4))
    assert few + many == 60
    assert min(few, many) > 10
    monkeypatch.setattr("popularity.features.encoder.more_than", lambda length, role: torch.ones(1, dtype=torch.bool))
    torch.testing.assert_close(raw(crowded_fit, test), found, atol=1e-5, rtol=1e-5)


def test_predicting_twice_gives_the_same_numbers(fit, songs, split):
    """Also where histories are sampled: the state of other generators does not matter."""
    test = songs.iloc[split.test].assign(artist="Artist 1")
    first = raw(fit, test)
    torch.rand(3)
    assert torch.equal(raw(fit, test), first)


def test_predicting_is_without_dropout_and_leaves_the_module_as_it_was(fit, songs):
    expected = raw(fit, songs.head(3))
    fit.module.train()
    assert torch.equal(raw(fit, songs.head(3)), expected)
    assert fit.module.training
    fit.module.eval()
    raw(fit, songs.head(3))
    assert not fit.module.training


def test_a_prediction_and_its_distribution(fit, songs, split):
    test = songs.iloc[split.test]
    found = predictor.predict_songs(fit.module, fit.datamodule.encoder, test)
    assert found.mean.dtype == np.float64
    assert found.probabilities.shape == (60, 60)
    assert found.edges.shape == (61,)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-5)
    centre = (found.edges[1:] + found.edges[:-1]) / 2
    np.testing.assert_allclose((found.probabilities @ centre).clip(0, 100), found.mean, atol=1e-3)


def test_a_loaded_model_knows_the_songs_it_was_trained_on(fit, songs, split):
    test = songs.iloc[split.test]
    loaded = another(fit)
    assert len(loaded.datamodule.encoder.related.keys) == len(split.train)
    assert torch.equal(raw(loaded, test), raw(fit, test))
    loaded.datamodule.encoder.label.neg_()
    assert not torch.allclose(raw(loaded, test), raw(fit, test), atol=1e-3), "and reads them"


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_another_precision(dtype, fit, songs, split):
    """A network that a fit left in half precision or double predicts as it is."""
    test = songs.iloc[split.test]
    other = another(fit)
    other.module.to(getattr(torch, dtype))
    found = predictor.predict_songs(other.module, other.datamodule.encoder, test).mean
    expected = predictor.predict_songs(fit.module, fit.datamodule.encoder, test).mean
    np.testing.assert_allclose(found, expected, atol=1e-3 if dtype == "float64" else 2.0)


@pytest.mark.parametrize("members", [1, 3])
def test_training_samples_a_history_for_each_member(members, crowded, split):
    fit = quick_fit(crowded, split, **{"model.net.members": members})
    batch = next(iter(fit.datamodule.train_dataloader()))
    assert batch["role"].shape[0] == members
    assert members == 1 or not torch.equal(batch["role"][0], batch["role"][1])
    assert next(iter(fit.datamodule.test_dataloader()))["role"].shape[0] == 4 * members


@pytest.mark.parametrize(
    "settings",
    [
        {"data.encoder.history": 0},
        {"data.encoder.titles": False},
        {"data.encoder.text_scores": True},
        {"model.net.block": "none", "model.head": "MSEHead"},
        {"model.net.one_token": True, "model.net.bidirectional": False},
        {"model.net.members": 3, "data.encoder.hide_history": 1.0, "data.encoder.thin_history": 1.0},
    ],
    ids=str,
)
def test_other_settings_learn_and_predict(settings, songs, split):
    fit = quick_fit(songs, split, epochs=2, **settings)
    found = predictor.predict_songs(fit.module, fit.datamodule.encoder, songs.iloc[split.test])
    assert found.mean.shape == (60,)
    assert found.mean.std() > 0.1
    assert (found.probabilities is None) == (settings.get("model.head") == "MSEHead")
    if settings.get("data.encoder.history") == 0:
        assert next(iter(fit.datamodule.test_dataloader()))["role"].shape[2] == 0
