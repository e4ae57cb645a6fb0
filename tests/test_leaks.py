"""Leaks planted on purpose cannot reach a prediction, and the order of the rows says nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import make_songs, quick_fit


@pytest.fixture(scope="module", autouse=True)
def _imports() -> None:
    """What is slow to import: with the first of these tests, not while tests are collected."""
    global torch, NOBODY, HistoryEncoder, PopularityModule, Split, inner_folds, load_songs, make_split
    import torch

    from popularity.data.songs import load_songs
    from popularity.data.splits import Split, inner_folds, make_split
    from popularity.features.encoder import HistoryEncoder
    from popularity.features.related import NOBODY
    from popularity.training.module import PopularityModule


def artist_songs(count: int = 320) -> pd.DataFrame:
    """Songs whose popularity is half the artist's doing and half chance."""
    rng = np.random.default_rng(0)
    frame = make_songs(count)
    artist = rng.integers(0, count // 8, count)
    fame = rng.normal(0, 15, count // 8)
    frame["artist_name"] = [f"Artist {i}" for i in artist]
    frame["popularity"] = (50 + fame[artist] + rng.normal(0, 12, count)).clip(0, 100).round(1)
    return frame


def loaded(frame: pd.DataFrame, folder: Path, name: str = "songs.csv") -> pd.DataFrame:
    path = folder / name
    frame.to_csv(path, index=False)
    return load_songs(str(path)).songs


def predictions(model: PopularityModule, songs: pd.DataFrame) -> np.ndarray:
    return model.net.head.predict(model.raw_of(songs)).numpy()


# --- labels of the songs that are predicted ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random", "artist", "time"])
def test_a_column_equal_to_the_label_on_test_rows(kind, tmp_path):
    """With other labels on the test rows, and columns that give them away there, each prediction stays what it was."""
    frame = artist_songs(160)
    plain = loaded(frame, tmp_path)
    split = make_split(plain, kind, seed=1, validation=0)
    expected = predictions(quick_fit(plain, split, kind=kind), plain.iloc[split.test])

    test = frame["track_id"].isin(plain["track_id"].iloc[split.test])
    frame.loc[test, "popularity"] = 100 - frame.loc[test, "popularity"]
    label = frame["popularity"].where(test)
    planted = frame.assign(label=label, target=label, track_subgenre=label.astype(str).where(test))
    songs = loaded(planted, tmp_path, "planted.csv")
    assert songs["track_id"].tolist() == plain["track_id"].tolist()
    assert songs["subgenre"].notna().sum() == len(split.test), "this one is read: nothing was learned of its values"
    model = quick_fit(songs, split, kind=kind)
    np.testing.assert_array_equal(predictions(model, songs.iloc[split.test]), expected)


# --- a song in its own history ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> pd.DataFrame:
    """Six songs by different artists to an album and a day."""
    frame = artist_songs(120)
    album = np.arange(120) // 6
    frame["album_name"] = [f"Hits {number}" for number in album]
    frame["release_date"] = frame["release_date"].to_numpy()[6 * album]
    return loaded(frame, tmp_path_factory.mktemp("known"))


def untrained(encoder: HistoryEncoder, **settings) -> PopularityModule:
    torch.manual_seed(0)
    model = PopularityModule(width=8, layers=1, d_state=4, dropout=0.0, feature_dropout=0.0, **settings)
    for name, p in model.net.named_parameters():
        if "album" in name:
            torch.nn.init.normal_(p)  # they begin at 0
    model.encoder = encoder
    model.net.memory.fill(encoder.known)
    return model.eval()


def raw_in_training(model: PopularityModule, songs: pd.DataFrame, seed: int = 0) -> torch.Tensor:
    """What a training step would put out for these songs, its own randomness aside."""
    rows = model.encoder.draw(
        model.encoder.encode(songs, training=True), torch.Generator().manual_seed(seed), training=True
    )
    with torch.no_grad():
        return model.net(rows)


@pytest.mark.parametrize("kind", ["random", "time"])
def test_a_song_s_own_label_in_the_memory_changes_nothing_for_it(kind, known):
    encoder = HistoryEncoder(hide=0.0, thin=0.0, retrieved=3).fit(
        known, inner_folds(known, kind), earlier=kind == "time"
    )
    encoder.hide = (0.0, 0.0, 0.0, 0.0)
    model = untrained(encoder, retrieved=3)
    before, asked_again = raw_in_training(model, known), model.raw_of(known)
    labels, others = model.net.memory.label.clone(), 0
    assert encoder.encode(known, training=True)["mate"].any() == (kind == "random"), (
        "under time all mates are of one day"
    )
    for i in range(0, 120, 10):
        model.net.memory.label.copy_(labels)[i] += 3
        changed = (raw_in_training(model, known) != before).any(1)
        assert not changed[i]
        assert torch.equal(model.raw_of(known)[i], asked_again[i])
        others += int(changed.sum())
    assert others > 12, "songs that have it in their history do change"


def test_a_song_s_own_label_is_not_in_what_training_is_shown_of_it(known):
    """Fitted anew: the scores come from folds without the song; their scale alone knows of all songs."""
    folds = inner_folds(known, "random")
    one = HistoryEncoder().fit(known, folds)
    before = one.encode(known, training=True)
    for i in (3, 40, 77):
        popularity = known["popularity"].copy()
        popularity[i] = 100 - popularity[i]
        other = HistoryEncoder().fit(known.assign(popularity=popularity), folds)
        after = other.encode(known, training=True)
        for name in before.keys() - {"extras"}:
            torch.testing.assert_close(after[name][i], before[name][i], equal_nan=True)
        assert one.text is not None
        assert other.text is not None
        for column, score in enumerate(one.text.score_moments):
            points = [
                rows["extras"][i, column].item() * text.score_moments[score][1] + text.score_moments[score][0]
                for rows, text in ((before, one.text), (after, other.text))
            ]
            assert points[0] == pytest.approx(points[1], abs=1e-3)


# --- the future -------------------------------------------------------------------------------------------------------


def test_a_later_song_s_label_does_not_reach_an_earlier_song(known):
    encoder = HistoryEncoder(hide=0.0, thin=0.0, retrieved=3).fit(known, inner_folds(known, "time"), earlier=True)
    model = untrained(encoder, retrieved=3)
    released = known["release_date"].to_numpy()
    asked = known.assign(track_id=pd.Series(np.nan, known.index, dtype="str"), title="Another")
    asked["danceability"] = 0.5  # songs that are not known, released on the same days
    before, before_in_training = model.raw_of(asked), raw_in_training(model, known)
    for day in released[[30, 60, 90]]:
        later = torch.from_numpy(released >= day)
        kept = model.net.memory.label.clone()
        model.net.memory.label[later] += 3
        model.net.memory.song[later] *= -1
        no_later = torch.from_numpy(released <= day)
        assert torch.equal(model.raw_of(asked)[no_later], before[no_later])
        assert torch.equal(raw_in_training(model, known)[no_later], before_in_training[no_later])
        assert not torch.equal(model.raw_of(asked)[~no_later], before[~no_later])
        model.net.memory.label.copy_(kept)
        model.net.memory.song[later] *= -1


def test_without_the_split_by_time_later_songs_are_read(known):
    """The test above would pass of a model that reads nobody."""
    encoder = HistoryEncoder().fit(known, inner_folds(known, "random"))
    rows = encoder.encode(known, training=True)
    shown = rows["month"][:, None] < encoder.known["month"][rows["row"].long()]
    assert (shown & (rows["role"] != NOBODY)).any()


# --- the order of the rows --------------------------------------------------------------------------------------------


def test_the_order_of_the_rows_is_worth_nothing(tmp_path):
    """Fits to one file as it is, shuffled, and sorted by label. Half of the variance is the artist's; a model that saw
    where a row stands in the sorted file would have the other half too."""
    frame = artist_songs()
    rng = np.random.default_rng(0)
    orders = {"as it is": np.arange(len(frame)), "shuffled": rng.permutation(len(frame))}
    orders["sorted"] = frame["popularity"].to_numpy().argsort(kind="stable")
    test_ids = set(frame["track_id"].iloc[rng.permutation(len(frame))[:100]])
    errors, baseline = {}, 0.0
    for name, order in orders.items():
        songs = loaded(frame.iloc[order], tmp_path)
        held_out = songs["track_id"].isin(test_ids).to_numpy()
        rows = np.arange(len(songs))
        split = Split(rows[~held_out], rows[:0], rows[held_out])
        model = quick_fit(songs, split, epochs=15, learning_rate=1e-2, feature_dropout=0.5)
        test = songs.iloc[split.test]
        errors[name] = float(((predictions(model, test) - test["popularity"]) ** 2).mean())
        baseline = float(((songs["popularity"].iloc[split.train].mean() - test["popularity"]) ** 2).mean())
    gain = baseline - errors["as it is"]
    assert gain > 0.25 * baseline, "the artists are found"
    assert abs(errors["shuffled"] - errors["as it is"]) < 0.2 * gain
    assert errors["sorted"] > errors["shuffled"] - 0.2 * gain
