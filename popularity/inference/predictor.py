"""Predicts songs with a trained module and its encoder, without a Trainer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from popularity.features.base import Encoder
from popularity.models.heads import HistogramHead
from popularity.training.batches import SongBatches
from popularity.training.module import PopularityModule


@dataclass(frozen=True)
class Prediction:
    """Predictions of ``n`` songs.

    Attributes:
        mean: ``(n,)`` float64 predicted popularity in points.
        probabilities: ``(n, K)`` float64 of each bin of popularity; None for a head without a distribution.
        edges: ``(K + 1,)`` float64 edges of the bins in points, or None.
    """

    mean: np.ndarray
    probabilities: np.ndarray | None = None
    edges: np.ndarray | None = None


def predict_songs(
    module: PopularityModule, encoder: Encoder, songs: pd.DataFrame, *, samples: int = 2, batch_size: int = 512
) -> Prediction:
    """Predict songs; twice the same songs give twice the same numbers.

    Args:
        module: trained; left as it was.
        encoder: that it was trained with.
        songs: ``n`` songs.
        samples: histories sampled per song in training (``datamodule.hparams["samples"]``).
        batch_size: songs predicted at once.
    """
    raw = raw_outputs(module, encoder, songs, samples=samples, batch_size=batch_size)
    mean = module.head.predict(raw).double().cpu().numpy()
    if not isinstance(module.head, HistogramHead):
        return Prediction(mean)
    edges = module.head.edges.double().cpu().numpy()
    return Prediction(mean, module.head.probabilities(raw).double().cpu().numpy(), edges)


@torch.no_grad()
def raw_outputs(
    module: PopularityModule, encoder: Encoder, songs: pd.DataFrame, *, samples: int = 2, batch_size: int = 512
) -> Tensor:
    """Raw outputs ``(n, outputs)`` of the head, in evaluation; arguments as in :func:`predict_songs`."""
    training = module.training
    module.eval()
    like = next(module.net.parameters())  # a fit in half precision or double leaves the network in it
    raw = []
    for batch in SongBatches(encoder, songs, batch_size, samples=samples):
        wanted = {name: like.dtype if value.is_floating_point() else value.dtype for name, value in batch.items()}
        raw.append(module({name: value.to(like.device, wanted[name]) for name, value in batch.items()}))
    module.train(training)
    return torch.cat(raw)
