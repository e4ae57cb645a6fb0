"""Predicts songs with a trained module and its encoder, without a Trainer."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from torch import Tensor

from popularity.features.base import Encoder
from popularity.inference.distribution import Prediction
from popularity.models.heads import HistogramHead
from popularity.training.module import PopularityModule
from popularity.training.outputs import outputs_and_known

__all__ = ["Prediction", "predict_encoded", "predict_songs"]


def predict_songs(
    module: PopularityModule, encoder: Encoder, songs: pd.DataFrame, *, samples: int = 1, batch_size: int = 512
) -> Prediction:
    """Predict songs; each gets the same numbers whatever songs stand beside it.

    Args:
        module: trained; left as it was.
        encoder: that it was trained with.
        songs: ``n`` songs.
        samples: histories sampled per song in training (``datamodule.hparams["samples"]``).
        batch_size: songs predicted at once.
    """
    return predict_encoded(module, encoder, encoder.encode(songs), samples=samples, batch_size=batch_size)


def predict_encoded(
    module: PopularityModule,
    encoder: Encoder,
    encoded: Mapping[str, Tensor],
    *,
    samples: int = 1,
    batch_size: int = 512,
) -> Prediction:
    """As :func:`predict_songs`, of songs that were encoded before."""
    raw, known = outputs_and_known(module, encoder, encoded, samples=samples, batch_size=batch_size)
    mean = module.head.predict(raw).double().cpu().numpy()
    if not isinstance(module.head, HistogramHead):
        return Prediction(mean)
    conformal = module.calibration.conformal
    probabilities = conformal(module.head.probabilities(raw).double().cpu(), known)
    taken = conformal.taken(len(mean), known)
    return Prediction(mean, probabilities.numpy(), module.head.edges.double().cpu().numpy(), taken)
