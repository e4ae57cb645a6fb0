"""Published results and the methods behind them, as their projects' own code and text describe them, leaks included.

What is wrong with a method is named. Where a project does not say which songs are hits, the cut-off is ours, and the
text of the method says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import precision_score, r2_score, recall_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from popularity.data.schema import AUDIO
from popularity.evaluation.classifiers import undersampled
from popularity.evaluation.folds import Fold, Rows
from popularity.evaluation.hits import cutoff_value
from popularity.evaluation.models import build_model
from popularity.features.prepared import medians
from popularity.metrics import regression_scores
from popularity.training.baselines import linear_regression

#: A fold to one number; NaN where the fold has no hit or nothing else.
Metric = Callable[[Fold], float]


@dataclass(frozen=True)
class Published:
    """One published result.

    Attributes:
        project: who reported it.
        model: of what.
        metric: which metric; songs that count as hits.
        reported: its value, or the statement in words.
        method: how it was obtained, and what is wrong with that.
        source: where it is written.
        theirs: their method on one random split of the raw rows.
        honest: the same model on a fold of a comparison.
        parts: one of so many equal parts of the rows is the test part of their split.
        network: most of a minute a fold.
    """

    project: str
    model: str
    metric: str
    reported: str
    method: str
    source: str
    theirs: Metric
    honest: Metric
    parts: int = 5
    network: bool = False


def regression(name: str, **settings: Any) -> Metric:
    """A metric of a model of `compare`."""

    def metric(fold: Fold) -> float:
        model = build_model("published", settings).fit_predict
        assert model is not None
        return regression_scores(np.clip(model(fold.task).prediction, 0, 100), fold.answers)[name]

    return metric


def top_quarter(**settings: Any) -> Metric:
    """AUROC of a classifier of hits, which are the most popular quarter of the training songs."""

    def metric(fold: Fold) -> float:
        value = cutoff_value("top_quarter", fold.task.popularity)
        hit, answers = fold.task.popularity >= value, fold.answers >= value
        model = build_model("published", settings)
        if not both_kinds(hit, answers) or model.fit_probability is None:
            return float("nan")
        return float(roc_auc_score(answers, model.fit_probability(Rows(fold.task, model.feature_set), hit)))

    return metric


def both_kinds(*hits: np.ndarray) -> bool:
    """Whether each of the arrays has hits and others."""
    return all(0 < hit.sum() < len(hit) for hit in hits)


def in_sample(fold: Fold) -> float:
    """R2 of least squares on the songs that it was fitted to."""
    train = fold.task.train
    model = linear_regression().fit(train[list(AUDIO)], train["popularity"])
    return float(model.score(train[list(AUDIO)], train["popularity"]))


def undersampled_first(metric: Metric, cutoff: float) -> Metric:
    """Undersample all songs, the test songs too, before the split."""

    def undersample(fold: Fold) -> float:
        train, test = fold.task.train, fold.task.test
        popularity = np.concatenate([train["popularity"], fold.answers])
        hit = popularity >= cutoff
        if not both_kinds(hit):
            return float("nan")
        chosen = np.random.default_rng([fold.task.seed, 1]).permutation(undersampled(hit, fold.task.seed))
        fit, asked = np.split(chosen, [round(len(chosen) * len(train) / len(popularity))])
        songs = pd.concat([train, test], ignore_index=True).assign(popularity=popularity)
        new_test = songs.iloc[asked].assign(popularity=np.nan).reset_index(drop=True)
        balanced = replace(fold.task, train=songs.iloc[fit].reset_index(drop=True), test=new_test)
        return metric(Fold(balanced, asked, popularity[asked]))

    return undersample


def logistic_regression(cutoff: float, *, own_scale: bool, balance: bool) -> Metric:
    """AUROC of a logistic regression on the 13 columns, three of them standardised.

    Args:
        cutoff: a hit has at least this popularity.
        own_scale: test songs are standardised by their own moments, not by those of the training songs.
        balance: as many others as hits are sampled from the training songs.
    """
    scaled = ["duration_ms", "loudness", "tempo"]

    def metric(fold: Fold) -> float:
        hit, answers = fold.task.popularity >= cutoff, fold.answers >= cutoff
        if not both_kinds(hit, answers):
            return float("nan")
        rows = undersampled(hit, fold.task.seed) if balance else np.arange(len(hit))
        train = fold.task.train[list(AUDIO)].iloc[rows].astype(np.float64)
        test = fold.task.test[list(AUDIO)].astype(np.float64)
        of_test = test[scaled] if own_scale else train[scaled]
        test[scaled] = (test[scaled] - of_test.mean()) / of_test.std()
        train[scaled] = (train[scaled] - train[scaled].mean()) / train[scaled].std()
        chance = (
            make_pipeline(medians(), LogisticRegression(max_iter=2000)).fit(train, hit[rows]).predict_proba(test)[:, 1]
        )
        return float(roc_auc_score(answers, chance))

    return metric


def no_zeros(metric: Metric) -> Metric:
    """Leave songs of popularity 0 out, of the test songs too."""

    def without(fold: Fold) -> float:
        train, kept = fold.task.train, fold.answers > 0
        known = train[train["popularity"] > 0].reset_index(drop=True)
        task = replace(fold.task, train=known, test=fold.task.test[kept].reset_index(drop=True))
        return metric(Fold(task, fold.rows[kept], fold.answers[kept]))

    return without


def ten_columns(fold: Fold) -> float:
    """R2 of least squares on the ten audio columns that are not codes."""
    columns = [name for name in AUDIO if name not in ("key", "mode", "time_signature")]
    model = make_pipeline(medians(), LinearRegression()).fit(fold.task.train[columns], fold.task.popularity)
    return float(r2_score(fold.answers, model.predict(fold.task.test[columns])))


def three_classes(score: Callable[..., float]) -> Metric:
    """Bagging of 200 trees of depth 2 with balanced class weights: above 50, from 75 on, and the rest.

    The score is that of the class from 75 on.
    """

    def classes(popularity: np.ndarray) -> np.ndarray:
        return np.select([popularity >= 75, popularity > 50], [2, 1], 0)

    def metric(fold: Fold) -> float:
        train, answers = classes(fold.task.popularity), classes(fold.answers)
        if 2 not in train or 2 not in answers:
            return float("nan")
        tree = DecisionTreeClassifier(max_depth=2, class_weight="balanced")
        bag = make_pipeline(medians(), BaggingClassifier(tree, 200, random_state=fold.task.seed)).fit(
            fold.task.train[list(AUDIO)], train
        )
        return float(score(answers == 2, bag.predict(fold.task.test[list(AUDIO)]) == 2, zero_division=0.0))

    return metric


_TOKEN = regression("mse", configs=["single_token"])
_LINEAR = {name: regression(name, baseline="linear") for name in ("mse", "r2")}
_PHAM = {name: top_quarter(classifier="logistic", feature_set=name) for name in ("audio", "everything")}
_XGBOOST = top_quarter(classifier="xgboost", feature_set="audio")
_SPLIT = "one random split of {} to 1, rows as they are (duplicates on both sides)"
_READING = "our reading: one random split of 4 to 1, rows as they are; cut-off and model are ours"
_MAMBA = "GitHub, Rebeccaazoulay/DeepLearning_04621"
_MATT = "GitHub, MattD82/Predicting-Spotify-Song-Popularity, README and src/capstone_1_v3.py"
_TWILL = "GitHub, twillstw/Spotify-Popularity-Prediction, Reports/4. Models.ipynb"
_QUARTER = "AUROC, hit in top quarter"
_LEFT_OUT = f"{_SPLIT.format(3)}, popularity 0 left out of both"
_BEFORE = "undersampling before the split: tested on a few, balanced songs, which are standardised by themselves"

RESULTS: tuple[Published, ...] = (
    Published("original Mamba", "linear regression", "MSE", "105.2", _SPLIT.format(4), _MAMBA, *[_LINEAR["mse"]] * 2),
    Published(
        *("original Mamba", "Mamba on one token", "MSE", "106.4", _SPLIT.format(4), _MAMBA, _TOKEN, _TOKEN),
        network=True,
    ),
    Published(
        *("MattD82", "least squares", "R2", "0.077", "scored on the songs that it was fitted to", _MATT),
        *(in_sample, _LINEAR["r2"]),
        parts=4,
    ),
    Published(
        *("MattD82", "logistic regression", "AUROC, hit from 80", "0.788", _BEFORE, _MATT),
        undersampled_first(logistic_regression(80, own_scale=True, balance=False), 80),
        logistic_regression(80, own_scale=False, balance=True),
    ),
    Published(
        *("twillstw", "least squares on ten columns", "R2", "0.098", _LEFT_OUT, _TWILL),
        *(no_zeros(ten_columns), ten_columns),
        parts=4,
    ),
    *(
        Published(
            *("twillstw", "bagging, three classes", f"{name}, hit from 75", reported),
            *(f"{_LEFT_OUT} (they: another part of 15 % held out)", _TWILL),
            *(no_zeros(three_classes(score)), three_classes(score)),
            parts=4,
        )
        for name, reported, score in (("recall", "0.76", recall_score), ("precision", "0.02", precision_score))
    ),
    *(
        Published(
            *("Pham et al. (2015)", f"logistic regression, {name}", _QUARTER, "metadata beats audio"),
            *(_READING, "Predicting Song Popularity, CS229 report", metric, metric),
        )
        for name, metric in _PHAM.items()
    ),
    Published("not named", "XGBoost, audio", _QUARTER, "0.68", _READING, "reported without a source", *[_XGBOOST] * 2),
)
