"""Hit prediction: what a hit is, where the threshold comes from, and that test songs have no say in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.evaluation.helpers import Lively, Spy

CUTOFFS = ("40", "50", "99", "median", "top_quarter")


@pytest.fixture
def plan(protocol, own):
    own["lively"] = Lively()
    return protocol(
        {"linear": {"baseline": "linear"}, "net": {"own": "lively"}},
        repeats=1,
        classifiers={"logistic": {"classifier": "logistic"}},
        cutoffs=CUTOFFS,
    )


def model(fit_predict: Any = None, fit_probability: Any = None) -> Any:
    from popularity.evaluation.models import Model

    return Model("audio", {}, fit_predict=fit_predict, fit_probability=fit_probability)


@pytest.mark.slow
def test_all_tables_of_hits(plan, songs, run_all):
    from popularity.metrics import hit_scores

    tables = run_all(plan, songs, against="net")
    folds = tables.hit_folds
    assert len(folds) == 3 * 5 * 3, "every regressor predicts hits too"
    assert folds.loc[folds["cutoff"] == "99", "skipped"].str.contains("0 hits among").all()
    assert folds.loc[folds["cutoff"] != "99", "skipped"].isna().all()
    summary = tables.hit_summary.set_index(["cutoff", "model"])
    assert list(tables.hit_summary["cutoff"].unique()) == list(CUTOFFS)
    assert summary.loc[("40", "logistic"), ["folds", "skipped"]].tolist() == [3, 0]
    assert summary.loc[("99", "logistic"), ["folds", "skipped"]].tolist() == [0, 3], "none is silently left out"
    assert summary.loc["99", ["auroc", "f1", "brier"]].isna().all(axis=None)
    assert summary["auroc"].min() > 0.8, "the songs are made so that features explain a lot"
    assert summary.loc["50", "brier"].max() < 0.15, "also of the regressor without a distribution"
    assert summary.loc["50", "calibration_error"].max() < 0.2
    here = (tables.hits["model"] == "net") & (tables.hits["cutoff"] == "50") & (tables.hits["fold"] == 1)
    songs_of = tables.hits[here]
    assert (songs_of["hit"].to_numpy() == (songs["popularity"].to_numpy()[songs_of["row"]] >= 50)).all()
    row = folds[(folds["model"] == "net") & (folds["cutoff"] == "50") & (folds["fold"] == 1)].iloc[0]
    again = hit_scores(songs_of["probability"].to_numpy(), songs_of["hit"].to_numpy(), row["threshold"])
    assert {name: row[name] for name in again} == pytest.approx(again)
    assert row["majority"] == pytest.approx(max(row["hits"], 1 - row["hits"]))
    paired = folds[folds["cutoff"] == "50"].pivot(index="fold", columns="model", values="auroc")
    difference = paired["logistic"] - paired["net"]
    told = summary.loc[("50", "logistic")]
    assert told["reference"] == "net"
    assert told["auroc_difference"] == pytest.approx(difference.mean())
    half = 4.302653 * np.sqrt((1 / 3 + 1 / 2) * difference.var())  # t at .975, 2 degrees of freedom
    ends = [difference.mean() - half, difference.mean() + half]
    assert [told["auroc_low"], told["auroc_high"]] == pytest.approx(ends, abs=1e-3)
    assert told["wins"] == (difference > 0).sum()
    assert summary.loc[("50", "net"), ["reference", "auroc_difference"]].isna().all()


def test_a_regressor_is_ranked_by_its_own_prediction(plan, songs, run_all):
    """The curve that makes probabilities of predictions keeps the order of the songs."""
    from sklearn.metrics import roc_auc_score

    tables = run_all(plan, songs)
    of_linear = tables.hit_folds[(tables.hit_folds["model"] == "linear") & (tables.hit_folds["cutoff"] == "40")]
    predicted = tables.predictions[tables.predictions["model"] == "linear"]
    for fold, part in predicted.groupby("fold"):
        hit = songs["popularity"].to_numpy()[part["row"]] >= 40
        expected = roc_auc_score(hit, part["prediction"])
        assert of_linear.set_index("fold").loc[fold, "auroc"] == pytest.approx(expected, abs=1e-6)


def test_a_fit_that_hits_take_over_is_a_cost_of_theirs(plan, songs, tmp_path):
    from popularity.evaluation.protocol import Run
    from popularity.evaluation.runs import execute, read_result, write_result

    first = Run("net", 0, 0)
    assert (
        "its prediction of popularity on this fold has failed"
        in execute(plan, songs, replace(first, hits=True), tmp_path).error
    )
    execute(plan, songs, first, tmp_path)
    result = read_result(plan, first, tmp_path)
    write_result(first.path(tmp_path), replace(result, facts=result.facts | {"seconds": 1000.0, "cpu_seconds": 500.0}))
    found = execute(plan, songs, replace(first, hits=True), tmp_path).facts
    assert found["error"] is None
    assert found["elapsed"] < 100
    assert 1000 < found["seconds"] < 1100
    assert 500 < found["cpu_seconds"] < 600


def test_quantiles_are_those_of_the_training_songs(plan, songs):
    from popularity.evaluation.hits import cutoff_value

    popularity = plan.make_fold(songs, 0, 0).task.popularity
    assert np.mean(popularity >= cutoff_value("top_quarter", popularity)) == pytest.approx(0.25, abs=0.05)
    assert np.mean(popularity >= cutoff_value("median", popularity)) == pytest.approx(0.5, abs=0.05)
    assert cutoff_value("70", popularity) == 70
    assert cutoff_value("50.5", popularity) == 51, "whole numbers from 50.5 on are those from 51 on"
    assert cutoff_value("50.5", popularity / 3) == 50.5


def test_test_songs_have_no_say_in_what_a_hit_is(plan, songs):
    from popularity.evaluation.hits import cutoff_value, score

    fold = plan.make_fold(songs, 0, 0)
    other = replace(fold, answers=np.where(np.arange(len(fold.answers)) < 5, 0.0, 100.0))
    everybody = np.append(fold.task.popularity, fold.answers)
    assert cutoff_value("median", everybody) != cutoff_value("median", fold.task.popularity), "this shows nothing"
    for one in (fold, other):
        known = Lively()(one.task)
        for found in (score(model(Lively()), one, CUTOFFS, known), score(model(None, Spy()), one, CUTOFFS, None)):
            for cutoff in ("median", "top_quarter"):
                assert found[cutoff].scores["value"] == cutoff_value(cutoff, fold.task.popularity)


def test_a_regressor_is_fitted_once_more_for_all_cutoffs(plan, songs):
    from popularity.evaluation.hits import INNER_FOLDS, score

    fold, regressor = plan.make_fold(songs, 0, 0), Lively()
    score(model(regressor), fold, CUTOFFS, Lively()(fold.task))
    assert regressor.fits == [len(fold.task.inner(INNER_FOLDS)[0][0])]
    score(model(regressor), fold, ["99"], Lively()(fold.task))
    assert len(regressor.fits) == 1, "nobody is a hit: nothing is asked of it"


def test_the_threshold_is_chosen_without_the_test_songs(plan, songs):
    from popularity.evaluation.hits import score

    fold, spy = plan.make_fold(songs, 0, 0), Spy()
    plain = score(model(None, spy), fold, ["40"], None)["40"]
    (inner, inner_hit), (outer, outer_hit) = spy.seen
    ours = set(fold.task.train["track_id"])
    assert set(inner.task.train["track_id"]) | set(inner.task.test["track_id"]) == ours
    assert not set(inner.task.train["track_id"]) & set(inner.task.test["track_id"])
    assert outer.task is fold.task
    assert (inner_hit == (inner.task.popularity >= 40)).all()
    assert (outer_hit == (outer.task.popularity >= 40)).all()
    assert inner.task.test["popularity"].isna().all()
    other = replace(fold, answers=fold.answers[::-1])
    again = score(model(None, Spy()), other, ["40"], None)["40"]
    assert again.scores["threshold"] == plain.scores["threshold"]
    assert (again.chance == plain.chance).all()
    assert again.scores["auroc"] != plain.scores["auroc"]


@pytest.mark.parametrize("distribution", [True, False])
def test_the_threshold_of_a_regressor_is_chosen_without_the_test_songs(distribution, plan, songs):
    from popularity.evaluation.hits import score

    def fit_predict(task):
        outcome = Lively()(task)
        return outcome if distribution else replace(outcome, at_least=None)

    fold = plan.make_fold(songs, 0, 0)
    both = (fold, replace(fold, answers=fold.answers[::-1]))
    plain, other = (score(model(fit_predict), one, ["40"], fit_predict(fold.task))["40"] for one in both)
    assert plain.scores["threshold"] == other.scores["threshold"]
    assert (plain.chance == other.chance).all()
    assert plain.scores["auroc"] != other.scores["auroc"]


def test_a_distribution_between_its_cutoffs():
    from popularity.evaluation.hits import probability_at

    at_least = np.linspace(1, 0.01, 100)[:, None] * np.array([1.0, 0.5])
    assert probability_at(at_least, 2).tolist() == at_least[1].tolist()
    assert probability_at(at_least, 2.25) == pytest.approx(0.75 * at_least[1] + 0.25 * at_least[2])
    assert probability_at(at_least, 100).tolist() == at_least[99].tolist()
    assert probability_at(at_least, 0).tolist() == [1, 1]
    assert probability_at(at_least, 0.5) == pytest.approx(0.5 + 0.5 * at_least[0])


def test_what_is_no_probability_fails(plan, songs):
    from popularity.evaluation.hits import score

    with pytest.raises(ValueError, match=r"P\(hit\): expected values from 0 to 1, got 1.5"):
        score(
            model(None, lambda rows, hit: np.full(len(rows.task.test), 1.5)), plan.make_fold(songs, 0, 0), ["40"], None
        )


def test_a_classifier_makes_its_rows_once_for_all_cutoffs(plan, songs, monkeypatch):
    from popularity.evaluation.folds import Task
    from popularity.evaluation.hits import score

    asked, real = [], Task.features
    monkeypatch.setattr(Task, "features", lambda self, feature_set: asked.append(self) or real(self, feature_set))
    score(plan.build("logistic"), plan.make_fold(songs, 0, 0), CUTOFFS, None)
    assert len(asked) == 2


def test_without_a_reference_that_predicts_hits_no_differences(songs, protocol, run_all):
    plan = protocol({"linear": {"baseline": "linear"}})
    assert "auroc_difference" not in run_all(plan, songs).hit_summary
    assert isinstance(run_all(plan, songs).hits, pd.DataFrame)


@pytest.mark.parametrize("value", [0.5, 120, "often"])
def test_bad_cutoffs(value):
    from popularity.errors import InputError
    from popularity.evaluation.hits import cutoff_name

    assert [cutoff_name(one) for one in (50, "50.5", "median")] == ["50", "50.5", "median"]
    with pytest.raises(InputError, match="expected numbers from 1 to 100, or median or top_quarter"):
        cutoff_name(value)
