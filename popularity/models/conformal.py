"""Conformal correction: predicted distributions whose intervals hold as many new songs as they say.

A song's score is its probability integral transform u, the predicted probability of a popularity up to the song's own
(Chernozhukov, Wüthrich and Zhu 2021, "Distributional conformal prediction"). If n held-out songs and a new one are
exchangeable, the new song's u lies below the k-th smallest of theirs with probability k / (n + 1). Distribution
functions are therefore mapped so that the k-th smallest u becomes k / (n + 1), by straight lines between. Unlike
quantiles that are shifted by points (Romano, Patterson and Candès 2019, "Conformalized quantile regression"), one map
serves all levels, and chances too: intervals are nested, end within 0-100, and adapt to the song.

Intervals between two of these levels hold a new song with exactly the stated probability, on average over held-out
songs; other levels are off by at most 1 / (n + 1). In a fit this is not exact for three reasons: the members and three
numbers of `Calibration` were chosen by the same held-out songs, the model that predicts was trained on more songs than
the one that was scored, and songs of one artist are exchangeable together only.

MAPIE does not serve here: it conformalises one level at a time around estimators of its own, and keeps them as pickles.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from popularity.metrics import Floats

#: Smallest number of known songs by the artist in each band, which has a map of its own ...
BANDS = (0, 1, 2, 4, 8)
#: ... where this many held-out songs are in it. Others take the map of all held-out songs.
LEAST = 100
#: Levels at which a map is kept, evenly spaced: the ends of 50, 80, 90 and 95 % intervals are among them.
_STEPS = 40


class Conformal(nn.Module):
    """A map of distribution functions for each band of known songs; the identity until `learn` is called.

    Attributes:
        quantiles: ``(bands, levels)`` scores of the held-out songs at levels from 0 to 1.
    """

    quantiles: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("quantiles", _identity())

    def learn(self, transform: Floats, known: np.ndarray | None = None) -> None:
        """Learn the maps from songs that the network was not trained on.

        Args:
            transform: ``(n,)`` probability integral transform of each song.
            known: ``(n,)`` known songs by its artist; None where the network reads none.
        """
        band = np.zeros(len(transform)) if known is None else np.digitize(known, BANDS[1:])
        levels = np.linspace(0, 1, _STEPS + 1)
        for row in range(len(BANDS)):
            of_band = transform[band == row]
            scores = of_band if len(of_band) >= LEAST else transform
            # the k-th smallest of n scores stands at the level k / (n + 1)
            found = np.quantile(np.concatenate([[0.0], scores, [1.0]]), levels)
            self.quantiles[row] = torch.from_numpy(found).to(self.quantiles)

    def forward(self, probabilities: Tensor, known: Tensor | None = None) -> Tensor:
        """Probabilities of bins ``(n, K)``, corrected.

        Args:
            probabilities: of each bin.
            known: ``(n,)`` known songs by the artist; None where the network reads none.
        """
        if torch.equal(self.quantiles, _identity().to(self.quantiles)):
            return probabilities
        below = probabilities.cumsum(1)
        below = below[:, :-1] / below[:, -1:]  # (n, K - 1) at the edges between bins
        known = torch.zeros(len(below)) if known is None else known
        band = torch.bucketize(known.to(below), torch.tensor(BANDS[1:]).to(below), right=True)
        scores = self.quantiles.to(below)[band]
        right = torch.searchsorted(scores, below.contiguous(), right=True).clamp_max(_STEPS)
        low, high = scores.gather(1, right - 1), scores.gather(1, right)
        level = (right - 1 + ((below - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)) / _STEPS
        return nn.functional.pad(level, (1, 0)).diff(dim=1, append=torch.ones_like(level[:, :1]))


def _identity() -> Tensor:
    return torch.linspace(0, 1, _STEPS + 1).repeat(len(BANDS), 1)
