"""Attributions: they add up, and agree with what is known of simple networks."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.conftest import Lazy, make_songs, quick_fit

attributions = Lazy("popularity.inference.attributions")
explain_features = Lazy("popularity.inference.explain_features")
explain_model = Lazy("popularity.inference.explain_model")
pytestmark = pytest.mark.skipif(find_spec("captum") is None, reason="captum is not installed")

NETWORKS = {
    "history": {},
    "history, one number": {"model.head": "MSEHead", "data.encoder.text_scores": True},
    "history, one by others": {"data.encoder.retrieved": 2, "data.encoder.history": 3},
    "history, with trees": {"data.encoder": "StackedEncoder"},
    "tokens": {"model.net": "FeatureTokensMamba", "model.net.width": 8, "data.encoder": "FeatureEncoder"},
    "audio": {
        "model.net": "FeatureTokensMamba",
        "model.net.width": 8,
        "data.encoder": "FeatureEncoder",
        "data.encoder.audio_only": True,
    },
    "single token": {"model.net": "SingleTokenMamba", "data.encoder": "ColumnEncoder", "model.head": "MSEHead"},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    from popularity.data.songs import load_songs

    path = tmp_path_factory.mktemp("songs") / "songs.csv"
    songs = make_songs(90)
    songs.loc[::9, "energy"] = None
    songs.loc[::7, "release_date"] = None
    songs.to_csv(path, index=False)
    return load_songs(str(path)).songs


@pytest.fixture(scope="module")
def split(table):
    from popularity.data.splits import make_split

    return make_split(table, "random", validation=0.0)


def model_of(table, split, **settings):
    fit = quick_fit(table, split, **settings)
    return explain_model.Model(fit.module, fit.datamodule.encoder, 2)


@pytest.fixture(scope="module")
def model(table, split):
    return model_of(table, split)


@pytest.mark.parametrize("network", NETWORKS)
def test_parts_add_up(network, table, split):
    model = model_of(table, split, **NETWORKS[network])
    for number in split.test[:3]:
        song = table.iloc[[number]]
        found = attributions.attribute(model, song)
        assert found.gap < 0.02
        assert found.prediction == pytest.approx(model.mean(song)[0], abs=1e-3)
        total = found.baseline + found.having + sum(found.features.values()) + sum(found.known.values())
        assert total == pytest.approx(found.prediction, abs=0.02 * max(1, abs(found.prediction - found.baseline)))
        assert any(found.features.values())
        assert bool(found.known) == (network.startswith("history") and bool(found.roles))


def test_a_calibrated_prediction_is_explained(model, table, split):
    import copy

    import torch

    song = table.iloc[[split.test[0]]]
    before = attributions.attribute(model, song)
    module = copy.deepcopy(model.module)
    module.calibration.offset, module.calibration.slope = torch.tensor(8.0), torch.tensor(0.5)
    calibrated = explain_model.Model(module, model.encoder, model.samples)
    after = attributions.attribute(calibrated, song)
    assert after.prediction == pytest.approx(calibrated.mean(song)[0], abs=1e-2)
    assert after.prediction == pytest.approx(8 + before.prediction / 2, abs=1e-3)
    assert after.features["energy"] == pytest.approx(before.features["energy"] / 2, abs=1e-4)
    assert after.gap < 0.02


def test_parts_that_do_not_add_up_are_told(model, table, monkeypatch):
    """Too few steps leave a gap; more are then taken, up to a limit."""
    from popularity.inference.attributions import _Path

    song = table.iloc[[3]]
    taken, integrate = [], _Path.integrate
    monkeypatch.setattr(_Path, "integrate", lambda path, steps: taken.append(steps) or integrate(path, 1))
    monkeypatch.setattr("popularity.inference.attributions.ENOUGH", 1e-9)
    assert attributions.attribute(model, song).gap > 1e-9
    assert taken == [32, 64, 128, 256, 512]


def linear_model(model):
    """The encoder of a model before a network that is a sum: what each input adds is known."""
    import copy

    import torch
    from torch import nn

    codes = model.encoder.inputs.codes

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.song = nn.Linear(model.encoder.inputs.song, 1, bias=False)
            self.category = nn.Embedding(sum(codes), 1)
            self.offsets = torch.tensor([0, *codes[:-1]]).cumsum(0)

        def forward(self, batch):
            own = self.song(batch["song"]) + self.category(batch["category"] + self.offsets).sum(1)
            here = batch["role"] >= 0  # (D, B, H)
            return own + (here * (3 * batch["history_label"] + 1)).sum(-1, keepdim=True)

    class Plain(nn.Module):
        def mix(self, raw):
            return raw.mean(0)

        def predict(self, raw):
            return raw.squeeze(-1)

    module = copy.copy(model.module)
    module._modules = {**model.module._modules, "net": Sum().eval(), "head": Plain()}
    return explain_model.Model(module, model.encoder, model.samples)


def test_each_part_of_a_sum_gets_what_it_adds(model, table, split):
    import torch

    linear, encoder = linear_model(model), model.encoder
    net = linear.module.net
    explained = 0
    for number in split.test:
        song = table.iloc[[number]]
        found = attributions.attribute(linear, song)
        encoded = encoder.encode(song)
        moved = (encoded["song"][0] - encoder.known["song"].mean(0)) * net.song.weight[0].detach()
        names = explain_features.features_of_numbers(encoder)["song"]
        for feature in ("energy", "title", "tempo"):
            own = torch.tensor([name == feature for name in names])
            assert found.features[feature] == pytest.approx(float(moved[own].sum()), abs=1e-4)
        rows = encoded["category"][0] + net.offsets
        change = (net.category.weight[rows] - net.category.weight[net.offsets]).detach()[:, 0].tolist()
        assert found.features["key"] == pytest.approx(change[0], abs=1e-4)
        assert found.features["genre"] == pytest.approx(change[4] + change[5], abs=1e-4)
        # fewer songs than the history has room for: each stands in every sample
        wanted = set(encoded["row"][encoded["role"] >= 0].tolist())
        assert set(found.known) == wanted
        assert found.having == pytest.approx(len(wanted), abs=1e-3)
        label = (encoder.known["popularity"] - encoder.known["popularity"].mean()) / encoder.known["popularity"].std(
            correction=0
        )
        for row, points in found.known.items():
            assert points == pytest.approx(3 * float(label[row]), abs=1e-3)
        explained += len(wanted)
    assert explained > 10


@pytest.mark.parametrize("encoder", ["HistoryEncoder", "FeatureEncoder", "ColumnEncoder"])
def test_a_column_changes_the_numbers_of_its_feature_alone(encoder, table):
    import numpy as np
    import torch

    from popularity.features.encoder import HistoryEncoder
    from popularity.features.song import ColumnEncoder, FeatureEncoder

    fitted = {"HistoryEncoder": HistoryEncoder, "FeatureEncoder": FeatureEncoder, "ColumnEncoder": ColumnEncoder}[
        encoder
    ]()
    fitted.fit(table)
    names, before = explain_features.features_of_numbers(fitted), fitted.encode(table)
    for feature, columns in explain_features.COLUMNS.items():
        if feature == explain_features.KNOWN_SONGS:
            continue
        other = table.assign(**{name: table[name].to_numpy()[::-1] for name in columns})
        after = fitted.encode(other)
        changed = set()
        for name, features in names.items():
            assert before[name][0].numel() == len(features)
            if not features:
                continue
            differs = ~torch.isclose(
                *(one[name].reshape(len(table), -1).float() for one in (before, after)), equal_nan=True
            )
            changed |= set(np.array(features)[differs.any(0).numpy()].tolist())
        # whether an album is named like the song, and songs by others on it, also depend on these
        beside = {"album"} if feature in ("title", "names", "release_date") else set()
        assert changed <= {feature} | beside
        if feature in ("energy", "tempo", "key"):
            assert changed == {feature}


def test_columns_and_numeric_features_agree(table):
    import numpy as np

    from popularity.features.song import NUMERIC_FEATURES, numeric_features

    features = numeric_features(table)
    for column, (name, numeric) in explain_features.NUMERIC.items():
        values, feature = table[column].to_numpy(), features[:, NUMERIC_FEATURES.index(name)]
        np.testing.assert_allclose(numeric.feature_value(values), feature)
        np.testing.assert_allclose(numeric.column_value(feature), values, rtol=1e-6, atol=1e-9)


def test_an_own_encoder_is_refused_in_one_line():
    from popularity.errors import InputError

    class Own:
        pass

    with pytest.raises(InputError, match="got Own"):
        explain_features.features_of_numbers(Own())
    with pytest.raises(InputError, match="got Own"):
        attributions.average_song(Own())


def test_known_songs_stay_when_columns_change(table, split):
    """Also when the column that they were found by does."""
    import torch

    prolific = table.assign(artist="Prolific")
    model = model_of(prolific, split)
    song = prolific.iloc[split.test[:1]]
    changed = song.assign(danceability=0.123, artist="Nobody")

    def rows(model, songs):
        encoded = model.encoder.encode(songs)
        return encoded["row"][encoded["role"] >= 0]

    pinned = model.pinned(song)
    assert torch.equal(rows(pinned, changed), rows(model, song))
    assert not torch.equal(rows(model, changed), rows(model, song))
    assert not torch.equal(pinned.encoder.encode(changed)["key"], model.encoder.encode(song)["key"])


def test_variants_of_a_song_read_the_same_histories(table, split):
    """Numbers that hardly change predict the same, also where an artist has more known songs than are read."""
    import numpy as np
    import pandas as pd

    model = model_of(table.assign(artist="Prolific"), split, **{"data.encoder.history": 3})
    song = table.iloc[split.test[:1]].assign(artist="Prolific")
    three = pd.concat([song] * 3, ignore_index=True)
    nearly = three.assign(danceability=song["danceability"].item() + np.array([0, 1e-7, 2e-7]))
    assert nearly["danceability"].nunique() == 3
    np.testing.assert_allclose(model.mean(nearly), model.mean(song)[0], atol=1e-3)
