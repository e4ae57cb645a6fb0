"""Hit prediction: is a song's popularity at or above a cut-off?

The threshold above which a song is called a hit is the one with the highest F1 on a quarter of the training songs (more
where their groups allow no four parts), held out by the rule of the split, for a model fitted to the others. The model
that is then judged is fitted to all training songs. A cut-off is a number, or a quantile of the training songs'
popularity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from popularity.evaluation.entries import Entry, HitEntry
from popularity.evaluation.folds import Fold, Task
from popularity.evaluation.protocol import QUANTILES
from popularity.features.tabular import inner_folds
from popularity.metrics import best_threshold, hit_scores

#: Parts of the training songs, one of which is held out to choose the threshold.
INNER_FOLDS = 4

#: Cut-off -> P(popularity >= cut-off) of each song (n,).
Distribution = dict[float, np.ndarray]


@dataclass(frozen=True)
class Scored:
    """A model of hits on one fold and cut-off.

    Attributes:
        scores: those of :func:`~popularity.metrics.hit_scores`, `value` of the cut-off, `threshold`, shares
            of `hits`; or `value` and why it was `skipped`.
        chance: (n_test,) P(hit), unless it was skipped.
    """

    scores: dict[str, Any]
    chance: np.ndarray | None


def cutoff_value(cutoff: str, popularity: np.ndarray) -> float:
    """The popularity from which a song is a hit.

    Args:
        cutoff: a number or a name of `QUANTILES`.
        popularity: (n_train,) of the training songs.
    """
    if cutoff in QUANTILES:
        return float(np.quantile(popularity, QUANTILES[cutoff], method="higher"))
    return float(cutoff)


def score_classifier(entry: HitEntry, fold: Fold, cutoff: str) -> Scored:
    """Fit a classifier twice: for the threshold, and for the test songs."""
    question = _ask(fold, cutoff)
    if question.reason:
        return question.skipped()
    fit, held = question.parts
    inner = entry.fit_probability(fold.task.part(fit, held), question.train[fit])
    return question.score(inner, entry.fit_probability(fold.task, question.train))


def score_regressor(
    entry: Entry, fold: Fold, cutoffs: Iterable[str], known: Distribution | None = None
) -> dict[str, Scored]:
    """Fit a regressor that has a distribution twice, whatever the number of cut-offs.

    Args:
        entry: the regressor.
        fold: the songs.
        cutoffs: what a hit is.
        known: what this model has said of the test songs before; saves the second fit.

    Raises:
        ValueError: it has no distribution.
    """
    questions = {cutoff: _ask(fold, cutoff) for cutoff in cutoffs}
    usable = [question for question in questions.values() if not question.reason]
    if not usable:
        return {cutoff: question.skipped() for cutoff, question in questions.items()}
    inner = _distribution(entry, fold.task.part(*usable[0].parts))
    outer = known or _distribution(entry, fold.task)
    return {
        cutoff: question.skipped()
        if question.reason
        else question.score(probability_at(inner, question.value), probability_at(outer, question.value))
        for cutoff, question in questions.items()
    }


def probability_at(cutoffs: Distribution, value: float) -> np.ndarray:
    """P(popularity >= value), between two given cut-offs by interpolation.

    Args:
        cutoffs: cut-off -> (n,) probability.
        value: cut-off that is wanted.

    Raises:
        ValueError: it lies outside those given.
    """
    known = np.array(sorted(cutoffs))
    if not known[0] <= value <= known[-1]:
        raise ValueError(f"the model's distribution goes from {known[0]:g} to {known[-1]:g}, not to {value:g}")
    above = int(np.searchsorted(known, value))
    right = np.asarray(cutoffs[known[above]], dtype=np.float64)
    if known[above] == value:
        return _probability(right, len(right))
    left = np.asarray(cutoffs[known[above - 1]], dtype=np.float64)
    share = (value - known[above - 1]) / (known[above] - known[above - 1])
    return _probability(left + share * (right - left), len(right))


@dataclass(frozen=True)
class _Question:
    value: float
    train: np.ndarray  # (n_train,) hits among the training songs
    test: np.ndarray  # (n_test,) and among the test songs
    parts: tuple[np.ndarray, np.ndarray]  # training rows to fit on and to choose the threshold by
    reason: str  # why it cannot be asked

    def skipped(self) -> Scored:
        return Scored({"value": self.value, "skipped": self.reason}, None)

    def score(self, inner: np.ndarray, outer: np.ndarray) -> Scored:
        held = self.train[self.parts[1]]
        threshold = best_threshold(_probability(inner, len(held)), held)
        chance = _probability(outer, len(self.test))
        scores = hit_scores(chance, self.test, threshold)
        return Scored(
            {"value": self.value, "threshold": threshold, "hits": float(np.mean(self.test)), **scores}, chance
        )


def _ask(fold: Fold, cutoff: str) -> _Question:
    popularity = fold.task.train["popularity"].to_numpy()
    value = cutoff_value(cutoff, popularity)
    train, test = popularity >= value, fold.answers >= value
    fit, held = inner_folds(fold.task, INNER_FOLDS)[0]
    reason = ""
    for where, hit in (("to fit on", train[fit]), ("to choose the threshold by", train[held]), ("to test on", test)):
        if hit.all() or not hit.any():
            reason = reason or f"{int(hit.sum())} hits among {len(hit):,} songs {where}"
    return _Question(value, train, test, (fit, held), reason)


def _distribution(entry: Entry, task: Task) -> Distribution:
    found = entry.fit_predict(task).cutoffs
    if not found:
        raise ValueError("the model gives no distribution, which hit prediction needs")
    return found


def _probability(values: np.ndarray, count: int) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (count,) or not ((array >= -1e-6) & (array <= 1 + 1e-6)).all():
        raise ValueError(f"a model of hits must give ({count},) probabilities, however: {array.shape}, {array[:3]}")
    return np.clip(array, 0, 1)
