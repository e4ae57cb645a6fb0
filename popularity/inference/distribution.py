"""Intervals and chances from a prediction's histogram.

A histogram may reach past the ends of the scale; what lies out there belongs to the end itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from popularity.errors import InputError
from popularity.metrics import HIGHEST, LOWEST, Floats, cdf_at

#: Shares of the central intervals that are written.
SHARES = (0.5, 0.8, 0.95)


@dataclass(frozen=True)
class Prediction:
    """Predictions of ``n`` songs.

    Attributes:
        mean: ``(n,)`` float64 predicted popularity in points.
        probabilities: ``(n, K)`` float64 of each bin of popularity, corrected by `popularity.models.conformal`, whose
            mean is therefore not exactly ``mean``; None for a head without a distribution.
        edges: ``(K + 1,)`` float64 edges of the bins in points, or None.
        taken: ``(n, levels)`` share of the distribution that an interval takes to hold shares from 0 to 1, by
            `popularity.models.conformal`; None: these shares themselves.
    """

    mean: np.ndarray
    probabilities: np.ndarray | None = None
    edges: np.ndarray | None = None
    taken: np.ndarray | None = None

    @cached_property
    def up_to(self) -> np.ndarray:
        """``(n, K)`` probability of each bin and all below it."""
        return np.cumsum(_histogram(self)[0], axis=1)

    @cached_property
    def of_ends(self) -> tuple[Floats, Floats]:
        """Probabilities ``(n,)`` of the lowest popularity and of the highest."""
        return 1 - at_least(self, LOWEST + 1), at_least(self, HIGHEST)


def quantile(prediction: Prediction, level: float | Floats) -> Floats:
    """The popularity that each song stays below with a probability, with mass spread evenly over a bin.

    Args:
        prediction: of ``n`` songs, with a distribution.
        level: 0 to 1, or ``(n,)`` of these.

    Returns:
        ``(n,)`` points from 0 to 100.
    """
    (mass, edges), up_to = _histogram(prediction), prediction.up_to
    goal = level * up_to[:, -1]
    bins = np.minimum((up_to < goal[:, None]).sum(axis=1), mass.shape[1] - 1)
    rows = np.arange(len(mass))
    inside = mass[rows, bins]
    share = 1 - np.divide(up_to[rows, bins] - goal, inside, out=np.zeros(len(mass)), where=inside > 0)
    return np.asarray(np.clip(edges[bins] + share * (edges[bins + 1] - edges[bins]), LOWEST, HIGHEST))


def interval(prediction: Prediction, share: float) -> tuple[Floats, Floats]:
    """Lower and upper end of the central interval that holds a song with this probability, ``(n,)`` each.

    Of its distribution it takes this share, or what :attr:`Prediction.taken` says. Half of the rest lies below, half
    above, in general. Where songs of popularity 0 alone are more than half of the rest, nothing lies below the
    interval: then up to as much as they are may lie above it, and the interval gets shorter. Likewise at 100. An end
    that rounds to 0 or 100 is 0 or 100.
    """
    held = np.full(len(prediction.mean), share) if prediction.taken is None else _between(prediction.taken, share)
    half, most = (1 - held) / 2, 1 - held
    above, below = (np.clip(of_end, half, most) for of_end in prediction.of_ends)
    low, high = quantile(prediction, below), quantile(prediction, 1 - above)
    return np.where(low < 0.5, LOWEST, low), np.where(high >= 99.5, HIGHEST, high)


def _between(table: np.ndarray, level: float) -> Floats:
    """Values ``(n,)`` of ``(n, levels)`` at a level from 0 to 1, by straight lines."""
    place = level * (table.shape[1] - 1)
    left = min(int(place), table.shape[1] - 2)
    return np.asarray(table[:, left] + (place - left) * (table[:, left + 1] - table[:, left]))


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
