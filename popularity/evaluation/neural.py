"""Neural networks of other projects that read a song as one row, as scikit-learn estimators: RealMLP and TabM."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, RegressorMixin

from popularity.evaluation.estimators import prepared


class Net(RegressorMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """A network of pytabkit, its training stopped where the error on held-out songs is smallest.

    Args:
        estimator: name of an estimator of pytabkit, such as ``RealMLP_TD``, without ``_Regressor``.
        settings: its arguments; the others have the values of its authors.
        trials: settings tried at random in TabArena's space, on the same held-out songs; 0 for `settings` alone.
        seed: of the weights, the order of the songs, dropout and the trials.
    """

    def __init__(self, estimator: str, settings: dict[str, Any] | None = None, trials: int = 0, seed: int = 0) -> None:
        self.estimator = estimator
        self.settings = settings
        self.trials = trials
        self.seed = seed

    def fit(self, rows: pd.DataFrame, popularity: np.ndarray, held_out: tuple[pd.DataFrame, np.ndarray]) -> Self:
        """Train on rows, and watch the error on others."""
        self.prepare_ = prepared().fit(rows)
        inputs = np.concatenate([self._inputs(rows), self._inputs(held_out[0])])
        name, settings = self.estimator, dict(self.settings or {})
        if self.trials:
            name = f"{name.partition('_')[0]}_HPO"
            settings = {"n_hyperopt_steps": self.trials, "hpo_space_name": "tabarena"}
        with _quiet(), torch.random.fork_rng(devices=[]):
            settings |= {"device": "cpu", "n_threads": torch.get_num_threads(), "random_state": self.seed, "n_cv": 1}
            model = getattr(import_module("pytabkit"), f"{name}_Regressor")(**settings)
            answers, watched = np.concatenate([popularity, held_out[1]]), np.arange(len(rows), len(inputs))
            self.model_ = model.fit(inputs, answers, val_idxs=watched)
        return self

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """Popularity of songs ``(n,)``."""
        with _quiet():
            return np.asarray(self.model_.predict(self._inputs(rows)), dtype=np.float64).ravel()

    def _inputs(self, rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(self.prepare_.transform(rows), dtype=np.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the messages of pytabkit and Lightning about themselves: nothing in them can be changed here."""
    logging.disable(logging.WARNING)  # not by its level, which Lightning sets when it is imported
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
