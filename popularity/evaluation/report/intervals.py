"""How sure a ratio or a mean is: intervals over folds and over artists."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from popularity.evaluation.paired import compare
from popularity.evaluation.significance import LEVEL, corrected_t_test


def compare_ratios(folds: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Add intervals of the ratio to what :func:`popularity.evaluation.paired.compare` returns.

    The interval of r = mean(a) / mean(b) is the corrected one of a - r b, divided by mean(b) (the delta method).

    Args:
        folds: a row per ``model, repeat, fold`` with ``mse, songs_train, songs_test``.
        reference: one of the models.

    Returns:
        The columns of ``compare``, ``ratio_low`` and ``ratio_high`` (not a number for one fold and for the reference);
        in its order.
    """
    table = compare(folds, reference)
    base = folds.loc[folds["model"] == reference, ["repeat", "fold", "mse"]].rename(columns={"mse": "base"})
    both = folds.merge(base, on=["repeat", "fold"])
    ends = []
    for model, ratio in zip(table["model"], table["ratio_to_reference"], strict=True):
        part = both[both["model"] == model]
        share = float((part["songs_test"] / part["songs_train"]).mean())
        found = corrected_t_test((part["mse"] - ratio * part["base"]).to_numpy(), share)
        mean = part["base"].mean()
        ends.append((np.nan,) * 2 if model == reference else (ratio + found.low / mean, ratio + found.high / mean))
    low, high = np.array(ends).reshape(-1, 2).T
    return table.assign(ratio_low=low, ratio_high=high)


def clustered_half_width(values: np.ndarray, clusters: np.ndarray) -> float:
    """Half the width of a normal interval of a mean whose values come in clusters, such as songs of one artist.

    Args:
        values: (n,) for example squared errors.
        clusters: (n,) the number of each value's cluster.

    Returns:
        That many linearised standard errors as make a `LEVEL` interval, not a number for fewer than two clusters.
    """
    codes = np.unique(clusters, return_inverse=True)[1]
    sums = np.bincount(codes, weights=values - values.mean())
    count = len(sums)
    if count < 2:
        return float("nan")
    error = np.sqrt(count / (count - 1) * (sums**2).sum()) / len(values)
    return float(stats.norm.ppf((1 + LEVEL) / 2) * error)
