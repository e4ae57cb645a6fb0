"""Heads: from a network's raw outputs to a distribution, or a number, in popularity points.

Shapes: ``B`` songs, ``K`` bins, ``M`` raw outputs for each song: one for each member and sampled history.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from popularity.errors import InputError

#: Most steps that find a tilt. Most songs need 4; two far peaks, with a goal in the middle, need 16.
_TILT_STEPS = 20
#: Error of a mean between -1 and 1 from which one step of Newton's method leaves nothing but rounding.
_NEAR = 1e-5


def _full(x: Tensor) -> Tensor:
    """At least single precision: losses and sums over bins are not computed in bfloat16."""
    return x if x.dtype == torch.float64 else x.float()


class Head(nn.Module, ABC):
    """What the training code needs from a head.

    Attributes:
        outputs: raw outputs of the network for one song.
    """

    outputs: int

    @abstractmethod
    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Mean loss of raw outputs ``(..., B, outputs)`` against popularity ``(B,)`` in points."""

    @abstractmethod
    def predict(self, raw: Tensor) -> Tensor:
        """Predicted popularity ``(B,)`` in points, within 0-100, from ``(B, outputs)``."""

    @abstractmethod
    def mix(self, raw: Tensor) -> Tensor:
        """Raw outputs ``(B, outputs)`` whose distribution is the mean of those of ``(M, B, outputs)``."""

    @abstractmethod
    def calibrated(self, raw: Tensor, offset: Tensor, slope: Tensor, sharpness: Tensor) -> Tensor:
        """Raw outputs ``(B, outputs)`` whose prediction is ``offset + slope * predict(raw)``, within 0-100.

        Args:
            raw: ``(B, outputs)``.
            offset: in points.
            slope: of truth on prediction.
            sharpness: above 1 for a narrower distribution, below 1 for a wider one; a single number has none.
        """


class HistogramHead(Head):
    r"""A histogram over popularity, trained by cross-entropy against a Gaussian-smoothed target ("HL-Gauss").

    Imani & White (2018), "Improving Regression Performance with Distributional Losses", section 3: the target of bin
    :math:`[e_k, e_{k+1})` is the mass that a normal distribution around the true value gives it, normalised over the
    support. The support reaches beyond 0-100 by several sigmas: one that ended at 0 would pull the mean of a song of
    popularity 0 upwards (29 % of the embedded data set have popularity 0).

    Args:
        bins: ``K``, over -10 to 110 points.
        sigma: smoothing of the target in popularity points.

    Raises:
        InputError: a setting is out of range.
    """

    edges: Tensor

    def __init__(self, bins: int = 60, sigma: float = 3.0) -> None:
        super().__init__()
        if bins < 1:
            raise InputError(f"model.head.bins: expected at least 1, got {bins}")
        if not sigma > 0:
            raise InputError(f"model.head.sigma: expected a number above 0, got {sigma}")
        self.outputs = bins
        self.sigma = sigma
        self.register_buffer("edges", torch.linspace(-10.0, 110.0, bins + 1), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HistogramHead:
        """Move or convert; half precision, which would round the edges, does not convert them."""
        exact = self.edges
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.edges.dtype in (torch.bfloat16, torch.float16):
            self.edges = exact.to(self.edges.device)
        return self

    def target(self, popularity: Tensor) -> Tensor:
        """Smoothed target distribution ``(B, K)`` of popularities ``(B,)``."""
        z = (self.edges - popularity.unsqueeze(-1)) / (self.sigma * math.sqrt(2.0))
        mass = torch.erf(z).diff(dim=-1)
        return mass / mass.sum(-1, keepdim=True)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of logits ``(..., B, K)`` against the smoothed target of popularities ``(B,)``."""
        goal = self.target(_full(target)).expand_as(raw)
        return nn.functional.cross_entropy(_full(raw).flatten(0, -2), goal.flatten(0, -2))

    def probabilities(self, raw: Tensor) -> Tensor:
        """Probability of each bin, ``(B, K)``."""
        return _full(raw).softmax(-1)

    def predict(self, raw: Tensor) -> Tensor:
        """Mean of the histogram, ``(B,)``, clipped to 0-100."""
        centre = (self.edges[1:] + self.edges[:-1]) / 2
        probabilities = self.probabilities(raw)
        return (probabilities @ centre.to(probabilities.dtype)).clamp(0.0, 100.0)

    def mix(self, raw: Tensor) -> Tensor:
        """Logits ``(B, K)`` of the mean distribution, from ``(M, B, K)``."""
        return _full(raw).log_softmax(-1).logsumexp(0) - math.log(len(raw))

    def calibrated(self, raw: Tensor, offset: Tensor, slope: Tensor, sharpness: Tensor) -> Tensor:
        """Logits ``(B, K)`` of the distribution with the calibrated mean that is nearest to the sharpened one.

        Nearest in Kullback-Leibler divergence: each bin's probability is multiplied by ``exp(tilt * centre)``
        (exponential tilting; Csiszar 1975, "I-divergence geometry of probability distributions", section 3). A peak
        stays where it is, at 0 for instance, and only its height changes.
        """
        goal = offset + slope * self.predict(raw)
        logits, centre = _full(raw).log_softmax(-1) * sharpness, ((self.edges[1:] + self.edges[:-1]) / 2).to(goal.dtype)
        return tilted(logits, centre, goal.clamp(0.0, 100.0))


class MSEHead(Head):
    """One number, ``100 sigmoid(raw)``, trained by squared error."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs = 1

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Mean squared error in squared popularity points of raw ``(..., B, 1)`` against popularity ``(B,)``."""
        prediction = self.predict(raw)
        return nn.functional.mse_loss(prediction, _full(target).expand_as(prediction))

    def predict(self, raw: Tensor) -> Tensor:
        """Predicted popularity ``(B,)``."""
        return 100.0 * torch.sigmoid(_full(raw).squeeze(-1))

    def mix(self, raw: Tensor) -> Tensor:
        """Raw outputs ``(B, 1)`` whose prediction is the mean of the predictions of ``(M, B, 1)``."""
        return torch.sigmoid(_full(raw)).mean(0).logit(eps=1e-6)

    def calibrated(self, raw: Tensor, offset: Tensor, slope: Tensor, sharpness: Tensor) -> Tensor:
        """Raw outputs ``(B, 1)`` of the calibrated prediction."""
        goal: Tensor = (offset + slope * self.predict(raw)) / 100.0
        return goal.unsqueeze(-1).logit(eps=1e-6)


def tilted(logits: Tensor, centre: Tensor, goal: Tensor) -> Tensor:
    """Logits ``logits + tilt * centre`` whose distribution has the wanted mean.

    The mean rises with the tilt, and its derivative is the variance: Newton's method within a bracket, and its middle
    instead where a step would leave the bracket or is not half as long as the one before, as where there are peaks. A
    last step, which rounding alone moves, is as long as the one before, and is taken as it is.

    Args:
        logits: ``(B, K)``.
        centre: ``(K,)`` of the bins, ascending.
        goal: ``(B,)`` wanted means, inside the range of the centres.
    """
    scale = (centre[-1] - centre[0]) / 2
    place, wanted = (centre - centre[0]) / scale - 1, ((goal - centre[0]) / scale - 1).unsqueeze(-1)  # from -1 to 1
    # enough to put nearly all mass into the first or the last bin
    most = (logits.amax(-1, keepdim=True) - logits.amin(-1, keepdim=True) + 40) / (place[1:] - place[:-1]).min()
    low, high, tilt, step = -most, most, torch.zeros_like(most), 2 * most
    for _ in range(_TILT_STEPS):
        probability = (logits + tilt * place).softmax(-1)
        mean = (probability * place).sum(-1, keepdim=True)
        variance = (probability * (place - mean).square()).sum(-1, keepdim=True)
        low, high = torch.where(mean < wanted, tilt, low), torch.where(mean < wanted, high, tilt)
        near = (wanted - mean).abs() < _NEAR
        newton = tilt + (wanted - mean) / variance.clamp_min(1e-12)
        good = (newton > low) & (newton < high) & ((newton - tilt).abs() < step.abs() / 2)
        new = torch.where(good | near, newton, (low + high) / 2)
        step, tilt = new - tilt, new
        if not torch.compiler.is_compiling() and bool(near.all()):  # which no graph can ask
            break
    return logits + tilt * place
