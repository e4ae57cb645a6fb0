"""`HistogramHead` as a graph: what it does to raw outputs, in operations that are fast in ONNX Runtime.

Glossary of shapes: ``B`` songs, ``K`` bins, ``M`` members and samples of a song.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from popularity.inference.export_characters import places
from popularity.inference.export_lookup import taken
from popularity.metrics import HIGHEST, LOWEST
from popularity.models.calibration import Calibration
from popularity.models.heads import Head, HistogramHead, tilted

_STEPS = 5  # of Newton's method; most songs need 4
_NEAR, _FAR = 1e-5, 50.0


def mix(head: Head, raw: Tensor) -> Tensor:
    """`Head.mix` of ``(M, B, K)``."""
    if not isinstance(head, HistogramHead):
        return head.mix(raw)
    members = raw.log_softmax(-1).unbind(0)  # reducing along the first axis is slow
    most = members[0]
    for one in members[1:]:
        most = torch.maximum(most, one)
    total = (members[0] - most).exp()
    for one in members[1:]:
        total = total + (one - most).exp()
    return most + (total / len(members)).log()


def predicted(head: Head, raw: Tensor) -> Tensor:
    """`Head.predict` of ``(B, K)``; a product with a vector is ten times as slow as with a matrix of one column."""
    if not isinstance(head, HistogramHead):
        return head.predict(raw)
    return (raw.softmax(-1) @ _centre(head).unsqueeze(1)).squeeze(1).clamp(LOWEST, HIGHEST)


def calibrated(head: Head, of: Calibration, raw: Tensor) -> Tensor:
    """`Head.calibrated` of ``(B, K)``, in which few songs take more than some steps of Newton's method."""
    if not isinstance(head, HistogramHead):
        return head.calibrated(raw, of.offset, of.slope, of.sharpness)
    goal = (of.offset + of.slope * predicted(head, raw)).clamp(0.0, 100.0)
    logits, centre = raw.log_softmax(-1) * of.sharpness, _centre(head)
    scale = (centre[-1] - centre[0]) / 2
    place, wanted = (centre - centre[0]) / scale - 1, ((goal - centre[0]) / scale - 1).unsqueeze(-1)  # from -1 to 1
    powers = torch.stack([torch.ones_like(place), place, place.square()], 1)
    tilt = error = torch.zeros_like(wanted)
    for _ in range(_STEPS):
        mass, mean, square = ((logits + tilt * place).exp() @ powers).split(1, 1)
        mean = mean / mass
        error = wanted - mean
        # further than this from where it began, the exponential would be too large, and `tilted` takes over
        tilt = (tilt + error / (square / mass - mean * mean).clamp_min(1e-12)).clamp(-_FAR, _FAR)
    # two more, for tensors that are not empty
    others = F.pad(places(~(error.squeeze(-1).abs() < _NEAR)), (2, 0))
    rest = tilted(taken(logits, others), centre, taken(goal, others))
    return (logits + tilt * place).index_put((others,), rest)


def _centre(head: HistogramHead) -> Tensor:
    return (head.edges[1:] + head.edges[:-1]) / 2
