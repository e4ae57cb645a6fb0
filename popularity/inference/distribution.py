"""Intervals and chances from a prediction's histogram.

A histogram may reach past the ends of the scale; what lies out there belongs to the end itself.
"""

from __future__ import annotations

import numpy as np

from popularity.errors import InputError
from popularity.inference.predictor import Prediction
from popularity.metrics import HIGHEST, LOWEST, Floats, cdf_at

#: Shares of the central intervals that are written.
SHARES = (0.5, 0.8, 0.95)


def quantile(prediction: Prediction, level: float) -> Floats:
    """The popularity that each song stays below with a probability, with mass spread evenly over a bin.

    Args:
        prediction: of ``n`` songs, with a distribution.
        level: 0 to 1.

    Returns:
        ``(n,)`` points from 0 to 100.
    """
    mass, edges = _histogram(prediction)
    up_to = np.cumsum(mass, axis=1)
    goal = level * up_to[:, -1]
    bins = np.minimum((up_to < goal[:, None]).sum(axis=1), mass.shape[1] - 1)
    rows = np.arange(len(mass))
    inside = mass[rows, bins]
    share = 1 - np.divide(up_to[rows, bins] - goal, inside, out=np.zeros(len(mass)), where=inside > 0)
    return np.asarray(np.clip(edges[bins] + share * (edges[bins + 1] - edges[bins]), LOWEST, HIGHEST))


def interval(prediction: Prediction, share: float) -> tuple[Floats, Floats]:
    """Lower and upper end of the central interval that holds this share of the distribution, ``(n,)`` each."""
    return quantile(prediction, (1 - share) / 2), quantile(prediction, (1 + share) / 2)


def at_least(prediction: Prediction, cutoff: float) -> Floats:
    """``(n,)`` probability of a popularity at or above a cut-off; as a whole number it begins half a point below."""
    mass, edges = _histogram(prediction)
    if not len(mass):
        return np.zeros(0)
    return 1 - cdf_at(np.full(len(mass), cutoff - 0.5), mass, edges)


def parse_cutoff(value: float | str) -> float | None:
    """A number from 1 to 100, at which a distribution can be read; None for anything else."""
    try:
        cutoff = float(value)
    except ValueError:
        return None
    return cutoff if 1 <= cutoff <= 100 else None


def parse_cutoffs(text: str) -> tuple[float, ...]:
    """Cut-offs such as ``50,70``.

    Raises:
        InputError: something that is no number from 1 to 100.
    """
    found = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        if (cutoff := parse_cutoff(word)) is None:
            raise InputError(f"--cutoffs: expected numbers from 1 to 100 such as 50,70, got {word!r}")
        found.append(cutoff)
    return tuple(dict.fromkeys(found))


def _histogram(prediction: Prediction) -> tuple[np.ndarray, np.ndarray]:
    if prediction.probabilities is None or prediction.edges is None:
        raise ValueError("expected a prediction with a distribution, got one number for each song")
    return prediction.probabilities, prediction.edges
