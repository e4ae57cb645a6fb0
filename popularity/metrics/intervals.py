"""How far a mean over songs or over folds can be trusted: intervals and tests, as pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

#: Samples of the bootstrap, and the share of them that an interval holds.
SAMPLES, LEVEL = 10_000, 0.95
_CHUNK = 5_000_000  # random numbers held at once


@dataclass(frozen=True)
class Paired:
    """Mean of paired differences over J folds, with its interval and p-value (NaN for one fold), and folds below 0."""

    folds: int
    difference: float
    low: float
    high: float
    p_value: float
    wins: int


def corrected_t_test(differences: np.ndarray, test_to_train: float) -> Paired:
    r"""Corrected resampled t-test (Nadeau & Bengio, 2003, section 3, with the K-fold form of Bouckaert & Frank, 2004).

    Folds share training songs, so their differences are correlated and :math:`s^2 / J` is far too small. The test
    takes :math:`(1 / J + n_{test} / n_{train}) s^2` as the variance of the mean of J = folds x repeats differences, and
    the t-distribution with J - 1 degrees of freedom.

    `differences` are (J,) metrics of a model minus those of the other on the same songs.
    """
    count, mean = len(differences), float(np.mean(differences))
    wins = int(np.sum(differences < 0))
    if count < 2:
        return Paired(count, mean, np.nan, np.nan, np.nan, wins)
    error = float(np.sqrt((1 / count + test_to_train) * np.var(differences, ddof=1)))
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * error
    # the same difference on each fold is none, or one beyond doubt
    ratio = abs(mean) / error if error > 0 else (0.0 if mean == 0 else np.inf)
    return Paired(count, mean, mean - half, mean + half, float(2 * stats.t.sf(ratio, count - 1)), wins)


def clustered_half_width(values: np.ndarray, clusters: np.ndarray) -> float:
    """Half the width of a normal 95 % interval of the mean of (n,) values in clusters, such as songs of one artist.

    1.96 linearised standard errors; not a number for fewer than two clusters.
    """
    sums = pd.Series(values - values.mean()).groupby(clusters).sum()
    if (count := len(sums)) < 2:
        return float("nan")
    return float(stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(count / (count - 1) * (sums**2).sum()) / len(values))


def cluster_bootstrap(
    values: np.ndarray, weights: np.ndarray, clusters: np.ndarray, *, seed: int = 0, samples: int = SAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile intervals of means over songs when clusters of songs are sampled with replacement.

    All columns see the same samples. The interval says what other songs would have given the fitted models; what other
    training songs would have made of the models is for the t-test to say.

    Args:
        values: (n, m) sums of a quantity per song, such as of a difference of squared errors over repeats.
        weights: (n, m) how many terms each sum has, 0 where a song was not predicted.
        clusters: (n,) number of each song's cluster, 0 to C - 1.
        seed: of the samples.
        samples: number of samples.

    Returns:
        Lower and upper ends (m,) of the `LEVEL` intervals of sum(values) / sum(weights); not a number for fewer than
        two clusters.
    """
    count = int(clusters.max()) + 1
    if len(np.unique(clusters)) < 2:
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    sums, sizes = (np.zeros((count, values.shape[1])) for _ in range(2))
    np.add.at(sums, clusters, values)
    np.add.at(sizes, clusters, weights)
    rng, means, step = np.random.default_rng(seed), [], max(1, _CHUNK // count)
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        chosen = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(chosen.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        total = times @ sizes
        means.append(np.divide(times @ sums, total, out=np.full_like(total, np.nan), where=total > 0))
    low, high = np.nanquantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high
