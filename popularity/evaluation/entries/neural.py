"""Neural networks that read a song as one row: an MLP, TabM and RealMLP.

The number of epochs is chosen on songs held out of the training songs by the rule of the split; the network that is
judged is then trained anew on all of them for as long.
"""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from popularity.evaluation.entries.prepared import prepared
from popularity.evaluation.entries.tabular import check_amount, check_count, needed, seeds
from popularity.evaluation.folds import Outcome, Task
from popularity.features.tabular import Amount, information, inner_folds

#: One inner fold of so many is held out to choose the number of epochs.
FOLDS = 6


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        make: number of inputs to a network from ``(batch, inputs)`` to ``(batch, members)``, each a prediction.
        epochs: most passes over the songs.
        learning_rate: of AdamW, at first; it falls to 0 along a cosine over all ``epochs``.
        weight_decay: of AdamW.
        blank: share of the inputs that are set to their mean in each step, the main brake on learning by heart.
        batch: songs in a step.
    """

    make: Callable[[int], nn.Module]
    epochs: int
    learning_rate: float
    weight_decay: float
    blank: float
    batch: int = 256


@dataclass(frozen=True)
class Neural:
    """An entry of a recipe.

    Attributes:
        recipe: network and training.
        information: what it is told of a song, ``audio`` or ``everything``.
    """

    recipe: Recipe
    information: Amount

    def __post_init__(self) -> None:
        check_amount(self.information)
        check_count("epochs", self.recipe.epochs, 1)

    def fit_predict(self, task: Task) -> Outcome:
        """Choose the number of epochs, train on all training songs and predict."""
        fit, held_out = inner_folds(task, FOLDS)[0]
        popularity = task.train["popularity"].to_numpy(np.float64)
        seed, again = seeds(task, 2)
        part = task.part(fit, held_out)
        errors = [
            float(np.mean((prediction - popularity[held_out]) ** 2))
            for prediction in _trained(self.recipe, self.information, part, seed, self.recipe.epochs)
        ]
        epochs = int(np.argmin(errors)) + 1
        *_, prediction = _trained(self.recipe, self.information, task, again, epochs)
        return Outcome(prediction, notes={"epochs": epochs})


def _matrices(task: Task, amount: Amount) -> tuple[Tensor, Tensor]:
    """Standardised inputs of the training and the test songs, float32."""
    rows, asked = information(task, amount)
    prepare = prepared().fit(rows)
    inputs, queries = (torch.from_numpy(prepare.transform(table).astype(np.float32)) for table in (rows, asked))
    return inputs, queries


def _trained(recipe: Recipe, amount: Amount, task: Task, seed: int, epochs: int) -> Iterator[np.ndarray]:
    """Train; after each of ``epochs`` passes, the prediction of the test songs ``(n_test,)``."""
    inputs, queries = _matrices(task, amount)
    popularity = torch.from_numpy(task.train["popularity"].to_numpy(np.float32, copy=True))
    level, spread = popularity.mean(), popularity.std().clamp_min(1e-6)
    target = ((popularity - level) / spread).unsqueeze(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = recipe.make(inputs.shape[1])
        optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.epochs)
        for _ in range(epochs):
            network.train()
            for chosen in torch.randperm(len(inputs)).split(recipe.batch):
                optimiser.zero_grad()
                output = network(functional.dropout(inputs[chosen], recipe.blank))
                # each member is trained on its own; the mean alone would let them lean on each other
                (output - target[chosen]).square().mean().backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
            schedule.step()
            network.eval()
            with torch.no_grad():
                prediction = (network(queries).mean(1) * spread + level).clamp(0, 100)
            yield prediction.double().numpy()


def mlp(information: Amount = "everything", epochs: int = 40) -> Neural:
    """Two hidden layers."""

    def make(inputs: int) -> nn.Module:
        return nn.Sequential(
            *(nn.Linear(inputs, 256), nn.ReLU(), nn.Dropout(0.3)),
            *(nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.3)),
            nn.Linear(256, 1),
        )

    return Neural(Recipe(make, epochs, learning_rate=1e-3, weight_decay=0.1, blank=0.2), information)


def tabm(information: Amount = "everything", epochs: int = 30) -> Neural:
    """TabM (Gorishniy et al., 2025), the authors' package: an MLP of 16 members that share most of their weights."""
    package = needed("tabm")

    class Network(nn.Module):
        def __init__(self, inputs: int) -> None:
            super().__init__()
            self.net = package.TabM.make(n_num_features=inputs, d_out=1, k=16, n_blocks=2, d_block=160, dropout=0.2)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).squeeze(-1)

    return Neural(Recipe(Network, epochs, learning_rate=2e-3, weight_decay=3e-2, blank=0.2), information)


class RealMLP:
    """RealMLP (Holzmueller et al., 2024) with the tuned defaults of its package, pytabkit, but for the epochs.

    On a few thousand songs the package's 256 epochs learn by heart before the learning rate has fallen.

    Args:
        information: ``audio`` or ``everything``.
        epochs: passes over the songs.
    """

    def __init__(self, information: Amount = "everything", epochs: int = 32) -> None:
        check_amount(information)
        check_count("epochs", epochs, 1)
        self.information: Amount = information
        self.epochs = epochs
        with _quiet():
            self.package = needed("pytabkit")

    def fit_predict(self, task: Task) -> Outcome:
        """Choose the epoch on songs held out of the training songs, train on all of them until then and predict."""
        popularity = task.train["popularity"].to_numpy(np.float64)
        fit, held_out = inner_folds(task, FOLDS)[0]
        seed, again = seeds(task, 2)
        # the rows of an inner task know nothing of the songs that it holds out
        rows, asked = _matrices(task.part(fit, held_out), self.information)
        both = np.concatenate([rows.numpy(), asked.numpy()])
        answers = popularity[np.concatenate([fit, held_out])]
        chosen = self._fitted(both, answers, seed, val_idxs=np.arange(len(fit), len(both)))
        (epoch,) = chosen.fit_params_["stop_epoch"].values()
        inputs, queries = _matrices(task, self.information)
        model = self._fitted(inputs.numpy(), popularity, again, stop_epoch=epoch, val_fraction=0.0)
        with _quiet():
            prediction = np.asarray(model.predict(queries.numpy()), dtype=np.float64)
        return Outcome(np.clip(prediction, 0, 100), notes={"epochs": int(epoch)})

    def _fitted(
        self, inputs: np.ndarray, popularity: np.ndarray, seed: int, val_idxs: np.ndarray | None = None, **more: Any
    ) -> Any:
        with _quiet(), torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as scratch:
            model = self.package.RealMLP_TD_Regressor(
                device="cpu", random_state=seed, n_cv=1, n_threads=torch.get_num_threads(), n_epochs=self.epochs,
                tmp_folder=scratch, verbosity=0, **more,
            )  # fmt: skip
            return model.fit(inputs, popularity, val_idxs=val_idxs)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what pytabkit and Lightning say of themselves: nothing of it can be mended here."""
    lightning = logging.getLogger("lightning.pytorch")
    level = lightning.level
    lightning.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        lightning.setLevel(level)


realmlp = RealMLP
