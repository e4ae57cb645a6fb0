"""Calibration: predictions that are too spread, or too low, are corrected by what held-out songs showed.

A network's predictions of new songs are usually too spread, and most so where artists or times are new. The correction
is a line through (prediction, truth) and a sharpness of the distribution around it, three numbers that travel in the
checkpoint.
"""

from __future__ import annotations

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from popularity.models.heads import Head

#: Standard deviations of what is believed before any song is seen: a slope around 1, a sharpness around 1 (its log).
#: A few hundred songs cannot tell a slope of .95 from 1, and following their noise would cost more than it gains.
_PRIOR_SLOPE, _PRIOR_SHARPNESS, _PRIOR_BIAS = 0.15, 0.3, 1.0  # the last in points: a mean error around 0


class Calibration(nn.Module):
    """The correction of a model's predictions; none until `learn` is called.

    Attributes:
        offset: in popularity points.
        slope: of the truth on the prediction.
        sharpness: of the distribution; 1 leaves it as it is.
    """

    offset: Tensor
    slope: Tensor
    sharpness: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, value in (("offset", 0.0), ("slope", 1.0), ("sharpness", 1.0)):
            self.register_buffer(name, torch.tensor(value))

    def forward(self, head: Head, raw: Tensor) -> Tensor:
        """Raw outputs ``(B, outputs)``, corrected."""
        if self.is_identity():
            return raw
        return head.calibrated(raw, self.offset, self.slope, self.sharpness)

    def __str__(self) -> str:
        told = f"popularity = {float(self.offset):.2f} + {float(self.slope):.3f} x prediction"
        return f"{told}, sharpness {float(self.sharpness):.2f}"

    def is_identity(self) -> bool:
        """Whether there is nothing to correct."""
        return (float(self.offset), float(self.slope), float(self.sharpness)) == (0.0, 1.0, 1.0)

    def learn(self, head: Head, raw: Tensor, popularity: Tensor) -> None:
        """Learn the correction from songs that the network was not trained on.

        The line is least squares with a Gaussian prior on the slope (Bishop 2006, "Pattern Recognition and Machine
        Learning", section 3.3); the sharpness then has the smallest loss, with a prior too.

        Args:
            head: of the network.
            raw: ``(n, outputs)`` uncorrected outputs for held-out songs.
            popularity: ``(n,)`` of these songs.
        """
        raw, popularity = raw.double(), popularity.double()
        prediction = head.predict(raw)
        centred = prediction - prediction.mean()
        spread = float(centred.square().sum())
        residual = popularity - prediction
        noise = float(residual.var()) if len(residual) > 2 else math.inf
        if not (math.isfinite(noise) and noise > 0 and spread > 0):
            return
        # the slope's difference from 1, shrunk by the ratio of its sampling variance to the prior's
        excess = float(centred @ residual) / (spread + noise / _PRIOR_SLOPE**2)
        slope = 1.0 + max(excess, -0.9)
        bias = float(residual.mean()) / (1.0 + noise / len(residual) / _PRIOR_BIAS**2)
        offset = float(prediction.mean()) * (1.0 - slope) + bias
        self.slope.fill_(slope)
        self.offset.fill_(offset)
        self.sharpness.fill_(self._sharpness(head, raw, popularity))

    def _sharpness(self, head: Head, raw: Tensor, popularity: Tensor) -> float:
        def cost(log_sharpness: float) -> float:
            sharp = torch.tensor(math.exp(log_sharpness), dtype=raw.dtype)
            corrected = head.calibrated(raw, self.offset.to(raw), self.slope.to(raw), sharp)
            loss = float(head.loss(corrected, popularity)) * len(popularity)
            return loss + 0.5 * (log_sharpness / _PRIOR_SHARPNESS) ** 2

        best = minimize_scalar(cost, bounds=(-1.0, 1.0), method="bounded", options={"xatol": 1e-3})
        return math.exp(float(best.x)) if cost(float(best.x)) < cost(0.0) else 1.0
