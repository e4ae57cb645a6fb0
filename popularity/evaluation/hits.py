"""Hit prediction: is a song's popularity at or above a cut-off?

A quarter of the training songs is held out by the rule of the split (more where groups allow no four parts), and a
model is fitted to the others. The threshold above which a song is called a hit is the one with the highest F1 on the
held-out songs. Every regressor predicts hits: from its histogram where it has one, otherwise from its prediction, by a
logistic curve that is fitted to the same held-out songs. The model that is then judged is fitted to all training songs.
A cut-off is a number, or a quantile of the training songs' popularity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from popularity.errors import InputError
from popularity.evaluation.classifiers import probability_curve
from popularity.evaluation.folds import Fold, Outcome, Rows
from popularity.evaluation.models import Model
from popularity.inference.distribution import parse_cutoff
from popularity.metrics import best_threshold, hit_scores

#: Parts of the training songs, one of which is held out to choose the threshold.
INNER_FOLDS = 4
#: Cut-offs that depend on the training songs: name -> quantile of their popularity.
QUANTILES = {"median": 0.5, "top_quarter": 0.75}


@dataclass(frozen=True)
class Scored:
    """A model of hits on one fold and cut-off: its scores, and (n_test,) P(hit) unless it was skipped.

    Scores are those of `hit_scores`, the cut-off's `value`, `threshold` and share of `hits`; or `value` and `skipped`.
    """

    scores: dict[str, Any]
    chance: np.ndarray | None = None


def cutoff_name(value: float | str) -> str:
    """The name of a cut-off in a config.

    Raises:
        InputError: neither a quantile nor a number that a distribution can be read at.
    """
    if value in QUANTILES:
        return str(value)
    if (number := parse_cutoff(value)) is None:
        raise InputError(f"hits.cutoffs: expected numbers from 1 to 100, or {' or '.join(QUANTILES)}, got {value!r}")
    return f"{number:g}"


def cutoff_value(cutoff: str, popularity: np.ndarray) -> float:
    """The popularity from which a song is a hit, where training songs have (n_train,) popularity."""
    if cutoff in QUANTILES:
        return float(np.quantile(popularity, QUANTILES[cutoff], method="higher"))
    whole = (popularity == np.round(popularity)).all()  # then 50.5 or more is 51 or more
    return float(np.ceil(float(cutoff))) if whole else float(cutoff)


def score(model: Model, fold: Fold, cutoffs: Iterable[str], known: Outcome | None) -> dict[str, Scored]:
    """Scores by cut-off. A regressor is fitted once more, without the held-out songs, a classifier twice a cut-off.

    `known` is what a regressor, fitted to all training songs, has said about the test songs.
    """
    fit, held_out = fold.task.inner(INNER_FOLDS)[0]
    part, popularity = fold.task.part(fit, held_out), fold.task.popularity
    rows, part_rows = Rows(fold.task, model.feature_set), Rows(part, model.feature_set)
    inner, found = None, {}
    for cutoff in cutoffs:
        value = cutoff_value(cutoff, popularity)
        hit, of_test = popularity >= value, fold.answers >= value
        if reason := _reason(hit[fit], hit[held_out], of_test):
            found[cutoff] = Scored({"value": value, "skipped": reason})
            continue
        if model.fit_probability is not None:
            watched, asked = model.fit_probability(part_rows, hit[fit]), model.fit_probability(rows, hit)
        else:
            assert model.fit_predict is not None
            assert known is not None
            inner = inner or model.fit_predict(part)
            watched, asked = _of_regressor(inner, known, value, hit[held_out])
        chance = _probability(asked)
        threshold = best_threshold(_probability(watched), hit[held_out])
        scores = {"value": value, "threshold": threshold, "hits": float(np.mean(of_test))}
        found[cutoff] = Scored({**scores, **hit_scores(chance, of_test, threshold)}, chance)
    return found


def _of_regressor(inner: Outcome, outer: Outcome, value: float, hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(hit) of the held-out training songs and of the test songs."""
    if inner.at_least is not None and outer.at_least is not None:
        return probability_at(inner.at_least, value), probability_at(outer.at_least, value)
    curve = probability_curve(inner.prediction, hit, float(hit.mean()))
    return curve(inner.prediction), curve(outer.prediction)


def probability_at(at_least: np.ndarray, value: float) -> np.ndarray:
    """P(popularity >= value) from (100, n) P(popularity >= c) for c = 1 to 100, interpolated between whole numbers.

    Every popularity is 0 or more.
    """
    below = min(int(value), 99)
    share = value - below
    least = at_least[below - 1] if below else np.ones_like(at_least[0])
    return np.asarray((1 - share) * least + share * at_least[below])


def _reason(fit: np.ndarray, held_out: np.ndarray, test: np.ndarray) -> str:
    """Why a cut-off cannot be asked for on a fold; empty if it can."""
    for where, hit in (("to fit to", fit), ("to choose the threshold by", held_out), ("to test on", test)):
        if hit.all() or not hit.any():
            return f"{int(hit.sum())} hits among {len(hit):,} songs {where}"
    return ""


def _probability(values: np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if not ((array >= -1e-6) & (array <= 1 + 1e-6)).all():
        raise ValueError(f"P(hit): expected values from 0 to 1, got {array.min():.6g} to {array.max():.6g}")
    return np.clip(array, 0, 1)
