"""Neural networks that read a song as one row, as scikit-learn estimators: an MLP, TabM and RealMLP.

``fit(rows, popularity, held_out=(rows, popularity))`` notes in ``epochs_`` the epoch with the smallest error on the
held-out songs; with ``epochs`` given, training ends after that many, with the learning rate of the longer schedule.
"""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from torch import Tensor, nn
from torch.nn import functional

from popularity.evaluation.estimators import prepared

HeldOut = tuple[pd.DataFrame, np.ndarray]

_BATCH = 256
_INPUT_DROPOUT = 0.2  # share of the inputs set to their mean in each step: the main regularisation


class Neural(RegressorMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """What the three have in common.

    Args:
        max_epochs: passes over the songs of the whole schedule.
        epochs: passes after which training ends; None: all, or chosen on the held-out songs.
        seed: of the weights, the order of the songs and dropout.
    """

    def __init__(self, max_epochs: int = 40, epochs: int | None = None, seed: int = 0) -> None:
        self.max_epochs = max_epochs
        self.epochs = epochs
        self.seed = seed

    def _inputs(self, rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(self.prepare_.transform(rows), dtype=np.float32)


class MLP(Neural):
    """Two hidden layers, trained by AdamW along a cosine."""

    learning_rate, weight_decay = 1e-3, 0.1

    def network(self, inputs: int) -> nn.Module:
        """A network from ``(batch, inputs)`` to ``(batch, members)``, each of them a prediction."""
        return nn.Sequential(
            *(nn.Linear(inputs, 256), nn.ReLU(), nn.Dropout(0.3)),
            *(nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.3)),
            nn.Linear(256, 1),
        )

    def fit(self, rows: pd.DataFrame, popularity: np.ndarray, held_out: HeldOut | None = None) -> Self:
        """Train; with held-out songs, note the best epoch."""
        self.prepare_ = prepared().fit(rows)
        inputs, target = torch.from_numpy(self._inputs(rows)), torch.from_numpy(popularity.astype(np.float32))
        self.mean_, self.scale_ = target.mean(), target.std().clamp_min(1e-6)
        target = ((target - self.mean_) / self.scale_).unsqueeze(1)
        errors = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network_ = self.network(inputs.shape[1])
            weights = self.network_.parameters()
            optimiser = torch.optim.AdamW(weights, self.learning_rate, weight_decay=self.weight_decay)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.max_epochs)
            for _ in range(self.epochs or self.max_epochs):
                self._epoch(inputs, target, optimiser)
                schedule.step()
                if held_out is not None:
                    errors.append(float(np.mean((self.predict(held_out[0]) - held_out[1]) ** 2)))
        self.epochs_ = int(np.argmin(errors)) + 1 if errors else self.epochs or self.max_epochs
        return self

    def _epoch(self, inputs: Tensor, target: Tensor, optimiser: torch.optim.Optimizer) -> None:
        self.network_.train()
        for chosen in torch.randperm(len(inputs)).split(_BATCH):
            optimiser.zero_grad()
            output = self.network_(functional.dropout(inputs[chosen], _INPUT_DROPOUT))
            # each member is trained on its own; with the mean alone they would rely on each other
            (output - target[chosen]).square().mean().backward()
            nn.utils.clip_grad_norm_(self.network_.parameters(), 1.0)
            optimiser.step()

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """Popularity of songs ``(n,)``, the mean of the members."""
        self.network_.eval()
        with torch.no_grad():
            prediction = self.network_(torch.from_numpy(self._inputs(rows))).mean(1) * self.scale_ + self.mean_
        return np.asarray(prediction.clamp(0, 100).double().numpy())


class TabM(MLP):
    """TabM (Gorishniy et al., 2025) by its authors' package: an MLP of 16 members that share most of their weights."""

    learning_rate, weight_decay = 2e-3, 3e-2

    def network(self, inputs: int) -> nn.Module:
        """TabM with a member per output."""
        net = import_module("tabm").TabM.make(
            n_num_features=inputs, d_out=1, k=16, n_blocks=2, d_block=160, dropout=0.2
        )
        return nn.Sequential(net, nn.Flatten(1))


class RealMLP(Neural):
    """RealMLP (Holzmueller et al., 2024) with the tuned defaults of its package, pytabkit, except for the epochs.

    On a few thousand songs the package's 256 epochs overfit before the learning rate has fallen.
    """

    def fit(self, rows: pd.DataFrame, popularity: np.ndarray, held_out: HeldOut | None = None) -> Self:
        """Train; with held-out songs, note the best epoch."""
        self.prepare_ = prepared().fit(rows)
        inputs, validation = self._inputs(rows), None
        more: dict[str, Any] = {"stop_epoch": self.epochs, "val_fraction": 0.0}
        if held_out is not None:
            validation, more = np.arange(len(rows), len(rows) + len(held_out[0])), {}
            inputs = np.concatenate([inputs, self._inputs(held_out[0])])
            popularity = np.concatenate([popularity, held_out[1]])
        with _quiet(), torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as scratch:
            settings = {"random_state": self.seed, "n_epochs": self.max_epochs, "tmp_folder": scratch, **more}
            settings |= {"device": "cpu", "n_cv": 1, "n_threads": torch.get_num_threads(), "verbosity": 0}
            model = import_module("pytabkit").RealMLP_TD_Regressor(**settings)
            self.model_ = model.fit(inputs, popularity, val_idxs=validation)
        self.epochs_ = self.epochs or int(next(iter(model.fit_params_["stop_epoch"].values())))
        return self

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """Popularity of songs ``(n,)``."""
        with _quiet():
            return np.asarray(self.model_.predict(self._inputs(rows)), dtype=np.float64)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the messages of pytabkit and Lightning about themselves: nothing in them can be changed here."""
    lightning = logging.getLogger("lightning.pytorch")
    level = lightning.level
    lightning.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        lightning.setLevel(level)
