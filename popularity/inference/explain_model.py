"""A trained model as explanations use it: predictions of song tables that differ in chosen columns."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from popularity.errors import InputError
from popularity.features.base import Encoder
from popularity.features.encoder import HistoryEncoder
from popularity.features.related import NO_SONG, CandidateSet, Keys, RelatedSongs
from popularity.features.stacked import TABULAR_KNOWN
from popularity.inference.checkpoint import load_checkpoint
from popularity.inference.predictor import Prediction, predict_songs
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

        Where a song has more known songs than are read, a hash of all its columns chooses among them: predictions would
        differ by that choice too. Retrieved songs, which are found by their features, still follow the features.

        Args:
            songs: ``n`` songs. The model that is returned predicts tables of ``n`` songs, or of variants of one.
        """
        if not isinstance(self.encoder, HistoryEncoder) or self.encoder.related is None:
            return self
        encoder, related = copy.copy(self.encoder), copy.copy(self.encoder.related)
        kept: list[CandidateSet] = []

        def candidates(keys: Keys, own: np.ndarray | None = None) -> CandidateSet:
            if not kept:
                kept.append(RelatedSongs.candidates(related, keys, own))
            found, index = kept[0], torch.arange(len(keys)) % len(kept[0].row)
            return CandidateSet(found.row[index], found.role[index], found.same_album[index])

        related.candidates = candidates  # type: ignore[assignment]
        encoder.related = related
        first, encode = encoder.encode(songs), encoder.encode
        if TABULAR_KNOWN in first:  # what trees read of known songs
            encoder.encode = lambda songs, *, training=False: {  # type: ignore[method-assign]
                **encode(songs, training=training),
                TABULAR_KNOWN: first[TABULAR_KNOWN][torch.arange(len(songs)) % len(first[TABULAR_KNOWN])],
            }
        return Model(self.module, encoder, self.samples)

    def mean(self, songs: pd.DataFrame) -> np.ndarray:
        """Predicted popularity ``(n,)`` in points. Tables of the same length get the same sampled histories."""
        return predict_songs(self.module, self.encoder, songs, samples=self.samples).mean

    def mean_of(self, songs: pd.DataFrame, encoded: Mapping[str, Tensor]) -> np.ndarray:
        """As :meth:`mean`, for songs that were encoded before."""
        encoder = copy.copy(self.encoder)
        encoder.encode = lambda songs, *, training=False: dict(encoded)  # type: ignore[method-assign]
        return predict_songs(self.module, encoder, songs, samples=self.samples).mean

    def predict_variants(self, songs: pd.DataFrame) -> Prediction:
        """Predict variants of one song. Each is predicted as if it were alone, so that all read the same samples.

        Args:
            songs: ``n`` variants; see :meth:`pinned`.
        """
        encoder, sample = copy.copy(self.encoder), self.encoder.sample

        def sample_each(
            rows: dict[str, Tensor], generator: torch.Generator, *, training: bool, samples: int
        ) -> dict[str, Tensor]:
            size = len(next(iter(rows.values())))
            each = [
                sample(
                    {name: value[index : index + 1] for name, value in rows.items()},
                    torch.Generator().manual_seed(0),
                    training=training,
                    samples=samples,
                )
                for index in range(size)
            ]
            return {name: _joined(name, [one[name] for one in each]) for name in each[0]}

        encoder.sample = sample_each  # type: ignore[method-assign]
        return predict_songs(self.module, encoder, songs, samples=self.samples)


def _joined(name: str, parts: list[Tensor]) -> Tensor:
    """Rows of several songs as one tensor; histories ``(1, D, H)`` are padded in front to the longest."""
    if parts[0].ndim < 3:
        return torch.cat(parts)
    longest = max(part.shape[-1] for part in parts)
    empty = NO_SONG if name == "role" else 0
    return torch.cat([F.pad(part, (longest - part.shape[-1], 0), value=empty) for part in parts])


def load_model(path: str | Path) -> tuple[Model, PopularityDataModule]:
    """The model of a checkpoint, on the CPU in single precision, and the data module it was trained with.

    Raises:
        InputError: as `popularity.inference.checkpoint.load_checkpoint`.
    """
    module, data = load_checkpoint(path)
    return Model(module.float(), data.encoder, int(data.hparams["samples"])), data


def load_own_songs(path: str | Path, data: PopularityDataModule) -> None:
    """Load and split the songs that a checkpoint was trained on.

    Raises:
        InputError: they are not there any more, or have changed since.
    """
    data.load()
    fitted, today = data.state_dict()["fingerprint"], data.fingerprint()
    if fitted.get("sha256") != today["sha256"]:
        source = data.hparams["source"]
        raise InputError(f"{path}: the songs of {source} have changed since this checkpoint was trained on them")
