"""What a search shows and leaves behind: progress, best.yaml, study.csv, plots, and TensorBoard's HPARAMS tab."""

from __future__ import annotations

import statistics
import time
from datetime import timedelta
from typing import Any

import optuna
import pandas as pd
import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from optuna import visualization
from optuna.trial import FrozenTrial, TrialState

from popularity.io import write_atomically
from popularity.training.callbacks import BestSoFar
from popularity.training.fit import fit_parser
from popularity.training.tensorboard import flat
from popularity.tuning.space import Search
from popularity.tuning.study import FINISHED, NOTE, WORKER
from popularity.tuning.trial import trial_config


def progress(search: Search, study: optuna.Study, trial: FrozenTrial) -> str:
    """One line: a trial's result, the best so far, how many trials are done, and how long the others take."""
    trials, best = study.get_trials(deepcopy=False), best_trials(search, study)
    finished = [one for one in trials if one.state in FINISHED]
    result = _values(search, trial) if trial.state == TrialState.COMPLETE else trial.user_attrs.get(NOTE)
    told = f"trial {trial.number}: {result}; {len(finished)} of {search.options.trials} done"
    if best:
        told += f"; best {_values(search, best[0])} (trial {best[0].number})"
    mean = statistics.fmean(one.duration.total_seconds() for one in finished if one.duration)
    workers = 1 + sum(one.state == TrialState.RUNNING for one in trials)
    seconds = min((search.options.trials - len(finished)) * mean / workers, search.deadline - time.time())
    return f"{told}; about {timedelta(seconds=round(seconds))} left" if seconds > 0 else told


def _values(search: Search, trial: FrozenTrial) -> str:
    return ", ".join(f"{name} {value:.5g}" for name, value in zip(search.objectives, trial.values, strict=True))


def log_trial(search: Search, trial: FrozenTrial) -> None:
    """Write a trial's settings and scores for TensorBoard, under the names that ``fit`` uses, and what it reported.

    The score of a pruned trial is the last value that it reported.
    """
    values = trial.values or list(trial.intermediate_values.values())[-1:]
    scores = dict(zip(search.objectives, values, strict=False))
    if mse := trial.user_attrs.get("metrics", scores).get("val/mse"):
        scores[BestSoFar.metric] = mse
    settings: dict[str, Any] = trial.params
    if not search.lightgbm:
        config = trial_config(search, trial.params).as_dict()
        settings = {**flat(config["model"]), **flat(config["data"], "data.")}
    logger = TensorBoardLogger(search.folder, f"trial_{trial.number:04d}", version="", default_hp_metric=False)
    logger.log_hyperparams({**settings, "state": trial.state.name.lower()}, scores)
    for step, value in trial.intermediate_values.items():
        logger.log_metrics({f"reported/{search.objectives[0]}": value}, step)
    logger.finalize("success")


def best_trials(search: Search, study: optuna.Study) -> list[FrozenTrial]:
    """The best trial, or the Pareto front with the best by the first objective first; empty if none is complete."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return []
    sign = 1 if search.directions[0] == "minimize" else -1
    return sorted(study.best_trials, key=lambda trial: (sign * trial.values[0], trial.number))


def write_report(search: Search, study: optuna.Study) -> None:
    """Write everything and print the best trial."""
    search.folder.mkdir(parents=True, exist_ok=True)
    trials, best = study.get_trials(deepcopy=False), best_trials(search, study)
    finished = [trial for trial in trials if trial.state in FINISHED]
    for trial in finished:
        if not (search.folder / f"trial_{trial.number:04d}").exists():  # run on another machine
            log_trial(search, trial)
    with write_atomically(search.folder / "study.csv") as file:
        study_table(search, trials, {trial.number for trial in best}).to_csv(file, index=False)
    try:
        write_plots(search, study)
    except ImportError:
        print("plots:     left out: the package plotly is missing, install this project's extra [tune]")
    pruned = sum(trial.state == TrialState.PRUNED for trial in finished)
    print(f"done:      {len(finished)} of {search.options.trials} trials, {pruned} pruned")
    if best:
        told = f"trial {best[0].number}: {_values(search, best[0])}"
        with write_atomically(search.folder / "best.yaml") as file:
            file.write(f"# study {study.study_name}, {told}\n{best_config(search, best[0].params)}")
        settings = [f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in best[0].params.items()]
        print(f"best:      {told} ({', '.join(settings)})")
    print(f"results:   {search.folder}   (tensorboard --logdir {search.folder})")


def best_config(search: Search, params: dict[str, Any]) -> str:
    """What ``fit -c`` (for LightGBM: ``tune -c``) reads to have a trial's settings, as YAML."""
    if search.lightgbm:
        settings = {**search.options.lightgbm, **{key.removeprefix("lightgbm."): params[key] for key in params}}
        return yaml.safe_dump({"data": search.config["data"], "lightgbm": settings}, sort_keys=False)
    return fit_parser().dump(trial_config(search, params), skip_none=False)


def study_table(search: Search, trials: list[FrozenTrial], best: set[int]) -> pd.DataFrame:
    """One row per trial: state, scores, settings, all metrics, times, and why it ended if it did not complete."""
    rows = []
    for trial in trials:
        row = {"trial": trial.number, "state": trial.state.name, "best": trial.number in best}
        row |= dict(zip(search.objectives, trial.values or [], strict=False))
        row |= {**trial.params, **trial.user_attrs.get("metrics", {}), "seconds": trial.user_attrs.get("seconds")}
        row |= {"begun": trial.datetime_start, "ended": trial.datetime_complete}
        rows.append(row | {name: trial.user_attrs.get(name) for name in (NOTE, WORKER)})
    return pd.DataFrame(rows)


def write_plots(search: Search, study: optuna.Study) -> None:
    """Write Optuna's plots as HTML, except those that need more trials than there are, or other ones.

    Raises:
        ImportError: plotly is not installed.
    """
    names, complete = search.objectives, study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 2:
        return
    figures = {}
    if len(names) > 1:
        figures["pareto_front"] = visualization.plot_pareto_front(study, target_names=names)
    elif any(trial.intermediate_values for trial in complete):
        figures["intermediate_values"] = visualization.plot_intermediate_values(study)
    for index, name in enumerate(names):
        several: dict[str, Any] = {"target": lambda trial, index=index: trial.values[index]} if len(names) > 1 else {}
        for kind in ("optimization_history", "parallel_coordinate", "slice", "param_importances"):
            if kind == "param_importances" and len({trial.values[index] for trial in complete}) == 1:
                continue  # nothing to explain
            plot = getattr(visualization, f"plot_{kind}")
            figures[f"{kind}_{name.replace('/', '_')}" if several else kind] = plot(study, target_name=name, **several)
    folder = search.folder / "plots"
    folder.mkdir(exist_ok=True)
    for kind, figure in figures.items():
        figure.write_html(folder / f"{kind}.html", include_plotlyjs="directory")  # one copy for all, and no network
