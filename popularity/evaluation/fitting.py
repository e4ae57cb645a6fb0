"""Baselines are searched and fitted inside the training songs of a task."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna

from popularity.evaluation.baselines import Baseline
from popularity.evaluation.folds import Outcome, Rows, Task
from popularity.features.trees import MOST_TREES

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
