"""What reaches a model: the same songs for all of them, and no answer."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest

SPLITS = ["random", "artist", "credits", "album", "time"]


@pytest.mark.parametrize("split", SPLITS)
def test_the_answers_are_not_in_the_task(songs, split):
    from popularity.evaluation.task import draw_fold

    fold = draw_fold(songs, split, folds=4, repeat=1, fold=2, seed=5)
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
    from popularity.evaluation.task import draw_fold

    ordered = songs.sort_values("popularity", ignore_index=True)
    fold = draw_fold(ordered, "random", folds=4, repeat=0, fold=0, seed=0)
    position = np.arange(len(fold.task.train))
    assert abs(np.corrcoef(position, fold.task.train["popularity"])[0, 1]) < 0.3
    assert abs(np.corrcoef(np.arange(len(fold.answers)), fold.answers)[0, 1]) < 0.4
    assert not (np.diff(fold.rows) > 0).all()


def test_folds_are_those_of_make_split_for_the_repeats_seed(songs):
    from popularity.data.splits import make_split
    from popularity.evaluation.task import draw_fold

    for repeat in range(2):
        fold = draw_fold(songs, "artist", folds=4, repeat=repeat, fold=1, seed=7)
        expected = make_split(songs, "artist", folds=4, fold=1, seed=7 + repeat, validation=0)
        assert (np.sort(fold.rows) == expected.test).all()
        assert set(fold.task.train["track_id"]) == set(songs["track_id"][expected.train])


@pytest.mark.parametrize("split", SPLITS)
def test_inner_folds_follow_the_rule_of_the_split(songs, split):
    from popularity.data.names import artist_names
    from popularity.evaluation.task import draw_fold

    task = draw_fold(songs, split, folds=4, repeat=0, fold=0, seed=0).task
    inner = task.inner(3)
    assert len(inner) == (2 if split == "time" else 3)
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
        again, other = task.inner(3), task.inner(3, seed=1)
        assert all((a[1] == b[1]).all() for a, b in zip(inner, again, strict=True))
        assert any(len(a[1]) != len(b[1]) or (a[1] != b[1]).any() for a, b in zip(inner, other, strict=True))


class Witness:
    """Notes what it was given."""

    def __init__(self, nickname: str) -> None:
        self.nickname = nickname

    def fit_predict(self, task):
        from popularity.evaluation.task import Outcome

        seen = [
            hashlib.sha256(pd.util.hash_pandas_object(part).to_numpy()).hexdigest() for part in (task.train, task.test)
        ]
        return Outcome(np.full(len(task.test), 50.0), notes={"seen": [*seen, task.seed, task.repeat, task.fold]})


def test_identical_folds_reach_every_model(songs, protocol, kinds, run_all, tmp_path):
    from popularity.evaluation.jobs import read_result

    kinds["witness"] = Witness
    plan = protocol(
        {name: {"kind": "witness", "nickname": name} for name in ("a", "b")} | {"linear": {"kind": "linear"}}
    )
    tables = run_all(plan, songs)
    seen = {"a": [], "b": []}
    for job in plan.jobs(seen):
        seen[job.model].append(read_result(plan, job, tmp_path)["notes"]["seen"])
    assert seen["a"] == seen["b"]
    assert len({tuple(one) for one in seen["a"]}) == 6
    predicted = tables.predictions.groupby("model", observed=True)[["repeat", "fold", "row"]]
    rows = [part.sort_values(["repeat", "fold", "row"]).to_numpy() for _, part in predicted]
    assert (rows[0] == rows[1]).all()
    assert (rows[0] == rows[2]).all()
    tested = tables.predictions[tables.predictions["model"] == "a"].groupby("repeat")["row"]
    assert all(sorted(part) == list(range(len(songs))) for _, part in tested), "each song is tested once a repeat"


def planted(songs: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """The answer in these rows alone, in a column that models read and in one that nobody should know of."""
    out = songs.assign(planted=np.nan, instrumentalness=np.nan)
    for column, scale in (("planted", 1.0), ("instrumentalness", 0.01)):
        out.loc[rows, column] = scale * songs["popularity"][rows]
    return out


@pytest.mark.parametrize("kind", ["mean", "linear"])
def test_what_test_songs_alone_show_cannot_be_learned(songs, protocol, kind, tmp_path):
    """Neither a column that equals the label in test rows alone, nor the test labels, change a prediction."""
    from popularity.evaluation.jobs import read_arrays, run_job

    plan, predictions = protocol({"model": {"kind": kind}}), []
    job = plan.jobs({"model"})[1]
    rows = plan.draw(songs, job.repeat, job.fold).rows
    table = songs.assign(instrumentalness=np.nan)
    other = table.copy()
    other.loc[rows, "popularity"] = np.random.default_rng(0).permutation(other["popularity"][rows])
    for variant in (table, planted(songs, rows), other):
        assert run_job(plan, variant, job, tmp_path)["error"] is None
        predictions.append(read_arrays(job, tmp_path)["prediction"])
    # least squares gives a column of zeros a coefficient of 0 up to rounding
    assert np.allclose(predictions[0], predictions[1], rtol=0, atol=1e-9)
    assert (predictions[0] == predictions[2]).all()


def test_what_classifiers_are_judged_by_cannot_be_learned(songs, protocol, tmp_path):
    from popularity.evaluation.jobs import read_arrays, run_job

    plan = protocol({"linear": {"kind": "linear"}}, hits={"model": {"kind": "logistic"}}, cutoffs=("40",))
    job = plan.jobs({"model"})[0]
    rows = plan.draw(songs, job.repeat, job.fold).rows
    thresholds, chances = [], []
    for variant in (songs.assign(instrumentalness=np.nan), planted(songs, rows)):
        result = run_job(plan, variant, job, tmp_path)
        assert result["error"] is None
        thresholds.append(result["hits"]["40"]["threshold"])
        chances.append(read_arrays(job, tmp_path)["chance_40"])
    assert thresholds[0] == thresholds[1]
    assert (chances[0] == chances[1]).all()
