"""Encoding a song by itself: missing, unknown and constant features, and what an encoder keeps."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popularity.data.schema import AUDIO
from popularity.data.songs import load_songs
from tests.conftest import Lazy

if TYPE_CHECKING:
    from popularity.features.base import Encoder


torch = Lazy("torch")
encoders = Lazy("popularity.features.song")


def fitted(songs: pd.DataFrame, kind: str = "FeatureEncoder") -> Encoder:
    encoder = getattr(encoders, kind)()
    encoder.fit(songs)
    return encoder


@pytest.fixture(scope="module")
def songs(song_file) -> pd.DataFrame:
    return load_songs(str(song_file)).songs


def test_piecewise_linear_follows_the_paper():
    """Gorishniy et al. 2022, eq. 1, on edges 0, 1, 3: full bins before, a share of the bin hit, empty bins after."""
    edges = torch.tensor([[0.0, 1.0, 3.0]])
    x = torch.tensor([[-0.5], [0.25], [1.0], [2.0], [4.0], [torch.nan]])
    expected = [[-0.5, 0.0], [0.25, 0.0], [1.0, 0.0], [1.0, 0.5], [1.0, 1.5], [0.0, 0.0]]
    assert encoders.piecewise_linear(x, edges)[:, 0].tolist() == expected


@given(st.lists(st.floats(-4, 4, width=32), min_size=2, max_size=30, unique=True))
def test_piecewise_linear_keeps_order(values):
    edges = torch.linspace(-4, 4, 9)[None]
    code = encoders.piecewise_linear(torch.tensor(sorted(values))[:, None], edges)[:, 0]
    assert (code.diff(dim=0) >= -1e-6).all()
    assert (code.sum(1).diff() > -1e-6).all()


def test_empty_bin_is_a_step():
    edges = torch.tensor([[0.0, 1.0, 1.0, 2.0]])
    code = encoders.piecewise_linear(torch.tensor([[0.9], [1.1]]), edges)[:, 0]
    assert code[:, 1].tolist() == [0.0, 1.0]


def decoded_categories(encoder, codes):
    """Values behind the codes, None where missing or unknown."""
    table = {}
    for index, name in enumerate(encoders.CATEGORIES):
        levels = encoders.CLOSED.get(name) or encoder.vocabulary[name]
        table[name] = [levels[code - 1] if code else None for code in codes[:, index].tolist()]
    return pd.DataFrame(table, dtype=object)


def test_round_trip(songs):
    encoder = fitted(songs)
    encoded = encoder.encode(songs)
    assert encoded["numeric"].shape == (len(songs), len(encoders.NUMERIC_FEATURES))
    original = encoders.numeric_features(songs)
    inside = np.abs(encoded["numeric"].numpy()) < 3.99
    numeric = encoded["numeric"].double().numpy() * encoder.scale + encoder.mean
    np.testing.assert_allclose(numeric[inside], original[inside], rtol=1e-4)
    decoded = decoded_categories(encoder, encoded["category"])
    for name in encoders.CATEGORIES:
        known = songs[name].notna().to_numpy()
        assert decoded[name][known].tolist() == songs[name][known].tolist()
        assert decoded[name][~known].isna().all()


def test_missing_is_missing_and_unseen_is_unknown(songs):
    encoder = fitted(songs)
    row = songs.head(2).copy()
    row.loc[0, ["energy", "key", "genre", "title"]] = np.nan
    row.loc[1, "genre"] = "a genre that training never saw"
    encoded = encoder.encode(row)
    assert encoded["numeric"][:, encoders.NUMERIC_FEATURES.index("energy")].isnan().tolist() == [True, False]
    assert encoded["category"][0, encoders.CATEGORIES.index("key")] == 0
    assert encoded["category"][:, encoders.CATEGORIES.index("genre")].tolist() == [0, 0]
    assert encoded["title"][:, -1].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("name", "value"), [("key", 11.0), ("mode", 1.0), ("time_signature", 5.0), ("explicit", 1.0)])
def test_a_code_that_training_never_met_is_unknown(name, value, songs):
    """Its embedding was never trained; that of the unknown is, wherever training hides inputs."""
    codes = pd.Series(np.resize([0.0, np.nan, 4.0], len(songs)), songs.index)
    train = songs.assign(**{name: codes.replace(4.0, 0.0) if name in ("mode", "explicit") else codes.replace(0.0, 3.0)})
    encoder = fitted(train)
    column = encoders.CATEGORIES.index(name)
    usual = encoder.encode(train)["category"]
    assert sorted(set(usual[:, column].tolist()))[0] == 0
    assert usual[:, column].max() > 0
    other = encoder.encode(train.assign(**{name: value}))["category"]
    assert (other[:, column] == 0).all()
    rest = [place for place in range(len(encoders.CATEGORIES)) if place != column]
    assert torch.equal(other[:, rest], usual[:, rest])


def test_feature_absent_in_training_stays_silent(songs):
    encoder = fitted(songs.assign(release_date=pd.NaT, genre=np.nan))
    encoded = encoder.encode(songs)
    assert encoded["numeric"][:, encoders.NUMERIC_FEATURES.index("release_year")].isnan().all()
    assert (encoded["category"][:, encoders.CATEGORIES.index("genre")] == 0).all()
    assert not encoder.present[encoders.NUMERIC_FEATURES.index("release_year")]
    assert not encoder.present[len(encoders.NUMERIC_FEATURES) + encoders.CATEGORIES.index("genre")]


def test_a_feature_that_never_varied_in_training_stays_silent(songs):
    same = {
        "instrumentalness": 0.2,
        "mode": 1.0,
        "genre": "pop",
        "title": "One",
        "release_date": songs["release_date"][0],
    }
    encoder = fitted(songs.assign(**same))
    silent = [encoders.NUMERIC_FEATURES.index(name) for name in ("log_instrumentalness", "release_year")]
    silent += [len(encoders.NUMERIC_FEATURES) + encoders.CATEGORIES.index(name) for name in ("mode", "genre")]
    assert not encoder.present[[*silent, -1]].any()
    assert encoder.present[
        [encoders.NUMERIC_FEATURES.index("tempo"), len(encoders.NUMERIC_FEATURES) + encoders.CATEGORIES.index("key")]
    ].all()
    usual, other = encoder.encode(songs.assign(**same)), encoder.encode(songs)
    assert all(torch.equal(usual[name].nan_to_num(), other[name].nan_to_num()) for name in usual)
    columns = fitted(songs.assign(**same), "ColumnEncoder")
    assert torch.equal(columns.encode(songs.assign(**same))["columns"], columns.encode(songs)["columns"])


def test_of_a_feature_with_one_value_only_its_absence_is_learned(songs):
    """Where training rows have one value or none, any other value is read as that one."""
    half = songs["energy"].where(songs.index % 2 == 0).mask(songs.index % 2 == 0, 0.5)
    encoder = fitted(songs.assign(energy=half))
    energy = encoders.NUMERIC_FEATURES.index("energy")
    assert encoder.present[energy]
    one, other = (encoder.encode(songs.assign(energy=value)) for value in (0.5, 0.9))
    assert torch.equal(one["numeric"].nan_to_num(), other["numeric"].nan_to_num())
    assert torch.equal(one["bins"], other["bins"])
    assert not one["numeric"][:, energy].isnan().any()
    assert encoder.encode(songs.assign(energy=np.nan))["numeric"][:, energy].isnan().all()


def test_extreme_values_are_clipped(songs):
    encoder = fitted(songs)
    encoded = encoder.encode(songs.assign(tempo=1e6, loudness=-1e6))["numeric"]
    assert (encoded[:, encoders.NUMERIC_FEATURES.index("tempo")] == 4).all()
    assert (encoded[:, encoders.NUMERIC_FEATURES.index("loudness")] == -4).all()


def test_of_a_single_song_all_that_occurs_is_present(songs):
    encoder = fitted(songs.iloc[:1])
    assert encoder.present[: len(encoders.NUMERIC_FEATURES)].all()
    assert torch.isfinite(encoder.encode(songs)["numeric"]).all()


def test_encoding_never_reads_the_label_and_fit_only_the_rows_given(songs):
    train = songs.iloc[:150]
    first = fitted(train).encode(songs)
    changed = songs.assign(popularity=100 - songs["popularity"])
    second = fitted(changed.iloc[:150]).encode(changed)
    assert all(torch.equal(first[name].nan_to_num(), second[name].nan_to_num()) for name in first)
    shifted = songs.copy()
    shifted.loc[150:, list(AUDIO)] = shifted.loc[150:, list(AUDIO)] * 0.5
    assert np.array_equal(fitted(shifted.iloc[:150]).edges, fitted(train).edges)


def test_order_of_rows_changes_nothing(songs):
    shuffled = songs.sample(frac=1, random_state=1)
    a, b = fitted(songs), fitted(shuffled)
    np.testing.assert_allclose(a.edges, b.edges, atol=1e-12)
    assert a.vocabulary == b.vocabulary


@pytest.mark.parametrize("kind", ["FeatureEncoder", "ColumnEncoder"])
def test_state_survives_a_weights_only_file(kind, songs):
    make = getattr(encoders, kind)
    encoder = fitted(songs, kind)
    file = io.BytesIO()
    torch.save(encoder.state(), file)
    file.seek(0)
    loaded = make()
    loaded.load_state(torch.load(file, weights_only=True))
    a, b = encoder.encode(songs), loaded.encode(songs)
    assert all(torch.equal(a[name].nan_to_num(), b[name].nan_to_num()) for name in a)


def test_columns_as_the_original_project_fed_them(songs):
    columns = fitted(songs, "ColumnEncoder").encode(songs)["columns"].double().numpy()
    for index, name in enumerate(AUDIO):
        if name in encoders.STANDARDISED:
            assert columns[:, index].mean() == pytest.approx(0, abs=1e-5)
            assert columns[:, index].std() == pytest.approx(1, abs=1e-5)
        else:
            np.testing.assert_allclose(columns[:, index], songs[name], rtol=1e-6)


@settings(max_examples=20)
@given(st.deferred(lambda: st.sampled_from(list(encoders.CLOSED))), st.integers(0, 11))
def test_codes_of_closed_categories_do_not_depend_on_the_data(name, value):
    levels = encoders.CLOSED[name]
    value = levels[value % len(levels)]
    encoder = encoders.FeatureEncoder()
    frame = decoded_categories(encoder, torch.tensor([[0] * len(encoders.CATEGORIES)]))
    assert frame.isna().all().all()
    codes = torch.zeros(1, len(encoders.CATEGORIES), dtype=torch.long)
    codes[0, encoders.CATEGORIES.index(name)] = levels.index(value) + 1
    assert decoded_categories(encoder, codes)[name].tolist() == [value]
