"""What a search shows and leaves behind: progress, best.yaml, study.csv, plots, and TensorBoard's HPARAMS tab."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import optuna
import pandas as pd
import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from optuna import visualization
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from popularity.io import write_atomically
from popularity.tuning.options import Search
from popularity.tuning.study import FINISHED, NOTE, WORKER


def progress(search: Search, study: optuna.Study, trial: FrozenTrial) -> str:
    """One line: a trial's result, the best so far, how many trials are done, and how long the others take."""
    trials = study.get_trials(deepcopy=False)
    finished = [one for one in trials if one.state in FINISHED]
    values = trial.values if trial.state == TrialState.COMPLETE else []
    result = ", ".join(f"{name} {value:.5g}" for name, value in zip(search.objectives, values, strict=False))
    parts = [f"trial {trial.number}: {result or trial.user_attrs.get(NOTE)}"]
    best = best_trials(search, study)
    if best:
        one = f"best {best[0].values[0]:.5g} (trial {best[0].number})"
        parts.append(one if len(search.objectives) == 1 else f"{len(best)} on the Pareto front")
    left = search.options.trials - len(finished)
    parts.append(f"{len(finished)} of {search.options.trials} done")
    if left > 0:
        workers = 1 + sum(one.state == TrialState.RUNNING for one in trials)
        mean = statistics.fmean(one.duration.total_seconds() for one in finished if one.duration)
        seconds = min(left * mean / workers, max(0.0, search.deadline - time.time()))
        parts.append(f"about {timedelta(seconds=round(seconds))} left")
    return "; ".join(parts)


def log_trial(search: Search, trial: FrozenTrial) -> None:
    """Write a trial's settings, scores and learning curve for TensorBoard; for a pruned trial, its last value."""
    values = trial.values or list(trial.intermediate_values.values())[-1:]
    scores = dict(zip(search.objectives, values, strict=False))
    logger = TensorBoardLogger(search.folder, f"trial_{trial.number:04d}", version="", default_hp_metric=False)
    logger.log_hyperparams({**trial.params, "state": trial.state.name.lower()}, scores)
    for step, value in trial.intermediate_values.items():
        logger.log_metrics({f"reported/{search.objectives[0]}": value}, step)
    logger.finalize("success")


def best_trials(search: Search, study: optuna.Study) -> list[FrozenTrial]:
    """The best trial, or the Pareto front with the best by the first objective first; empty if none is complete."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return []
    sign = 1 if search.directions[0] == "minimize" else -1
    return sorted(study.best_trials, key=lambda trial: (sign * trial.values[0], trial.number))


def write_report(search: Search, study: optuna.Study, config: Callable[[FrozenTrial], dict[str, Any]]) -> None:
    """Write everything and print the best trials.

    Args:
        search: the search.
        study: with its trials.
        config: gives the nested settings of a fit with a trial's parameters.
    """
    folder = search.folder
    folder.mkdir(parents=True, exist_ok=True)
    trials, best = study.get_trials(deepcopy=False), best_trials(search, study)
    with write_atomically(folder / "study.csv") as file:
        study_table(search, trials, {trial.number for trial in best}).to_csv(file, index=False)
    for trial in trials:
        if trial.state in FINISHED and not (folder / f"trial_{trial.number:04d}").exists():  # run on another machine
            log_trial(search, trial)
    if best:
        values = ", ".join(f"{name} {v:.6g}" for name, v in zip(search.objectives, best[0].values, strict=True))
        with write_atomically(folder / "best.yaml") as file:
            file.write(f"# Trial {best[0].number} of {len(trials)} of study {study.study_name}: {values}\n")
            yaml.safe_dump(config(best[0]), file, sort_keys=False)
    try:
        write_plots(search, study)
    except ImportError as error:
        print(f"plots:     left out, they need plotly, in this project's extra [tune] ({str(error).splitlines()[0]})")
    _print(search, trials, best)


def study_table(search: Search, trials: list[FrozenTrial], best: set[int]) -> pd.DataFrame:
    """One row per trial: state, scores, settings, all metrics, times, and why it ended if it did not complete."""
    rows = []
    for trial in trials:
        attributes = trial.user_attrs
        row = {"trial": trial.number, "state": trial.state.name, "best": trial.number in best}
        row |= {**dict(zip(search.objectives, trial.values or [], strict=False)), **trial.params}
        row |= {**attributes.get("metrics", {}), "seconds": attributes.get("seconds")}
        row |= {"begun": trial.datetime_start, "ended": trial.datetime_complete}
        rows.append({**row, "note": attributes.get(NOTE), "worker": attributes.get(WORKER)})
    return pd.DataFrame(rows)


def write_plots(search: Search, study: optuna.Study) -> None:
    """Write Optuna's plots as HTML, except those that need more trials than there are, or other ones.

    Raises:
        ImportError: plotly is not installed.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 2:
        return
    several = len(search.objectives) > 1
    figures = {}
    if several:
        figures["pareto_front"] = visualization.plot_pareto_front(study, target_names=search.objectives)
    elif any(trial.intermediate_values for trial in complete):
        figures["intermediate_values"] = visualization.plot_intermediate_values(study)
    for index, name in enumerate(search.objectives):
        chosen: dict[str, Any] = {"target_name": name}
        if several:
            chosen["target"] = lambda trial, index=index: trial.values[index]
        plots = {
            "history": visualization.plot_optimization_history,
            "parallel_coordinate": visualization.plot_parallel_coordinate,
            "slice": visualization.plot_slice,
        }
        if len({trial.values[index] for trial in complete}) > 1:
            plots["importances"] = visualization.plot_param_importances
        with warnings.catch_warnings():
            # "target is specified, but direction is not": the plots only name the axis
            warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
            for kind, plot in plots.items():
                figures[f"{kind}_{name.replace('/', '_')}" if several else kind] = plot(study, **chosen)
    folder = search.folder / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    for kind, figure in figures.items():
        figure.write_html(folder / f"{kind}.html", include_plotlyjs="directory")  # one copy for all, and no network


def _print(search: Search, trials: list[FrozenTrial], best: list[FrozenTrial]) -> None:
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
    sign = 1 if search.directions[0] == "minimize" else -1
    ranked = best if len(search.objectives) > 1 else sorted(complete, key=lambda trial: sign * trial.values[0])
    done = f"{len(complete) + pruned} of {search.options.trials} trials, {pruned} pruned"
    table = Table("trial", *search.objectives, "settings", title=f"study {search.options.study}: {done}")
    for trial in ranked[:5]:
        settings = [f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.params.items()]
        table.add_row(str(trial.number), *(f"{value:.5g}" for value in trial.values), ", ".join(settings))
    Console().print(table)
    beside = [one.duration.total_seconds() - one.user_attrs["metrics"]["seconds"] for one in complete if one.duration]
    if beside:
        print(f"overhead:  {statistics.median(beside):.2f} s per trial beside training (median)")
    print(f"results:   {search.folder}   (tensorboard --logdir {search.folder})")
