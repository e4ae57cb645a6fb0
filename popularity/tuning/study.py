"""The study: samplers, pruners, what it may be resumed with, and how trials are claimed."""

from __future__ import annotations

import json
import math
import os
import socket
from typing import Any

import numpy as np
import optuna
from optuna.distributions import distribution_to_json
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from popularity.errors import InputError
from popularity.tuning.options import Search
from popularity.tuning.space import Space
from popularity.tuning.storage import ENDED, WORKER, StudyStorage

_RECORD = "search"
_STARTUP = 5  # trials that a pruner waits for


def make_sampler(search: Search, seed: int) -> BaseSampler:
    """The sampler that was asked for. All its state is in the study, but for the seed."""
    name = search.options.sampler
    if name == "tpe":
        return TPESampler(seed=seed, multivariate=True, constant_liar=True)
    if name == "random":
        return RandomSampler(seed=seed)
    if name == "gp":
        return GPSampler(seed=seed, warn_independent_sampling=False)
    if len(search.objectives) > 1:
        raise InputError("--sampler cmaes improves one objective only; use tpe, gp or random for a Pareto front")
    try:
        import cmaes  # noqa: F401  # Optuna asks for it late
    except ImportError as error:
        raise InputError("--sampler cmaes needs `pip install cmaes`") from error
    return CmaEsSampler(seed=seed, warn_independent_sampling=False)


def make_pruner(search: Search) -> BasePruner:
    """The pruner that was asked for."""
    if search.pruner == "median":
        return MedianPruner(n_startup_trials=_STARTUP, n_warmup_steps=search.options.warmup_epochs)
    if search.pruner == "hyperband":
        epochs = search.config["trainer"]["max_epochs"]
        least = max(1, search.options.warmup_epochs)
        if not isinstance(epochs, int) or epochs <= least:
            raise InputError(f"--pruner hyperband needs trainer.max_epochs above --warmup_epochs {least}, got {epochs}")
        return HyperbandPruner(min_resource=least, max_resource=epochs)
    if search.pruner == "wilcoxon":
        return WilcoxonPruner()
    return NopPruner()


def record(search: Search, space: Space, data: str) -> dict[str, Any]:
    """What must be the same in all trials of a study, as plain JSON types."""
    fit = {
        **{key: search.config[key] for key in ("seed_everything", "model", "ema", "early_stopping")},
        "data": {k: v for k, v in search.config["data"].items() if k not in ("source", "cache_dir", "predict_source")},
        "max_epochs": search.config["trainer"]["max_epochs"],
        "gradient_clip_val": search.config["trainer"]["gradient_clip_val"],
    }
    found = {
        "objective": [f"{o.name}:{o.direction[:3]}" for o in search.objectives],
        "folds": search.options.folds,
        "space": {key: json.loads(distribution_to_json(one)) for key, one in space.items()},
        "songs": data,
        "fit": search.lightgbm if search.lightgbm is not None else fit,
    }
    return json.loads(json.dumps(found, default=str))


def open_study(search: Search, storage: StudyStorage, wanted: dict[str, Any], first: dict[str, Any] | None) -> None:
    """Create the study, or see to it that the one that is there asks the same question.

    Args:
        search: the search.
        storage: of the study.
        wanted: :func:`record` of the search.
        first: settings to try first: the config as it stands.

    Raises:
        InputError: a study of this name was begun with other settings.
    """
    name = search.options.study
    directions = [objective.direction for objective in search.objectives]
    with storage.lock():
        if name in [study.study_name for study in optuna.get_all_study_summaries(storage.optuna)]:
            study = optuna.load_study(study_name=name, storage=storage.optuna)
            before = study.user_attrs.get(_RECORD, {})
            changed = _differences(before, wanted)
            if not changed:
                return
            if any(trial.state != TrialState.FAIL for trial in study.get_trials(deepcopy=False) if trial.user_attrs):
                raise InputError(
                    f"study {name!r} was begun with other settings ({'; '.join(changed[:3])}): its trials would not be "
                    "comparable; give another --study"
                )
            # nothing was ever measured in it
            optuna.delete_study(study_name=name, storage=storage.optuna)
        study = optuna.create_study(study_name=name, storage=storage.optuna, directions=directions)
        study.set_user_attr(_RECORD, wanted)
        if first is not None:
            study.enqueue_trial(first)


def _differences(before: Any, now: Any, path: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [text for key in keys for text in _differences(before.get(key), now.get(key), f"{path}/{key}")]
    return [] if before == now else [f"{path[1:]}: {before} -> {now}"]


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those that were asked for: finished, with whatever result."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or ENDED in trial.user_attrs


def remaining(search: Search, study: optuna.Study) -> tuple[int, int]:
    """How many trials are still to be begun, and how many run."""
    trials = study.get_trials(deepcopy=False)
    running = sum(trial.state == TrialState.RUNNING for trial in trials)
    return search.options.trials - sum(map(counts, trials)) - running, running


def claim(search: Search, storage: StudyStorage, study: optuna.Study, space: Space) -> Trial | None:
    """Begin a trial with settings that no other has; only under the lock. None if the space holds no more."""
    for _ in range(10):
        trials = study.get_trials(deepcopy=False)
        # a seed of its own for each claim: no two workers, and no two sessions of one worker, draw the same
        seed = np.random.SeedSequence([_seed(search), len(trials)]).generate_state(1)[0]
        study.sampler = make_sampler(search, int(seed))
        trial = study.ask(space)
        taken = {
            _key(other.params): other.number for other in trials if counts(other) or other.state == TrialState.RUNNING
        }
        twin = taken.get(_key(trial.params))
        if twin is None:
            trial.set_user_attr(WORKER, f"{socket.gethostname()}:{os.getpid()}")
            storage.beat(trial._trial_id)
            return trial
        trial.set_user_attr("same as", twin)
        study.tell(trial, state=TrialState.FAIL)
        # a sampler that repeats itself would do so again: draw at random among what is left
        fresh = _unused(space, set(taken), int(seed))
        if fresh is None:
            return None
        study.enqueue_trial(fresh)
    return None


def _unused(space: Space, taken: set[str], seed: int) -> dict[str, Any] | None:
    draw = optuna.create_study(sampler=RandomSampler(seed=seed))
    for _ in range(1000):
        params = draw.ask(space).params
        if _key(params) not in taken:
            return params
    return None


def _key(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def _seed(search: Search) -> int:
    seed = search.config["seed_everything"]
    return seed if isinstance(seed, int) and seed >= 0 else 0


def finite(values: list[float]) -> bool:
    """Whether a trial's values can be told."""
    return all(math.isfinite(value) for value in values)
