"""What a search leaves behind: best.yaml, study.csv, plots, and TensorBoard's HPARAMS tab."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna import visualization
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as hparams_summary

from popularity.io import write_atomically
from popularity.tuning.options import Objective, Search
from popularity.tuning.storage import WORKER
from popularity.tuning.study import counts


def log_trial(folder: Path, trial: FrozenTrial, objectives: Sequence[Objective]) -> None:
    """Write a trial's settings, scores and learning curve for TensorBoard.

    A pruned trial has the last value that it reported as its score.
    """
    last = list(trial.intermediate_values.values())[-1:]
    values = trial.values if trial.values is not None else last
    scores = {objective.name: value for objective, value in zip(objectives, values, strict=False)}
    settings = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in trial.params.items()}
    settings["state"] = trial.state.name.lower()
    with SummaryWriter(str(folder)) as writer:
        for summary in hparams_summary(settings, dict.fromkeys(scores, 0.0)):
            writer._get_file_writer().add_summary(summary)
        steps = trial.intermediate_values
        for step, value in steps.items():
            writer.add_scalar(f"reported/{objectives[0].name}", value, step)
        for name, value in scores.items():
            writer.add_scalar(name, value, max(steps, default=0))


def study_table(
    trials: Sequence[FrozenTrial], best: Sequence[FrozenTrial], objectives: Sequence[Objective]
) -> pd.DataFrame:
    """One row per trial: state, scores, settings, all metrics, times, and why it ended if it did not complete."""
    chosen = {trial.number for trial in best}
    rows = []
    for trial in trials:
        attributes = trial.user_attrs
        scores = dict(zip([objective.name for objective in objectives], trial.values or [], strict=False))
        times = {"seconds": attributes.get("seconds"), "begun": trial.datetime_start, "ended": trial.datetime_complete}
        row = {"trial": trial.number, "state": trial.state.name, "best": trial.number in chosen}
        notes = {"note": attributes.get("note"), "worker": attributes.get(WORKER)}
        rows.append({**row, **scores, **trial.params, **attributes.get("metrics", {}), **times, **notes})
    return pd.DataFrame(rows)


def best_trials(study: optuna.Study, objectives: Sequence[Objective]) -> list[FrozenTrial]:
    """The best trial, or the Pareto front with the best by the first objective first; empty if none is complete."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return []
    sign = 1 if objectives[0].direction == "minimize" else -1
    return sorted(study.best_trials, key=lambda trial: (sign * trial.values[0], trial.number))


def write_report(search: Search, study: optuna.Study, config: Callable[[FrozenTrial], dict[str, Any]]) -> None:
    """Write everything and print the best trials.

    Args:
        search: the search.
        study: with its trials.
        config: nested settings of a fit with a trial's parameters.
    """
    folder = search.folder
    folder.mkdir(parents=True, exist_ok=True)
    trials = study.get_trials(deepcopy=False)
    best = best_trials(study, search.objectives)
    with write_atomically(folder / "study.csv") as file:
        study_table(trials, best, search.objectives).to_csv(file, index=False)
    for trial in trials:
        path = folder / f"trial_{trial.number:04d}"
        # trials of other machines
        if counts(trial) and not list(path.glob("events.out.tfevents.*")):
            log_trial(path, trial, search.objectives)
    if best:
        values = ", ".join(f"{o.name} {v:.6g}" for o, v in zip(search.objectives, best[0].values, strict=True))
        with write_atomically(folder / "best.yaml") as file:
            file.write(f"# Trial {best[0].number} of {len(trials)} of study {study.study_name}: {values}\n")
            yaml.safe_dump(config(best[0]), file, sort_keys=False)
    write_plots(study, search.objectives, folder / "plots")
    _print(search, trials, best)


def write_plots(study: optuna.Study, objectives: Sequence[Objective], folder: Path) -> list[Path]:
    """Write Optuna's plots as HTML; those that need more trials than there are, or other ones, are left out."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 2:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    figures = {}
    if len(objectives) > 1:
        figures["pareto_front"] = visualization.plot_pareto_front(study, target_names=[o.name for o in objectives])
    elif any(trial.intermediate_values for trial in complete):
        figures["intermediate_values"] = visualization.plot_intermediate_values(study)
    for index, objective in enumerate(objectives):
        chosen: dict[str, Any] = {"target_name": objective.name}
        if len(objectives) > 1:
            chosen["target"] = lambda trial, index=index: trial.values[index]
        end = f"_{objective.name.replace('/', '_')}" if len(objectives) > 1 else ""
        with warnings.catch_warnings():
            # "target is specified, but direction is not": the plots only name the axis
            warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
            figures[f"history{end}"] = visualization.plot_optimization_history(study, **chosen)
            figures[f"parallel_coordinate{end}"] = visualization.plot_parallel_coordinate(study, **chosen)
            figures[f"slice{end}"] = visualization.plot_slice(study, **chosen)
            if len({trial.values[index] for trial in complete}) > 1:
                figures[f"importances{end}"] = visualization.plot_param_importances(study, **chosen)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.html")
        figure.write_html(paths[-1], include_plotlyjs="directory")  # one copy for all, and no network
    return paths


def _print(search: Search, trials: Sequence[FrozenTrial], best: Sequence[FrozenTrial]) -> None:
    done = [trial for trial in trials if counts(trial)]
    pruned = sum(trial.state == TrialState.PRUNED for trial in done)
    sign = 1 if search.objectives[0].direction == "minimize" else -1
    complete = [trial for trial in done if trial.state == TrialState.COMPLETE]
    ranked = list(best) if len(search.objectives) > 1 else sorted(complete, key=lambda trial: sign * trial.values[0])
    title = f"study {search.options.study}: {len(done)} of {search.options.trials} trials, {pruned} pruned"
    table = Table(title=title)
    for name in ("trial", *(objective.name for objective in search.objectives), "settings"):
        table.add_column(name)
    for trial in ranked[:5]:
        settings = ", ".join(
            f"{key.removeprefix('model.')}={value:.4g}"
            if isinstance(value, float)
            else f"{key.removeprefix('model.')}={value}"
            for key, value in trial.params.items()
        )
        table.add_row(str(trial.number), *(f"{value:.5g}" for value in trial.values), settings)
    Console().print(table)
    print(f"results:   {search.folder}   (tensorboard --logdir {search.folder})")
