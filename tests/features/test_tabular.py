"""Rows of numbers for tabular models: nothing of a song's own label, nothing of test labels, the rule of the split."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popularity.data.credits import artist_names
from popularity.data.schema import AUDIO, CANONICAL, TEXT

if TYPE_CHECKING:
    from popularity.evaluation.folds import Task
    from popularity.features.tabular import Amount

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


def made_up_task(count: int = 150, split: str = "random", seed: int = 0) -> tuple[Task, np.ndarray]:
    """A task on made-up songs, and its answers."""
    from popularity.evaluation.folds import draw_fold

    fold = draw_fold(made_up(count, seed), split, folds=3, repeat=0, fold=0, seed=seed)  # type: ignore[arg-type]
    return fold.task, fold.answers


def with_label(task: Task, row: int, value: float) -> Task:
    train = task.train.copy()
    train.loc[row, "popularity"] = value
    return replace(task, train=train)


@pytest.mark.parametrize("split", ["random", "artist", "credits", "album", "time"])
@settings(max_examples=3, database=None)
@given(data=st.data())
def test_own_label_never_in_own_row(split: str, data: st.DataObject) -> None:
    from popularity.features.tabular import information

    task, _ = made_up_task(60, split)
    row = data.draw(st.integers(0, len(task.train) - 1))
    other = with_label(task, row, data.draw(st.sampled_from([0.0, 100.0])))
    before, asked_before = information(task, "everything")
    after, asked_after = information(other, "everything")
    pd.testing.assert_series_equal(before.loc[row], after.loc[row], check_exact=True)
    assert not asked_before.equals(asked_after), "no row at all looks at labels"


def test_no_use_of_test_labels_or_other_test_songs() -> None:
    from dataclasses import replace

    from popularity.features.tabular import information

    task, _ = made_up_task()
    train, test = information(task, "everything")
    planted = replace(task, test=task.test.assign(popularity=99.0))
    few = replace(task, test=task.test.iloc[:5].reset_index(drop=True))
    for other, rows in ((planted, len(test)), (few, 5)):
        train_again, test_again = information(other, "everything")
        pd.testing.assert_frame_equal(train, train_again, check_exact=True)
        pd.testing.assert_frame_equal(test.iloc[:rows], test_again, check_exact=True)


def test_artist_rule_hides_the_artist() -> None:
    """No song has known songs of its first artist; under the random rule nearly all have."""
    from popularity.features.tabular import information

    train, test = information(made_up_task(split="artist")[0], "everything")
    assert "artist_effect" not in train
    assert "artist_effect" not in test
    assert "guests_effect" in train
    train, test = information(made_up_task(split="random")[0], "everything")
    assert (train["artist_known"] > 0).mean() > 0.9
    assert (test["artist_known"] > 0).mean() > 0.9


def test_artist_columns_by_hand() -> None:
    from popularity.features.tabular import SHRINKAGE, information

    task, _ = made_up_task()
    _, test = information(task, "everything")
    first = pd.Series([names[0] for names in artist_names(task.train)])
    popularity = task.train["popularity"]
    for row, names in enumerate(artist_names(task.test)):
        own = popularity[(first == names[0]).to_numpy()]
        assert test.loc[row, "artist_known"] == len(own)
        expected = (own - popularity.mean()).sum() / (len(own) + SHRINKAGE)
        assert test.loc[row, "artist_effect"] == pytest.approx(expected)
        if len(own):
            assert test.loc[row, "artist_max"] == own.max()
            assert test.loc[row, "artist_min"] == own.min()
            assert test.loc[row, "artist_std"] == pytest.approx(own.std(ddof=0), abs=1e-6)
            same = task.train["valence"][(first == names[0]).to_numpy()]
            assert test.loc[row, "artist_valence"] == pytest.approx(same.mean())
        else:
            assert test.loc[row, ["artist_max", "artist_min", "artist_valence"]].isna().all()


def test_credit_columns_by_hand() -> None:
    from popularity.data.credits import credits
    from popularity.features.tabular import SHRINKAGE, information

    task, _ = made_up_task()
    _, test = information(task, "everything")
    known = credits(task.train)
    deviation = (task.train["popularity"] - task.train["popularity"].mean()).to_numpy()
    for row, names in enumerate(credits(task.test)):
        others = [i for i, of_song in enumerate(known) if of_song[0] != names[0]]
        guests = [i for i in others if set(names[1:]) & set(known[i])]
        guest_on = [i for i in others if names[0] in known[i][1:]]
        for column, chosen in {"guests": guests, "guest_on": guest_on, "credits": {*guests, *guest_on}}.items():
            assert test.loc[row, f"{column}_known"] == len(chosen)
            expected = deviation[list(chosen)].sum() / (len(chosen) + SHRINKAGE)
            assert test.loc[row, f"{column}_effect"] == pytest.approx(expected, abs=1e-9)


def test_audio_is_the_13_columns() -> None:
    from popularity.features.tabular import information

    task, _ = made_up_task()
    task.train.loc[0, "time_signature"] = 3.0
    train, test = information(task, "audio")
    assert tuple(train) == tuple(test) == AUDIO
    np.testing.assert_array_equal(train.to_numpy(), task.train[list(AUDIO)].to_numpy())
    np.testing.assert_array_equal(test.to_numpy(), task.test[list(AUDIO)].to_numpy())


@pytest.mark.parametrize("amount", ["audio", "everything"])
@pytest.mark.parametrize("value", [np.nan, 4.0])
def test_a_column_that_is_the_same_for_all_training_songs_is_left_out(amount: Amount, value: float) -> None:
    from popularity.features.tabular import information

    task, answers = made_up_task()
    task.train["time_signature"] = value
    task.test["time_signature"] = answers
    train, test = information(task, amount)
    assert list(train) == list(test)
    assert "time_signature" not in train
    assert "key" in train


def test_songs_that_are_all_the_same_are_refused() -> None:
    from popularity.errors import InputError
    from popularity.features.tabular import information

    task, _ = made_up_task()
    same = task.train.assign(**dict.fromkeys(AUDIO, 0.5))
    with pytest.raises(InputError, match="100 songs to learn from are the same in every column"):
        information(replace(task, train=same), "audio")


def test_a_file_of_audio_alone() -> None:
    """Columns without content leave no trace, and nothing fails."""
    from dataclasses import replace

    from popularity.features.tabular import information

    task, _ = made_up_task()
    empty = {name: pd.Series(np.nan, index=task.train.index, dtype="str") for name in TEXT}
    bare = replace(
        task,
        train=task.train.assign(**empty, release_date=pd.NaT, explicit=np.nan),
        test=task.test.assign(**empty, release_date=pd.NaT, explicit=np.nan),
    )
    train, test = information(bare, "everything")
    assert set(train) <= set(AUDIO)
    assert tuple(train) == tuple(test)


def test_words_of_titles_tell() -> None:
    """The score of the n-grams, out of fold, goes with the popularity that the words were given."""
    from popularity.features.tabular import information

    task, answers = made_up_task(600)
    train, test = information(task, "everything")
    assert np.corrcoef(train["title_ngrams"], task.train["popularity"])[0, 1] > 0.3
    assert np.corrcoef(test["title_ngrams"], answers)[0, 1] > 0.3


def test_the_benchmark_leaves_out_columns_that_there_are(monkeypatch):
    """All columns but the album's, the genre's and the like, which the songs of its results do not have."""
    from pathlib import Path

    from popularity.features.tabular import information

    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    from benchmarks.inputs import GROUPS

    columns = list(information(made_up_task()[0], "everything")[0])
    rest = set(columns)
    for group, belongs in GROUPS.items():
        chosen = {name for name in columns if belongs(name)}
        assert bool(chosen) != (group == "nothing"), group
        rest -= chosen
    assert {name.partition("_")[0] for name in rest} <= {
        "album", "artists", "compilation", "explicit", "genre", "release", "subgenre",
    }  # fmt: skip


def test_rows_that_are_kept_are_those_that_would_be_made_and_cost_as_much():
    from popularity.features import tabular as module

    task, _ = made_up_task(split="random")
    module._made.cache_clear()
    module.spared.seconds = module.spared.cpu_seconds = 0.0
    began, began_cpu = time.perf_counter(), time.process_time()
    first = module.kept_information(task, "everything")
    most, most_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    assert module.spared == module.Cost()
    assert module.kept_information(task, "everything")[0] is first[0]
    once = replace(module.spared)
    assert 0.3 * most < once.seconds < most
    assert 0 < once.cpu_seconds < most_cpu
    module.kept_information(task, "everything")
    assert module.spared.seconds == pytest.approx(2 * once.seconds)
    for kept, made in zip(first, module.information(task, "everything"), strict=True):
        pd.testing.assert_frame_equal(kept, made)


@pytest.mark.parametrize("change", ["label", "title", "known", "seed", "fold"])
def test_no_row_is_kept_from_another_task(change):
    from popularity.features import tabular as module

    task, _ = made_up_task(split="random")
    first = module.kept_information(task, "everything")
    train = task.train.copy()
    if change == "label":
        train.loc[0, "popularity"] += 1
    elif change == "title":
        train.loc[0, "title"] = "Something else"
    elif change == "known":
        train = train.iloc[:-1]
    others = {"seed": task.seed + (change == "seed"), "fold": task.fold + (change == "fold")}
    other = replace(task, train=train, **others)
    told = module.kept_information(other, "everything")
    assert told[0] is not first[0]
    pd.testing.assert_frame_equal(told[0], module.information(other, "everything")[0])
