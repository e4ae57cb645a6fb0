"""A trained model as explanations use it: predictions of song tables that differ in chosen columns."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from popularity.errors import InputError
from popularity.features.base import Encoder
from popularity.features.encoder import HistoryEncoder
from popularity.features.keys import Keys
from popularity.features.related import CandidateSet
from popularity.features.stacked import TABULAR_KNOWN
from popularity.inference.checkpoint import load_checkpoint
from popularity.inference.predictor import Prediction, predict_encoded, predict_songs
from popularity.training.datamodule import PopularityDataModule
from popularity.training.module import PopularityModule


@dataclass(frozen=True)
class Model:
    """A trained module with the encoder that it reads songs through.

    Attributes:
        module: trained, in evaluation.
        encoder: that it was trained with.
        samples: histories sampled per song in training.
    """

    module: PopularityModule
    encoder: Encoder
    samples: int

    def pinned(self, songs: pd.DataFrame) -> Model:
        """The same model, for which each of these songs keeps its known songs whatever else changes in its row.

        Retrieved songs, which are found by their features, still follow the features.

        Args:
            songs: ``n`` songs. The model that is returned encodes tables of ``n`` songs.
        """
        if not isinstance(self.encoder, HistoryEncoder) or self.encoder.related is None:
            return self
        encoder, related = copy.copy(self.encoder), copy.copy(self.encoder.related)
        found = self.encoder.related.candidates(self.encoder.keys(songs))

        def candidates(keys: Keys, own: np.ndarray | None = None) -> CandidateSet:
            return found

        related.candidates = candidates  # type: ignore[assignment]
        encoder.related = related
        first, encode = encoder.encode(songs), encoder.encode
        if TABULAR_KNOWN in first:  # what trees read of known songs
            encoder.encode = lambda songs, *, training=False: {  # type: ignore[method-assign]
                **encode(songs),
                TABULAR_KNOWN: first[TABULAR_KNOWN],
            }
        return Model(self.module, encoder, self.samples)

    def predict(self, songs: pd.DataFrame) -> Prediction:
        """What is predicted of ``n`` songs."""
        return predict_songs(self.module, self.encoder, songs, samples=self.samples)

    def mean(self, songs: pd.DataFrame) -> np.ndarray:
        """Predicted popularity ``(n,)`` in points."""
        return self.predict(songs).mean

    def mean_of(self, encoded: Mapping[str, Tensor]) -> np.ndarray:
        """As :meth:`mean`, for songs that were encoded before."""
        return predict_encoded(self.module, self.encoder, encoded, samples=self.samples).mean


def load_model(path: str | Path, cache_dir: str | None = None) -> tuple[Model, PopularityDataModule]:
    """The model of a checkpoint, on the CPU in single precision, and the data module it was trained with.

    Args:
        path: of the checkpoint.
        cache_dir: folder for downloads, in place of the one of the fit.

    Raises:
        InputError: as `popularity.inference.checkpoint.load_checkpoint`.
    """
    module, data = load_checkpoint(path)
    if cache_dir is not None:
        data.hparams["cache_dir"] = cache_dir
    return Model(module.float(), data.encoder, int(data.hparams["samples"])), data


def load_own_songs(path: str | Path, data: PopularityDataModule) -> None:
    """Load and split the songs that a checkpoint was trained on.

    Raises:
        InputError: they are not there any more, or have changed since.
    """
    try:
        data.load()
    except InputError as error:
        told = "the songs that the checkpoint was trained on cannot be read"
        raise InputError(f"{path}: {told} ({error}); if they are elsewhere, give --source FILE") from error
    fitted, today = data.state_dict()["fingerprint"], data.fingerprint()
    if fitted.get("sha256") != today["sha256"]:
        source = data.hparams["source"]
        raise InputError(f"{path}: the songs of {source} have changed since this checkpoint was trained on them")
