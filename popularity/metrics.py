"""Scores of one fold, by torchmetrics. Shapes: (n,) songs; popularity in points."""

from __future__ import annotations

import numpy as np
import torch
from torchmetrics.functional import (
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    spearman_corrcoef,
)
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    binary_average_precision,
    binary_calibration_error,
    binary_f1_score,
    binary_precision,
    binary_recall,
)

#: Names of the scores of a regressor, in the order of the tables.
REGRESSION = ("mse", "rmse", "mae", "r2", "spearman", "within_5", "within_10")
#: Names of the scores of a classifier, in the order of the tables.
CLASSIFICATION = (
    "auroc",
    "average_precision",
    "f1",
    "precision",
    "recall",
    "accuracy",
    "majority",
    "brier",
    "calibration_error",
)
#: Bins of equal width of the expected calibration error.
CALIBRATION_BINS = 10


def regression_scores(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The scores `REGRESSION`; `within_5` is the share of songs whose error is at most 5 points.

    Args:
        prediction: (n,) finite.
        truth: (n,), at least 2 songs.

    Returns:
        Name to value; the rank correlation of a constant is not a number.
    """
    guess, true = torch.tensor(prediction, dtype=torch.float64), torch.tensor(truth, dtype=torch.float64)
    constant = bool((guess == guess[0]).all() or (true == true[0]).all())
    mse = mean_squared_error(guess, true).item()
    error = np.abs(np.asarray(prediction) - np.asarray(truth))
    return {
        "mse": mse,
        "rmse": mse**0.5,
        "mae": mean_absolute_error(guess, true).item(),
        "r2": r2_score(guess, true).item(),
        "spearman": float("nan") if constant else spearman_corrcoef(guess, true).item(),
        "within_5": float(np.mean(error <= 5)),
        "within_10": float(np.mean(error <= 10)),
    }


def hit_scores(probability: np.ndarray, hit: np.ndarray, threshold: float) -> dict[str, float]:
    """The scores `CLASSIFICATION`.

    `majority` is the accuracy of always saying what is more frequent among these songs, `brier` the mean squared error
    of the probability (Brier, 1950), `calibration_error` the mean distance between probability and share of hits over
    `CALIBRATION_BINS` bins of equal width, weighted by their songs (Naeini et al., 2015); torchmetrics gives a
    probability of exactly 1 a bin of its own.

    Args:
        probability: (n,) of being a hit, 0 to 1.
        hit: (n,) truth, both kinds present.
        threshold: songs at or above it are called hits.
    """
    chance, true = torch.tensor(probability, dtype=torch.float64), torch.tensor(hit, dtype=torch.int64)
    called = torch.tensor(probability >= threshold, dtype=torch.int64)
    share = float(np.mean(hit))
    return {
        "auroc": binary_auroc(chance, true).item(),
        "average_precision": binary_average_precision(chance, true).item(),
        "f1": binary_f1_score(called, true).item(),
        "precision": binary_precision(called, true).item(),
        "recall": binary_recall(called, true).item(),
        "accuracy": binary_accuracy(called, true).item(),
        "majority": max(share, 1 - share),
        "brier": mean_squared_error(chance, true.to(torch.float64)).item(),
        "calibration_error": binary_calibration_error(chance, true, n_bins=CALIBRATION_BINS).item(),
    }


def best_threshold(probability: np.ndarray, hit: np.ndarray) -> float:
    """The threshold with the highest F1 when songs at or above it are called hits; the highest one of several.

    Args:
        probability: (n,) of being a hit.
        hit: (n,) truth.

    Examples:
        >>> best_threshold(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, True, False, True]))
        0.4
    """
    order = np.argsort(-probability, kind="stable")
    values, hits = probability[order], np.cumsum(hit[order])
    last = np.append(values[1:] != values[:-1], True)  # songs of one probability are called together
    f1 = 2 * hits / (np.arange(1, len(values) + 1) + hits[-1])
    return float(values[last][np.argmax(f1[last])])
