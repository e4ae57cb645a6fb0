"""Importances, curves and the search for a change, on functions whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from popularity.errors import InputError
from tests.conftest import Lazy, make_songs, quick_fit

curves = Lazy("popularity.inference.explain_curves")
features = Lazy("popularity.inference.explain_features")
grids = Lazy("popularity.inference.what_if_grid")
importance = Lazy("popularity.inference.explain_importance")
predictor = Lazy("popularity.inference.predictor")
search = Lazy("popularity.inference.what_if_search")


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    from popularity.data.songs import load_songs

    path = tmp_path_factory.mktemp("songs") / "songs.csv"
    make_songs(120).to_csv(path, index=False)
    return load_songs(str(path)).songs


def predict(songs: pd.DataFrame) -> np.ndarray:
    return (20 * songs["energy"] + 30 * songs["valence"] ** 2 * songs["tempo"] / 100).to_numpy(np.float64)


def test_partial_dependence_is_that_of_scikit_learn(songs):
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.inspection import partial_dependence

    class Model(RegressorMixin, BaseEstimator):
        def fit(self, X, y):
            self.fitted_ = True
            return self

        def predict(self, X):
            return predict(X)

    grid = curves.grid_of(songs["valence"].to_numpy(), 7)
    model, table = Model().fit(None, None), songs[["energy", "valence", "tempo"]]
    expected = partial_dependence(model, table, ["valence"], kind="both", custom_values={"valence": grid})
    found = curves.individual_curves(predict, songs, "valence", grid)
    np.testing.assert_allclose(found, expected["individual"][0])
    np.testing.assert_allclose(found.mean(0), expected["average"][0])


def test_grids_leave_out_extremes_and_missing_values():
    values = np.r_[np.linspace(0, 1, 99), np.nan, 1000.0]
    grid = curves.grid_of(values, 5)
    assert len(grid) == 5
    assert 0 < grid[0] < 0.05
    assert 0.95 < grid[-1] <= 1
    assert len(curves.grid_of(np.full(3, np.nan))) == 0


def test_local_effects_of_a_sum_are_its_term(songs):
    def additive(songs):
        return predict(songs.assign(valence=0.0)) + 30 * songs["valence"].to_numpy() ** 2

    found = curves.accumulated_local_effects(additive, songs, "valence", bins=10)
    term = 30 * found["value"] ** 2
    np.testing.assert_allclose(found["effect"] - found["effect"][0], term - term[0], atol=1e-9)
    assert found["songs"].sum() == len(songs)
    middle = (found["effect"][:-1].to_numpy() + found["effect"][1:].to_numpy()) / 2
    assert np.average(middle, weights=found["songs"][1:]) == pytest.approx(0, abs=1e-9)
    assert (found["high"] - found["low"]).max() < 1  # only the place of a song within its bin makes steps differ


def test_local_effects_are_not_misled_by_features_that_go_together():
    """Where x = y for all songs, partial dependence rests on songs that do not exist (Apley & Zhu 2020, section 1)."""
    x = np.linspace(0, 1, 200)
    songs = pd.DataFrame({"x": x, "y": x})

    def sharp(songs):
        return np.where(np.abs(songs["x"] - songs["y"]) > 0.2, 1000.0, 2 * songs["x"])

    found = curves.accumulated_local_effects(sharp, songs, "x", bins=20)
    assert found["effect"].iloc[-1] - found["effect"].iloc[0] == pytest.approx(2)
    assert curves.individual_curves(sharp, songs, "x", np.array([0.5])).mean() > 100


def test_local_effects_of_few_or_equal_values():
    flat = pd.DataFrame({"x": [1.0, 1.0, np.nan]})
    assert curves.accumulated_local_effects(lambda songs: songs["x"].to_numpy(), flat, "x").empty
    two = curves.accumulated_local_effects(lambda songs: songs["x"].to_numpy(), pd.DataFrame({"x": [0.0, 1.0]}), "x")
    assert np.ptp(two["effect"]) == pytest.approx(1)


@pytest.fixture(scope="module")
def trained(songs):
    from popularity.data.splits import make_split
    from popularity.inference.explain_model import Model

    split = make_split(songs, "random", validation=0.0)
    fit = quick_fit(songs, split)
    return Model(fit.module, fit.datamodule.encoder, 2), songs.iloc[split.test].reset_index(drop=True)


def reading(model, read):
    """The encoder of a model before a network that reads one thing; what it reads is what is important."""
    import copy

    import torch
    from torch import nn

    from popularity.inference.explain_model import Model

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, batch):
            return read(batch).unsqueeze(0).unsqueeze(-1)  # (1, B, 1)

    from popularity.models.heads import MSEHead

    module = copy.copy(model.module)
    module._modules = {**model.module._modules, "net": Net().eval(), "head": MSEHead()}
    return Model(module, model.encoder, model.samples)


def reads_energy(batch):
    return batch["song"][:, 3]


def reads_known_songs(batch):
    return (batch["history_label"] * (batch["role"] >= 0)).sum(-1).mean(0)


@pytest.mark.parametrize(
    ("read", "feature"),
    [(reads_energy, "energy"), pytest.param(reads_known_songs, "known_songs", marks=pytest.mark.slow)],
)
def test_what_a_network_reads_is_important_and_nothing_else(read, feature, trained):
    model, songs = trained
    model = reading(model, read)
    songs = songs.assign(popularity=model.mean(songs))  # as good as can be: shuffling can only do harm
    found = importance.permutation_importance(model, songs, shuffles=3).set_index("feature")
    assert found.index[0] == feature
    assert found["mse_rise"].iloc[0] > 1
    assert found["mse_rise_low"].iloc[0] < found["mse_rise"].iloc[0] < found["mse_rise_high"].iloc[0]
    np.testing.assert_allclose(found["change"].iloc[1:], 0, atol=1e-3)
    assert len(found) > 10
    blind = importance.permutation_importance(model, songs.assign(popularity=np.nan), shuffles=3)
    assert blind["mse_rise"].isna().all()
    assert blind["feature"][0] == feature
    assert blind["change"][0] == pytest.approx(found["change"].iloc[0])


def test_songs_without_popularity_do_not_count_for_the_error(trained):
    from popularity.inference.explain_importance import permutation_importance

    model, songs = trained
    model = reading(model, reads_energy)
    whole = permutation_importance(model, songs, shuffles=2, seed=0)
    gap = songs.assign(popularity=songs["popularity"].where(np.arange(len(songs)) > 0))
    found = permutation_importance(model, gap, shuffles=2, seed=0)
    assert found["change"].tolist() == whole["change"].tolist()
    assert found["mse_rise"].notna().all()
    assert found["mse_rise"].tolist() != whole["mse_rise"].tolist()


def test_features_that_a_network_does_not_read_are_left_out(songs):
    from popularity.data.splits import make_split
    from popularity.inference.explain_model import Model

    split = make_split(songs, "random", validation=0.0)
    settings = {"model.net": "SingleTokenMamba", "data.encoder": "ColumnEncoder", "model.head": "MSEHead"}
    fit = quick_fit(songs, split, **settings)
    model = Model(fit.module, fit.datamodule.encoder, 2)
    found = importance.permutation_importance(model, songs.iloc[split.test], shuffles=2)
    assert not {"title", "names", "genre", "release_date", "known_songs"} & set(found["feature"])
    assert {"energy", "key"} <= set(found["feature"])


def test_songs_by_one_artist_count_as_one_observation():
    from popularity.inference.explain_importance import _interval

    values = np.random.default_rng(0).normal(size=40)
    apart = _interval("x", values, np.arange(40))
    assert apart["x_high"] - apart["x"] == pytest.approx(1.959964 * values.std(ddof=1) / np.sqrt(40))
    twice = _interval("x", np.repeat(values, 2), np.repeat(np.arange(40), 2))
    assert twice["x_high"] == pytest.approx(apart["x_high"])


BOUNDS = np.array([[-1.0, 1.0]] * 3)


def linear(features: np.ndarray) -> np.ndarray:
    return 50 + 10 * features[:, 0] - 5 * features[:, 1]


@pytest.mark.parametrize("target", [57.0, 43.0])
def test_the_smallest_change_is_found(target):
    found = search.find_counterfactual(linear, np.zeros(3), BOUNDS, target)
    assert found.reached
    assert found.prediction == pytest.approx(target, abs=0.3)
    assert np.linalg.norm(found.features) < 1.15 * 7 / np.sqrt(125)  # distance of the plane
    assert found.features[2] == 0
    again = search.find_counterfactual(linear, np.zeros(3), BOUNDS, target)
    np.testing.assert_array_equal(found.features, again.features)


def test_a_feature_of_little_effect_reaches_a_target_near_by():
    found = search.find_counterfactual(lambda features: 50 + 0.02 * features[:, 0], np.zeros(3), BOUNDS, 50.015)
    assert found.reached
    assert found.features[0] == pytest.approx(0.75, abs=0.05)


def test_a_target_is_reached_alone_as_well_as_among_others():
    """In single precision a prediction differs in its last digits beside other songs."""

    def steps(features):
        return 50 + np.floor(4 * np.maximum(features[:, 0], 0)) - 5e-5 * (len(features) == 1)

    assert search.find_counterfactual(steps, np.zeros(3), BOUNDS, 51.0).reached


def test_what_cannot_be_reached_comes_with_the_closest():
    found = search.find_counterfactual(linear, np.zeros(3), BOUNDS, 90.0)
    assert not found.reached
    assert found.prediction == pytest.approx(65, abs=0.3)
    assert (np.abs(found.features) <= 1).all()
    assert found.features[2] == 0


def test_a_song_outside_the_range_may_stay_where_it_is():
    found = search.find_counterfactual(linear, np.array([0.0, 0.0, 3.0]), BOUNDS, 55.0)
    assert found.reached
    assert found.features[2] == 3


def test_ranges_are_those_of_the_training_songs(trained, songs):
    from popularity.data.splits import make_split

    model, _ = trained
    train = songs.iloc[make_split(songs, "random", validation=0.0).train]
    ranges = grids.feature_ranges("x.ckpt", model, None)
    for column in ("energy", "duration_ms", "speechiness"):
        low, high = ranges[column].column(np.array([ranges[column].low, ranges[column].high]))
        assert low == pytest.approx(train[column].min(), rel=1e-4)
        assert high == pytest.approx(train[column].max(), rel=1e-4)
        assert ranges[column].column(np.array([ranges[column].standard(low)]))[0] == pytest.approx(low)
    assert grids.values_of("key", ranges, 5).tolist() == list(range(12))
    with pytest.raises(InputError, match="learned nothing from it"):
        grids.values_of("energy", {}, 5)


def test_categories_without_a_difference_cannot_be_varied(songs):
    from popularity.errors import InputError
    from popularity.features.encoder import HistoryEncoder
    from popularity.inference.what_if_grid import check_learned

    encoder = HistoryEncoder()
    encoder.fit(songs.assign(mode=1.0, explicit=np.nan))
    check_learned(encoder, ["key", "energy"])
    for name in ("mode", "explicit"):
        with pytest.raises(InputError, match=f"^{name}: this network has learned nothing from it"):
            check_learned(encoder, ["key", name])


def test_intervals_are_quantiles_of_the_histogram():
    edges = np.array([-10.0, 0.0, 50.0, 100.0, 110.0])
    probabilities = np.array([[0.0, 0.5, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0]])
    found = grids.with_interval(predictor.Prediction(np.array([50.0, 0.0]), probabilities, edges))
    np.testing.assert_allclose(found["low"], [10, 0])
    np.testing.assert_allclose(found["high"], [90, 0])
    assert list(grids.with_interval(predictor.Prediction(np.array([50.0])))) == ["prediction"]
