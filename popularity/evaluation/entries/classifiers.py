"""Models of whether a song is a hit, with classes balanced strictly inside the fitted songs.

A balanced model believes that half of all songs are hits. Its probabilities are put back to the share of hits among the
training songs by Bayes' rule (Elkan, 2001, "The Foundations of Cost-Sensitive Learning", theorem 2), so that Brier
score and calibration error are fair to it; the order of the songs stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.covariance import OAS
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from popularity.errors import InputError
from popularity.evaluation.entries.prepared import prepared
from popularity.evaluation.entries.tabular import check_amount, needed, seeds
from popularity.evaluation.folds import Task
from popularity.features.tabular import Amount, information, inner_folds, kept_information

Balance = Literal["none", "weights", "undersample"]

#: Inner folds whose scores become probabilities, for a model whose own scores are none.
FOLDS = 3


@dataclass(frozen=True)
class Classifier:
    """An entry of hits.

    Attributes:
        make: seed to a pipeline with ``fit(rows, hit)``.
        information: what it is told of a song, ``audio`` or ``everything``.
        balance: ``none``, ``weights`` (each class weighs the same) or ``undersample`` (of the larger class as many
            songs as the smaller one has).
        scores: its scores are no probabilities: a logistic curve on the scores of inner folds makes them so (Platt,
            1999), with far scores drawn in by an inverse hyperbolic sine: those of ``qda`` lie beyond thousands.
        weighable: it takes weights.
    """

    make: Callable[[int], Pipeline]
    information: Amount
    balance: Balance
    scores: bool = False
    weighable: bool = True

    def __post_init__(self) -> None:
        check_amount(self.information)
        if self.balance not in get_args(Balance):
            raise InputError(f"balance must be one of {', '.join(get_args(Balance))}, but is {self.balance!r}")
        if self.balance == "weights" and not self.weighable:
            raise InputError("balance weights: this kind takes no weights, expected none or undersample")

    def fit_probability(self, task: Task, hit: np.ndarray) -> np.ndarray:
        """P(hit) of the test songs ``(n_test,)``; their share in training where all or none are hits."""
        share = float(np.mean(hit))
        if share in (0.0, 1.0):
            return np.full(len(task.test), share)
        rows, asked = kept_information(task, self.information)
        (seed,) = seeds(task, 1)
        model = self._fit(rows, hit, seed)
        if self.scores:
            return self._curve(task, hit, seed)(model.decision_function(asked))
        probability = np.asarray(model.predict_proba(asked), dtype=np.float64)[:, 1]
        return probability if self.balance == "none" else with_share(probability, share)

    def _fit(self, rows: pd.DataFrame, hit: np.ndarray, seed: int) -> Pipeline:
        model = self.make(seed)
        if self.balance == "weights":
            weights = np.where(hit, 0.5 / hit.mean(), 0.5 / (1 - hit.mean()))
            return model.fit(rows, hit, **{f"{model.steps[-1][0]}__sample_weight": weights})
        chosen = undersampled(hit, seed) if self.balance == "undersample" else np.arange(len(hit))
        return model.fit(rows.iloc[chosen], hit[chosen])

    def _curve(self, task: Task, hit: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        scores = np.full(len(hit), np.nan)
        for fit, held_out in inner_folds(task, FOLDS):
            if 0 < hit[fit].sum() < len(fit):
                rows, asked = information(task.part(fit, held_out), self.information)
                scores[held_out] = self._fit(rows, hit[fit], seed).decision_function(asked)
        known = np.isfinite(scores)
        if not 0 < hit[known].sum() < known.sum():
            return lambda asked: np.full(len(asked), hit.mean())
        middle = np.median(scores[known])
        spread = max(float(np.median(np.abs(scores[known] - middle))), 1e-12)

        # one song at 6,000 where the others are within 10 of 0 would tilt the curve, even turn it round
        def drawn_in(values: np.ndarray) -> np.ndarray:
            return np.arcsinh((values[:, None] - middle) / spread)

        curve = LogisticRegression().fit(drawn_in(scores[known]), hit[known])
        return lambda asked: curve.predict_proba(drawn_in(asked))[:, 1]


def undersampled(hit: np.ndarray, seed: int) -> np.ndarray:
    """Sorted rows: all of the smaller class and as many of the larger one, drawn at random."""
    classes = sorted((np.flatnonzero(hit), np.flatnonzero(~hit)), key=len)
    drawn = np.random.default_rng(seed).choice(classes[1], len(classes[0]), replace=False)
    return np.sort(np.concatenate([classes[0], drawn]))


def with_share(probability: np.ndarray, share: float) -> np.ndarray:
    """Probabilities of a model that was shown as many hits as others, for songs of which ``share`` are hits."""
    hits = probability * share
    return hits / (hits + (1 - probability) * (1 - share))


class _Gaussian(ClassifierMixin, BaseEstimator):
    """Gaussian discriminant analysis with shrunk covariances.

    The pooled covariance is shrunk to a multiple of the identity (Chen et al., 2010, OAS), that of a class in turn to
    the pooled one, the more the fewer songs it has (Friedman, 1989, "Regularized Discriminant Analysis").

    Args:
        quadratic: a covariance for each class instead of the pooled one for both.
    """

    def __init__(self, quadratic: bool = False) -> None:
        self.quadratic = quadratic

    def fit(self, X: np.ndarray, y: np.ndarray) -> _Gaussian:
        """Moments of the two classes."""
        self.classes_ = np.array([False, True])
        y = np.asarray(y, dtype=bool)
        self.means_ = np.stack([X[y == label].mean(0) for label in self.classes_])
        self.shares_ = np.array([np.mean(y == label) for label in self.classes_])
        rest = X - self.means_[y.astype(int)]
        pooled = OAS(assume_centered=True).fit(rest).covariance_
        self.covariances_ = np.stack([pooled, pooled])
        if self.quadratic:
            for label in (0, 1):
                own = rest[y == bool(label)]
                trust = len(own) / (len(own) + X.shape[1])
                self.covariances_[label] = trust * (own.T @ own) / len(own) + (1 - trust) * pooled
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Logarithm of the odds of a hit ``(n,)``."""
        density = np.empty((len(X), 2))
        for label in (0, 1):
            half = np.linalg.cholesky(self.covariances_[label])
            distance = np.linalg.solve(half, (X - self.means_[label]).T)
            volume = np.log(np.diag(half)).sum()
            density[:, label] = np.log(self.shares_[label]) - volume - 0.5 * (distance**2).sum(0)
        return density[:, 1] - density[:, 0]

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """P(class) of each row ``(n, 2)``."""
        hits = expit(self.decision_function(X))
        return np.stack([1 - hits, hits], axis=1)


def _filled(model: Any) -> Pipeline:
    return make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), model)


def logistic(information: Amount = "audio", balance: Balance = "none") -> Classifier:
    """Logistic regression."""
    return Classifier(
        lambda seed: make_pipeline(prepared(), LogisticRegression(C=0.1, max_iter=2000)), information, balance
    )


def lda(information: Amount = "audio", balance: Balance = "none") -> Classifier:
    """Gaussian discriminant analysis with one covariance: linear."""
    return Classifier(lambda seed: make_pipeline(prepared(), _Gaussian()), information, balance, weighable=False)


def qda(information: Amount = "audio", balance: Balance = "none") -> Classifier:
    """Gaussian discriminant analysis with a covariance for each class: quadratic, and far too sure of itself."""
    return Classifier(
        lambda seed: make_pipeline(prepared(), _Gaussian(quadratic=True)),
        information,
        balance,
        scores=True,
        weighable=False,
    )


def svm(information: Amount = "audio", balance: Balance = "weights") -> Classifier:
    """Support vector machine with a Gaussian kernel."""
    return Classifier(lambda seed: make_pipeline(prepared(), SVC(C=1.0)), information, balance, scores=True)


def tree(information: Amount = "audio", balance: Balance = "weights") -> Classifier:
    """A decision tree."""
    return Classifier(
        lambda seed: _filled(DecisionTreeClassifier(max_depth=6, min_samples_leaf=20, random_state=seed)),
        information,
        balance,
    )


def bagging(information: Amount = "audio", balance: Balance = "undersample") -> Classifier:
    """Decision trees on bootstrap samples (Breiman, 1996)."""
    return Classifier(
        lambda seed: _filled(BaggingClassifier(DecisionTreeClassifier(min_samples_leaf=5), 100, random_state=seed)),
        information,
        balance,
    )


def forest(information: Amount = "audio", balance: Balance = "weights") -> Classifier:
    """Random forest."""
    return Classifier(
        lambda seed: _filled(RandomForestClassifier(200, min_samples_leaf=5, random_state=seed)), information, balance
    )


def adaboost(information: Amount = "audio", balance: Balance = "weights") -> Classifier:
    """AdaBoost over small trees."""
    return Classifier(
        lambda seed: _filled(
            AdaBoostClassifier(
                DecisionTreeClassifier(max_depth=2), n_estimators=80, learning_rate=0.3, random_state=seed
            )
        ),
        information,
        balance,
        scores=True,
    )


def lightgbm(information: Amount = "everything", balance: Balance = "none") -> Classifier:
    """LightGBM."""
    package = needed("lightgbm")
    return Classifier(
        lambda seed: make_pipeline(
            package.LGBMClassifier(
                n_estimators=200,
                learning_rate=0.03,
                num_leaves=8,
                min_child_samples=25,
                subsample=0.7,
                subsample_freq=1,
                colsample_bytree=0.4,
                reg_lambda=5.0,
                random_state=seed,
                n_jobs=1,
                verbosity=-1,
                deterministic=True,
                force_row_wise=True,
            )
        ),
        information,
        balance,
    )


def xgboost(information: Amount = "everything", balance: Balance = "none") -> Classifier:
    """XGBoost."""
    package = needed("xgboost")
    return Classifier(
        lambda seed: make_pipeline(
            package.XGBClassifier(
                n_estimators=200,
                learning_rate=0.03,
                max_depth=4,
                min_child_weight=5,
                subsample=0.7,
                colsample_bytree=0.4,
                reg_lambda=5.0,
                tree_method="hist",
                random_state=seed,
                n_jobs=1,
            )
        ),
        information,
        balance,
    )
