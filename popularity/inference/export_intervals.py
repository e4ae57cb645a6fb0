"""Intervals of predicted distributions as a graph: `popularity.inference.distribution.interval` after `Conformal`.

`Conformal` moves the cumulative distribution at all edges between bins. Here it moves only those that an interval ends
at: an end is first looked for among the edges as they are, in the place of its level.

Glossary of shapes: ``B`` songs, ``K`` bins, ``E`` levels or ends of a song.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from popularity.inference.export_lookup import Tables, picked, taken
from popularity.metrics import HIGHEST, LOWEST
from popularity.models.conformal import BANDS, Conformal


class Intervals(Tables):
    """Central intervals of histograms.

    Args:
        edges: ``(K + 1,)`` of the bins in points.
        correction: of the levels and of the shares, by known songs.
        shares: of the songs that the intervals hold.
    """

    def __init__(self, edges: Tensor, correction: Conformal, shares: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("edges", edges.double())
        self.register_buffer("scores", correction.quantiles.double())
        steps = correction.shares.shape[1] - 1
        places = torch.tensor(shares, dtype=torch.float64) * steps
        left = places.long().clamp_max(steps - 1)
        taken = correction.shares.double()
        taken = taken[:, left] + (places - left) * (taken[:, left + 1] - taken[:, left])
        self.register_buffer("taken", taken)  # (bands, shares) of the distribution
        self.nearly = [self._place(point) for point in (0.5, 99.5)]

    def _place(self, point: float) -> tuple[int, float]:
        """The bin of a number of points, and how far inside."""
        bin = int((self.edges <= point).sum()) - 1
        return bin, float((point - self.edges[bin]) / (self.edges[bin + 1] - self.edges[bin]))

    def forward(self, probabilities: Tensor, known: Tensor | None) -> list[Tensor]:
        """Lower and upper ends ``(B,)`` of the interval of each share.

        Args:
            probabilities: ``(B, K)``, not corrected.
            known: ``(B,)`` known songs by the artist; None where the network reads none.
        """
        band = torch.zeros_like(probabilities[:, 0]).long()
        if known is not None:
            band = (known.unsqueeze(1) >= torch.tensor(BANDS[1:])).sum(1)
        scores = taken(self.scores, band)
        passed = probabilities.double().cumsum(1)
        passed = torch.cat([torch.zeros_like(passed[:, :1]), passed / passed[:, -1:]], 1)  # (B, K + 1) at the edges
        lowest, highest = (self._passed(scores, passed, *place) for place in self.nearly)
        levels = []
        for most in (1 - taken(self.taken, band)).unbind(1):
            below, above = (torch.minimum(torch.maximum(end, most / 2), most) for end in (1 - highest, lowest))
            levels += [below, 1 - above]
        low, high = self._ends(scores, passed, torch.stack(levels, 1)).unflatten(1, (-1, 2)).unbind(2)
        low, high = torch.where(low < 0.5, LOWEST, low), torch.where(high >= 99.5, HIGHEST, high)
        return list(torch.stack([low, high], 2).flatten(1).unbind(1))

    @staticmethod
    def _passed(scores: Tensor, passed: Tensor, bin: int, inside: float) -> Tensor:
        """``(B,)`` corrected probability of less than a point in a bin."""
        left, right = _level(scores, passed[:, bin : bin + 2]).unbind(1)
        return left + inside * (right - left)

    def _ends(self, scores: Tensor, passed: Tensor, level: Tensor) -> Tensor:
        """``(B, E)`` points that corrected levels ``(B, E)`` are passed at."""
        steps = scores.shape[1] - 1
        step = (level * steps).long().clamp(0, steps - 1)
        low, high = picked(scores, step), picked(scores, step + 1)
        goal = low + (level * steps - step) * (high - low)  # the level before the correction
        bin = (passed[:, 1:-1].unsqueeze(1) < goal.unsqueeze(2)).float().sum(2).long()
        left, right = (_level(scores, picked(passed, place)) for place in (bin, bin + 1))
        inside = torch.where(right > left, (level - left) / (right - left).clamp_min(1e-300), 1.0)
        low, high = taken(self.edges, bin), taken(self.edges, bin + 1)
        return (low + inside * (high - low)).clamp(LOWEST, HIGHEST)


def _level(scores: Tensor, passed: Tensor) -> Tensor:
    """What `Conformal.forward` makes of cumulative probabilities ``(B, E)``, without a search."""
    steps = scores.shape[1] - 1
    right = (scores.unsqueeze(1) <= passed.unsqueeze(2)).float().sum(2).long().clamp(1, steps)
    low, high = picked(scores, right - 1), picked(scores, right)
    level = (right - 1 + ((passed - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)) / steps
    # the first and the last edge stay what they are
    return torch.where(passed <= 0, 0.0, torch.where(passed >= 1, 1.0, level))
