"""Is one model better than another: paired tests over folds, intervals over songs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from popularity.data.credits import artist_names

#: Drawings of the bootstrap, and the share of them that an interval holds.
DRAWS, LEVEL = 10_000, 0.95
_CHUNK = 5_000_000  # random numbers held at once


@dataclass(frozen=True)
class Paired:
    """A paired comparison over J folds.

    Attributes:
        folds: J.
        difference: mean of the differences.
        low: lower end of the `LEVEL` interval of the difference; not a number for one fold.
        high: its upper end.
        p_value: two-sided; not a number for one fold.
        wins: folds with a difference below 0.
    """

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

    Args:
        differences: (J,) score of a model minus that of the other on the same songs.
        test_to_train: test songs over training songs.
    """
    count, mean = len(differences), float(np.mean(differences))
    wins = int(np.sum(differences < 0))
    if count < 2:
        return Paired(count, mean, np.nan, np.nan, np.nan, wins)
    error = float(np.sqrt((1 / count + test_to_train) * np.var(differences, ddof=1)))
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * error
    # the same difference on each fold is none, or one beyond doubt
    ratio = abs(mean) / error if error > 0 else (0.0 if mean == 0 else np.inf)
    p_value = float(2 * stats.t.sf(ratio, count - 1))
    return Paired(count, mean, mean - half, mean + half, p_value, wins)


def first_artists(songs: pd.DataFrame) -> np.ndarray:
    """The number of each song's first artist (n,), 0 to the number of artists - 1; without one, a number of its own."""
    codes = pd.factorize(np.array([names[0] if names else None for names in artist_names(songs)], dtype=object))[0]
    missing = codes < 0
    codes[missing] = codes.max(initial=-1) + 1 + np.arange(missing.sum())
    return codes


def cluster_bootstrap(
    values: np.ndarray, weights: np.ndarray, clusters: np.ndarray, *, seed: int = 0, draws: int = DRAWS
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile intervals of means over songs when clusters of songs are drawn again with replacement.

    All columns see the same drawings. The interval says what other songs would have given the fitted models; what
    other training songs would have made of the models is the t-test's business.

    Args:
        values: (n, m) sums of a quantity per song, such as of a difference of squared errors over repeats.
        weights: (n, m) how many terms each sum has, 0 where a song was not predicted.
        clusters: (n,) number of each song's cluster, 0 to C - 1.
        seed: of the drawings.
        draws: how many.

    Returns:
        Lower and upper ends (m,) of the `LEVEL` intervals of sum(values) / sum(weights).
    """
    count = int(clusters.max()) + 1
    sums, sizes = (np.zeros((count, values.shape[1])) for _ in range(2))
    np.add.at(sums, clusters, values)
    np.add.at(sizes, clusters, weights)
    rng = np.random.default_rng(seed)
    means = []
    step = max(1, _CHUNK // count)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        drawn = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        total = times @ sizes
        means.append(np.divide(times @ sums, total, out=np.full_like(total, np.nan), where=total > 0))
    low, high = np.nanquantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high
