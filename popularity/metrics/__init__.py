"""The metrics of a test set: of points, of hits, and of predicted distributions. Pure functions of arrays.

Shapes: ``n`` songs, ``bins`` histogram bins. Popularity and bin edges are in points. A predicted histogram may reach
past the ends of the scale (-10 to 110, say); the mass out there belongs to the end itself, for no song can be below 0
or above 100.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score, spearman_corrcoef
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    binary_average_precision,
    binary_calibration_error,
    binary_f1_score,
    binary_precision,
    binary_recall,
)

#: Metrics of a regressor, in the order of the tables.
REGRESSION = ("mse", "rmse", "mae", "r2", "spearman", "within_5", "within_10")
#: Metrics of hit prediction, in the order of the tables.
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
#: Ends of the popularity scale.
LOWEST, HIGHEST = 0.0, 100.0
#: Nominal shares of the central intervals whose coverage is shown.
NOMINAL = tuple(round(0.1 * step, 1) for step in range(1, 10))

Floats = NDArray[np.float64]


def regression_scores(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The metrics `REGRESSION`; `within_5` is the share of songs whose error is at most 5 points.

    Args:
        prediction: (n,) finite.
        truth: (n,), at least 2 songs.

    Returns:
        Name to value; NaN for the rank correlation of a constant.

    Raises:
        ValueError: on shapes that do not fit, or a prediction that is not finite.
    """
    if np.shape(prediction) != np.shape(truth):
        raise ValueError(f"prediction: expected shape {np.shape(truth)}, one per song, got {np.shape(prediction)}")
    guess, true = torch.tensor(_finite("prediction", prediction, 1)), torch.tensor(truth, dtype=torch.float64)
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
    """The metrics `CLASSIFICATION`.

    `majority` is the accuracy of always predicting the more frequent class, `brier` the mean squared error of the
    probability (Brier, 1950), `calibration_error` the mean distance between probability and share of hits over
    `CALIBRATION_BINS` bins of equal width, weighted by the songs in them (Naeini et al., 2015); torchmetrics gives a
    probability of exactly 1 a bin of its own.

    Args:
        probability: (n,) of being a hit, 0 to 1.
        hit: (n,) truth, with hits and others in it.
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
    """The threshold with the highest F1 when songs at or above it are called hits; the highest such threshold.

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


def _finite(name: str, values: ArrayLike, dimensions: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"{name}: expected a non-empty array of {dimensions} dimension(s), got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name}: expected finite values, got {int((~np.isfinite(array)).sum())} of {array.size} that are not"
        )
    return array


def cdf_at(points: ArrayLike, probabilities: ArrayLike, edges: ArrayLike) -> Floats:
    r"""Cumulative distribution function of each song's histogram, read at that song's point.

    The histogram spreads each bin's mass evenly over the bin, so that with :math:`e_k \le x < e_{k+1}`

    .. math:: F(x) = \sum_{j<k} p_j + p_k \frac{x - e_k}{e_{k+1} - e_k}

    and F is 0 left of the first edge, 1 right of the last.

    Args:
        points: (n,) where to read each distribution, in points of popularity.
        probabilities: (n, bins), rows that sum to 1 within 0.01 (the limit of half precision); they are normalised,
            so that F ends at exactly 1.
        edges: (bins + 1,), ascending.

    Returns:
        (n,) values in 0..1.

    Raises:
        ValueError: on shapes that do not fit, values that are not finite, edges that do not ascend, rows that are not
            probabilities.

    Examples:
        >>> cdf_at([25.0, 75.0], [[0.5, 0.5], [0.2, 0.8]], [0.0, 50.0, 100.0]).round(6).tolist()
        [0.25, 0.6]
    """
    x = _finite("points", points, 1)
    mass = _finite("probabilities", probabilities, 2)
    cut = _finite("edges", edges, 1)
    if mass.shape != (len(x), len(cut) - 1):
        raise ValueError(f"probabilities: expected shape {(len(x), len(cut) - 1)} (n, bins), got {mass.shape}")
    if not (np.diff(cut) > 0).all():
        raise ValueError(f"edges: expected ascending values, got {cut}")
    total = mass.sum(axis=1)
    if (mass < 0).any() or (np.abs(total - 1) > 0.01).any():
        worst = total[np.abs(total - 1).argmax()]
        raise ValueError(
            "probabilities: expected 0 or more, with rows that sum to 1, "
            f"got a smallest value of {mass.min():.6g} and a row sum of {worst:.6g}"
        )
    inside = np.clip(x, cut[0], cut[-1])
    k = np.clip(np.searchsorted(cut, inside, side="right") - 1, 0, mass.shape[1] - 1)
    rows = np.arange(len(x))
    share = (inside - cut[k]) / (cut[k + 1] - cut[k])
    up_to_bin = np.cumsum(mass, axis=1)[rows, k]
    return np.asarray(np.clip((up_to_bin - mass[rows, k] * (1 - share)) / total, 0.0, 1.0))


def probability_integral_transform(
    target: ArrayLike, probabilities: ArrayLike, edges: ArrayLike, *, resolution: float = 1.0, seed: int = 0
) -> Floats:
    r"""Randomised probability integral transform: uniform on 0..1 when the distributions are calibrated.

    Popularity is a whole number, so that y stands for everything that rounds to it. With r the resolution,
    :math:`F^-(y) = F(y - r/2)`, but 0 at the lowest popularity, :math:`F^+(y) = F(y + r/2)`, but 1 at the highest, and
    v sampled from U(0, 1),

    .. math:: u = F^-(y) + v \, (F^+(y) - F^-(y))

    Without the randomisation, the many songs at exactly 0 would pile up in one place however good the distribution is.
    Source: Gneiting, Balabdaoui and Raftery (2007), "Probabilistic forecasts, calibration and sharpness", section 3.1
    (the transform); Czado, Gneiting and Held (2009), "Predictive model assessment for count data", equation 1
    (randomised, for counts).

    Args:
        target: (n,) true popularity, 0..100 points.
        probabilities: (n, bins) predicted histogram of each song.
        edges: (bins + 1,) bin edges in points.
        resolution: step of the popularity scale in points; 0 takes it as continuous.
        seed: of the randomisation: the same input gives the same output.

    Returns:
        (n,) values in 0..1.

    Raises:
        ValueError: as in :func:`cdf_at`, and for a target outside 0..100 or a negative resolution.
    """
    truth = _finite("target", target, 1)
    if truth.min() < LOWEST or truth.max() > HIGHEST:
        raise ValueError(f"target: expected 0 to 100 points, got {truth.min():.6g} to {truth.max():.6g}")
    if resolution < 0:
        raise ValueError(f"resolution: expected 0 or more points, got {resolution}")
    below = np.where(truth <= LOWEST, 0.0, cdf_at(truth - resolution / 2, probabilities, edges))
    up_to = np.where(truth >= HIGHEST, 1.0, cdf_at(truth + resolution / 2, probabilities, edges))
    return np.asarray(below + np.random.default_rng(seed).random(len(truth)) * (up_to - below))


def interval_coverage(transform: ArrayLike, nominal: ArrayLike = NOMINAL) -> Floats:
    r"""Share of songs inside their central prediction interval, for each nominal share c.

    The central interval runs from the quantile (1 - c)/2 to the quantile (1 + c)/2. A song is inside it when its
    probability integral transform u is within c/2 of one half:

    .. math:: \hat c = \frac{1}{n} \sum_i \mathbf{1}\left[\, |u_i - 1/2| \le c/2 \,\right]

    Calibrated distributions give c itself, up to chance. An interval rounded to whole points holds a little more; that
    surplus is an effect of rounding and is left out here.
    Source: Gneiting, Balabdaoui and Raftery (2007), section 3.3.

    Args:
        transform: (n,) from :func:`probability_integral_transform`.
        nominal: (m,) shares in 0..1.

    Returns:
        (m,) observed shares in 0..1.

    Raises:
        ValueError: for values outside 0..1 or not finite.

    Examples:
        >>> interval_coverage([0.05, 0.4, 0.5, 0.9], [0.2, 0.8, 1.0]).tolist()
        [0.5, 0.75, 1.0]
    """
    u = _finite("transform", transform, 1)
    share = _finite("nominal", nominal, 1)
    for name, values in (("transform", u), ("nominal", share)):
        if values.min() < 0 or values.max() > 1:
            raise ValueError(f"{name}: expected values from 0 to 1, got {values.min():.6g} to {values.max():.6g}")
    distance = np.sort(np.abs(u - 0.5))
    # The last digit must not decide: 0.5 - 0.35 is a hair more than 0.3 / 2 in floating point.
    return np.searchsorted(distance, share / 2 + 1e-12, side="right") / len(u)
