"""What test songs alone show cannot be learned: columns planted in them, and their labels, change no prediction."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

pytestmark = pytest.mark.usefixtures("few_trees")

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "configs" / "compare.yaml").read_text(encoding="utf-8"))
MODELS, CLASSIFIERS = CONFIG["models"], CONFIG["hits"]["models"]
# ablations of Mamba run the same code as it does
MODELS = {name: one for name, one in MODELS.items() if not (ROOT / "configs" / "ablations" / f"{name}.yaml").exists()}
#: Models of every kind of preparation: these are among the quick tests, all others among the slow ones.
CORE = ("linear", "ridge_everything", "lightgbm", "mamba", "logistic", "logistic_everything")
#: All searches are one function: this one stands for it, the others take the settings that a search begins with.
SEARCHED = ("lightgbm",)
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


def quick(name: str, described: dict[str, Any]) -> dict[str, Any]:
    """A model of the shipped config with the smallest budget: at most one trial, two epochs of our network."""
    settings = {key: value for key, value in described[name].items() if key != "repeats"}
    settings |= {"trials": int(name in SEARCHED)} if "trials" in settings else {}
    if "configs" in settings:
        settings["overrides"] = {"trainer.max_epochs": 2}
    package = "lightgbm" if name == "stack" else settings.get("baseline", settings.get("classifier"))
    if package in ("lightgbm", "xgboost", "catboost", "mlp", "realmlp", "tabm", "tabm_small"):
        pytest.importorskip(package if package in ("lightgbm", "xgboost", "catboost") else "pytabkit")
    return settings


def hidden_in_either_way(names: Iterable[str]) -> list[Any]:
    """Each model with each way to hide, as parameters of a test; the slow ones marked."""
    return [slow_but(name in CORE and how == "empty", name, how) for name in names for how in HIDING]


def slow_but(quick: bool, *values: Any) -> Any:
    """Parameters of a test, marked as slow unless it is among the quick ones."""
    return pytest.param(*values, marks=[pytest.mark.slow] * (not quick))


def judged(plan, songs, run, folder):
    """The result of a run that must not fail."""
    from popularity.evaluation.runs import execute

    result = execute(plan, songs, run, folder)
    assert result.error is None, result.facts["traceback"]
    return result


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


@pytest.mark.parametrize(
    ("name", "column", "how"),
    [
        slow_but(how == "empty", name, column, how)
        for name in ("mamba", "ridge_everything")
        for column in ("title", "release_date", "album")
        for how in HIDING
    ],
)
def test_one_column_alone_says_nothing_as_a_part_of_a_key(songs, protocol, name, column, how, tmp_path):
    """Albums are told apart by name and day, recordings by artist and title, compilations by name and day."""
    plan, predictions = protocol({"model": quick(name, MODELS)}), []
    run = plan.runs()[1]
    rows = plan.make_fold(songs, run.repeat, run.fold).rows
    table = hidden(songs, {column: HIDING[how][column]})
    for variant in (table, planted(table, rows, [column])):
        predictions.append(judged(plan, variant, run, tmp_path).arrays["prediction"])
    assert (predictions[0] == predictions[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"),
    [
        *((name, {}) for name in ("linear", "lightgbm", "mamba", "mamba_audio", "single_token")),
        # searches that have a choice
        *((name, {"trials": 4}) for name in ("knn", "svr", "ridge_everything")),
        ("mlp", {}),
    ],
)
def test_of_one_value_and_gaps_another_value_says_nothing(songs, protocol, name, more, tmp_path):
    """In training a column is .2 or missing; the answer stands in test rows, where it was not missing."""
    plan, predictions = protocol({"model": quick(name, MODELS) | more}), []
    run = plan.runs()[1]
    rows = plan.make_fold(songs, run.repeat, run.fold).rows
    table = songs.assign(instrumentalness=np.where(np.arange(len(songs)) % 2, 0.2, np.nan))
    for variant in (table, planted(table, rows[rows % 2 == 1], ["instrumentalness"])):
        predictions.append(judged(plan, variant, run, tmp_path).arrays["prediction"])
    assert np.allclose(predictions[0], predictions[1], rtol=0, atol=1e-9 if name == "linear" else 0)


@pytest.mark.parametrize(("name", "how"), hidden_in_either_way(MODELS))
def test_what_test_songs_alone_show_cannot_be_learned(songs, protocol, name, how, tmp_path):
    """Neither columns that equal the label in test rows alone, nor the test labels, change a prediction."""
    plan, predictions = protocol({"model": quick(name, MODELS)}), []
    run = plan.runs()[1]
    rows = plan.make_fold(songs, run.repeat, run.fold).rows
    table = hidden(songs, HIDING[how])
    other = planted(table, rows, HIDING[how])  # the answers stand in columns, and the labels are other ones
    other.loc[rows, "popularity"] = np.random.default_rng(0).permutation(other["popularity"][rows])
    for variant in (table, other):
        predictions.append(judged(plan, variant, run, tmp_path).arrays["prediction"])
    # least squares with the original preprocessing gives a column that never varies a coefficient of 0 up to rounding
    assert np.allclose(predictions[0], predictions[1], rtol=0, atol=1e-9 if name == "linear" else 0)
    assert name == "mean" or len(np.unique(predictions[0])) > 10


@pytest.mark.parametrize(("name", "how"), hidden_in_either_way(CLASSIFIERS))
def test_what_classifiers_are_judged_by_cannot_be_learned(songs, protocol, name, how, tmp_path):
    settings = quick(name, CLASSIFIERS)
    plan = protocol({"linear": {"baseline": "linear"}}, classifiers={"model": settings}, cutoffs=("40",))
    run = plan.runs({"model"})[0]
    rows = plan.make_fold(songs, run.repeat, run.fold).rows
    table = hidden(songs, HIDING[how])
    thresholds, chances = [], []
    for variant in (table, planted(table, rows, HIDING[how])):
        result = judged(plan, variant, run, tmp_path)
        thresholds.append(result.facts["scores"]["40"]["threshold"])
        chances.append(result.arrays["chance_40"])
    assert thresholds[0] == thresholds[1]
    assert (chances[0] == chances[1]).all()
    assert len(np.unique(chances[0])) > 1
