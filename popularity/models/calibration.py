"""Calibration: predictions that are too spread, or too low, are corrected by what held-out songs showed.

A network's predictions of new songs are usually too spread, and most so where artists or times are new. The correction
is a line through (prediction, truth) and a sharpness of the distribution around it, three numbers that travel in the
checkpoint. Where boosted trees predict beside the network (`popularity.features.stacked`), the line is one of a
weighted mean of both, and the weight is learned first. What the distribution still gets wrong is left to
`popularity.models.conformal`; predictions stay the same.
"""

from __future__ import annotations

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from popularity.metrics import probability_integral_transform
from popularity.models.conformal import Conformal, least_share
from popularity.models.heads import Head, HistogramHead

#: Standard deviations of what is believed before any song is seen: a slope around 1, the log of a sharpness around 0,
#: a mean error around 0 points, a weight of the trees around 1/2. A few hundred songs cannot tell a slope of .95 from
#: 1, and following their noise would cost more than it gains.
_PRIOR_SLOPE, _PRIOR_SHARPNESS, _PRIOR_BIAS, _PRIOR_WEIGHT = 0.05, 0.3, 1.0, 0.25


class Calibration(nn.Module):
    """The correction of a model's predictions; none until `learn` is called.

    Args:
        trees: boosted trees predict beside the network: half of the prediction is theirs until `learn` is called.

    Attributes:
        offset: in popularity points.
        slope: of the truth on the prediction.
        sharpness: of the distribution; 1 leaves it as it is.
        weight: of the trees, 0 to 1.
        conformal: correction of predicted distributions after that, which intervals and chances are read from.
    """

    offset: Tensor
    slope: Tensor
    sharpness: Tensor
    weight: Tensor

    def __init__(self, trees: bool = False) -> None:
        super().__init__()
        for name, value in (("offset", 0.0), ("slope", 1.0), ("sharpness", 1.0), ("weight", 0.5 * trees)):
            self.register_buffer(name, torch.tensor(value))
        self.conformal = Conformal()

    def forward(self, head: Head, raw: Tensor, tree: Tensor | None = None) -> Tensor:
        """Raw outputs ``(B, outputs)``, corrected by line and sharpness.

        Args:
            head: of the network.
            raw: ``(B, outputs)``.
            tree: ``(B,)`` the trees' predictions in points; None where there are none.
        """
        if self.is_identity():
            return raw
        return head.calibrated(raw, self.shift(head.predict(raw), tree), self.slope, self.sharpness)

    def shift(self, prediction: Tensor, tree: Tensor | None) -> Tensor:
        """What is added to ``slope * prediction``: the offset, and what the trees ``(B,)`` move it by."""
        if tree is None or not float(self.weight):
            return self.offset
        return self.offset + self.slope * self.weight * (tree.to(prediction) - prediction)

    def __str__(self) -> str:
        trees = float(self.weight)
        mean = f"({1 - trees:.2f} x network + {trees:.2f} x trees)" if trees else "prediction"
        told = f"popularity = {float(self.offset):.2f} + {float(self.slope):.3f} x {mean}"
        return f"{told}, sharpness {float(self.sharpness):.2f}"

    def is_identity(self) -> bool:
        """Whether line, sharpness and trees have nothing to correct."""
        found = (self.offset, self.slope, self.sharpness, self.weight)
        return tuple(map(float, found)) == (0.0, 1.0, 1.0, 0.0)

    def learn(
        self,
        head: Head,
        raw: Tensor,
        popularity: Tensor,
        groups: Tensor | None = None,
        known: Tensor | None = None,
        tree: Tensor | None = None,
    ) -> None:
        """Learn the correction from songs that neither network nor trees were trained on.

        Slope and mean error are those of least squares, drawn towards 1 and 0 by Gaussian priors (Bishop 2006, "Pattern
        Recognition and Machine Learning", section 3.3) the more, the larger their sampling variance. That is estimated
        over groups of songs that err alike (Liang and Zeger 1986, "Longitudinal Data Analysis Using Generalized Linear
        Models", section 2). The weight of the trees is learned before in the same way, drawn towards 1/2. The sharpness
        then has the smallest loss, with a prior too.

        Args:
            head: of the network.
            raw: ``(n, outputs)`` uncorrected outputs for held-out songs.
            popularity: ``(n,)`` of these songs.
            groups: ``(n,)`` number of each song's group, such as its artist; None where each song is its own.
            known: ``(n,)`` known songs by each song's artist; None where the network reads none.
            tree: ``(n,)`` the trees' predictions of these songs; None where there are none.
        """
        raw, popularity = raw.double(), popularity.double()
        prediction, songs = head.predict(raw), len(popularity)
        groups = torch.arange(songs) if groups is None else groups
        if tree is not None and songs >= 3:
            tree = tree.double()
            middle = (prediction + tree) / 2
            excess, trust = _steepness(tree - prediction, popularity - middle, groups, _PRIOR_WEIGHT)
            self.weight.fill_(min(max(0.5 + trust * excess, 0.0), 1.0))
            prediction = prediction + float(self.weight) * (tree - prediction)
        residual = popularity - prediction
        if songs < 3 or not float((prediction - prediction.mean()).square().sum()) > 0:
            return
        excess, trust = _steepness(prediction, residual, groups, _PRIOR_SLOPE)
        bias = float(residual.mean())
        left = residual - bias - excess * (prediction - prediction.mean())
        bias *= _trust(variance(left, groups) / songs**2, _PRIOR_BIAS)
        slope = 1.0 + max(trust * excess, -0.9)
        self.slope.fill_(slope)
        self.offset.fill_(float(prediction.mean()) * (1.0 - slope) + bias)
        self.sharpness.fill_(self._sharpness(head, raw, popularity, tree))
        if isinstance(head, HistogramHead):
            found, truth = head.probabilities(self(head, raw, tree)), popularity.numpy()
            edges, numbers = head.edges.cpu().numpy(), None if known is None else known.cpu().numpy()
            self.conformal.learn(probability_integral_transform(truth, found.numpy(), edges), numbers)
            corrected = self.conformal(found, known).numpy()
            self.conformal.learn_shares(least_share(truth, corrected, edges), numbers)

    def _sharpness(self, head: Head, raw: Tensor, popularity: Tensor, tree: Tensor | None) -> float:
        shift = self.shift(head.predict(raw), tree)

        def cost(log_sharpness: float) -> float:
            sharp = torch.tensor(math.exp(log_sharpness), dtype=raw.dtype)
            corrected = head.calibrated(raw, shift.to(raw), self.slope.to(raw), sharp)
            loss = float(head.loss(corrected, popularity)) * len(popularity)
            return loss + 0.5 * (log_sharpness / _PRIOR_SHARPNESS) ** 2

        best = minimize_scalar(cost, bounds=(-1.0, 1.0), method="bounded", options={"xatol": 1e-3})
        return math.exp(float(best.x)) if cost(float(best.x)) < cost(0.0) else 1.0


def _steepness(x: Tensor, y: Tensor, groups: Tensor, prior: float) -> tuple[float, float]:
    """Slope of the line of ``y`` on ``x``, ``(n,)`` each, by least squares, and its weight against a prior around 0.

    Args:
        x: in points.
        y: in points.
        groups: ``(n,)`` number of each song's group.
        prior: standard deviation of what is believed before.
    """
    x, y = x - x.mean(), y - y.mean()
    spread = float(x.square().sum())
    if not spread > 0:
        return 0.0, 0.0
    slope = float(x @ y) / spread
    return slope, _trust(variance(x * (y - slope * x), groups) / spread**2, prior)


def variance(terms: Tensor, groups: Tensor) -> float:
    """Variance of the sum of terms ``(n,)`` of mean 0 that depend on each other within groups ``(n,)``.

    Few groups, or one that is larger than all others, say little: the sum of squares is divided by 1 - 1/g with the
    effective number of groups g (Carter, Schnepel and Steigerwald 2017, "Asymptotic behavior of a t-test robust to
    cluster heterogeneity"). A single group says nothing.
    """
    sizes = torch.bincount(groups).double()
    of_group = torch.zeros(len(sizes), dtype=terms.dtype).index_add_(0, groups, terms)
    left = 1 - float(sizes.square().sum() / sizes.sum() ** 2)
    return float(of_group.square().sum()) / left if left > 0 else math.inf


def _trust(variance: float, prior: float) -> float:
    """Weight of an estimate of this variance against a prior of mean 0 with this standard deviation."""
    return prior**2 / (prior**2 + variance)
