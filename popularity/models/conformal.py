"""Conformal correction: predicted distributions whose intervals hold as many new songs as they say.

A song's score is its probability integral transform u, the predicted probability of a popularity up to the song's own
(Chernozhukov, Wüthrich and Zhu 2021, "Distributional conformal prediction"). If n held-out songs and a new one are
exchangeable, the new song's u lies below the k-th smallest of theirs with probability k / (n + 1). Distribution
functions are therefore mapped so that the k-th smallest u becomes k / (n + 1), by straight lines between. Unlike
quantiles that are shifted by points (Romano, Patterson and Candès 2019, "Conformalized quantile regression"), one map
serves all levels, and chances too.

Popularity is a whole number, and many songs have exactly 0: an interval that begins at 0 holds more of them than the
distribution gives it. A second map therefore says which share of the distribution an interval must take to hold the
stated share of the held-out songs, by the smallest interval that holds each of them (Gupta, Kuchibhotla and Ramdas
2022, "Nested conformal prediction and quantile out-of-bag ensemble methods"). Intervals are nested, end within 0-100,
and adapt to the song.

They hold a new song with exactly the stated probability, on average over held-out songs, up to 1 / (n + 1). In a fit
this is not exact for three reasons: the members and three numbers of `Calibration` were chosen by the same held-out
songs, the model that predicts was trained on more songs than the one that was scored, and songs of one artist are
exchangeable together only.

MAPIE does not serve here: it conformalises one level at a time around estimators of its own, and keeps them as pickles.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from popularity.metrics import Floats, cdf_at

#: Smallest number of known songs by the artist in each band, which has a map of its own ...
BANDS = (0, 1, 2, 4, 8)
#: ... where this many held-out songs are in it. Others take the map of all held-out songs.
LEAST = 100
#: Levels at which a map is kept, evenly spaced: the ends of 50, 80, 90 and 95 % intervals are among them.
_STEPS = 40


class Conformal(nn.Module):
    """Maps of distribution functions and of shares for each band of known songs; the identity until they are learned.

    Attributes:
        quantiles: ``(bands, levels)`` scores of the held-out songs at levels from 0 to 1.
        shares: ``(bands, levels)`` of the distribution that intervals take, to hold these shares of the songs.
    """

    quantiles: Tensor
    shares: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("quantiles", _identity())
        self.register_buffer("shares", _identity())

    def learn(self, transform: Floats, known: np.ndarray | None = None) -> None:
        """Learn the maps of distribution functions from songs that the network was not trained on.

        Args:
            transform: ``(n,)`` probability integral transform of each song.
            known: ``(n,)`` known songs by its artist; None where the network reads none.
        """
        self.quantiles.copy_(_levels(transform, known))

    def learn_shares(self, least: Floats, known: np.ndarray | None = None) -> None:
        """Learn, after that, how much of a corrected distribution the intervals take.

        Args:
            least: ``(n,)`` of each song, :func:`least_share`.
            known: as of :meth:`learn`.
        """
        self.shares.copy_(_levels(least, known))

    def taken(self, songs: int, known: Tensor | None = None) -> Floats:
        """``(n, levels)`` share of its distribution that a song's interval takes, to hold shares from 0 to 1."""
        band = torch.zeros(songs, dtype=torch.long) if known is None else _band(known.cpu())
        return np.asarray(self.shares.double().cpu().numpy()[band.numpy()])

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
        scores = self.quantiles.to(below)[_band(known.to(below))]
        right = torch.searchsorted(scores, below.contiguous(), right=True).clamp_max(_STEPS)
        low, high = scores.gather(1, right - 1), scores.gather(1, right)
        level = (right - 1 + ((below - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)) / _STEPS
        return nn.functional.pad(level, (1, 0)).diff(dim=1, append=torch.ones_like(level[:, :1]))


def _band(known: Tensor) -> Tensor:
    return torch.bucketize(known, torch.tensor(BANDS[1:]).to(known), right=True)


def _levels(scores: Floats, known: np.ndarray | None) -> Tensor:
    """``(bands, levels)`` scores ``(n,)`` from 0 to 1 at levels from 0 to 1, of all songs where a band has too few."""
    band = np.zeros(len(scores)) if known is None else np.digitize(known, BANDS[1:])
    parts = [scores[band == row] for row in range(len(BANDS))]
    # the k-th smallest of n scores stands at the level k / (n + 1)
    ends = [np.concatenate([[0.0], part if len(part) >= LEAST else scores, [1.0]]) for part in parts]
    return torch.from_numpy(np.stack([np.quantile(part, np.linspace(0, 1, _STEPS + 1)) for part in ends]))


def least_share(popularity: Floats, probabilities: Floats, edges: Floats) -> Floats:
    """``(n,)`` the smallest share whose interval holds a song (`popularity.inference.distribution.interval`).

    With h = (1 - share) / 2, that interval leaves out clip(a, h, 2 h) of the distribution above and clip(b, h, 2 h)
    below, where a and b are what it gives to 0 and to 100. It holds a song of popularity y, of which t lies above, as
    long as clip(a, h, 2 h) is at most t: up to h = t if a is at most t, else up to h = t / 2; likewise below.

    Args:
        popularity: ``(n,)`` of the songs.
        probabilities: ``(n, K)`` of the bins.
        edges: ``(K + 1,)`` of the bins.
    """
    at_lowest, below_highest = (cdf_at(np.full(len(popularity), point), probabilities, edges) for point in (0.5, 99.5))
    passed = cdf_at(popularity, probabilities, edges)
    above = np.where(popularity < 0.5, 1.0, 1 - np.where(popularity >= 99.5, below_highest, passed))
    below = np.where(popularity >= 99.5, 1.0, np.where(popularity < 0.5, at_lowest, passed))
    above = np.where(at_lowest <= above, above, above / 2)
    below = np.where(1 - below_highest <= below, below, below / 2)
    return np.asarray(np.clip(1 - 2 * np.minimum(above, below), 0, 1))


def _identity() -> Tensor:
    return torch.linspace(0, 1, _STEPS + 1).repeat(len(BANDS), 1)
