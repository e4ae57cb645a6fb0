"""The encoder of a stack: trees beside the network, out of its reach, and the same from a checkpoint."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Lazy, quick_fit
from tests.features.test_tabular import made_up

if TYPE_CHECKING:
    from popularity.features.stacked import StackedEncoder

pytestmark = pytest.mark.skipif(find_spec("lightgbm") is None, reason="LightGBM is not installed")
torch = Lazy("torch")
splits = Lazy("popularity.data.splits")
stacked = Lazy("popularity.features.stacked")
trees = Lazy("popularity.features.trees")
packing = Lazy("popularity.features.packed")
watching = Lazy("popularity.inference.watched")
explain_model = Lazy("popularity.inference.explain_model")


def fitted(songs: pd.DataFrame, kind: str = "random", **settings) -> StackedEncoder:
    encoder = stacked.StackedEncoder(**settings)
    encoder.fit(songs, splits.inner_folds(songs, kind, encoder.folds), earlier=kind == "time")
    return encoder


@pytest.fixture(scope="module")
def songs() -> pd.DataFrame:
    return made_up(240)


@pytest.fixture(scope="module")
def encoder(songs) -> StackedEncoder:
    return fitted(songs[:200])


def tree(encoder: StackedEncoder, songs: pd.DataFrame) -> np.ndarray:
    """The trees' predictions, as a batch holds them."""
    rows = encoder.sample(encoder.encode(songs), torch.Generator(), training=False, samples=1)
    return encoder.attach(rows)["tree"].numpy()


def test_trees_predict_new_songs(encoder, songs):
    new = songs[200:]
    found = tree(encoder, new)
    assert found.shape == (40,)
    assert np.mean((found - new["popularity"]) ** 2) < 0.7 * new["popularity"].var()
    np.testing.assert_array_equal(found, tree(encoder, new.assign(popularity=np.nan)))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"audio_only": True}])
def test_a_checkpoint_holds_the_trees(settings, songs):
    encoder, file = fitted(songs[:200], **settings), io.BytesIO()
    torch.save(encoder.state(), file)
    file.seek(0)
    again = stacked.StackedEncoder(**settings)
    assert again.state() == {}
    again.load_state(torch.load(file, weights_only=True))
    for part in (songs, songs[200:]):  # songs that are known, and songs that are not
        one, other = encoder.encode(part), again.encode(part)
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(other[name], one[name], atol=1e-9, rtol=0, equal_nan=True)
        np.testing.assert_array_equal(tree(again, part), tree(encoder, part))


def test_a_table_is_packed_without_loss(songs):
    songs = songs.assign(title=songs["title"].where(songs.index % 3 > 0), release_date=songs["release_date"].shift(2))
    songs.loc[0, "artist"] = 'Ünï "quoted"; ☃'
    again = packing.unpacked_table(packing.packed_table(songs))
    pd.testing.assert_frame_equal(again, songs, check_exact=True)


@pytest.mark.slow
def test_the_network_never_reads_the_trees(encoder, songs):
    """In training there is no prediction of theirs, and what the network makes of other songs is that without trees."""
    from popularity.features.encoder import HistoryEncoder

    in_training = encoder.encode(songs[:200], training=True)
    plain = HistoryEncoder()
    plain.fit(songs[:200], splits.inner_folds(songs[:200], "random", encoder.folds))
    expected = plain.encode(songs[:200], training=True)
    assert in_training.keys() == expected.keys()
    assert "tree" not in encoder.attach(encoder.sample(in_training, torch.Generator(), training=True, samples=1))
    fit = quick_fit(songs, splits.make_split(songs, validation=0), **{"data.encoder": "StackedEncoder"})
    batch = next(iter(fit.datamodule.test_dataloader()))
    with torch.no_grad():
        before, predicted = fit.module.net(batch), fit.module.head.predict(fit.module(batch))
        batch["tree"] = batch["tree"] + 10
        assert torch.equal(fit.module.net(batch), before)
        moved = fit.module.head.predict(fit.module(batch)) - predicted
    torch.testing.assert_close(moved, torch.full_like(moved, 5.0), atol=1e-2, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "artist", "time"])
def test_a_known_song_s_own_label_is_not_in_its_features(kind, songs):
    """What tabular features say of it comes from folds without it, in training and when it is predicted later."""
    train = songs[:120]
    other = train.copy()
    other.loc[50, "popularity"] = 100 - other.loc[50, "popularity"]
    rows = [fitted(table, kind).encode(train) for table in (train, other)]
    changed = {
        name: ~torch.isclose(rows[0][name], rows[1][name], equal_nan=True, atol=1e-9).all(1)
        for name in (stacked.TABULAR, stacked.TABULAR_KNOWN)
    }
    assert not any(found[50] for found in changed.values())
    assert changed[stacked.TABULAR].any(), "other songs' features do rest on it"


def test_songs_are_the_same_by_id_or_by_artist_and_title(encoder, songs):
    from popularity.features.keys import keys_of

    known = encoder.related.keys
    assert stacked.same_song(keys_of(songs), known).tolist() == [*range(200), *[-1] * 40]
    nobody = songs[:3].assign(track_id=pd.Series([None] * 3, dtype="str"), danceability=0.5)
    assert stacked.same_song(keys_of(nobody), known).tolist() == [0, 1, 2]
    assert stacked.same_song(keys_of(nobody.assign(title="Another")), known).tolist() == [-1] * 3


def test_known_songs_can_be_held_and_taken_away(encoder, songs):
    new = songs[200:].reset_index(drop=True)
    encoded = encoder.encode(new)
    alone, _ = watching.watched(encoder, watching.without_known_songs(encoded))
    strangers = new.assign(artist=[f"Nobody {i}" for i in range(40)], album="Unknown", title="Untitled")
    columns = [name for name in encoder.trees.features.effects_ if stacked.rests_on_known_songs(name)]
    assert "artist_effect" in columns
    assert "title_ngrams" not in columns
    places = [encoder.trees.features.columns_.index(name) for name in columns]
    rows = [encoder._rows(one)[:, places] for one in (alone.encode(new), encoder.encode(strangers))]
    np.testing.assert_array_equal(*rows)
    pinned = explain_model.Model(None, encoder, 1).pinned(new).encoder  # type: ignore[arg-type]
    held = pinned.encode(strangers)
    torch.testing.assert_close(held[stacked.TABULAR_KNOWN], encoded[stacked.TABULAR_KNOWN], equal_nan=True)
    assert not torch.equal(held[stacked.TABULAR].nan_to_num(), encoded[stacked.TABULAR].nan_to_num())


def test_what_features_add_is_the_prediction(encoder, songs):
    encoded = encoder.encode(songs[200:])
    total = sum(encoder.contributions(encoded).values())
    np.testing.assert_allclose(np.diff(total), np.diff(tree(encoder, songs[200:])), atol=1e-4)


@pytest.mark.parametrize("kind", ["random", "artist", "time"])
def test_settings_are_chosen_on_songs_that_were_held_out(kind, songs, monkeypatch):
    """By the rule of the split, with features that do not rest on their labels."""
    seen, found, fit_to = [], [], trees.stopped_early

    def watch(model, rows, popularity, held_out):
        seen.append((len(popularity), held_out[1]))
        found.append(fit_to(model, rows, popularity, held_out))
        return found[-1]

    monkeypatch.setattr("popularity.features.trees.stopped_early", watch)
    folds = splits.inner_folds(songs, kind, 10)
    chosen = trees.chosen_settings("audio", songs, folds)
    assert [size for size, _ in seen] == [len(fit) for fit, _ in folds[:3] for _ in range(2)]
    for (_, answers), fold in zip(seen, np.repeat(np.arange(3), 2), strict=True):
        np.testing.assert_array_equal(answers, songs["popularity"][folds[fold][1]])
    place = [trees.LIGHTGBM["num_leaves"], trees.LARGER["num_leaves"]].index(chosen["num_leaves"])
    assert chosen["n_estimators"] == round(np.mean(found[place::2]))
    for fit, held_out in trees.within(folds[0][0], folds):
        rows = folds[0][0][np.concatenate([fit, held_out])]
        assert not np.isin(rows, folds[0][1]).any()
        if kind == "artist":
            artist = songs["artist"].to_numpy()[folds[0][0]]
            assert not set(artist[fit]) & set(artist[held_out])


@pytest.mark.parametrize("better", ["LIGHTGBM", "LARGER"])
def test_the_setting_with_the_smaller_error_is_chosen(better, songs, monkeypatch):
    worse = {"LIGHTGBM": "LARGER", "LARGER": "LIGHTGBM"}[better]
    useless = {**getattr(trees, worse), "min_child_samples": 10_000}
    monkeypatch.setattr(f"popularity.features.trees.{worse}", useless)
    assert (
        trees.chosen_settings("audio", songs, splits.inner_folds(songs, "random", 10))["num_leaves"]
        == (getattr(trees, better)["num_leaves"])
    )


def test_what_is_refused(songs, monkeypatch):
    from popularity.errors import InputError

    with pytest.raises(InputError, match=r"data\.encoder StackedEncoder: the 240 training songs are too few"):
        stacked.StackedEncoder().fit(songs)
    monkeypatch.setattr("popularity.features.trees.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"the package lightgbm is missing, install .* \[baselines\]"):
        stacked.StackedEncoder()


def test_a_setting_that_lightgbm_refuses_is_one_line():
    from popularity.errors import InputError

    with pytest.raises(InputError, match=r"lightgbm\.num_leafs: LightGBM has no such setting"):
        trees.regressor({"num_leafs": 3}, trees.FIXED, 0)
    rows = pd.DataFrame({"tempo": np.arange(60.0)}), np.arange(60.0)
    with pytest.raises(InputError, match=r"lightgbm: .*num_leaves"):
        trees.stopped_early(trees.regressor({"num_leaves": 1}, trees.FIXED, 0), *rows, rows)
