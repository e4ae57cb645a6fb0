"""What a model is given to be judged, and what it gives back; test labels stay with the referee."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from popularity.data.splits import SplitKind, make_split


@dataclass(frozen=True)
class Task:
    """Songs to learn from and songs to predict: all that a model is given.

    Attributes:
        train: canonical song table with popularity, index 0 to n_train - 1.
        test: the same columns, index 0 to n_test - 1; `popularity` is missing in every row.
        split: the rule by which the test songs were held out.
        seed: for whatever the model draws; seed of the comparison + repeat.
        repeat: which drawing of the folds.
        fold: which of its folds.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    split: SplitKind = "random"
    seed: int = 0
    repeat: int = 0
    fold: int = 0

    def inner(self, folds: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
        """Folds of the training songs by the same rule, to choose settings by.

        Args:
            folds: how many; `time` has one less, and each of its parts is fitted to older songs alone.
            seed: of this drawing; other tasks draw other folds for the same seed.

        Returns:
            (rows to fit on, rows held out), sorted row numbers into `train`, for each fold.

        Raises:
            InputError: the training songs cannot be split so.
        """
        # the same everywhere, and unrelated to the seed that drew the test songs
        drawn = int(np.random.SeedSequence([self.seed, self.fold, seed]).generate_state(1)[0])
        count = folds - 1 if self.split == "time" else folds
        parts = [
            make_split(self.train, self.split, folds=folds, fold=fold, seed=drawn, validation=0)
            for fold in range(count)
        ]
        return [(part.train, part.test) for part in parts]

    def part(self, fit: np.ndarray, held_out: np.ndarray) -> Task:
        """The task of predicting some of the training songs from others, for a fold of :meth:`inner`."""
        test = _take(self.train, held_out).assign(popularity=np.nan)
        return Task(_take(self.train, fit), test, self.split, self.seed, self.repeat, self.fold)


@dataclass(frozen=True)
class Outcome:
    """What a model says of the test songs.

    Attributes:
        prediction: (n_test,) popularity points.
        cutoffs: from a model that has a distribution: cut-off to P(popularity >= cut-off), (n_test,), best for every
            whole number from 1 to 100; between two of them the referee interpolates.
        notes: chosen settings, epochs and the like, of types that JSON knows.
    """

    prediction: np.ndarray
    cutoffs: dict[float, np.ndarray] | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fold:
    """A task and, for the referee, its answers.

    Attributes:
        task: what the model is given.
        rows: (n_test,) row numbers of `task.test` in the whole table.
        answers: (n_test,) popularity of the test songs.
    """

    task: Task
    rows: np.ndarray
    answers: np.ndarray


def draw_fold(songs: pd.DataFrame, split: SplitKind, *, folds: int, repeat: int, fold: int, seed: int) -> Fold:
    """Hold out a fold: repeat r draws its folds from seed + r.

    Songs come in an order drawn at random, since in some files the order tells the label.

    Raises:
        InputError: the songs cannot be split so.
    """
    parts = make_split(songs, split, folds=folds, fold=fold, seed=seed + repeat, validation=0)
    rng = np.random.default_rng([seed + repeat, fold])
    train, test = rng.permutation(parts.train), rng.permutation(parts.test)
    answers = songs["popularity"].to_numpy(np.float64)[test]
    task = Task(_take(songs, train), _take(songs, test).assign(popularity=np.nan), split, seed + repeat, repeat, fold)
    return Fold(task, test, answers)


def _take(songs: pd.DataFrame, rows: np.ndarray | Sequence[int]) -> pd.DataFrame:
    return songs.iloc[rows].reset_index(drop=True)
