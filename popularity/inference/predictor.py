"""Predicts songs with a trained module and its encoder, without a Trainer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from popularity.features.base import Encoder
from popularity.models.heads import HistogramHead
from popularity.training.module import PopularityModule
from popularity.training.outputs import raw_outputs

__all__ = ["Prediction", "predict_songs", "raw_outputs"]


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
    module: PopularityModule, encoder: Encoder, songs: pd.DataFrame, *, samples: int = 1, batch_size: int = 512
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
