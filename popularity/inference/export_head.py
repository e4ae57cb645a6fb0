"""`HistogramHead` as a graph: what it does to raw outputs, in operations that are fast in ONNX Runtime.

Glossary of shapes: ``B`` songs, ``K`` bins, ``M`` members and samples of a song.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from popularity.inference.export_characters import places
from popularity.inference.export_lookup import taken
from popularity.models.calibration import Calibration
from popularity.models.heads import Head, HistogramHead, tilted

_STEPS = 5  # of Newton's method; most songs need 4
_NEAR = 1e-5


def mix(head: Head, raw: Tensor) -> Tensor:
    """`Head.mix` of ``(M, B, K)``."""
    if not isinstance(head, HistogramHead):
        return head.mix(raw)
    raw = raw.log_softmax(-1)
    most = raw.amax(0)
    return most + (raw - most).exp().mean(0).log()


def calibrated(head: Head, of: Calibration, raw: Tensor) -> Tensor:
    """`Head.calibrated` of ``(B, K)``, in which few songs take more than some steps of Newton's method."""
    if not isinstance(head, HistogramHead):
        return head.calibrated(raw, of.offset, of.slope, of.sharpness)
    goal = (of.offset + of.slope * head.predict(raw)).clamp(0.0, 100.0)
    logits, centre = raw.log_softmax(-1) * of.sharpness, (head.edges[1:] + head.edges[:-1]) / 2
    scale = (centre[-1] - centre[0]) / 2
    place, wanted = (centre - centre[0]) / scale - 1, ((goal - centre[0]) / scale - 1).unsqueeze(-1)  # from -1 to 1
    tilt = error = torch.zeros_like(wanted)
    for _ in range(_STEPS):
        probability = (logits + tilt * place).softmax(-1)
        mean = (probability * place).sum(-1, keepdim=True)
        variance = (probability * (place - mean).square()).sum(-1, keepdim=True)
        error = wanted - mean
        tilt = tilt + error / variance.clamp_min(1e-12)
    # two more, for tensors that are not empty
    others = F.pad(places(~(error.squeeze(-1).abs() < _NEAR)), (2, 0))
    rest = tilted(taken(logits, others), centre, taken(goal, others))
    return (logits + tilt * place).index_put((others,), rest)
