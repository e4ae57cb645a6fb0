"""The smallest change of audio features that moves a prediction to a target, found without gradients.

The encoding of features is stepwise, so gradients mislead. Differential evolution (Storn & Price 1997; scipy's) looks
for a change that reaches the target, by the distance from the song in standard deviations of the training songs; then
single features move back as far as the target allows. The same seed gives the same change. Counterfactual explanations:
Wachter, Mittelstadt & Russell (2018), "Counterfactual explanations without opening the black box".

Glossary of shapes: ``k`` features that may change, ``n`` songs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import differential_evolution

#: Predictions ``(n,)`` of songs with features ``(n, k)``, in standard deviations.
PredictFeatures = Callable[[np.ndarray], np.ndarray]

_GENERATIONS = 40
#: At most how often a search calls ``tick``.
ROUNDS = _GENERATIONS + 1
_POPULATION = 60
_UNREACHED = 1e3  # more than any distance: first the target counts, then the distance
_WORTH = 0.05  # points that a standard deviation must bring where the target cannot be reached
_NOISE = 2e-4  # points by which a prediction may differ beside other songs: the target must be reached alone too
_FEW = 0.01  # standard deviations that a change of one feature more costs
_SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99)  # of a change that are tried when it is made smaller
_TRIES = 40  # rounds of making it smaller
_SMALLEST = 2e-4  # smaller gains are not worth a further round


@dataclass(frozen=True)
class Counterfactual:
    """A change of features.

    Attributes:
        features: ``(k,)`` afterwards, in standard deviations.
        prediction: there, in points.
        reached: whether the target is reached; if not, this is the closest that was found.
    """

    features: np.ndarray
    prediction: float
    reached: bool


def find_counterfactual(
    predict: PredictFeatures,
    song: np.ndarray,
    bounds: np.ndarray,
    target: float,
    *,
    seed: int = 0,
    tick: Callable[[], object] = lambda: None,
) -> Counterfactual:
    """Search.

    Args:
        predict: of the model.
        song: ``(k,)`` features as they are.
        bounds: ``(k, 2)`` range of each feature.
        target: prediction to reach, from below or from above.
        seed: of the search.
        tick: called in each of up to ``ROUNDS`` rounds of the search.
    """
    start = float(predict(song[None])[0])
    up = 1.0 if target >= start else -1.0
    bounds = np.stack([np.minimum(bounds[:, 0], song), np.maximum(bounds[:, 1], song)], axis=1)

    def cost(features: np.ndarray, worth: float = _WORTH) -> np.ndarray:
        """Distance of ``(n, k)`` from the song, or how far the target is missed."""
        missed, moves = up * (target - predict(features)) + _NOISE, features - song
        distance = np.linalg.norm(moves, axis=1) + _FEW * (np.abs(moves) > 0).sum(1)
        costs: np.ndarray = np.where(missed <= 0, distance, _UNREACHED + missed + worth * distance)
        return costs

    def vectorised(columns: np.ndarray) -> np.ndarray:
        tick()
        return cost(columns.T, worth=0.0)  # nothing may keep the search from the target

    generator = np.random.default_rng(seed)
    # few features change, most of them a little
    far = generator.uniform(bounds[:, 0], bounds[:, 1], (_POPULATION, len(song)))
    share = generator.random((_POPULATION, 1)) * (generator.random(far.shape) < 0.5)
    first = song + share * (far - song)
    first[0] = song
    found = differential_evolution(
        vectorised, bounds, init=first, maxiter=_GENERATIONS, vectorized=True, updating="deferred", polish=False,
        rng=generator, tol=0, atol=1e-3,
    )  # fmt: skip
    features = _smallest(cost, song, found.x)
    prediction = float(predict(features[None])[0])
    return Counterfactual(features, prediction, bool(up * (target - prediction) <= 0))


def _smallest(cost: Callable[[np.ndarray], np.ndarray], song: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Move features back towards the song, one by one and all together, as long as the cost gets lower."""
    best = float(cost(features[None])[0])
    for _ in range(_TRIES):
        shares = np.ones((len(_SHARES), len(song) + 1, len(song)))
        for index in range(len(song)):
            shares[:, index, index] = _SHARES
        shares[:, -1] = np.array(_SHARES)[:, None]
        tried = song + shares.reshape(-1, len(song)) * (features - song)
        costs = cost(tried)
        lowest = int(costs.argmin())
        if not costs[lowest] < best - _SMALLEST:
            break
        features, best = tried[lowest], float(costs[lowest])
    return features
