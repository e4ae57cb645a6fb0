"""How sure a difference is: intervals over folds and over artists."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95


def corrected_half_width(values: np.ndarray, share: float) -> float:
    """Half the width of the corrected resampled t interval of a mean (Nadeau & Bengio, 2003).

    With J folds, n2 test and n1 training songs: t(J - 1) * sqrt((1 / J + n2 / n1) * variance). The second term is
    there because folds learn from the same songs.

    Args:
        values: (J,) one value per fold.
        share: n2 / n1.

    Returns:
        The half width, not a number for fewer than two folds.
    """
    count = len(values)
    if count < 2:
        return float("nan")
    error = np.sqrt((1 / count + share) * values.var(ddof=1))
    return float(stats.t.ppf((1 + LEVEL) / 2, count - 1) * error)


def paired(folds: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Compare each model with the reference on the folds that both have.

    The interval of the ratio r = mean(a) / mean(b) comes from the residuals a - r b, divided by mean(b) (the delta
    method), with the same correction.

    Args:
        folds: a row per ``model, repeat, fold`` with ``mse, songs_train, songs_test``.
        reference: one of the models.

    Returns:
        ``model, folds, difference, difference_half, ratio, ratio_half, wins``, best ratio first. Models that share no
        fold with the reference are left out.
    """
    keys = ["repeat", "fold"]
    base = folds.loc[folds["model"] == reference, [*keys, "mse"]].rename(columns={"mse": "base"})
    both = folds.merge(base, on=keys).dropna(subset=["mse", "base"])
    rows = []
    for model, part in both.groupby("model", sort=False):
        mse, other = part["mse"].to_numpy(), part["base"].to_numpy()
        share = float((part["songs_test"] / part["songs_train"]).mean())
        ratio = mse.mean() / other.mean()
        rows.append(
            {
                "model": model,
                "folds": len(part),
                "difference": (mse - other).mean(),
                "difference_half": corrected_half_width(mse - other, share),
                "ratio": ratio,
                "ratio_half": corrected_half_width(mse - ratio * other, share) / other.mean(),
                "wins": int((mse < other).sum()),
            }
        )
    columns = ["model", "folds", "difference", "difference_half", "ratio", "ratio_half", "wins"]
    return pd.DataFrame(rows, columns=columns).sort_values("ratio", ignore_index=True)


def clustered_half_width(values: np.ndarray, clusters: np.ndarray) -> float:
    """Half the width of a normal interval of a mean whose values come in clusters, such as songs of one artist.

    Args:
        values: (n,) for example squared errors.
        clusters: (n,) the number of each value's cluster.

    Returns:
        1.96 linearised standard errors, not a number for fewer than two clusters.
    """
    codes = np.unique(clusters, return_inverse=True)[1]
    sums = np.bincount(codes, weights=values - values.mean())
    count = len(sums)
    if count < 2:
        return float("nan")
    error = np.sqrt(count / (count - 1) * (sums**2).sum()) / len(values)
    return float(stats.norm.ppf((1 + LEVEL) / 2) * error)
