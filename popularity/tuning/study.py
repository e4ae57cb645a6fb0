"""The study: what it asks, and how workers that share it begin trials."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import Trial, TrialState

from popularity.errors import InputError
from popularity.tuning.interrupts import Interrupts
from popularity.tuning.options import Search
from popularity.tuning.space import TRAINER
from popularity.tuning.storage import Storage

#: Attributes of a trial: the process that runs it, why it ended early, and that it was stopped from outside.
WORKER, NOTE, STOPPED = "worker", "note", "stopped"
#: States of finished trials, the ones that ``--trials`` counts.
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
#: A trial that has killed its worker this often is not tried again.
RETRIES = 3
_QUESTION = "question"
_POLL = 1.0  # seconds between looks at a study whose last trials run elsewhere


class StudyEndedError(Exception):
    """No further trial begins; the message says why, and is empty where the study holds what was asked for."""


class SharedStudy(optuna.Study):
    """A study whose ``optimize`` begins trials under the storage's lock.

    With any number of workers it ends at exactly ``--trials`` finished trials, no two of them with equal settings.
    (Optuna's ``MaxTrialsCallback`` counts when a trial has ended: by then the other workers have begun too many.)

    Args:
        search: the search.
        storage: of the study, which :func:`begin_study` has made.
        interrupts: of this process.
    """

    def __init__(self, search: Search, storage: Storage, interrupts: Interrupts) -> None:
        super().__init__(search.options.study, storage.optuna, pruner=search.make_pruner())
        self.search, self.storage, self.interrupts = search, storage, interrupts
        self.latest = -1

    def ask(self, fixed_distributions: dict[str, BaseDistribution] | None = None) -> Trial:
        """Begin a trial, as soon as one may begin.

        Raises:
            StudyEndedError: the study is full, the time is over, or the space holds no other settings.
            KeyboardInterrupt: this process was told to stop.
        """
        wanted = self.search.options.trials
        while True:
            with self.interrupts.allowed():
                pass
            with self.storage.lock:
                queue_lost_trials(self)
                states = [trial.state for trial in self.get_trials(deepcopy=False)]
                finished = sum(state in FINISHED for state in states)
                if finished >= wanted:
                    raise StudyEndedError
                if time.time() > self.search.deadline:
                    raise StudyEndedError("the time is over")
                if finished + states.count(TrialState.RUNNING) < wanted:
                    return self._begin()
            with self.interrupts.allowed():  # the last trials run elsewhere: if their worker dies, they are tried here
                time.sleep(_POLL)

    def _begin(self) -> Trial:
        """A trial with settings that no finished or running trial has; only under the lock."""
        while True:
            trials = self.get_trials(deepcopy=False)
            used = {_key(t.params): t.number for t in trials if t.state in (*FINISHED, TrialState.RUNNING)}
            # a seed of its own for each trial: neither two workers nor two sessions of one worker sample the same
            seed = int(np.random.SeedSequence([self.search.seed, len(trials)]).generate_state(1)[0])
            self.sampler = self.search.make_sampler(seed)
            trial = super().ask(self.search.space)
            twin = used.get(_key(trial.params))
            if twin is None:
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
                raise StudyEndedError("the space holds no other settings: the search ends before --trials")
            self.enqueue_trial(unused)

    def lost_latest(self) -> bool:
        """Whether this process was so slow that its latest trial was taken for lost."""
        trial = next((one for one in self.get_trials(deepcopy=False) if one.number == self.latest), None)
        return trial is not None and trial.state == TrialState.FAIL and NOTE not in trial.user_attrs


def queue_lost_trials(study: optuna.Study) -> None:
    """Queue the settings of trials whose worker died or was stopped; only under the storage's lock.

    A failed trial with a note is not tried again, nor one that has killed its worker more than `RETRIES` times.
    """
    optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if WORKER not in trial.user_attrs:  # signed under the lock that is ours now: its worker died in between
            study.tell(trial.number, state=TrialState.FAIL)
    trials = study.get_trials()
    retried = {number for trial in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(trial)}
    for trial in trials:
        lost = trial.state == TrialState.FAIL and NOTE not in trial.user_attrs and trial.number not in retried
        if lost and trial.params:
            retry = RetryHeartbeatStaleTrialCallback(max_retry=None if STOPPED in trial.user_attrs else RETRIES)
            trial.user_attrs = {}  # the next worker makes its own
            retry(study, trial)


def begin_study(search: Search, storage: Storage, songs: str, first: dict[str, Any] | None) -> None:
    """Create the study, or make sure that the one that exists asks the same question.

    Args:
        search: the search.
        storage: of the study.
        songs: fingerprint of the song table.
        first: settings to try first.

    Raises:
        InputError: a study of this name asks another question, so that trials would not be comparable.
    """
    name, asked = search.options.study, _question(search, songs)
    with storage.lock:
        if name in optuna.get_all_study_names(storage.optuna):
            study = optuna.load_study(study_name=name, storage=storage.optuna)
            changed = _differences(study.user_attrs.get(_QUESTION, {}), asked)
            if not changed:
                return
            if study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.RUNNING)):
                told = "; ".join(changed[:3])
                raise InputError(f"study {name!r} was begun with other settings ({told}), give another --study")
            optuna.delete_study(study_name=name, storage=storage.optuna)  # nothing was ever measured in it
        study = optuna.create_study(study_name=name, storage=storage.optuna, directions=search.directions)
        study.set_user_attr(_QUESTION, asked)
        if first is not None:
            study.enqueue_trial(first)


def _question(search: Search, songs: str) -> dict[str, Any]:
    """What must be the same in all trials of a study, as plain JSON types."""
    config = search.config
    fit = {
        key: config[key] for key in config if key in ("seed_everything", "model", "optimizer", "ema", "early_stopping")
    }
    places = ("source", "cache_dir", "predict_source")  # the fingerprint says which songs they are
    fit["data"] = {key: value for key, value in config["data"].items() if key not in places}
    fit["trainer"] = {key: config["trainer"][key] for key in TRAINER}
    found = {
        "objective": search.objectives,
        "folds": search.options.folds,
        "space": {key: json.loads(distribution_to_json(one)) for key, one in search.space.items()},
        "songs": songs,
        "fit": search.options.lightgbm if search.lightgbm else fit,
    }
    return json.loads(json.dumps(found, default=str))


def _differences(before: Any, now: Any, path: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [text for key in keys for text in _differences(before.get(key), now.get(key), f"{path}/{key}")]
    return [] if before == now else [f"{path[1:]}: {before} -> {now}"]


def _key(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)
