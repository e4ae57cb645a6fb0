"""The study: what it asks, and how workers that share it begin trials."""

from __future__ import annotations

import json
import os
import socket
import time
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import RetryHeartbeatStaleTrialCallback as Retry
from optuna.trial import FrozenTrial, Trial, TrialState

from popularity.errors import InputError, one_line
from popularity.program import Stop
from popularity.training.tensorboard import flat
from popularity.tuning.space import TRAINER, Search
from popularity.tuning.storage import Storage

#: Attributes of a trial: the process that runs it, why it ended early, and that it was stopped from outside.
WORKER, NOTE, STOPPED = "worker", "note", "stopped"
#: States of finished trials, the ones that ``--trials`` counts.
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
#: A trial that has killed its worker this often is not tried again.
RETRIES = 3
_QUESTION = "question"
_key = partial(json.dumps, sort_keys=True)
#: Settings of a fit that its scores depend on, and those among them that only say where something is.
_ASKED = (
    *("seed", "model", "data", "optimizer", "lr_scheduler", "ema", "early_stopping", "checkpoint.mo"),
    *(f"trainer.{name}" for name in TRAINER),
)
#: Kinds of a trial's notes, Optuna's and ours. The list is one of whole numbers.
_NOTES: dict[str, type[Any]] = {
    "retry_history": list,
    "fixed_params": dict,
    "metrics": dict,
    "heartbeat": float,
    **dict.fromkeys(("tpe:relative_params:0", "gp:relative_params:0"), str),
}
_PLACES = ("data.source", "data.cache_dir", "data.predict_source")


class StudyEndedError(Exception):
    """No further trial begins; the message says why."""


class SharedStudy(optuna.Study):
    """A study, made by :func:`begin_study`, whose ``optimize`` begins trials under the storage's lock.

    With any number of workers it ends at exactly ``--trials`` finished trials, no two of them with equal settings.
    (Optuna's ``MaxTrialsCallback`` counts when a trial has ended: by then the other workers have begun too many.)
    """

    def __init__(self, search: Search, storage: Storage, stop: Stop) -> None:
        super().__init__(search.options.study, storage.optuna, pruner=search.make_pruner())
        self.search, self.storage, self.stopped = search, storage, stop
        self.latest = -1

    def ask(self, fixed_distributions: dict[str, BaseDistribution] | None = None) -> Trial:
        """Begin a trial, as soon as one may begin; StudyEndedError if none will."""
        wanted, pause = self.search.options.trials, 0.0
        while True:
            time.sleep(pause)
            self.stopped.check()
            with self.storage.lock():
                queue_lost_trials(self)
                states = [trial.state for trial in self.get_trials(deepcopy=False)]
                finished = sum(state in FINISHED for state in states)
                if finished >= wanted:
                    raise StudyEndedError("all trials are done")
                if time.time() > self.search.deadline:
                    raise StudyEndedError("the time is over")
                if finished + states.count(TrialState.RUNNING) < wanted:
                    return self._begin()
            pause = 1.0  # the last trials run elsewhere: if their worker dies, they are tried again here

    def _begin(self) -> Trial:
        """A trial with settings that no finished or running trial has; only under the lock."""
        while True:
            trials = self.get_trials(deepcopy=False)
            used = {_key(t.params): t.number for t in trials if t.state in (*FINISHED, TrialState.RUNNING)}
            # a seed of its own for each trial: neither two workers nor two sessions of one worker sample the same
            seed = int(np.random.SeedSequence([self.search.seed, len(trials)]).generate_state(1)[0])
            self.sampler = self.search.sampler(seed=seed)
            trial = super().ask(self.search.space)
            if (twin := used.get(_key(trial.params))) is None:
                trial.set_user_attr(WORKER, f"{socket.gethostname()}:{os.getpid()}")
                self.storage.optuna.record_heartbeat(trial._trial_id)  # without one Optuna never takes it for lost
                self.latest = trial.number
                return trial
            trial.set_user_attr(NOTE, f"same as trial {twin}")
            self.tell(trial, state=TrialState.FAIL)
            # a sampler that repeats itself would do so again: sample at random from what is left
            others = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
            samples = (others.ask(self.search.space).params for _ in range(1000))
            unused = next((params for params in samples if _key(params) not in used), None)
            if unused is None:
                raise StudyEndedError("the space holds no other settings")
            self.enqueue_trial(unused)


def queue_lost_trials(study: optuna.Study) -> None:
    """Queue the settings of trials whose worker died or was stopped; only under the storage's lock.

    A failed trial with a note is not tried again, nor one that has killed its worker more than `RETRIES` times.
    """
    optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if WORKER not in trial.user_attrs:  # signed under the lock that is ours now: its worker died in between
            study.tell(trial.number, state=TrialState.FAIL)
    trials = study.get_trials()
    retried = {number for trial in trials for number in Retry.retry_history(trial)}
    for trial in trials:
        lost = trial.state == TrialState.FAIL and NOTE not in trial.user_attrs and trial.number not in retried
        if lost and trial.params:
            retry = Retry(max_retry=None if STOPPED in trial.user_attrs else RETRIES)
            trial.user_attrs = {}  # the next worker makes its own
            retry(study, trial)


def begin_study(search: Search, storage: Storage, songs: str, first: dict[str, Any] | None) -> optuna.Study:
    """Create the study, with settings to try first, or make sure that the one that exists asks the same question.

    ``songs`` is the fingerprint of the song table. With other songs or settings trials would not be comparable.
    """
    name, asked = search.options.study, _question(search, songs)
    with storage.lock():
        study = optuna.create_study(
            study_name=name, storage=storage.optuna, directions=search.directions, load_if_exists=True
        )
        before = study.user_attrs.get(_QUESTION)
        if before is None:
            study.set_user_attr(_QUESTION, asked)
            if first is not None:
                study.enqueue_trial(first)
            return study
    if not isinstance(before, dict):
        raise InputError(f"study {name!r} was not begun by this program, give another --study")
    if changed := [f"{k}: {before.get(k)} -> {asked.get(k)}" for k in before | asked if before.get(k) != asked.get(k)]:
        told = "; ".join(changed[:3])
        raise InputError(f"study {name!r} was begun with other settings ({told}), give another --study")
    for trial in study.get_trials(deepcopy=False):
        if expected := _objection(search, trial):
            raise InputError(f"study {name!r}: trial {trial.number}: expected {expected}")
    return study


def _question(search: Search, songs: str) -> dict[str, Any]:
    """What must be the same in all trials of a study: not where it runs, nor what it logs."""
    config = {key: value for key, value in flat(search.config).items() if key.startswith(_ASKED) and key not in _PLACES}
    space = {f"space.{key}": str(distribution) for key, distribution in search.space.items()}
    options = {"objective": ",".join(search.objectives), "folds": search.options.folds, "songs": songs}
    return {**config, **flat(search.options.lightgbm, "lightgbm."), **space, **options}


def _objection(search: Search, trial: FrozenTrial) -> str | None:
    """What a trial was expected to hold and does not: notes and values of the right kind, settings within the space.

    A study may come from anywhere, and settings name classes.
    """
    notes, values = {**trial.user_attrs, **trial.system_attrs}, trial.values or ()
    for name, kind in _NOTES.items():
        note = notes.get(name, kind())
        if not isinstance(note, kind) or (kind is list and not all(isinstance(one, int) for one in note)):
            return f"{name} as tune writes it, got {str(note)[:60]!r}"
    if trial.state == TrialState.COMPLETE and len(values) != len(search.directions):
        return f"{len(search.directions)} values, got {len(values)}"
    for params in (trial.params, notes.get("fixed_params", {})):
        try:
            optuna.trial.create_trial(params=params, distributions={k: search.space[k] for k in params}, value=0.0)
        except (KeyError, ValueError, TypeError) as error:
            return f"settings within the space, got {one_line(str(error))}"
    return None
