"""Leaks planted on purpose do not reach a prediction, and the order of the rows tells nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Lazy, make_songs, quick_fit

if TYPE_CHECKING:
    from torch import Tensor

    from popularity.features.encoder import HistoryEncoder
    from popularity.training.fit import Fit
    from popularity.training.module import PopularityModule

torch = Lazy("torch")
songs_module = Lazy("popularity.data.songs")
splits = Lazy("popularity.data.splits")
encoders = Lazy("popularity.features.encoder")
predictor = Lazy("popularity.inference.predictor")


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
    return songs_module.load_songs(str(path)).songs


def predictions(fit: Fit, songs: pd.DataFrame) -> np.ndarray:
    return predictor.predict_songs(fit.module, fit.datamodule.encoder, songs).mean


# --- labels of the songs that are predicted ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random", "artist", "time"])
def test_a_column_equal_to_the_label_on_test_rows(kind, tmp_path):
    """Other labels on the test rows, and columns that tell them, change no prediction."""
    frame = artist_songs(160)
    plain = loaded(frame, tmp_path)
    split = splits.make_split(plain, kind, seed=1, validation=0)
    expected = predictions(quick_fit(plain, split, **{"data.split": kind}), plain.iloc[split.test])

    test = frame["track_id"].isin(plain["track_id"].iloc[split.test])
    frame.loc[test, "popularity"] = 100 - frame.loc[test, "popularity"]
    label = frame["popularity"].where(test)
    planted = frame.assign(label=label, target=label, track_subgenre=label.astype(str).where(test))
    songs = loaded(planted, tmp_path, "planted.csv")
    assert songs["track_id"].tolist() == plain["track_id"].tolist()
    assert songs["subgenre"].notna().sum() == len(split.test), (
        "this column is read, but training met none of its values"
    )
    fit = quick_fit(songs, split, **{"data.split": kind})
    np.testing.assert_array_equal(predictions(fit, songs.iloc[split.test]), expected)


# --- a song in its own history ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> pd.DataFrame:
    """Six songs by different artists to an album and a day."""
    frame = artist_songs(120)
    album = np.arange(120) // 6
    frame["album_name"] = [f"Hits {number}" for number in album]
    frame["release_date"] = frame["release_date"].to_numpy()[6 * album]
    return loaded(frame, tmp_path_factory.mktemp("known"))


def fitted(songs: pd.DataFrame, kind: str = "random", **settings: Any) -> HistoryEncoder:
    encoder = encoders.HistoryEncoder(**settings)
    encoder.fit(songs, splits.inner_folds(songs, kind), earlier=kind == "time")
    return encoder


def untrained(encoder: HistoryEncoder) -> PopularityModule:
    from popularity.models.history import HistoryMamba
    from popularity.training.module import PopularityModule

    torch.manual_seed(0)
    net = partial(HistoryMamba, width=8, d_state=4, dropout=0.0, feature_dropout=0.0, interaction_dropout=0.0)
    module = PopularityModule(net, inputs=encoder.inputs)
    for name, p in module.net.named_parameters():
        if "album" in name:
            torch.nn.init.normal_(p)  # they start at 0
    return module.eval()


def raw_in_training(module: PopularityModule, encoder: HistoryEncoder, songs: pd.DataFrame) -> Tensor:
    """What a training step would give for these songs, without dropout."""
    encoded = encoder.encode(songs, training=True)
    rows = encoder.sample(encoded, torch.Generator().manual_seed(0), training=True, samples=2)
    with torch.no_grad():
        return module(encoder.attach(rows))


def raw_in_evaluation(module: PopularityModule, encoder: HistoryEncoder, songs: pd.DataFrame) -> Tensor:
    return predictor.outputs_and_known(module, encoder, encoder.encode(songs))[0]


@pytest.mark.parametrize("kind", ["random", "time"])
def test_a_song_s_own_label_among_the_known_songs_changes_nothing_for_it(kind, known):
    encoder = fitted(known, kind, hide_history=0.0, thin_history=0.0, retrieved=3)
    encoder.hidden = (0.0, 0.0, 0.0, 0.0)
    module = untrained(encoder)
    in_training, in_evaluation = raw_in_training(module, encoder, known), raw_in_evaluation(module, encoder, known)
    labels, others = encoder.label.clone(), 0
    assert encoder.encode(known, training=True)["same_album"].any() == (kind == "random"), (
        "under time the songs of an album are of one day"
    )
    for i in range(0, 120, 10):
        encoder.label = labels.clone()
        encoder.label[i] += 3
        changed = (raw_in_training(module, encoder, known) != in_training).any(1)
        assert not changed[i]
        assert torch.equal(raw_in_evaluation(module, encoder, known)[i], in_evaluation[i])
        others += int(changed.sum())
    assert others > 12, "songs that have it in their history do change"


def test_a_song_s_own_label_is_not_in_its_training_inputs(known):
    """After another fit: text scores come from folds without the song; their scale alone depends on all songs."""
    one = fitted(known, text_scores=True)
    before = one.encode(known, training=True)
    for i in (3, 40, 77):
        popularity = known["popularity"].copy()
        popularity[i] = 100 - popularity[i]
        other = fitted(known.assign(popularity=popularity), text_scores=True)
        after = other.encode(known, training=True)
        for name in before.keys() - {"extras"}:
            torch.testing.assert_close(after[name][i], before[name][i], equal_nan=True)
        moments = [{**encoder.texts[0].score_moments, **encoder.texts[1].score_moments} for encoder in (one, other)]
        assert len(moments[0]) == before["extras"].shape[1] == 3
        for column, score in enumerate(moments[0]):
            points = [
                rows["extras"][i, column].item() * of_score[score][1] + of_score[score][0]
                for rows, of_score in zip((before, after), moments, strict=True)
            ]
            assert points[0] == pytest.approx(points[1], abs=1e-3)


# --- the future -------------------------------------------------------------------------------------------------------


def test_a_later_song_s_label_does_not_reach_an_earlier_song(known):
    encoder = fitted(known, "time", hide_history=0.0, thin_history=0.0, retrieved=3)
    module = untrained(encoder)
    released = known["release_date"].to_numpy()
    new = known.assign(track_id=pd.Series(np.nan, known.index, dtype="str"), title="Another")
    new["danceability"] = 0.5  # songs that are not known, released on the same days
    before, before_in_training = raw_in_evaluation(module, encoder, new), raw_in_training(module, encoder, known)
    label, song = encoder.label, encoder.known["song"]
    for day in released[[30, 60, 90]]:
        later = torch.from_numpy(released >= day)
        encoder.label = torch.where(later, label + 3, label)
        encoder.known["song"] = torch.where(later.unsqueeze(1), -song, song)
        no_later = torch.from_numpy(released <= day)
        after = raw_in_evaluation(module, encoder, new)
        assert torch.equal(after[no_later], before[no_later])
        assert not torch.equal(after[~no_later], before[~no_later])
        # a training song is itself a known song: those of the day itself have other vectors now
        earlier = torch.from_numpy(released < day)
        assert torch.equal(raw_in_training(module, encoder, known)[earlier], before_in_training[earlier])


def test_without_the_split_by_time_later_songs_are_read(known):
    """The test above would pass with a model that reads no known song."""
    encoder = fitted(known)
    rows = encoder.encode(known, training=True)
    shown = rows["month"][:, None] < encoder.known["month"][rows["row"].long()]
    assert (shown & (rows["role"] >= 0)).any()


# --- the order of the rows --------------------------------------------------------------------------------------------


def test_the_order_of_the_rows_is_worth_nothing(tmp_path):
    """Fits to one file as it is, shuffled, and sorted by label. The artist explains half of the variance; a model that
    saw the place of a row in the sorted file would explain the other half too."""
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
        split = splits.Split(rows[~held_out], rows[:0], rows[held_out])
        fit = quick_fit(songs, split, epochs=15, **{"model.learning_rate": 1e-2})
        test = songs.iloc[split.test]
        errors[name] = float(((predictions(fit, test) - test["popularity"]) ** 2).mean())
        baseline = float(((songs["popularity"].iloc[split.train].mean() - test["popularity"]) ** 2).mean())
    gain = baseline - errors["as it is"]
    assert gain > 0.25 * baseline, "the artists are found"
    assert abs(errors["shuffled"] - errors["as it is"]) < 0.2 * gain
    assert errors["sorted"] > errors["shuffled"] - 0.2 * gain
