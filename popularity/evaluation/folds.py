"""What a model is given to be judged, and what it gives back; the answers stay with the referee."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from popularity.data.splits import SplitKind, inner_folds, make_split
from popularity.errors import InputError
from popularity.features.tabular import TabularFeatures

#: (rows to fit to, rows held out), sorted row numbers.
Part = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """Songs to learn from and songs to predict: all that a model is given."""

    train: pd.DataFrame  # canonical song table with popularity, index 0 to n_train - 1
    test: pd.DataFrame  # the same columns, index 0 to n_test - 1; `popularity` is missing in every row
    split: SplitKind = "random"  # the rule by which the test songs were held out
    seed: int = 0  # for whatever the model samples; seed of the comparison + repeat
    repeat: int = 0
    fold: int = 0

    @property
    def popularity(self) -> np.ndarray:
        """(n_train,) popularity of the training songs."""
        return np.asarray(self.train["popularity"], dtype=np.float64)

    def inner(self, folds: int) -> list[Part]:
        """Folds of the training songs by the same rule, to choose settings by; fewer where there are too few groups.

        Raises:
            InputError: the training songs cannot be split.
        """
        parts = inner_folds(self.train, self.split, folds, self._inner_seed)
        if not parts:
            raise InputError(f"the {len(self.train):,} training songs cannot be split by the rule {self.split}")
        return parts

    def part(self, fit: np.ndarray, held_out: np.ndarray) -> Task:
        """The task of predicting some of the training songs from others, for a fold of :meth:`inner`."""
        test = _take(self.train, held_out).assign(popularity=np.nan)
        return Task(_take(self.train, fit), test, self.split, self.seed, self.repeat, self.fold)

    def features(self, feature_set: str) -> TabularFeatures:
        """An unfitted transformer whose inner folds follow the rule of this task."""
        return TabularFeatures(feature_set, self.split, self._inner_seed)  # type: ignore[arg-type] # checked when fitted

    def seeds(self, count: int) -> list[int]:
        """Seeds for whatever a model samples on this task, each from 0 to 2**31 - 1."""
        seeds = np.random.SeedSequence([self.seed, self.repeat, self.fold]).generate_state(count)
        return [int(seed) & 0x7FFFFFFF for seed in seeds]

    @property
    def _inner_seed(self) -> int:
        # the same for every model, and unrelated to the seed that held out the test songs
        return int(np.random.SeedSequence([self.seed, self.fold, 0]).generate_state(1)[0])


class Rows:
    """Tables that an estimator reads of a task, kept: tabular features, or without a feature set the song table."""

    def __init__(self, task: Task, feature_set: str | None) -> None:
        self.task = task
        self.feature_set = feature_set
        self._parts: dict[int, list[tuple[Rows, Part]]] = {}

    @cached_property
    def _features(self) -> TabularFeatures | None:
        return None if self.feature_set is None else self.task.features(self.feature_set)

    @cached_property
    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The rows of the training songs, made out of fold, and of the test songs."""
        if self._features is None:
            return self.task.train.drop(columns="popularity"), self.task.test.drop(columns="popularity")
        return self._features.fit_transform(self.task.train), self._features.transform(self.task.test)

    def read(self, songs: pd.DataFrame) -> pd.DataFrame:
        """The rows of other new songs, after :attr:`tables`."""
        return songs.drop(columns="popularity") if self._features is None else self._features.transform(songs)

    def parts(self, folds: int) -> list[tuple[Rows, Part]]:
        """The same for the inner folds; no row of a fold rests on the labels that it holds out."""
        if folds not in self._parts:
            inner = self.task.inner(folds)
            self._parts[folds] = [(Rows(self.task.part(*part), self.feature_set), part) for part in inner]
        return self._parts[folds]


@dataclass(frozen=True)
class Outcome:
    """What a model says about the test songs: (n_test,) points, and notes such as chosen settings, in types of JSON.

    A model that predicts a distribution also says (100, n_test) P(popularity >= c) for c = 1 to 100, and the ends
    (shares, 2, n_test) of its intervals. One without may know (m,) residuals of fits like it on held-out training
    songs, from its search.
    """

    prediction: np.ndarray
    at_least: np.ndarray | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    residuals: np.ndarray | None = None
    intervals: np.ndarray | None = None


@dataclass(frozen=True)
class Fold:
    """A task and, for the referee, (n_test,) row numbers of its test songs in the whole table and their popularity."""

    task: Task
    rows: np.ndarray
    answers: np.ndarray


def make_fold(songs: pd.DataFrame, split: SplitKind, *, folds: int, repeat: int, fold: int, seed: int) -> Fold:
    """Hold out a fold: the folds of repeat r are made with seed + r.

    Songs come in random order, since in some files the order tells the label.

    Raises:
        InputError: the songs cannot be split this way.
    """
    parts = make_split(songs, split, folds=folds, fold=fold, seed=seed + repeat, validation=0)
    if len(parts.test) < 2:
        raise InputError(f"--folds {folds}: fold {fold} has one song to test on, too few to score: ask for fewer folds")
    rng = np.random.default_rng([seed + repeat, fold])
    train, test = rng.permutation(parts.train), rng.permutation(parts.test)
    answers = songs["popularity"].to_numpy(np.float64)[test]
    task = Task(_take(songs, train), _take(songs, test).assign(popularity=np.nan), split, seed + repeat, repeat, fold)
    return Fold(task, test, answers)


def _take(songs: pd.DataFrame, rows: np.ndarray | Sequence[int]) -> pd.DataFrame:
    return songs.iloc[rows].reset_index(drop=True)
