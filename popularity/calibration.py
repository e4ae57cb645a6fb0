"""Is a predicted distribution honest: probability integral transform and coverage of central intervals.

Shapes: ``n`` songs, ``bins`` histogram bins. Popularity and bin edges are in points. A predicted histogram may reach
past the ends of the scale (say -10 to 110); mass out there belongs to the end itself, for no song can be below 0 or
above 100.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LOWEST, HIGHEST = 0.0, 100.0
NOMINAL = tuple(round(0.1 * step, 1) for step in range(1, 10))

Floats = NDArray[np.float64]


def _finite(name: str, values: ArrayLike, dimensions: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"{name} must be a filled array of {dimensions} dimension(s), however: shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, however: {int((~np.isfinite(array)).sum())} of {array.size} are not")
    return array


def cdf_at(points: ArrayLike, probabilities: ArrayLike, edges: ArrayLike) -> Floats:
    r"""Cumulative distribution function of each song's histogram, at that song's point.

    The histogram spreads each bin's mass evenly over the bin, so that with :math:`e_k \le x < e_{k+1}`

    .. math:: F(x) = \sum_{j<k} p_j + p_k \frac{x - e_k}{e_{k+1} - e_k}

    and F is 0 left of the first edge, 1 right of the last.

    Args:
        points: (n,) where to read each distribution, in points of popularity.
        probabilities: (n, bins), rows that sum to 1 within 0.01 (half precision does not come nearer); the rest is
            divided out, so that F ends at 1 exactly.
        edges: (bins + 1,), rising.

    Returns:
        (n,) values in 0..1.

    Raises:
        ValueError: on shapes that do not fit, values that are not finite, edges that do not rise, rows that are no
            probabilities.

    Examples:
        >>> cdf_at([25.0, 75.0], [[0.5, 0.5], [0.2, 0.8]], [0.0, 50.0, 100.0]).round(6).tolist()
        [0.25, 0.6]
    """
    x = _finite("points", points, 1)
    mass = _finite("probabilities", probabilities, 2)
    cut = _finite("edges", edges, 1)
    if mass.shape != (len(x), len(cut) - 1):
        raise ValueError(f"probabilities must have shape {(len(x), len(cut) - 1)} (n, bins), however: {mass.shape}")
    if not (np.diff(cut) > 0).all():
        raise ValueError(f"edges must rise, however: {cut}")
    total = mass.sum(axis=1)
    if (mass < 0).any() or (np.abs(total - 1) > 0.01).any():
        worst = total[np.abs(total - 1).argmax()]
        raise ValueError(
            "probabilities must be 0 or more and sum to 1 in each row, "
            f"however: smallest {mass.min():.6g}, sum farthest from one {worst:.6g}"
        )
    inside = np.clip(x, cut[0], cut[-1])
    k = np.clip(np.searchsorted(cut, inside, side="right") - 1, 0, mass.shape[1] - 1)
    rows = np.arange(len(x))
    share = (inside - cut[k]) / (cut[k + 1] - cut[k])
    up_to_bin = np.cumsum(mass, axis=1)[rows, k]
    return np.clip((up_to_bin - mass[rows, k] * (1 - share)) / total, 0.0, 1.0)


def probability_integral_transform(
    target: ArrayLike, probabilities: ArrayLike, edges: ArrayLike, *, resolution: float = 1.0, seed: int = 0
) -> Floats:
    r"""Randomised probability integral transform: uniform on 0..1 when the distributions are calibrated.

    Popularity is a whole number, so that y stands for everything that rounds to it. With r the resolution,
    :math:`F^-(y) = F(y - r/2)`, but 0 at the lowest popularity, :math:`F^+(y) = F(y + r/2)`, but 1 at the highest, and
    v drawn from U(0, 1),

    .. math:: u = F^-(y) + v \, (F^+(y) - F^-(y))

    Without the draw, the many songs at exactly 0 would pile up in one place however good the distribution is.
    Source: Gneiting, Balabdaoui and Raftery (2007), "Probabilistic forecasts, calibration and sharpness", section 3.1
    (the transform); Czado, Gneiting and Held (2009), "Predictive model assessment for count data", equation 1
    (randomised, for counts).

    Args:
        target: (n,) true popularity, 0..100 points.
        probabilities: (n, bins) predicted histogram of each song.
        edges: (bins + 1,) bin edges in points.
        resolution: step of the popularity scale in points; 0 takes it as continuous.
        seed: of the draw, so that the same input gives the same output.

    Returns:
        (n,) values in 0..1.

    Raises:
        ValueError: as in :func:`cdf_at`, and for a target outside 0..100 or a negative resolution.
    """
    truth = _finite("target", target, 1)
    if truth.min() < LOWEST or truth.max() > HIGHEST:
        raise ValueError(f"target must lie in 0..100 points, however: {truth.min():.6g} to {truth.max():.6g}")
    if resolution < 0:
        raise ValueError(f"resolution must be 0 or more points, however: {resolution}")
    below = np.where(truth <= LOWEST, 0.0, cdf_at(truth - resolution / 2, probabilities, edges))
    up_to = np.where(truth >= HIGHEST, 1.0, cdf_at(truth + resolution / 2, probabilities, edges))
    return below + np.random.default_rng(seed).random(len(truth)) * (up_to - below)


def interval_coverage(transform: ArrayLike, nominal: ArrayLike = NOMINAL) -> Floats:
    r"""Share of songs inside their central prediction interval, for each nominal share c.

    The central interval runs from the quantile (1 - c)/2 to the quantile (1 + c)/2. A song is inside it when its
    probability integral transform u is within c/2 of one half:

    .. math:: \hat c = \frac{1}{n} \sum_i \mathbf{1}\left[\, |u_i - 1/2| \le c/2 \,\right]

    Calibrated distributions give c itself, up to chance. An interval written in whole points holds a little more, since
    it takes in all of the popularity at which it ends; that surplus is rounding, not caution, and is left out here.
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
            raise ValueError(f"{name} must lie in 0..1, however: {values.min():.6g} to {values.max():.6g}")
    distance = np.sort(np.abs(u - 0.5))
    # The last digit must not decide: 0.5 - 0.35 is a hair more than 0.3 / 2 in floating point.
    return np.searchsorted(distance, share / 2 + 1e-12, side="right") / len(u)
