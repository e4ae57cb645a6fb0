"""Baselines are searched and fitted, and stacks are mixed, inside the training songs of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
import pandas as pd
from scipy.optimize import nnls

from popularity.evaluation.baselines import Baseline
from popularity.evaluation.folds import Outcome, Rows, Task

#: Inner folds of a search, of the choice of epochs (one is held out), of estimators that choose something themselves.
SEARCH_FOLDS, EPOCH_FOLDS, CV_FOLDS = 3, 6, 5


def fit_baseline(row: Baseline, feature_set: str | None, trials: int, epochs: int, task: Task) -> Outcome:
    """Search, fit to all training songs and predict.

    Args:
        row: what is fitted.
        feature_set: what it reads; None: song tables.
        trials: parameter settings tried inside the training songs; 0 takes the defaults.
        epochs: maximum number of epochs; 0 for estimators without any.
        task: the songs.
    """
    rows = Rows(task, feature_set)
    seeds = task.seeds(max(2, row.members))
    parameters, final = dict(row.defaults), seeds[: row.members]
    if trials:
        parameters = _search(row, rows, trials, seeds[0])
    if epochs:  # with another seed than that of the choice
        parameters, final = {"max_epochs": epochs, "epochs": _best_epoch(row, rows, epochs, seeds[0])}, seeds[1:2]
    train, test = rows.tables
    models = [_fitted(row, parameters, seed, train, task) for seed in final]
    prediction = sum(_clipped(model.predict(test)) / len(models) for model in models)
    return Outcome(np.asarray(prediction), notes={"parameters": parameters})


def _fitted(row: Baseline, parameters: dict[str, Any], seed: int, rows: pd.DataFrame, task: Task, **more: Any) -> Any:
    model = row.make(parameters, seed)
    for key in getattr(model, "get_params", dict)():
        if key == "cv" or key.endswith("__cv"):  # whatever it chooses, it chooses by the rule of the split
            model.set_params(**{key: task.inner(CV_FOLDS)})
    return model.fit(rows, task.popularity, **more)


def _clipped(prediction: Any) -> np.ndarray:
    return np.clip(np.asarray(prediction, dtype=np.float64), 0, 100)


def _best_epoch(row: Baseline, rows: Rows, epochs: int, seed: int) -> int:
    part, (_, held_out) = rows.parts(EPOCH_FOLDS)[0]
    train, test = part.tables
    watched = (test, rows.task.popularity[held_out])
    return int(_fitted(row, {"max_epochs": epochs}, seed, train, part.task, held_out=watched).epochs_)


def _search(row: Baseline, rows: Rows, trials: int, seed: int) -> dict[str, Any]:
    """The best parameters by mean squared error over inner folds, whose features are made anew for each fold."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line per trial would drown the progress of the runs
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, trials // 3)))
    study.enqueue_trial(dict(row.defaults))
    for _ in range(trials):
        trial = study.ask(dict(row.space))
        errors = []
        for part, (_, held_out) in rows.parts(SEARCH_FOLDS):
            train, test = part.tables
            prediction = _clipped(_fitted(row, trial.params, seed, train, part.task).predict(test))
            errors.append(np.mean((prediction - rows.task.popularity[held_out]) ** 2))
        study.tell(trial, float(np.mean(errors)))
    return dict(study.best_params)


def fit_stack(members: Mapping[str, Callable[[Task], Outcome]], folds: int, task: Task) -> Outcome:
    """Stacking (Wolpert, 1992) with non-negative weights (Breiman, 1996, "Stacked Regressions").

    Each member predicts inner folds of the training songs by the rule of the split; the weights are those of
    least squares on these predictions. Then each is fitted to all songs.

    Args:
        members: name -> what fits to a task and predicts it.
        folds: inner folds; each costs a fit of each member.
        task: the songs.
    """

    def predictions(of: Task) -> np.ndarray:
        return np.stack([_clipped(fit(of).prediction) for fit in members.values()], axis=1)

    inner = np.full((len(task.train), len(members)), np.nan)
    for fit, held_out in task.inner(folds):
        inner[held_out] = predictions(task.part(fit, held_out))
    known = np.isfinite(inner).all(1)  # under `time` the oldest songs are never held out
    weights = mixing_weights(inner[known], task.popularity[known])
    return Outcome(predictions(task) @ weights, notes={"weights": dict(zip(members, weights.tolist(), strict=True))})


def mixing_weights(predictions: np.ndarray, answers: np.ndarray, caution: float = 0.02) -> np.ndarray:
    """Non-negative weights that sum to 1 and mix predictions with the smallest squared error.

    Args:
        predictions: ``(n, members)``.
        answers: ``(n,)``.
        caution: pull towards equal weights, in units of the mean squared error of the plain mean.
    """
    members = predictions.shape[1]
    equal, pull = np.full(members, 1 / members), np.sqrt(caution * members)
    errors = predictions - answers[:, None]
    scale = np.sqrt(len(errors) * (float(np.mean((errors @ equal) ** 2)) + 1e-12))
    # w minimises |errors w|^2 subject to sum(w) = 1: the last row penalises any other sum
    matrix = np.concatenate([errors / scale, pull * np.eye(members), np.full((1, members), 1e4)])
    weights, _ = nnls(matrix, np.concatenate([np.zeros(len(errors)), pull * equal, [1e4]]))
    return np.asarray(weights / weights.sum())
