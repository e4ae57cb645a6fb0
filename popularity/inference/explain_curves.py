"""How predictions move with one numeric feature: partial dependence, individual curves, accumulated local effects.

Partial dependence sets a feature of every song to the same value, however unlikely the song then is. Accumulated local
effects only move a song within the narrow bin that it is in, and are not misled by features that go together.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

#: Predicts the popularity ``(n,)`` of a song table.
Predict = Callable[[pd.DataFrame], np.ndarray]

_Z = 1.96  # half the width of a 95 % interval in standard errors


def grid_of(values: np.ndarray, points: int = 15) -> np.ndarray:
    """Up to ``points`` values from the 2.5 % to the 97.5 % quantile of a feature, as far apart as its songs are.

    Args:
        values: ``(n,)`` of the feature, NaN where missing.
        points: at most this many.
    """
    known = values[np.isfinite(values)]
    return np.unique(np.quantile(known, np.linspace(0.025, 0.975, points))) if len(known) else known


def individual_curves(predict: Predict, songs: pd.DataFrame, column: str, grid: np.ndarray) -> np.ndarray:
    """Predictions ``(n, len(grid))`` of songs with a column set to each value of a grid, in points.

    A row is the individual conditional expectation (ICE) of a song (Goldstein et al. 2015, "Peeking inside the black
    box"); the mean over songs is the partial dependence (Friedman 2001, "Greedy function approximation", section 8.2).
    """
    return np.stack([predict(songs.assign(**{column: float(value)})) for value in grid], axis=1)


def accumulated_local_effects(predict: Predict, songs: pd.DataFrame, column: str, bins: int = 20) -> pd.DataFrame:
    r"""First-order accumulated local effects (Apley & Zhu 2020, "Visualizing the effects of predictor variables in
    black box supervised learning models", equations 15 and 16).

    In each of :math:`K` quantile bins the mean difference between the predictions at both of its ends is taken over
    the songs in it; the effect is the sum of these from the left, shifted so that its mean over songs is 0.

    Args:
        predict: of a model.
        songs: ``n`` songs; those without a value of the column are left out.
        column: numeric.
        bins: :math:`K`, fewer where values are repeated.

    Returns:
        ``value`` (edges of the bins), ``effect`` in points, ``low, high``: its 95 % interval over the songs in the bins
        up to there, and ``songs``: number in the bin that ends there. Empty if there are fewer than two values.
    """
    songs = songs[songs[column].notna()]
    values = songs[column].to_numpy(np.float64)
    if len(np.unique(values)) < 2:
        return pd.DataFrame({name: np.zeros(0) for name in ("value", "effect", "low", "high", "songs")})
    # values that occur, so that no bin is empty
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1), method="inverted_cdf"))
    place = np.searchsorted(edges[1:-1], values, side="left")  # (n,), bin of each song, closed on the right
    upper, lower = predict(songs.assign(**{column: edges[place + 1]})), predict(songs.assign(**{column: edges[place]}))
    steps = pd.Series(upper - lower).groupby(place).agg(["mean", "var", "size"])
    size = steps["size"].to_numpy()
    effect = np.concatenate([[0.0], steps["mean"].cumsum()])
    variance = np.concatenate([[0.0], (steps["var"].fillna(0) / size).cumsum()])
    effect = effect - np.average((effect[:-1] + effect[1:]) / 2, weights=size)
    half = _Z * np.sqrt(variance)
    counts = np.concatenate([[0], size])
    return pd.DataFrame(
        {"value": edges, "effect": effect, "low": effect - half, "high": effect + half, "songs": counts}
    )
