"""Baselines are searched and fitted, and stacks are mixed, inside the training songs of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from scipy.optimize import nnls

from popularity.evaluation.baselines import MOST_TREES, Baseline
from popularity.evaluation.folds import Outcome, Rows, Task

#: Inner folds of a search, of members that stop early (each holds out one), of estimators that choose something.
SEARCH_FOLDS, BAG_FOLDS, CV_FOLDS = 3, 6, 5


def fit_baseline(row: Baseline, feature_set: str | None, trials: int, task: Task) -> Outcome:
    """Search (with 0 trials: take the defaults), fit to the training songs and predict.

    `feature_set` is what it reads; None: song tables.
    """
    rows = Rows(task, feature_set)
    seeds, parameters, residuals = task.seeds(max(2, row.members)), dict(row.defaults), None
    if row.bagged:
        return _bagged(row, rows, trials, seeds[: row.members])
    if trials:
        parameters, residuals = _search(row, rows, trials, seeds[0])
    train, test = rows.tables
    models = [_made(row, parameters, seed, task).fit(train, task.popularity) for seed in seeds[: row.members]]
    prediction = sum(_clipped(model.predict(test)) / len(models) for model in models)
    return Outcome(np.asarray(prediction), notes={"parameters": parameters}, residuals=residuals)


def _made(row: Baseline, parameters: dict[str, Any], seed: int, task: Task) -> Any:
    model = row.make(parameters, seed)
    for key in getattr(model, "get_params", dict)():
        if key == "cv" or key.endswith("__cv"):  # whatever it chooses, it chooses by the rule of the split
            model.set_params(**{key: task.inner(CV_FOLDS)})
    return model


def _clipped(prediction: Any) -> np.ndarray:
    return np.clip(np.asarray(prediction, dtype=np.float64), 0, 100)


def _bagged(row: Baseline, rows: Rows, trials: int, seeds: list[int]) -> Outcome:
    """The mean of members, each fitted to all inner folds but one, on which it stops early."""
    predictions, residuals = [], []
    for seed, (part, (_, held_out)) in zip(seeds, rows.parts(BAG_FOLDS), strict=False):
        train, watched = part.tables
        model = row.make({**row.defaults, "trials": trials, "seed": seed}, seed)
        answers = rows.task.popularity[held_out]
        model.fit(train, part.task.popularity, (watched, answers))
        residuals.append(answers - _clipped(model.predict(watched)))
        predictions.append(_clipped(model.predict(part.read(rows.task.test))))
    return Outcome(np.asarray(np.mean(predictions, axis=0)), residuals=np.concatenate(residuals))


def _search(row: Baseline, rows: Rows, trials: int, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """The best parameters by mean squared error over inner folds, and their residuals on the held-out songs.

    Features are made anew for each fold. The number of trees is no parameter of the search: each fit stops early on its
    held-out fold, and the mean of these numbers is taken.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line per trial would drown the progress of the runs
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, trials // 3)))
    study.enqueue_trial({name: row.defaults[name] for name in row.space})
    found: dict[int, np.ndarray] = {}
    for _ in range(trials):
        trial = study.ask(dict(row.space))
        parameters = {**row.defaults, **trial.params, **({row.trees: MOST_TREES} if row.watch else {})}
        residuals, trees = [], []
        for part, (_, held_out) in rows.parts(SEARCH_FOLDS):
            (train, test), answers = part.tables, rows.task.popularity[held_out]
            model = _made(row, parameters, seed, part.task)
            if row.watch:
                trees.append(row.watch(model, train, part.task.popularity, (test, answers)))
            else:
                model.fit(train, part.task.popularity)
            residuals.append(answers - _clipped(model.predict(test)))
        trial.set_user_attr("trees", {row.trees: round(np.mean(trees))} if trees else {})
        found[trial.number] = np.concatenate(residuals)
        study.tell(trial, float(np.mean([np.mean(of_fold**2) for of_fold in residuals])))
    best = study.best_trial
    return {**row.defaults, **best.params, **best.user_attrs["trees"]}, found[best.number]


def fit_stack(members: Mapping[str, Callable[[Task], Outcome]], folds: int, task: Task) -> Outcome:
    """Stacking (Wolpert, 1992) with non-negative weights (Breiman, 1996, "Stacked Regressions").

    Each member predicts inner folds of the training songs by the rule of the split; the weights are those of
    least squares on these predictions. Then each is fitted to all songs.
    """

    def predictions(of: Task) -> np.ndarray:
        return np.stack([_clipped(fit(of).prediction) for fit in members.values()], axis=1)

    inner = np.full((len(task.train), len(members)), np.nan)
    for fit, held_out in task.inner(folds):
        inner[held_out] = predictions(task.part(fit, held_out))
    known = np.isfinite(inner).all(1)  # under `time` the oldest songs are never held out
    weights = mixing_weights(inner[known], task.popularity[known])
    notes = {"weights": dict(zip(members, weights.tolist(), strict=True))}
    return Outcome(predictions(task) @ weights, None, notes, task.popularity[known] - inner[known] @ weights)


def mixing_weights(predictions: np.ndarray, answers: np.ndarray, caution: float = 0.02) -> np.ndarray:
    """Non-negative weights that sum to 1 and mix predictions ``(n, members)`` with the smallest squared error.

    `caution` is the pull towards equal weights, in units of the mean squared error of the plain mean.
    """
    members = predictions.shape[1]
    equal, pull = np.full(members, 1 / members), np.sqrt(caution * members)
    errors = predictions - answers[:, None]
    scale = np.sqrt(len(errors) * (float(np.mean((errors @ equal) ** 2)) + 1e-12))
    # w minimises |errors w|^2 subject to sum(w) = 1: the last row penalises any other sum
    matrix = np.concatenate([errors / scale, pull * np.eye(members), np.full((1, members), 1e4)])
    weights, _ = nnls(matrix, np.concatenate([np.zeros(len(errors)), pull * equal, [1e4]]))
    return np.asarray(weights / weights.sum())
