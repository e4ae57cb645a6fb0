"""``tune``: the command line of a search, which is that of ``fit`` with the search's own flags, and its workers."""

from __future__ import annotations

import json
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import partial
from typing import Any

import optuna
import torch
import yaml
from optuna.trial import TrialState

from popularity.errors import InputError
from popularity.program import Stop, in_processes, program, stopped
from popularity.training.choice import settled
from popularity.training.fit import fit_parser, shared_parser
from popularity.training.instantiate import instantiate
from popularity.training.quiet import quiet_lightning
from popularity.training.tensorboard import flat
from popularity.training.trainer import EPOCHS
from popularity.tuning.report import show_progress, write_report
from popularity.tuning.space import Options, Search, edges, load_space
from popularity.tuning.storage import hide_password, open_storage
from popularity.tuning.study import NOTE, SharedStudy, StudyEndedError, begin_study, queue_lost_trials
from popularity.tuning.trial import RunTrial, boosted, search_songs, trial_config


def read_search(argv: Sequence[str]) -> Search:
    """Parse a command line: that of a fit with the flags of `Options`."""
    parser = fit_parser(argv)
    parser.prog = f"{program()} tune"
    parser.description = "Search hyper-parameters: the flags of `fit`, and these."
    parser.add_class_arguments(Options, None)
    config = yaml.safe_load(parser.dump(settled(parser.parse_args(list(argv)), EPOCHS), skip_none=False))
    options = Options(**{field.name: config.pop(field.name) for field in fields(Options)})
    return Search(options, config, load_space(options.space), time.time() + options.timeout)


def check_space(search: Search) -> dict[str, Any] | None:
    """Try the edges of every range on the classes of a real fit; the config as it stands, if it lies in the space."""
    for key, distribution in search.space.items():
        for value in edges(distribution):
            try:
                _settings(search, {key: value})
            except (InputError, ValueError, TypeError) as error:
                raise InputError(f"{search.options.space}: {key} = {json.dumps(value)}: {error}") from error
    known = _settings(search, {})
    first = {key: known.get(key.replace(".init_args", "")) for key in search.space}
    with suppress(ValueError):  # outside of the space
        optuna.trial.create_trial(params=first, distributions=search.space, value=0.0)
        return first
    return None


def _settings(search: Search, params: dict[str, Any]) -> dict[str, Any]:
    """All settings of a trial by dotted names, after its objects have been built once."""
    if search.lightgbm:
        return {f"lightgbm.{name}": value for name, value in boosted(search, params).get_params().items()}
    instantiate(shared_parser(), config := trial_config(search, params))
    return flat(config.as_dict())


def tune(search: Search) -> None:
    """Run a search, and write its report however it ends."""
    (table, _), first = search_songs(search), check_space(search)
    print(*table.report.lines(), sep="\n", flush=True)
    with open_storage(search.storage, search.options.heartbeat) as storage:
        study = begin_study(search, storage, table.fingerprint, first)
        shown = hide_password(search.storage)
        print(f"study:     {search.options.study} in {shown}   (optuna-dashboard {shown})")
        run = work if search.options.workers == 1 else run_workers
        try:
            run(search)
        finally:
            with storage.lock():
                queue_lost_trials(study)
            write_report(search, study)


def work(search: Search) -> None:
    """Run trials in this process until no further one begins. An interrupted trial is tried again."""
    torch.set_num_threads(max(1, torch.get_num_threads() // search.options.workers))  # workers share the cores
    with quiet(), Stop() as stop, open_storage(search.storage, search.options.heartbeat) as storage:
        run_trial = RunTrial(search, *search_songs(search), stop)
        study = SharedStudy(search, storage, stop)
        while True:
            try:
                study.optimize(run_trial, callbacks=[partial(show_progress, search)])
            except StudyEndedError as ended:
                print(f"ended:     {ended}", flush=True)
                return
            # of a trial that was taken for lost: Optuna's last words depend on when it notices
            except (ValueError, AssertionError, optuna.exceptions.UpdateFinishedTrialError):
                latest = study.get_trials(deepcopy=False)[study.latest]
                if latest.state != TrialState.FAIL or NOTE in latest.user_attrs:
                    raise
                print(f"trial {study.latest}: gave no heartbeat for too long and is tried again", flush=True)


def run_workers(search: Search) -> None:
    """Run trials in the worker processes of this machine."""
    for number in in_processes(search.options.workers, partial(work, search), preload=__name__):
        print(f"worker {number} was killed; its trial was tried again")


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what Optuna and Lightning say at each trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        quiet_lightning()
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeat, journal: they are tested
        warnings.filterwarnings("ignore", category=UserWarning, module="optuna.importance")  # two objectives
        yield


def main(argv: Sequence[str]) -> None:
    """Run ``tune``."""
    try:
        with quiet():
            tune(read_search(argv))
    except KeyboardInterrupt as error:
        print(f"stopped: nothing is lost. Continue with: {program()} tune {shlex.join(argv)}")
        sys.exit(stopped(error).code)
