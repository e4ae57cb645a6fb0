"""Calibration: predictions that are too spread, or too low, are corrected by what held-out songs showed.

A network's predictions of new songs are usually too spread, and most so where artists or times are new. The correction
is a line through (prediction, truth) and a sharpness of the distribution around it, three numbers that travel in the
checkpoint. What the distribution still gets wrong is left to `popularity.models.conformal`; predictions stay the same.
"""

from __future__ import annotations

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from popularity.metrics import probability_integral_transform
from popularity.models.conformal import Conformal
from popularity.models.heads import Head, HistogramHead

#: Standard deviations of what is believed before any song is seen: a slope around 1, the log of a sharpness around 0,
#: a mean error around 0 points. A few hundred songs cannot tell a slope of .95 from 1, and following their noise would
#: cost more than it gains.
_PRIOR_SLOPE, _PRIOR_SHARPNESS, _PRIOR_BIAS = 0.05, 0.3, 1.0


class Calibration(nn.Module):
    """The correction of a model's predictions; none until `learn` is called.

    Attributes:
        offset: in popularity points.
        slope: of the truth on the prediction.
        sharpness: of the distribution; 1 leaves it as it is.
        conformal: correction of predicted distributions after that, which intervals and chances are read from.
    """

    offset: Tensor
    slope: Tensor
    sharpness: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, value in (("offset", 0.0), ("slope", 1.0), ("sharpness", 1.0)):
            self.register_buffer(name, torch.tensor(value))
        self.conformal = Conformal()

    def forward(self, head: Head, raw: Tensor) -> Tensor:
        """Raw outputs ``(B, outputs)``, corrected by line and sharpness."""
        if self.is_identity():
            return raw
        return head.calibrated(raw, self.offset, self.slope, self.sharpness)

    def __str__(self) -> str:
        told = f"popularity = {float(self.offset):.2f} + {float(self.slope):.3f} x prediction"
        return f"{told}, sharpness {float(self.sharpness):.2f}"

    def is_identity(self) -> bool:
        """Whether line and sharpness have nothing to correct."""
        return (float(self.offset), float(self.slope), float(self.sharpness)) == (0.0, 1.0, 1.0)

    def learn(
        self,
        head: Head,
        raw: Tensor,
        popularity: Tensor,
        groups: Tensor | None = None,
        known: Tensor | None = None,
    ) -> None:
        """Learn the correction from songs that the network was not trained on.

        Slope and mean error are those of least squares, drawn towards 1 and 0 by Gaussian priors (Bishop 2006, "Pattern
        Recognition and Machine Learning", section 3.3) the more, the larger their sampling variance. That is estimated
        over groups of songs that err alike (Liang and Zeger 1986, "Longitudinal Data Analysis Using Generalized Linear
        Models", section 2). The sharpness then has the smallest loss, with a prior too.

        Args:
            head: of the network.
            raw: ``(n, outputs)`` uncorrected outputs for held-out songs.
            popularity: ``(n,)`` of these songs.
            groups: ``(n,)`` number of each song's group, such as its artist; None where each song is its own.
            known: ``(n,)`` known songs by each song's artist; None where the network reads none.
        """
        raw, popularity = raw.double(), popularity.double()
        prediction = head.predict(raw)
        centred, residual = prediction - prediction.mean(), popularity - prediction
        spread, songs = float(centred.square().sum()), len(residual)
        if songs < 3 or not spread > 0:
            return
        groups = torch.arange(songs) if groups is None else groups
        excess, bias = float(centred @ residual) / spread, float(residual.mean())
        left = residual - bias - excess * centred
        excess *= _trust(_variance(centred * left, groups) / spread**2, _PRIOR_SLOPE)
        bias *= _trust(_variance(left, groups) / songs**2, _PRIOR_BIAS)
        slope = 1.0 + max(excess, -0.9)
        self.slope.fill_(slope)
        self.offset.fill_(float(prediction.mean()) * (1.0 - slope) + bias)
        self.sharpness.fill_(self._sharpness(head, raw, popularity))
        if isinstance(head, HistogramHead):
            found = head.probabilities(self(head, raw)).numpy()
            transform = probability_integral_transform(popularity.numpy(), found, head.edges.cpu().numpy())
            self.conformal.learn(transform, None if known is None else known.cpu().numpy())

    def _sharpness(self, head: Head, raw: Tensor, popularity: Tensor) -> float:
        def cost(log_sharpness: float) -> float:
            sharp = torch.tensor(math.exp(log_sharpness), dtype=raw.dtype)
            corrected = head.calibrated(raw, self.offset.to(raw), self.slope.to(raw), sharp)
            loss = float(head.loss(corrected, popularity)) * len(popularity)
            return loss + 0.5 * (log_sharpness / _PRIOR_SHARPNESS) ** 2

        best = minimize_scalar(cost, bounds=(-1.0, 1.0), method="bounded", options={"xatol": 1e-3})
        return math.exp(float(best.x)) if cost(float(best.x)) < cost(0.0) else 1.0


def _variance(terms: Tensor, groups: Tensor) -> float:
    """Variance of the sum of terms ``(n,)`` of mean 0 that depend on each other within groups ``(n,)``."""
    of_group = torch.zeros(int(groups.max()) + 1, dtype=terms.dtype).index_add_(0, groups, terms)
    return float(of_group.square().sum())


def _trust(variance: float, prior: float) -> float:
    """Weight of an estimate of this variance against a prior of mean 0 with this standard deviation."""
    return prior**2 / (prior**2 + variance)
