"""Classifiers of hits: probabilities, balance inside the fitted songs alone, nothing of test labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.evaluation.helpers import chances, made_up_task

NAMES = ("logistic", "lda", "qda", "svm", "tree", "bagging", "forest", "adaboost", "lightgbm", "xgboost")
#: Those that take longest are among the slow tests.
SLOW = ("adaboost", "forest", "bagging", "svm")
EACH = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NAMES]


def settings_of(name: str, **more: Any) -> dict[str, Any]:
    if name in ("lightgbm", "xgboost"):
        pytest.importorskip(name)
    return {"classifier": name, **more}


def test_every_classifier_is_tried() -> None:
    from popularity.evaluation.classifiers import CLASSIFIERS

    assert set(CLASSIFIERS) == set(NAMES)


@pytest.mark.parametrize("name", EACH)
def test_probabilities_repeatable_and_blind_to_test_labels(name: str) -> None:
    task, answers = made_up_task(120)
    hit = task.popularity >= 60
    chance = chances(settings_of(name), task, hit)
    assert chance.shape == (len(task.test),)
    assert np.isfinite(chance).all()
    assert chance.min() >= 0
    assert chance.max() <= 1
    assert np.ptp(chance) > 0
    leaked = replace(task, test=task.test.assign(popularity=answers))
    np.testing.assert_array_equal(chance, chances(settings_of(name), leaked, hit))


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("balance", ["none", "weights", "undersample"])
def test_mean_probability_is_the_share_of_hits(name: str, balance: str) -> None:
    """Whatever the balance in training: 15 % are hits, and 15 % is what it says on average."""
    if balance == "weights" and name in ("lda", "qda"):
        return  # take no weights
    task, answers = made_up_task(700)
    limit = float(np.quantile(task.popularity, 0.85))
    settings = settings_of(name, balance=balance, feature_set="audio")
    assert chances(settings, task, task.popularity >= limit).mean() == pytest.approx(
        np.mean(answers >= limit), abs=0.07
    )


@pytest.mark.parametrize("name", EACH)
def test_knows_hits_from_others(name: str) -> None:
    from sklearn.metrics import roc_auc_score

    task, answers = made_up_task(300)
    chance = chances(settings_of(name, feature_set="everything"), task, task.popularity >= 60)
    assert roc_auc_score(answers >= 60, chance) > (0.65 if name == "qda" else 0.75)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("hits", [0, 4, 5, 100])
def test_few_hits(name: str, hits: int) -> None:
    """None, few or only hits among the training songs: still probabilities."""
    task, _ = made_up_task(150)
    hit = np.arange(len(task.train)) < hits
    chance = chances(settings_of(name, feature_set="audio"), task, hit)
    assert ((chance >= 0) & (chance <= 1)).all()
    if hits != 5:
        np.testing.assert_array_equal(chance, hit.mean())


def test_the_curve_of_scores_is_learned_on_rows_without_held_out_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    from popularity.evaluation import classifiers
    from popularity.evaluation.folds import Task

    asked, real = [], Task.features
    monkeypatch.setattr(Task, "features", lambda self, feature_set: asked.append(self) or real(self, feature_set))
    task, _ = made_up_task(120)
    chances({"classifier": "svm", "feature_set": "everything"}, task, task.popularity >= np.median(task.popularity))
    outer, *inner = asked
    assert outer is task
    assert len(inner) == classifiers.CURVE_FOLDS
    assert all(part.test["popularity"].isna().all() for part in inner)
    assert sum(len(part.test) for part in inner) == len(task.train)


def test_a_far_score_does_not_turn_the_curve_round() -> None:
    """A score that knows hits well, but is a hundred thousand for three songs that are none."""
    from sklearn.metrics import roc_auc_score

    from popularity.evaluation.classifiers import probability_curve

    rng = np.random.default_rng(0)
    hit = rng.random(300) < 0.4
    scores = hit + rng.normal(0, 0.3, 300)
    scores[np.flatnonzero(~hit)[:3]] = 1e5
    curve = probability_curve(scores, hit, 0.4)
    assert roc_auc_score(hit[20:], curve(np.where(hit, 1.0, 0.0))[20:]) == 1
    assert curve(np.array([0.0, 1.0]))[1] > 0.7
    np.testing.assert_array_equal(probability_curve(scores, np.ones(300, dtype=bool), 0.9)(np.zeros(2)), 0.9)


def test_undersampling_samples_from_the_fitted_songs_alone() -> None:
    from popularity.evaluation.classifiers import undersampled

    hit = np.arange(50) % 5 == 0
    rows = undersampled(hit, seed=1)
    assert len(rows) == len(set(rows)) == 20
    assert set(np.flatnonzero(hit)) <= set(rows)
    np.testing.assert_array_equal(undersampled(~hit, 1), rows)
    assert set(undersampled(hit, 2)) != set(rows)


def test_share_is_put_back_by_bayes() -> None:
    """Of songs with a value, 3 of 4 hits in a balanced sample: with one hit in ten, 3 in 12."""
    from popularity.evaluation.classifiers import with_share

    assert with_share(np.array([0.75]), 0.1)[0] == pytest.approx(0.25)
    np.testing.assert_allclose(with_share(np.array([0.0, 0.3, 1.0]), 0.5), [0.0, 0.3, 1.0])
