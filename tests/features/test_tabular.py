"""Rows of numbers for tabular models: nothing of a song's own label, nothing of test labels, the rule of the split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popularity.data.credits import artist_names
from popularity.data.schema import AUDIO, CANONICAL, TEXT

if TYPE_CHECKING:
    from popularity.features.tabular import TabularFeatures

WORDS = ("love", "night", "summer", "remix", "heart", "road", "blue")


def made_up(count: int, seed: int = 0) -> pd.DataFrame:
    """Songs with all columns: artists with a level of their own, guests in titles, words that matter."""
    rng = np.random.default_rng(seed)
    artist = rng.integers(0, max(3, count // 5), count)
    word = rng.integers(0, len(WORDS), count)
    guest = artist ^ 1  # artists come in pairs: many groups that share no name
    level = rng.normal(0, 10, artist.max() + 1)
    songs = pd.DataFrame({name: rng.uniform(0.05, 0.95, count) for name in AUDIO})
    songs = songs.assign(
        duration_ms=rng.uniform(1e5, 3e5, count),
        loudness=rng.uniform(-20, -2, count),
        tempo=rng.uniform(60, 180, count),
        key=rng.integers(0, 12, count).astype(float),
        mode=rng.integers(0, 2, count).astype(float),
        time_signature=4.0,
        explicit=rng.integers(0, 2, count).astype(float),
        title=[
            f"{WORDS[w]} {i}" + (f" (feat. Artist {g})" if i % 4 == 0 else "")
            for i, (w, g) in enumerate(zip(word, guest, strict=True))
        ],
        artist=[f"Artist {a}" for a in artist],
        album=[f"Album {a}-{i % 2}" for i, a in enumerate(artist)],
        genre=rng.choice(["pop", "rock"], count),
        subgenre=rng.choice(["a", "b", "c"], count),
        track_id=[f"{i:022d}" for i in range(count)],
        release_date=pd.date_range("1990-01-01", periods=count, freq="30D").as_unit("us"),
    )
    popularity = 50 + level[artist] + 3 * word + 20 * (songs["energy"] - 0.5) + rng.normal(0, 4, count)
    songs["popularity"] = popularity.clip(0, 100).round()
    songs.loc[rng.random(count) < 0.05, "tempo"] = np.nan
    return songs.astype(dict.fromkeys(TEXT, "str"))[list(CANONICAL)]


def parts(count: int = 150, split: str = "random") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test songs of one fold in three, in random order; the latter keep their popularity."""
    from popularity.data.splits import make_split

    songs, rng = made_up(count), np.random.default_rng(1)
    split_ = make_split(songs, split, folds=3, fold=0, seed=0, validation=0)  # type: ignore[arg-type]
    train, test = (songs.iloc[rng.permutation(rows)].reset_index(drop=True) for rows in (split_.train, split_.test))
    return train, test


def features(feature_set: str = "everything", split: str = "random") -> TabularFeatures:
    from popularity.features.tabular import TabularFeatures

    return TabularFeatures(feature_set, split, seed=3)  # type: ignore[arg-type]


def rows_of(
    train: pd.DataFrame, test: pd.DataFrame, feature_set: str = "everything", split: str = "random"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    encoder = features(feature_set, split)
    return encoder.fit_transform(train), encoder.transform(test)


@pytest.mark.parametrize("split", ["random", "artist", "credits", "album", "time"])
@settings(max_examples=2, database=None)
@given(data=st.data())
def test_own_label_never_in_own_row(split: str, data: st.DataObject) -> None:
    train, test = parts(60, split)
    row = data.draw(st.integers(0, len(train) - 1))
    other = train.copy()
    other.loc[row, "popularity"] = data.draw(st.sampled_from([0.0, 100.0]))
    before, asked_before = rows_of(train, test, split=split)
    after, asked_after = rows_of(other, test, split=split)
    pd.testing.assert_series_equal(before.loc[row], after.loc[row], check_exact=True)
    assert not asked_before.equals(asked_after), "no row at all looks at labels"


def test_a_row_of_a_held_out_fold_rests_on_no_label_of_that_fold() -> None:
    """The inner folds are those of the rule of the split: labels of songs in the same fold change nothing."""
    from popularity.data.splits import inner_folds
    from popularity.features.tabular import FOLDS

    train, test = parts(120, "artist")
    _, held_out = inner_folds(train, "artist", FOLDS, seed=3)[0]
    other = train.copy()
    other.loc[held_out, "popularity"] = 100 - other.loc[held_out, "popularity"]
    before, after = rows_of(train, test, split="artist")[0], rows_of(other, test, split="artist")[0]
    pd.testing.assert_frame_equal(before.loc[held_out], after.loc[held_out], check_exact=True)
    assert not before.equals(after)


def test_no_use_of_test_labels_or_other_test_songs() -> None:
    train, test = parts()
    train_rows, test_rows = rows_of(train, test)
    for other in (test.assign(popularity=99.0), test.assign(popularity=np.nan), test.iloc[:5].reset_index(drop=True)):
        train_again, test_again = rows_of(train, other)
        pd.testing.assert_frame_equal(train_rows, train_again, check_exact=True)
        pd.testing.assert_frame_equal(test_rows.iloc[: len(other)], test_again, check_exact=True)


def test_fit_and_transform_are_those_of_scikit_learn() -> None:
    """A clone is fitted anew in a pipeline, which is given rows out of fold to fit to and plain ones to predict."""
    from sklearn.base import clone
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline

    train, test = parts()
    train_rows, test_rows = rows_of(train, test)
    model = HistGradientBoostingRegressor(random_state=0)
    pipeline = make_pipeline(clone(features()), clone(model)).fit(train, train["popularity"])
    expected = model.fit(train_rows, train["popularity"]).predict(test_rows)
    np.testing.assert_array_equal(pipeline.predict(test), expected)
    again = features().fit(train)
    pd.testing.assert_frame_equal(again.transform(test), test_rows)
    assert list(again.get_feature_names_out()) == list(test_rows)
    assert not again.transform(train).equals(train_rows), "training songs know their own labels there"


def test_artist_rule_hides_the_artist() -> None:
    """No song has known songs of its first artist; under the random rule nearly all have."""
    train, test = rows_of(*parts(split="artist"), split="artist")
    assert "artist_effect" not in train
    assert "artist_effect" not in test
    assert "guests_effect" in train
    train, test = rows_of(*parts())
    assert (train["artist_known"] > 0).mean() > 0.9
    assert (test["artist_known"] > 0).mean() > 0.9


def test_artist_columns_by_hand() -> None:
    from popularity.features.effects import SHRINKAGE

    train, asked = parts()
    _, test = rows_of(train, asked)
    first = pd.Series([names[0] for names in artist_names(train)])
    popularity = train["popularity"]
    for row, names in enumerate(artist_names(asked)):
        own = popularity[(first == names[0]).to_numpy()]
        assert test.loc[row, "artist_known"] == len(own)
        expected = (own - popularity.mean()).sum() / (len(own) + SHRINKAGE)
        assert test.loc[row, "artist_effect"] == pytest.approx(expected)
        if len(own):
            assert test.loc[row, "artist_max"] == own.max()
            assert test.loc[row, "artist_min"] == own.min()
            assert test.loc[row, "artist_std"] == pytest.approx(own.std(ddof=0), abs=1e-6)
            same = train["valence"][(first == names[0]).to_numpy()]
            assert test.loc[row, "artist_valence"] == pytest.approx(same.mean())
        else:
            assert test.loc[row, ["artist_max", "artist_min", "artist_valence"]].isna().all()


@pytest.mark.parametrize("name", ["album", "compilation", "genre"])
def test_group_columns_by_hand(name: str) -> None:
    from popularity.features.effects import SHRINKAGE

    train, asked = parts()
    columns = {"album": ["album", "artist"], "compilation": ["album", "release_date"], "genre": ["genre"]}[name]
    train["release_date"] = asked["release_date"] = pd.Timestamp("2001-01-01")
    train.loc[0, "release_date"] = pd.Timestamp("2002-02-02")
    _, test = rows_of(train, asked)
    deviation = train["popularity"] - train["popularity"].mean()
    for row in range(len(asked)):
        own = deviation[(train[columns] == asked.loc[row, columns]).all(axis=1)]
        assert test.loc[row, f"{name}_known"] == len(own)
        assert test.loc[row, f"{name}_effect"] == pytest.approx(own.sum() / (len(own) + SHRINKAGE))


def test_credit_columns_by_hand() -> None:
    from popularity.data.credits import credits
    from popularity.features.effects import SHRINKAGE

    train, asked = parts()
    _, test = rows_of(train, asked)
    known = credits(train)
    deviation = (train["popularity"] - train["popularity"].mean()).to_numpy()
    for row, names in enumerate(credits(asked)):
        others = [i for i, of_song in enumerate(known) if of_song[0] != names[0]]
        guests = [i for i in others if set(names[1:]) & set(known[i])]
        guest_on = [i for i in others if names[0] in known[i][1:]]
        for column, chosen in {"guests": guests, "guest_on": guest_on, "credits": {*guests, *guest_on}}.items():
            assert test.loc[row, f"{column}_known"] == len(chosen)
            expected = deviation[list(chosen)].sum() / (len(chosen) + SHRINKAGE)
            assert test.loc[row, f"{column}_effect"] == pytest.approx(expected, abs=1e-9)


def test_audio_is_the_13_columns() -> None:
    train, test = parts()
    train.loc[0, "time_signature"] = 3.0
    train_rows, test_rows = rows_of(train, test, "audio")
    assert tuple(train_rows) == tuple(test_rows) == AUDIO
    np.testing.assert_array_equal(train_rows.to_numpy(), train[list(AUDIO)].to_numpy())
    np.testing.assert_array_equal(test_rows.to_numpy(), test[list(AUDIO)].to_numpy())


@pytest.mark.parametrize("feature_set", ["audio", "everything"])
@pytest.mark.parametrize("value", [np.nan, 4.0])
def test_a_column_that_is_the_same_for_all_training_songs_is_left_out(feature_set: str, value: float) -> None:
    train, test = parts()
    train, test = train.assign(time_signature=value), test.assign(time_signature=test["popularity"])
    train_rows, test_rows = rows_of(train, test, feature_set)
    assert list(train_rows) == list(test_rows)
    assert "time_signature" not in train_rows
    assert "key" in train_rows


def test_bad_input_is_one_line() -> None:
    from popularity.errors import InputError

    train, _ = parts()
    same = train.assign(**dict.fromkeys(AUDIO, 0.5))
    with pytest.raises(InputError, match="100 training songs are the same in every column"):
        features("audio").fit(same)
    with pytest.raises(InputError, match="feature_set: expected audio or everything, got 'all'"):
        features("all").fit(train)
    with pytest.raises(InputError, match="1 training songs cannot be split"):
        features().fit(train.iloc[:1])


def test_a_file_of_audio_alone() -> None:
    """Columns without content leave no trace, and nothing fails."""
    empty = {name: pd.Series(np.nan, index=range(200), dtype="str") for name in TEXT}
    train, test = (part.assign(**empty, release_date=pd.NaT, explicit=np.nan) for part in parts())
    train_rows, test_rows = rows_of(train, test)
    assert set(train_rows) <= set(AUDIO)
    assert tuple(train_rows) == tuple(test_rows)


def test_words_of_titles_tell() -> None:
    """The score of the n-grams, out of fold, goes with the popularity that the words were given."""
    train, test = parts(600)
    train_rows, test_rows = rows_of(train, test)
    assert np.corrcoef(train_rows["title_ngrams"], train["popularity"])[0, 1] > 0.3
    assert np.corrcoef(test_rows["title_ngrams"], test["popularity"])[0, 1] > 0.3


def test_the_benchmark_leaves_out_columns_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """All columns but the album's, the genre's and the like, which the songs of its results do not have."""
    from pathlib import Path

    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    from benchmarks.inputs import GROUPS

    columns = list(rows_of(*parts())[0])
    rest = set(columns)
    for group, belongs in GROUPS.items():
        chosen = {name for name in columns if belongs(name)}
        assert bool(chosen) != (group == "nothing"), group
        rest -= chosen
    assert {name.partition("_")[0] for name in rest} <= {
        *("album", "artists", "compilation", "explicit", "genre", "release", "subgenre"),
    }
