"""Models that read a song as one row of numbers: what they have in common, and their search inside the training songs.

A family says how to make an estimator from parameters and which parameters to search. The search is nested: Optuna's
trials are scored on inner folds of the training songs, drawn by the rule of the split, with the information of each
inner fold made anew from its own fitted songs; the best parameters are then fitted to all training songs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, get_args

import numpy as np
import optuna
import pandas as pd
from optuna.trial import BaseTrial, FixedTrial

from popularity.errors import InputError
from popularity.evaluation.folds import Outcome, Task
from popularity.features.tabular import Amount, information, inner_folds

#: Inner folds of the search.
FOLDS = 3


@dataclass(frozen=True)
class Family:
    """One way to learn from rows of numbers.

    Attributes:
        make: (parameters, seed) to an estimator with ``fit(rows, popularity)`` and ``predict(rows)`` over tables that
            may miss values.
        space: an Optuna trial to parameters.
        defaults: parameters without a search, and the search's first trial.
        members: fits with different seeds whose mean is the prediction.
    """

    make: Callable[[dict[str, Any], int], Any]
    space: Callable[[BaseTrial], dict[str, Any]]
    defaults: dict[str, Any]
    members: int = 1


@dataclass(frozen=True)
class Tabular:
    """An entry of a family.

    Attributes:
        family: what is fitted.
        information: what it is told of a song, ``audio`` or ``everything``.
        trials: parameter settings tried inside the training songs; 0 takes the defaults.
    """

    family: Family
    information: Amount
    trials: int

    def __post_init__(self) -> None:
        check_amount(self.information)
        check_count("trials", self.trials, 0)

    def fit_predict(self, task: Task) -> Outcome:
        """Search, fit to all training songs and predict."""
        parameters = self._search(task) if self.trials else self.family.defaults
        rows, asked = information(task, self.information)
        popularity = task.train["popularity"].to_numpy(np.float64)
        prediction = np.zeros(len(asked))
        for seed in seeds(task, self.family.members):
            prediction += self._predict(parameters, seed, rows, popularity, asked) / self.family.members
        return Outcome(prediction, notes={"parameters": parameters, "columns": rows.shape[1]})

    def _predict(
        self, parameters: dict[str, Any], seed: int, rows: pd.DataFrame, popularity: np.ndarray, asked: pd.DataFrame
    ) -> np.ndarray:
        model = self.family.make(parameters, seed).fit(rows, popularity)
        return np.clip(np.asarray(model.predict(asked), dtype=np.float64), 0, 100)

    def _search(self, task: Task) -> dict[str, Any]:
        popularity = task.train["popularity"].to_numpy(np.float64)
        inner = inner_folds(task, FOLDS)
        parts = [(*information(task.part(*part), self.information), *part) for part in inner]
        (seed,) = seeds(task, 1)

        def objective(trial: BaseTrial) -> float:
            parameters = self.family.space(trial)
            errors = [
                np.mean((self._predict(parameters, seed, rows, popularity[fit], asked) - popularity[held_out]) ** 2)
                for rows, asked, fit, held_out in parts
            ]
            return float(np.mean(errors))

        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, self.trials // 3))
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line a trial would drown the progress of the jobs
        try:
            study = optuna.create_study(sampler=sampler)
            study.enqueue_trial(self.family.defaults)
            study.optimize(objective, n_trials=self.trials)
        finally:
            optuna.logging.set_verbosity(before)
        return self.family.space(FixedTrial(study.best_params))


def seeds(task: Task, count: int) -> list[int]:
    """Seeds for whatever a model draws on this task, each from 0 to 2**31 - 1."""
    drawn = np.random.SeedSequence([task.seed, task.repeat, task.fold]).generate_state(count)
    return [int(seed) & 0x7FFFFFFF for seed in drawn]


def check_amount(value: Any) -> None:
    """Refuse what is no amount of information."""
    if value not in get_args(Amount):
        raise InputError(f"information must be one of {', '.join(get_args(Amount))}, but is {value!r}")


def check_count(name: str, value: Any, least: int) -> None:
    """Refuse what is no whole number from ``least`` on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} must be a whole number from {least} on, but is {value!r}")


def needed(module: str) -> Any:
    """A module of the extra ``baselines``.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"{module} is missing: `pip install 'popularity[baselines]'`") from error
