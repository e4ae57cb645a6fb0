"""Predictions as a table: the number, intervals, chances, known songs, warnings and reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from popularity.errors import InputError
from popularity.features.base import Encoder
from popularity.inference.distribution import SHARES, Prediction, at_least, interval
from popularity.inference.predictor import predict_songs
from popularity.inference.reasons import reasons
from popularity.inference.unusual import warnings_of
from popularity.inference.watched import watched
from popularity.models.heads import HistogramHead
from popularity.training.datamodule import PopularityDataModule
from popularity.training.module import PopularityModule
from popularity.training.outputs import known_songs

#: Songs whose long histories are read at once, at least: a batch of a fit is smaller than is good without gradients.
_BATCH = 512


@dataclass(frozen=True)
class Wanted:
    """What is told of each song beside the predicted popularity.

    Attributes:
        cutoffs: popularities whose chance to be reached is told, 1 to 100.
        reasons: the three strongest reasons, which take about 20 times as long.
    """

    cutoffs: tuple[float, ...] = ()
    reasons: bool = False


def has_distribution(module: PopularityModule) -> bool:
    """Whether a model predicts a distribution, or one number alone."""
    return isinstance(module.head, HistogramHead)


def prediction_table(
    module: PopularityModule, data: PopularityDataModule, songs: pd.DataFrame, wanted: Wanted
) -> pd.DataFrame:
    """Predict songs, in one row each.

    Args:
        module: trained.
        data: of the same checkpoint: its encoder, and the settings it was trained with.
        songs: canonical song table of ``n`` rows.
        wanted: what is told.

    Returns:
        ``track_id, artist, title, predicted_popularity``; where the model has a distribution ``low_50, high_50``,
        likewise 80 and 95, and ``chance_50`` for a cut-off of 50; ``known_songs``, where it reads them; ``warning``;
        and ``reasons``, if wanted.

    Raises:
        InputError: cut-offs of a model without a distribution, or a prediction that is no number.
    """

    def predict(encoder: Encoder, songs: pd.DataFrame) -> np.ndarray:
        return predict_songs(module, encoder, songs, **options).mean

    if wanted.cutoffs and not has_distribution(module):
        raise InputError("--cutoffs: expected a model with a distribution, got one that predicts a number alone")
    options = {"samples": data.hparams["samples"], "batch_size": max(_BATCH, data.hparams["batch_size"])}
    encoder, encoded = watched(data.encoder)
    prediction = predict_songs(module, encoder, songs, **options)
    _check_finite(prediction)
    table = songs[["track_id", "artist", "title"]].assign(predicted_popularity=np.round(prediction.mean, 2))
    if prediction.probabilities is not None:
        for share in SHARES:
            low, high = interval(prediction, share)
            table[f"low_{share * 100:g}"], table[f"high_{share * 100:g}"] = np.round(low, 2), np.round(high, 2)
        for cutoff in wanted.cutoffs:
            whole = math.ceil(cutoff)  # as popularity is
            table[f"chance_{cutoff:g}"] = np.round(at_least(prediction, whole), 4)
    if (known := known_songs(data.encoder, encoded)) is not None:
        table["known_songs"] = known.numpy()
    table["warning"] = _texts(warnings_of(data.encoder, data.trained_columns, songs, encoded))
    if wanted.reasons:
        table["reasons"] = _texts(reasons(predict, data.encoder, songs, encoded, prediction.mean))
    return table


def _check_finite(prediction: Prediction) -> None:
    """Refuse what would be empty cells."""
    finite = np.isfinite(prediction.mean)
    if prediction.probabilities is not None:
        finite &= np.isfinite(prediction.probabilities).all(axis=1)
    if not finite.all():
        raise InputError(
            f"--ckpt_path: expected predictions that are numbers, got NaN or infinity for {int((~finite).sum()):,} of "
            f"{len(finite):,} songs: the checkpoint is damaged, or needs another --trainer.precision"
        )


def _texts(values: np.ndarray) -> pd.Series:
    return pd.Series(values, dtype="str")
