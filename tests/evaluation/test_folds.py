"""What reaches a model: the same songs for all of them, and no answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

SPLITS = ["random", "artist", "credits", "album", "time"]


@pytest.mark.parametrize("split", SPLITS)
def test_the_answers_are_not_in_the_task(songs, split):
    from popularity.evaluation.folds import draw_fold

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
    from popularity.evaluation.folds import draw_fold

    ordered = songs.sort_values("popularity", ignore_index=True)
    fold = draw_fold(ordered, "random", folds=4, repeat=0, fold=0, seed=0)
    position = np.arange(len(fold.task.train))
    assert abs(np.corrcoef(position, fold.task.train["popularity"])[0, 1]) < 0.3
    assert abs(np.corrcoef(np.arange(len(fold.answers)), fold.answers)[0, 1]) < 0.4
    assert not (np.diff(fold.rows) > 0).all()


def test_folds_are_those_of_make_split_for_the_repeats_seed(songs):
    from popularity.data.splits import make_split
    from popularity.evaluation.folds import draw_fold

    for repeat in range(2):
        fold = draw_fold(songs, "artist", folds=4, repeat=repeat, fold=1, seed=7)
        expected = make_split(songs, "artist", folds=4, fold=1, seed=7 + repeat, validation=0)
        assert (np.sort(fold.rows) == expected.test).all()
        assert set(fold.task.train["track_id"]) == set(songs["track_id"][expected.train])


@pytest.mark.parametrize("split", SPLITS)
def test_inner_folds_follow_the_rule_of_the_split(songs, split):
    from popularity.data.credits import artist_names
    from popularity.evaluation.folds import draw_fold

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
        from popularity.evaluation.folds import Outcome

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


ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "configs" / "compare.yaml").read_text(encoding="utf-8"))
MODELS, CLASSIFIERS = CONFIG["models"], CONFIG["hits"]["models"]
# ablations of Mamba run the same code as it does
MODELS = {name: one for name, one in MODELS.items() if not (ROOT / "configs" / "ablations" / f"{name}.yaml").exists()}
#: Columns that a label can hide in, and what stands there in all rows that do not hold it. The artist's is not among
#: them: songs are known to belong together by it.
HIDING: dict[str, dict[str, Any]] = {
    "empty": dict.fromkeys(("instrumentalness", "explicit", "title", "genre", "subgenre", "album", "release_date")),
    "constant": {
        "instrumentalness": 0.2,
        "explicit": 0.0,
        "title": "Same",
        "genre": "pop",
        "subgenre": "pop",
        "album": "One",
        "release_date": pd.Timestamp("2001-01-01"),
    },
}


def quick(name: str, described: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A model of the shipped config with the smallest budget: of a search one trial, of a network an epoch or two."""
    settings = {key: value for key, value in described[name].items() if key != "repeats"}
    settings |= {key: 1 for key in ("trials", "epochs") if key in settings}
    if "of" in settings:
        settings["of"] = {member: quick(member, described, tmp_path) for member in settings["of"]}
    if "configs" in settings:
        few = tmp_path / "few.yaml"
        few.write_text(yaml.safe_dump({"trainer": {"max_epochs": 2}}))
        settings["configs"] = [*settings["configs"], str(few)]
    kind = settings["kind"].removesuffix("_classifier")
    if kind in ("lightgbm", "xgboost", "catboost", "tabm", "realmlp"):
        pytest.importorskip({"realmlp": "pytabkit"}.get(kind, kind))
    return settings


def hidden(songs: pd.DataFrame, values: dict[str, Any]) -> pd.DataFrame:
    """The songs with nothing to be learned in some columns of ``HIDING``."""
    columns = {name: pd.Series([value] * len(songs), songs.index) for name, value in values.items()}
    return songs.assign(**{name: column.astype(songs[name].dtype) for name, column in columns.items()})


def planted(songs: pd.DataFrame, rows: np.ndarray, names: Iterable[str]) -> pd.DataFrame:
    """The answer in these rows alone, in columns that models read and in one that nobody should know of."""
    out, label = songs.assign(planted=np.nan), songs["popularity"][rows]
    disguised = {
        "planted": label,
        "instrumentalness": 0.01 * label,
        "explicit": (label > label.median()).astype(float),
        "release_date": pd.to_datetime((1900 + label).astype(int).astype("str")),
    }
    for name in ("planted", *names):
        out.loc[rows, name] = disguised.get(name, "Level " + label.astype(int).astype("str"))
    assert out.dtypes[songs.columns].equals(songs.dtypes)
    return out


@pytest.mark.parametrize("how", HIDING)
@pytest.mark.parametrize("column", ["title", "release_date", "album"])
@pytest.mark.parametrize("name", ["mamba", "ridge_everything"])
def test_one_column_alone_says_nothing_as_a_part_of_a_key(songs, protocol, name, column, how, tmp_path):
    """Albums are told apart by name and day, recordings by artist and title, compilations by name and day."""
    from popularity.evaluation.jobs import read_arrays, run_job

    plan, predictions = protocol({"model": quick(name, MODELS, tmp_path)}), []
    job = plan.jobs({"model"})[1]
    rows = plan.draw(songs, job.repeat, job.fold).rows
    table = hidden(songs, {column: HIDING[how][column]})
    for variant in (table, planted(table, rows, [column])):
        result = run_job(plan, variant, job, tmp_path)
        assert result["error"] is None, result["traceback"]
        predictions.append(read_arrays(job, tmp_path)["prediction"])
    assert (predictions[0] == predictions[1]).all()


@pytest.mark.parametrize(
    ("name", "more"),
    [
        *((name, {}) for name in ("linear", "lightgbm", "mamba", "mamba_audio", "single_token")),
        # searches that have a choice
        *((name, {"trials": 4}) for name in ("knn", "svr", "ridge_everything")),
        ("mlp", {"epochs": 3}),
    ],
)
def test_of_one_value_and_gaps_another_value_says_nothing(songs, protocol, name, more, tmp_path):
    """In training a column is .2 or missing; the answer stands in test rows, where it was not missing."""
    from popularity.evaluation.jobs import read_arrays, run_job

    plan, predictions = protocol({"model": quick(name, MODELS, tmp_path) | more}), []
    job = plan.jobs({"model"})[1]
    rows = plan.draw(songs, job.repeat, job.fold).rows
    table = songs.assign(instrumentalness=np.where(np.arange(len(songs)) % 2, 0.2, np.nan))
    for variant in (table, planted(table, rows[rows % 2 == 1], ["instrumentalness"])):
        result = run_job(plan, variant, job, tmp_path)
        assert result["error"] is None, result["traceback"]
        predictions.append(read_arrays(job, tmp_path)["prediction"])
    assert np.allclose(predictions[0], predictions[1], rtol=0, atol=1e-9 if name == "linear" else 0)


@pytest.mark.parametrize("how", HIDING)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "stack" else name for name in MODELS]
)
def test_what_test_songs_alone_show_cannot_be_learned(songs, protocol, name, how, tmp_path):
    """Neither columns that equal the label in test rows alone, nor the test labels, change a prediction."""
    from popularity.evaluation.jobs import read_arrays, run_job

    plan, predictions = protocol({"model": quick(name, MODELS, tmp_path)}), []
    job = plan.jobs({"model"})[1]
    rows = plan.draw(songs, job.repeat, job.fold).rows
    table = hidden(songs, HIDING[how])
    other = table.copy()
    other.loc[rows, "popularity"] = np.random.default_rng(0).permutation(other["popularity"][rows])
    for variant in (table, planted(table, rows, HIDING[how]), other):
        result = run_job(plan, variant, job, tmp_path)
        assert result["error"] is None, result["traceback"]
        predictions.append(read_arrays(job, tmp_path)["prediction"])
    # least squares with the original preprocessing gives a column that never varies a coefficient of 0 up to rounding
    assert np.allclose(predictions[0], predictions[1], rtol=0, atol=1e-9 if name == "linear" else 0)
    assert (predictions[0] == predictions[2]).all()
    assert name == "mean" or len(np.unique(predictions[0])) > 10


@pytest.mark.parametrize("how", HIDING)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_what_classifiers_are_judged_by_cannot_be_learned(songs, protocol, name, how, tmp_path):
    from popularity.evaluation.jobs import read_arrays, run_job

    settings = quick(name, CLASSIFIERS, tmp_path)
    plan = protocol({"linear": {"kind": "linear"}}, hits={"model": settings}, cutoffs=("40",))
    job = plan.jobs({"model"})[0]
    rows = plan.draw(songs, job.repeat, job.fold).rows
    table = hidden(songs, HIDING[how])
    thresholds, chances = [], []
    for variant in (table, planted(table, rows, HIDING[how])):
        result = run_job(plan, variant, job, tmp_path)
        assert result["error"] is None, result["traceback"]
        thresholds.append(result["hits"]["40"]["threshold"])
        chances.append(read_arrays(job, tmp_path)["chance_40"])
    assert thresholds[0] == thresholds[1]
    assert (chances[0] == chances[1]).all()
    assert len(np.unique(chances[0])) > 1
