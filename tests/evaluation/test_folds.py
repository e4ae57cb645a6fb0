"""What reaches a model: the same songs for all of them, and no answer."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from tests.evaluation.helpers import made_up_task

SPLITS = ["random", "artist", "credits", "album", "time"]


@pytest.mark.parametrize("split", SPLITS)
def test_the_answers_are_not_in_the_task(songs, split):
    from popularity.evaluation.folds import make_fold

    fold = make_fold(songs, split, folds=4, repeat=1, fold=2, seed=5)
    task = fold.task
    assert task.test["popularity"].isna().all()
    assert task.train["popularity"].notna().all()
    assert list(task.test.columns) == list(task.train.columns) == list(songs.columns)
    assert task.test.dtypes.equals(songs.dtypes)
    for part in (task.train, task.test):
        assert part.index.equals(pd.RangeIndex(len(part))), "labels of rows would say where a song stood in the file"
    assert (songs["popularity"].to_numpy()[fold.rows] == fold.answers).all()
    assert (songs["track_id"].to_numpy()[fold.rows] == task.test["track_id"].to_numpy()).all()
    assert not set(task.train["track_id"]) & set(task.test["track_id"])
    assert task.seed == 6


def test_the_order_of_the_songs_says_nothing(songs):
    """In some files the row number tells the popularity."""
    from popularity.evaluation.folds import make_fold

    ordered = songs.sort_values("popularity", ignore_index=True)
    fold = make_fold(ordered, "random", folds=4, repeat=0, fold=0, seed=0)
    position = np.arange(len(fold.task.train))
    assert abs(np.corrcoef(position, fold.task.train["popularity"])[0, 1]) < 0.3
    assert abs(np.corrcoef(np.arange(len(fold.answers)), fold.answers)[0, 1]) < 0.4
    assert not (np.diff(fold.rows) > 0).all()


def test_one_song_cannot_be_scored(songs):
    from popularity.errors import InputError
    from popularity.evaluation.folds import make_fold

    with pytest.raises(InputError, match="fold 0 has one song to test on, too few to score: ask for fewer folds"):
        make_fold(songs, "random", folds=len(songs), repeat=0, fold=0, seed=0)


def test_folds_are_those_of_make_split_for_the_repeats_seed(songs):
    from popularity.data.splits import make_split
    from popularity.evaluation.folds import make_fold

    for repeat in range(2):
        fold = make_fold(songs, "artist", folds=4, repeat=repeat, fold=1, seed=7)
        expected = make_split(songs, "artist", folds=4, fold=1, seed=7 + repeat, validation=0)
        assert (np.sort(fold.rows) == expected.test).all()
        assert set(fold.task.train["track_id"]) == set(songs["track_id"][expected.train])


@pytest.mark.parametrize("split", SPLITS)
def test_inner_folds_follow_the_rule_of_the_split(songs, split):
    from popularity.data.credits import artist_names
    from popularity.evaluation.folds import make_fold

    task = make_fold(songs, split, folds=4, repeat=0, fold=0, seed=0).task
    inner = task.inner(3)
    assert len(inner) == 3
    for fit, held in inner:
        assert not set(fit) & set(held)
        if split == "artist":
            first = np.array([names[0] for names in artist_names(task.train)])
            assert not set(first[fit]) & set(first[held])
        if split == "time":
            assert task.train["release_date"][fit].max() < task.train["release_date"][held].min()
        part = task.part(fit, held)
        assert len(part.train) == len(fit)
        assert part.test["popularity"].isna().all()
        assert (part.test["track_id"].to_numpy() == task.train["track_id"].to_numpy()[held]).all()
    if split != "time":
        assert sorted(np.concatenate([held for _, held in inner])) == list(range(len(task.train)))
        other = make_fold(songs, split, folds=4, repeat=1, fold=0, seed=0).task.inner(3)
        assert any(len(a[1]) != len(b[1]) or (a[1] != b[1]).any() for a, b in zip(inner, other, strict=True))


def test_rows_are_made_once_and_those_of_inner_folds_anew(songs):
    from popularity.evaluation.folds import Rows, make_fold

    task = make_fold(songs, "random", folds=4, repeat=0, fold=0, seed=0).task
    rows = Rows(task, "everything")
    assert rows.tables[0] is rows.tables[0]
    assert rows.parts(3) is rows.parts(3)
    part, (fit, held) = rows.parts(3)[0]
    assert (len(part.tables[0]), len(part.tables[1])) == (len(fit), len(held))
    features = part.task.features("everything")
    pd.testing.assert_frame_equal(part.tables[0], features.fit_transform(task.part(fit, held).train))
    assert "popularity" not in Rows(task, None).tables[0]


def test_identical_folds_reach_every_model(songs, protocol, own, run_all):
    from popularity.evaluation.folds import Outcome

    seen = {"a": [], "b": []}

    def witness(name, task):
        parts = (hashlib.sha256(pd.util.hash_pandas_object(part).to_numpy()) for part in (task.train, task.test))
        seen[name].append([*(part.hexdigest() for part in parts), task.seed, task.repeat, task.fold])
        residuals = np.ones(9)  # or it would be fitted once more for its intervals
        return Outcome(np.full(len(task.test), 50.0), residuals=residuals)

    own.update({name: partial(witness, name) for name in seen})
    plan = protocol({name: {"own": name} for name in seen} | {"linear": {"baseline": "linear"}})
    tables = run_all(plan, songs)
    assert seen["a"] == seen["b"]
    assert len({tuple(one) for one in seen["a"]}) == 6
    predicted = tables.predictions.groupby("model", observed=True)[["repeat", "fold", "row"]]
    rows = [part.sort_values(["repeat", "fold", "row"]).to_numpy() for _, part in predicted]
    assert (rows[0] == rows[1]).all()
    assert (rows[0] == rows[2]).all()
    tested = tables.predictions[tables.predictions["model"] == "a"].groupby("repeat")["row"]
    assert all(sorted(part) == list(range(len(songs))) for _, part in tested), "each song is tested once a repeat"


def test_seeds_of_models_differ_between_folds_and_repeats():
    task, _ = made_up_task()
    tasks = [task, replace(task, fold=1), replace(task, seed=7), replace(task, repeat=1)]
    assert len({seed for one in tasks for seed in one.seeds(2)}) == 8
    assert task.seeds(3)[:2] == task.seeds(2)
