"""Figures that other projects reported, with their methods as their own code and text describe them.

Methods are repeated, not improved: what is wrong with one is named in ``method``. Where a project does not say how a
figure came about, ``method`` says that this is our reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd
from sklearn.ensemble import BaggingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import precision_score, r2_score, recall_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from popularity.data.schema import AUDIO
from popularity.evaluation.entries import Entry, HitEntry, build
from popularity.evaluation.entries.classifiers import undersampled
from popularity.evaluation.folds import Fold
from popularity.evaluation.hits import cutoff_value
from popularity.metrics import regression_scores
from popularity.training.baselines import linear_regression

#: A fold to one figure; not a number where the fold has no hit or nothing else.
Figure = Callable[[Fold], float]


@dataclass(frozen=True)
class Claim:
    """One reported figure.

    Attributes:
        project: who reported it.
        model: of what.
        metric: which figure; songs that count as hits.
        reported: its value, or the claim in words.
        method: how it was obtained, with what is wrong with it.
        source: where it stands.
        theirs: their method on one random split of the raw rows.
        honest: the same model on a fold of the comparison.
        parts: one of so many equal parts of the rows is the test part of their split.
        network: most of a minute a fold.
    """

    project: str
    model: str
    metric: str
    reported: str
    method: str
    source: str
    theirs: Figure
    honest: Figure
    parts: int = 5
    network: bool = False


def entry(kind: str, score: str, **settings: object) -> Figure:
    """A model of the comparison."""

    def figure(fold: Fold) -> float:
        model = cast(Entry, build(kind, kind, settings))
        return regression_scores(model.fit_predict(fold.task).prediction, fold.answers)[score]

    return figure


def top_quarter(kind: str, **settings: object) -> Figure:
    """AUROC of a model of hits, which are the most popular quarter of the training songs."""

    def figure(fold: Fold) -> float:
        popularity = fold.task.train["popularity"].to_numpy()
        value = cutoff_value("top_quarter", popularity)
        hit, answers = popularity >= value, fold.answers >= value
        if not both_kinds(hit, answers):
            return float("nan")
        chance = cast(HitEntry, build(kind, kind, settings)).fit_probability(fold.task, hit)
        return float(roc_auc_score(answers, chance))

    return figure


def both_kinds(*hits: np.ndarray) -> bool:
    """Whether each of the arrays has hits and others."""
    return all(0 < hit.sum() < len(hit) for hit in hits)


def in_sample(fold: Fold) -> float:
    """R2 of least squares on the songs that it was fitted to."""
    train = fold.task.train
    model = linear_regression().fit(train[list(AUDIO)], train["popularity"])
    return float(model.score(train[list(AUDIO)], train["popularity"]))


def undersampled_first(figure: Figure, cutoff: float) -> Figure:
    """Undersample all songs, those to be tested too, before the split."""

    def undersample(fold: Fold) -> float:
        train, test = fold.task.train, fold.task.test
        popularity = np.concatenate([train["popularity"], fold.answers])
        hit = popularity >= cutoff
        if not both_kinds(hit):
            return float("nan")
        chosen = np.random.default_rng([fold.task.seed, 1]).permutation(undersampled(hit, fold.task.seed))
        fit, asked = np.split(chosen, [round(len(chosen) * len(train) / len(popularity))])
        songs = pd.concat([train, test], ignore_index=True).assign(popularity=popularity)
        balanced = replace(
            fold.task,
            train=songs.iloc[fit].reset_index(drop=True),
            test=songs.iloc[asked].assign(popularity=np.nan).reset_index(drop=True),
        )
        return figure(Fold(balanced, asked, popularity[asked]))

    return undersample


def logistic_regression(cutoff: float, *, own_scale: bool, balance: bool) -> Figure:
    """AUROC of a logistic regression on the 13 columns, three of them standardised.

    Args:
        cutoff: a hit has at least this popularity.
        own_scale: test songs are standardised by their own moments, not by those of the training songs.
        balance: as many others as hits are drawn from the training songs.
    """
    scaled = ["duration_ms", "loudness", "tempo"]

    def figure(fold: Fold) -> float:
        hit, answers = fold.task.train["popularity"].to_numpy() >= cutoff, fold.answers >= cutoff
        if not both_kinds(hit, answers):
            return float("nan")
        rows = undersampled(hit, fold.task.seed) if balance else np.arange(len(hit))
        train = fold.task.train[list(AUDIO)].iloc[rows].astype(np.float64)
        test = fold.task.test[list(AUDIO)].astype(np.float64)
        of_test = test[scaled] if own_scale else train[scaled]
        test[scaled] = (test[scaled] - of_test.mean()) / of_test.std()
        train[scaled] = (train[scaled] - train[scaled].mean()) / train[scaled].std()
        model = make_pipeline(SimpleImputer(keep_empty_features=True), LogisticRegression(max_iter=2000))
        chance = model.fit(train, hit[rows]).predict_proba(test)[:, 1]
        return float(roc_auc_score(answers, chance))

    return figure


def no_zeros(figure: Figure) -> Figure:
    """Leave songs of popularity 0 out, among those to be tested too."""

    def without(fold: Fold) -> float:
        train, kept = fold.task.train, fold.answers > 0
        task = replace(
            fold.task,
            train=train[train["popularity"] > 0].reset_index(drop=True),
            test=fold.task.test[kept].reset_index(drop=True),
        )
        return figure(Fold(task, fold.rows[kept], fold.answers[kept]))

    return without


def ten_columns(fold: Fold) -> float:
    """R2 of least squares on the ten audio columns that are no codes."""
    columns = [name for name in AUDIO if name not in ("key", "mode", "time_signature")]
    model = make_pipeline(SimpleImputer(keep_empty_features=True), LinearRegression())
    model.fit(fold.task.train[columns], fold.task.train["popularity"])
    return float(r2_score(fold.answers, model.predict(fold.task.test[columns])))


def three_classes(score: Callable[..., float]) -> Figure:
    """Bagging of 200 trees of depth 2 with balanced class weights: above 50, from 75 on, and the rest.

    The score is that of the class from 75 on.
    """

    def classes(popularity: np.ndarray) -> np.ndarray:
        return np.select([popularity >= 75, popularity > 50], [2, 1], 0)

    def figure(fold: Fold) -> float:
        train, answers = classes(fold.task.train["popularity"].to_numpy()), classes(fold.answers)
        if 2 not in train or 2 not in answers:
            return float("nan")
        tree = DecisionTreeClassifier(max_depth=2, class_weight="balanced")
        bag = BaggingClassifier(tree, 200, random_state=fold.task.seed)
        model = make_pipeline(SimpleImputer(keep_empty_features=True), bag).fit(fold.task.train[list(AUDIO)], train)
        return float(score(answers == 2, model.predict(fold.task.test[list(AUDIO)]) == 2, zero_division=0.0))

    return figure


TOKEN_CONFIGS = ["configs/single_token.yaml"]
_TOKEN = entry("network", "mse", configs=TOKEN_CONFIGS)
_PHAM = {amount: top_quarter("logistic", information=amount) for amount in ("audio", "everything")}
_XGBOOST = top_quarter("xgboost_classifier", information="audio")
_SPLIT = "one random split of {} to 1, rows as they come (duplicates on both sides)"
_READING = "our reading: one random split of 4 to 1, rows as they come; cut-off and model are ours"
_MAMBA = "GitHub, Rebeccaazoulay/DeepLearning_04621"
_MATT = "GitHub, MattD82/Predicting-Spotify-Song-Popularity, README and src/capstone_1_v3.py"
_TWILL = "GitHub, twillstw/Spotify-Popularity-Prediction, Reports/4. Models.ipynb"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        *("original Mamba", "linear regression", "MSE", "105.2", _SPLIT.format(4), _MAMBA),
        *(entry("linear", "mse"), entry("linear", "mse")),
    ),
    Claim(
        *("original Mamba", "Mamba on one token", "MSE", "106.4", _SPLIT.format(4), _MAMBA, _TOKEN, _TOKEN),
        network=True,
    ),
    Claim(
        *("MattD82", "least squares", "R2", ".077", "scored on the songs that it was fitted to", _MATT),
        *(in_sample, entry("linear", "r2")),
        parts=4,
    ),
    Claim(
        *("MattD82", "logistic regression", "AUROC, hit from 80", ".788"),
        "undersampling before the split: tested on a few, balanced songs, which are standardised by themselves",
        _MATT,
        undersampled_first(logistic_regression(80, own_scale=True, balance=False), 80),
        logistic_regression(80, own_scale=False, balance=True),
    ),
    Claim(
        *("twillstw", "least squares on ten columns", "R2", ".098"),
        f"{_SPLIT.format(3)}, popularity 0 left out of both",
        *(_TWILL, no_zeros(ten_columns), ten_columns),
        parts=4,
    ),
    *(
        Claim(
            *("twillstw", "bagging, three classes", f"{name}, hit from 75", reported),
            f"{_SPLIT.format(3)}, popularity 0 left out of both (they: a further part of 15 % held out)",
            *(_TWILL, no_zeros(three_classes(score)), three_classes(score)),
            parts=4,
        )
        for name, reported, score in (("recall", ".76", recall_score), ("precision", ".02", precision_score))
    ),
    *(
        Claim(
            "Pham et al. (2015)",
            f"logistic regression, {amount}",
            "AUROC, hit in top quarter",
            "metadata beats audio",
            *(_READING, "Predicting Song Popularity, CS229 report", figure, figure),
        )
        for amount, figure in _PHAM.items()
    ),
    Claim(
        *("not named", "XGBoost, audio", "AUROC, hit in top quarter", ".68", _READING, "reported without a source"),
        *(_XGBOOST, _XGBOOST),
    ),
)
