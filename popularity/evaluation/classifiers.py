"""Classifiers of hits: a table of pipelines, with classes balanced strictly inside the songs that they are fitted to.

A balanced classifier believes that half of all songs are hits. Its probabilities are corrected to the share of hits
among the training songs by Bayes' rule (Elkan, 2001, "The Foundations of Cost-Sensitive Learning", theorem 2), so that
Brier score and calibration error are fair to it; the order of the songs stays the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier

from popularity.evaluation.estimators import Make, maker
from popularity.evaluation.folds import Rows
from popularity.features.prepared import medians, prepared
from popularity.features.tabular import FeatureSet
from popularity.features.trees import REPRODUCIBLE

Balance = Literal["none", "weights", "undersample"]

#: Inner folds whose scores become probabilities, for a classifier whose own scores are none.
CURVE_FOLDS = 3
_FEWEST = 5  # songs of a class: from fewer nothing can be learned


@dataclass(frozen=True)
class Row:
    """How to make a classifier. The config may give another feature set and another balance."""

    make: Make
    feature_set: FeatureSet = "audio"
    balance: Balance = "none"  # what is done about hits being few
    scores: bool = False  # its scores are not probabilities: they are mapped to some, see `probability_curve`
    weighable: bool = True  # it takes weights
    package: str = ""  # must be installed


def _boosted(class_path: str, **fixed: Any) -> Row:
    fixed |= {"n_estimators": 200, "learning_rate": 0.03, "subsample": 0.7, "colsample_bytree": 0.4, "reg_lambda": 5.0}
    make = maker(class_path, lambda: "passthrough", n_jobs=1, **fixed)
    return Row(make, "everything", package=class_path.partition(".")[0])


_SHRUNK = "sklearn.discriminant_analysis."
_STUMP, _TREE = DecisionTreeClassifier(max_depth=2), DecisionTreeClassifier(min_samples_leaf=5)

CLASSIFIERS: dict[str, Row] = {
    "logistic": Row(maker("sklearn.linear_model.LogisticRegression", prepared, C=0.1, max_iter=2000)),
    "lda": Row(
        maker(f"{_SHRUNK}LinearDiscriminantAnalysis", prepared, solver="lsqr", shrinkage="auto"), weighable=False
    ),
    # far too sure of itself: its scores are mapped to probabilities
    "qda": Row(
        maker(f"{_SHRUNK}QuadraticDiscriminantAnalysis", prepared, solver="eigen", shrinkage="auto"),
        scores=True,
        weighable=False,
    ),
    "svm": Row(maker("sklearn.svm.SVC", prepared, C=1.0), balance="weights", scores=True),
    "tree": Row(
        maker("sklearn.tree.DecisionTreeClassifier", medians, max_depth=6, min_samples_leaf=20), balance="weights"
    ),
    "bagging": Row(
        maker("sklearn.ensemble.BaggingClassifier", medians, estimator=_TREE, n_estimators=100), balance="undersample"
    ),
    "forest": Row(
        maker("sklearn.ensemble.RandomForestClassifier", medians, n_estimators=200, min_samples_leaf=5),
        balance="weights",
    ),
    "adaboost": Row(
        maker("sklearn.ensemble.AdaBoostClassifier", medians, estimator=_STUMP, n_estimators=80, learning_rate=0.3),
        balance="weights",
        scores=True,
    ),
    "lightgbm": _boosted(
        "lightgbm.LGBMClassifier", num_leaves=8, min_child_samples=25, subsample_freq=1, **REPRODUCIBLE
    ),
    "xgboost": _boosted("xgboost.XGBClassifier", max_depth=4, min_child_weight=5, tree_method="hist"),
}


def fit_probability(row: Row, balance: str, rows: Rows, hit: np.ndarray) -> np.ndarray:
    """P(hit) of the test songs ``(n_test,)``; the share of hits where nearly all songs are hits, or nearly none.

    Args:
        row: what is fitted.
        balance: ``none``, ``weights`` (each class weighs the same) or ``undersample`` (see :func:`undersampled`).
        rows: what it reads.
        hit: ``(n_train,)`` labels of the training songs.
    """
    share = float(np.mean(hit))
    train, test = rows.tables
    if min(hit.sum(), (~hit).sum()) < _FEWEST:
        return np.full(len(test), share)
    (seed,) = rows.task.seeds(1)
    model = _fitted(row, balance, train, hit, seed)
    if not row.scores:
        probability = np.asarray(model.predict_proba(test), dtype=np.float64)[:, 1]
        return probability if balance == "none" else with_share(probability, share)
    scores = np.full(len(hit), np.nan)
    for part, (fit, held_out) in rows.parts(CURVE_FOLDS):
        if min(hit[fit].sum(), (~hit[fit]).sum()) >= _FEWEST:
            inner, asked = part.tables
            scores[held_out] = _fitted(row, balance, inner, hit[fit], seed).decision_function(asked)
    known = np.isfinite(scores)
    return probability_curve(scores[known], hit[known], share)(model.decision_function(test))


def _fitted(row: Row, balance: str, rows: pd.DataFrame, hit: np.ndarray, seed: int) -> Pipeline:
    model: Pipeline = row.make({}, seed)
    if balance == "weights":
        weights = np.where(hit, 0.5 / hit.mean(), 0.5 / (1 - hit.mean()))
        return model.fit(rows, hit, **{f"{model.steps[-1][0]}__sample_weight": weights})
    chosen = undersampled(hit, seed) if balance == "undersample" else np.arange(len(hit))
    return model.fit(rows.iloc[chosen], hit[chosen])


def probability_curve(scores: np.ndarray, hit: np.ndarray, share: float) -> Callable[[np.ndarray], np.ndarray]:
    """A logistic curve from scores to P(hit) (Platt, 1999), fitted to songs that the scores were not fitted to.

    Far scores are compressed by an inverse hyperbolic sine: one song at 6,000 where the others are within 10 of 0 would
    tilt the curve. Where there is nothing to fit to, P(hit) is ``share``.
    """
    if not 0 < hit.sum() < len(hit):
        return lambda asked: np.full(len(asked), share)
    middle = np.median(scores)
    spread = max(float(np.median(np.abs(scores - middle))), 1e-12)

    def compressed(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.arcsinh((values[:, None] - middle) / spread))

    curve = LogisticRegression().fit(compressed(scores), hit)
    return lambda asked: np.asarray(curve.predict_proba(compressed(asked))[:, 1])


def undersampled(hit: np.ndarray, seed: int) -> np.ndarray:
    """Sorted rows: all of the smaller class and as many of the larger one, sampled at random."""
    classes = sorted((np.flatnonzero(hit), np.flatnonzero(~hit)), key=len)
    chosen = np.random.default_rng(seed).choice(classes[1], len(classes[0]), replace=False)
    return np.sort(np.concatenate([classes[0], chosen]))


def with_share(probability: np.ndarray, share: float) -> np.ndarray:
    """Probabilities of a model that was shown as many hits as others, for songs of which ``share`` are hits."""
    hits = probability * share
    return np.asarray(hits / (hits + (1 - probability) * (1 - share)))
