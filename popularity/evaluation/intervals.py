"""Prediction intervals of compared models: of a distribution, or of constant width.

A model with a distribution has the intervals that `predict` writes. Around the others lie intervals of constant width,
split-conformal ones: as far as the errors on songs that were held out of the training songs by the rule of the split
(Lei, G'Sell, Rinaldo, Tibshirani and Wasserman 2018, "Distribution-free predictive inference for regression"). A search
has such errors, of the settings it chose: fits to two thirds of the songs make them a little too large, the choice a
little too small. A model without a search is fitted once more, without a fifth of the songs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from popularity.errors import InputError
from popularity.evaluation.folds import Outcome, Task
from popularity.inference.distribution import SHARES

#: Parts of the training songs of which one is held out where a model has no errors on held-out songs.
_FOLDS = 5


def around(prediction: np.ndarray, half_widths: np.ndarray) -> np.ndarray:
    """Ends of the intervals `SHARES` of constant width, ``(shares, 2, n)``.

    Args:
        prediction: ``(n,)`` points.
        half_widths: ``(shares,)`` points.
    """
    return np.asarray(np.clip(prediction + half_widths[:, None, None] * np.array([-1.0, 1.0])[:, None], 0, 100))


def half_widths(residuals: np.ndarray) -> np.ndarray:
    """``(shares,)`` points around a prediction within which a new song lies with probability `SHARES`, at least.

    Args:
        residuals: ``(m,)`` of held-out songs.
    """
    errors = np.append(np.sort(np.abs(residuals)), np.inf)  # too few songs: anything may happen
    places = np.ceil((len(residuals) + 1) * np.array(SHARES) - 1e-9).astype(int) - 1
    return np.asarray(errors[np.minimum(places, len(residuals))])


def held_out_residuals(
    fit_predict: Callable[[Task], Outcome], task: Task, outcome: Outcome
) -> tuple[np.ndarray | None, dict[str, float]]:
    """Residuals that the outcome knows, or those of a fit without a fifth of the training songs, on these.

    Returns:
        ``(m,)``, or None where the training songs cannot be split; and ``seconds, cpu_seconds`` of a fit as numbers
        below 0: models are not compared by it, so that the time it took is given back.
    """
    if outcome.residuals is not None:
        return outcome.residuals, {}
    began, began_cpu = time.perf_counter(), time.process_time()
    try:
        fit, held_out = task.inner(_FOLDS)[-1]  # under `time` the newest songs
    except InputError:
        return None, {}
    residuals = task.popularity[held_out] - np.clip(fit_predict(task.part(fit, held_out)).prediction, 0, 100)
    return residuals, {"seconds": began - time.perf_counter(), "cpu_seconds": began_cpu - time.process_time()}
