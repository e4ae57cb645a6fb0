"""Models of hits on made-up songs: probabilities, balance inside the fitted songs alone, nothing of test labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from popularity.errors import InputError
from tests.features.test_tabular import made_up_task

KINDS = (
    "logistic",
    "lda",
    "qda",
    "svm",
    "tree",
    "bagging",
    "forest_classifier",
    "adaboost_classifier",
    "lightgbm_classifier",
    "xgboost_classifier",
)


def build(kind: str, **settings: Any) -> Any:
    from popularity.evaluation.entries import build

    for package in ("lightgbm", "xgboost"):
        if kind.startswith(package):
            pytest.importorskip(package)
    return build(kind, kind, settings)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_repeatable_and_blind_to_test_labels(kind: str) -> None:
    task, answers = made_up_task(120)
    hit = task.train["popularity"].to_numpy() >= 60
    chance = build(kind).fit_probability(task, hit)
    assert chance.shape == (len(task.test),)
    assert np.isfinite(chance).all()
    assert chance.min() >= 0
    assert chance.max() <= 1
    assert np.ptp(chance) > 0
    leaked = replace(task, test=task.test.assign(popularity=answers))
    np.testing.assert_array_equal(chance, build(kind).fit_probability(leaked, hit))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("balance", ["none", "weights", "undersample"])
def test_mean_probability_is_the_share_of_hits(kind: str, balance: str) -> None:
    """Whatever the balance in training: 15 % are hits, and 15 % is what it says on the average."""
    if balance == "weights" and kind in ("lda", "qda"):
        with pytest.raises(InputError, match="takes no weights"):
            build(kind, balance=balance)
        return
    task, answers = made_up_task(700)
    limit = float(np.quantile(task.train["popularity"], 0.85))
    chance = build(kind, balance=balance, information="audio").fit_probability(
        task, task.train["popularity"].to_numpy() >= limit
    )
    assert chance.mean() == pytest.approx(np.mean(answers >= limit), abs=0.07)


@pytest.mark.parametrize("kind", KINDS)
def test_knows_hits_from_others(kind: str) -> None:
    from sklearn.metrics import roc_auc_score

    task, answers = made_up_task(300)
    hit = task.train["popularity"].to_numpy() >= 60
    chance = build(kind, information="everything").fit_probability(task, hit)
    assert roc_auc_score(answers >= 60, chance) > 0.75


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hits", [0, 1, 2, 100])
def test_few_hits(kind: str, hits: int) -> None:
    """None, one, two or only hits among the training songs: still probabilities."""
    task, _ = made_up_task(150)
    hit = np.zeros(len(task.train), dtype=bool)
    hit[:hits] = True
    chance = build(kind, information="audio").fit_probability(task, hit)
    assert ((chance >= 0) & (chance <= 1)).all()
    if hits in (0, 100):
        np.testing.assert_array_equal(chance, float(hit.all()))


def test_the_curve_of_scores_is_learned_on_rows_without_held_out_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    from popularity.evaluation.entries import build, classifiers

    asked, information = [], classifiers.information

    def noted(task: Any, amount: str) -> Any:
        asked.append(task)
        return information(task, amount)

    monkeypatch.setattr(classifiers, "information", noted)
    task, _ = made_up_task(120)
    hit = task.train["popularity"].to_numpy() >= task.train["popularity"].median()
    build("mine", "svm", {"information": "everything"}).fit_probability(task, hit)
    assert len(asked) == classifiers.FOLDS
    assert all(inner.test["popularity"].isna().all() for inner in asked)
    assert sum(len(inner.test) for inner in asked) == len(task.train)


def test_a_far_score_does_not_turn_the_curve_round() -> None:
    """A score that knows hits well, but is a hundred thousand for three songs that are none."""
    from sklearn.base import BaseEstimator
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline

    from popularity.evaluation.entries.classifiers import Classifier

    class Far(BaseEstimator):
        def fit(self, rows: Any, hit: Any) -> Far:
            self.fitted_ = True
            return self

        def decision_function(self, rows: Any) -> np.ndarray:
            return np.where(rows["valence"] > 2, 1e5, rows["energy"] - 0.5)

    task, _ = made_up_task(300)
    hit = task.train["energy"].to_numpy() > 0.6
    far = np.flatnonzero(~hit)[:3]
    train = task.train.assign(valence=np.where(np.arange(len(hit)) == far[:, None], 9.0, 0.5).max(0))
    chance = Classifier(lambda seed: make_pipeline(Far()), "audio", "none", scores=True).fit_probability(
        replace(task, train=train), hit
    )
    assert roc_auc_score(task.test["energy"] > 0.6, chance) == 1


def test_undersampling_draws_from_the_fitted_songs_alone() -> None:
    from popularity.evaluation.entries.classifiers import undersampled

    hit = np.arange(50) % 5 == 0
    rows = undersampled(hit, seed=1)
    assert len(rows) == len(set(rows)) == 20
    assert set(np.flatnonzero(hit)) <= set(rows)
    np.testing.assert_array_equal(undersampled(~hit, 1), rows)
    assert set(undersampled(hit, 2)) != set(rows)


def test_share_is_put_back_by_bayes() -> None:
    """Of songs with a value, 3 of 4 hits in a balanced sample: with one hit in ten, 3 in 12."""
    from popularity.evaluation.entries.classifiers import with_share

    assert with_share(np.array([0.75]), 0.1)[0] == pytest.approx(0.25)
    np.testing.assert_allclose(with_share(np.array([0.0, 0.3, 1.0]), 0.5), [0.0, 0.3, 1.0])


def test_gaussians_of_known_shape() -> None:
    """With many songs: the posterior of two Gaussians, for both forms."""
    from popularity.evaluation.entries.classifiers import _Gaussian

    rng = np.random.default_rng(0)
    y = rng.random(20_000) < 0.3
    x = rng.normal(size=(len(y), 2)) * np.where(y, 2.0, 1.0)[:, None] + np.where(y, 1.0, 0.0)[:, None]
    query = np.array([[0.0, 0.0], [2.0, 1.0], [-3.0, 2.0]])

    def log_density(mean: float, sd: float) -> np.ndarray:
        return -2 * np.log(sd) - 0.5 * (((query - mean) / sd) ** 2).sum(1)

    odds = np.log(0.3 / 0.7) + log_density(1.0, 2.0) - log_density(0.0, 1.0)
    found = _Gaussian(quadratic=True).fit(x, y).decision_function(query)
    np.testing.assert_allclose(found, odds, atol=0.3)
    pooled = np.sqrt(0.3 * 4 + 0.7 * 1)
    odds = np.log(0.3 / 0.7) + log_density(1.0, pooled) - log_density(0.0, pooled)
    np.testing.assert_allclose(_Gaussian().fit(x, y).decision_function(query), odds, atol=0.15)


def test_bad_balance() -> None:
    with pytest.raises(InputError, match="balance must be one of none, weights, undersample, but is 'smote'"):
        build("logistic", balance="smote")
