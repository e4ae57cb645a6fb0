"""Estimators that scikit-learn does not have, and what makes estimators of a class."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from importlib import import_module
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline

from popularity.data.albums import first_artists
from popularity.features.prepared import prepared

#: (parameters, seed) to an estimator with ``fit(rows, popularity)`` and ``predict(rows)``.
Make = Callable[[dict[str, Any], int], Any]


def maker(class_path: str, before: Callable[[], Any] | None = None, **fixed: Any) -> Make:
    """What makes estimators of a class, imported when the first one is made.

    Args:
        class_path: where it is imported from.
        before: makes what prepares the rows; None: the estimator is given missing values as NaN.
        fixed: arguments beside the parameters; ``random_state``, if the class has one, is seeded unless given.
    """

    def make(parameters: dict[str, Any], seed: int) -> Any:
        module, _, name = class_path.rpartition(".")
        kind, arguments = getattr(import_module(module), name), _made(deepcopy(fixed))
        model = kind(**arguments)
        # some name it in their signature, others where scikit-learn asks for it
        known = {*inspect.signature(kind).parameters, *getattr(model, "get_params", dict)()}
        if "random_state" in known - fixed.keys():
            model = kind(**arguments, random_state=seed)
        if parameters:
            model.set_params(**parameters)
        return make_pipeline(before(), model) if before else model

    return make


def _made(value: Any) -> Any:
    """Estimators within another, each as ``{class_path: ..., init_args: {...}}``, as ensembles take them."""
    if isinstance(value, Mapping):
        made = {name: _made(one) for name, one in value.items()}
        return maker(str(made["class_path"]), **made.get("init_args", {}))({}, 0) if "class_path" in made else made
    return [_made(one) for one in value] if isinstance(value, list) else value


class Neighbours(KNeighborsRegressor):  # type: ignore[misc] # scikit-learn has no types
    """Nearest neighbours: as many as there are songs, where there are fewer than asked for."""

    def fit(self, X: Any, y: Any) -> Self:
        """Fit."""
        self.n_neighbors = min(int(self.get_params()["n_neighbors"]), len(y))
        super().fit(X, y)
        return self


class ArtistMean(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """The mean of the first artist's songs, shrunk towards the mean of all songs (James and Stein, 1961).

    With :math:`n` known songs of mean :math:`a` and the mean :math:`m` of all songs the prediction is
    :math:`m + (a - m) n / (n + s)`, with the shrinkage :math:`s`: the variance within artists over that between them.
    """

    def __init__(self, shrinkage: float = 1.0) -> None:
        self.shrinkage = shrinkage

    def fit(self, songs: pd.DataFrame, popularity: np.ndarray) -> Self:
        """Fit to a song table."""
        self.mean_ = float(popularity.mean())
        residuals = pd.Series(popularity - self.mean_, first_artists(songs))
        self.known_ = residuals.groupby(level=0).agg(["sum", "size"])
        return self

    def predict(self, songs: pd.DataFrame) -> np.ndarray:
        """Popularity of songs ``(n,)``."""
        found = self.known_.reindex(first_artists(songs)).fillna(0.0)
        return np.asarray(self.mean_ + found["sum"] / (found["size"] + self.shrinkage))


class Net(RegressorMixin, BaseEstimator):  # type: ignore[misc]
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
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
