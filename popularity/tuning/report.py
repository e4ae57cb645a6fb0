"""What a search shows and leaves behind: progress, best.yaml, study.csv and plots."""

from __future__ import annotations

import statistics
import time
from datetime import timedelta
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna import visualization
from optuna.trial import FrozenTrial, TrialState

from popularity.io import write_atomically
from popularity.training.fit import shared_parser
from popularity.tuning.space import Search
from popularity.tuning.study import FINISHED, NOTE, WORKER
from popularity.tuning.trial import trial_config


def show_progress(search: Search, study: optuna.Study, trial: FrozenTrial) -> None:
    """Print one line: a trial's result, the best so far, how many trials are done, and how long the others take."""
    trials, best = study.get_trials(deepcopy=False), best_trials(search, study)
    finished = [one for one in trials if one.state in FINISHED]
    result = _values(search, trial) if trial.state == TrialState.COMPLETE else trial.user_attrs.get(NOTE)
    told = f"trial {trial.number}: {result}; {len(finished)} of {search.options.trials} done"
    if best:
        told += f"; best {_values(search, best[0])} (trial {best[0].number})"
    mean = statistics.fmean(one.duration.total_seconds() for one in finished if one.duration)
    workers = 1 + sum(one.state == TrialState.RUNNING for one in trials)
    seconds = min((search.options.trials - len(finished)) * mean / workers, search.deadline - time.time())
    print(told + (f"; about {timedelta(seconds=round(seconds))} left" if seconds > 0 else ""), flush=True)


def _values(search: Search, trial: FrozenTrial) -> str:
    return ", ".join(f"{name} {value:.5g}" for name, value in zip(search.objectives, trial.values, strict=True))


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
        found = {"data": search.config["data"], "lightgbm": search.lightgbm_settings(params)}
        return str(yaml.safe_dump(found, sort_keys=False))
    return str(shared_parser().dump(trial_config(search, params), skip_none=False))


def study_table(search: Search, trials: list[FrozenTrial], best: set[int]) -> pd.DataFrame:
    """One row per trial: state, scores, settings, all metrics, times, and why it ended if it did not complete."""
    rows = []
    for trial in trials:
        row = {"trial": trial.number, "state": trial.state.name, "best": trial.number in best}
        row |= {**dict(zip(search.objectives, trial.values or [], strict=False)), **trial.params}
        row |= {**trial.user_attrs.get("metrics", {}), "begun": trial.datetime_start, "ended": trial.datetime_complete}
        rows.append(row | {name: trial.user_attrs.get(name) for name in (NOTE, WORKER)})
    return pd.DataFrame(rows)


def write_plots(search: Search, study: optuna.Study) -> None:
    """Write Optuna's plots as HTML, those that the trials so far allow; ImportError without plotly."""
    names, complete = search.objectives, study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 2:
        return
    figures = {}
    if len(names) > 1:
        figures["pareto_front"] = visualization.plot_pareto_front(study, target_names=names)
    elif any(trial.intermediate_values for trial in complete):
        figures["intermediate_values"] = visualization.plot_intermediate_values(study)
    for index, name in enumerate(names):
        target = (lambda trial, index=index: trial.values[index]) if len(names) > 1 else None
        kinds = ["optimization_history", "parallel_coordinate", "slice", "param_importances"]
        for kind in kinds if len({trial.values[index] for trial in complete}) > 1 else kinds[:-1]:
            plot = getattr(visualization, f"plot_{kind}")
            figures[f"{kind}_{name.replace('/', '_')}"] = plot(study, target=target, target_name=name)
    from plotly.offline import get_plotlyjs  # of the extra [tune]

    files = {f"{name}.html": figure.to_html(include_plotlyjs="directory") for name, figure in figures.items()}
    files["plotly.min.js"] = get_plotlyjs()  # one copy for all of them, and no network
    (search.folder / "plots").mkdir(exist_ok=True)
    for name, text in files.items():
        with write_atomically(search.folder / "plots" / name) as file:
            file.write(text)
