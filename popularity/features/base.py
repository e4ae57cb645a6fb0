"""What every encoder of songs has in common, and the sizes it promises to a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

#: Pairs of row numbers of the training songs: to fit on, and held out by the rule of the split.
Folds = Sequence[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Inputs:
    """Sizes of the tensors in a batch, for which a network is built; 0 or empty where an encoder has no such tensor.

    Attributes:
        song: ``S``, numbers of a song vector.
        numbers: the first numbers of a song vector, which do not come from texts.
        plain: the first of these, which are numbers as they are, and whether they are missing, but no bins.
        components: the last numbers of a song vector, components of n-grams.
        extras: ``E``, scores beside the song vector.
        numeric: ``F``, numeric features.
        bins: ``K``, bins of the piecewise-linear encoding.
        title: ``T``, title statistics.
        codes: number of codes of each category, the unknown (0) included.
        columns: raw columns.
        trees: 1 where songs outside training come with a prediction of boosted trees, ``tree``, for the calibration.
    """

    song: int = 0
    numbers: int = 0
    plain: int = 0
    components: int = 0
    extras: int = 0
    numeric: int = 0
    bins: int = 0
    title: int = 0
    codes: tuple[int, ...] = ()
    columns: int = 0
    trees: int = 0


class Encoder(ABC):
    """From a song table to named tensors, fitted on training songs; a checkpoint carries its state.

    The popularity of a song is never read to encode that song.

    Attributes:
        padded: names of sampled tensors ``(n, D, H)`` that are padded in front.
        folds: inner folds that :meth:`fit` is given, where the songs have enough groups.
    """

    padded: tuple[str, ...] = ()
    folds: int = 5

    @property
    @abstractmethod
    def inputs(self) -> Inputs:
        """Sizes of the tensors in a batch; known before :meth:`fit`."""

    @abstractmethod
    def fit(self, songs: pd.DataFrame, folds: Folds = (), *, earlier: bool = False) -> None:
        """Learn from training songs.

        Args:
            songs: ``N`` training songs, with popularity.
            folds: inner folds of these songs by the rule of the split, for what must not see the songs it is used on.
            earlier: only songs released before a song may tell something about it (split ``time``).
        """

    @abstractmethod
    def encode(self, songs: pd.DataFrame, *, training: bool = False) -> dict[str, Tensor]:
        """Encode ``n`` songs as tensors of length ``n``.

        Args:
            songs: ``n`` songs.
            training: they are the very songs of :meth:`fit`, in its order.
        """

    def sample(
        self, rows: dict[str, Tensor], generator: torch.Generator, *, training: bool, samples: int
    ) -> dict[str, Tensor]:
        """Sample what is random in encoded rows, anew at each call.

        Args:
            rows: encoded songs.
            generator: of all randomness.
            training: as in :meth:`encode`.
            samples: histories sampled per song in training.

        Returns:
            The rows; where something was sampled with ``length`` ``(n)``, the places of :attr:`padded` tensors in use.
        """
        return rows

    def attach(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Complete a batch by what is looked up per batch, such as the features of known songs."""
        return batch

    def knowing(self, songs: pd.DataFrame) -> Encoder:
        """An encoder that knows some more songs, but has learned nothing else from them; itself where none are known.

        Args:
            songs: with popularity, which is read in the histories of others.
        """
        return self

    def known_artists(self, songs: pd.DataFrame) -> tuple[int, int] | None:
        """First-named artists of songs that have known songs, and all of them; None where no songs are remembered."""
        return None

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that was learned, as tensors and plain Python; empty before :meth:`fit`."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
