"""Worker processes: each runs trials until the study is full."""

from __future__ import annotations

import logging
import multiprocessing
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
import torch
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.trial import FrozenTrial

from popularity.cli import quiet_lightning
from popularity.errors import InputError
from popularity.tuning.interrupts import Interrupts
from popularity.tuning.options import Search
from popularity.tuning.report import log_trial, progress
from popularity.tuning.storage import open_storage
from popularity.tuning.study import SharedStudy, StudyEndedError
from popularity.tuning.trial import RunTrial, search_songs


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what Optuna and Lightning say at each trial."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    lightning = logging.getLogger("lightning.pytorch")
    before = lightning.level, optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        quiet_lightning()
        # heartbeat, retry, journal and signed-rank pruner: tests show that they hold
        warnings.simplefilter("ignore", ExperimentalWarning)
        lightning.setLevel(logging.WARNING)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            yield
        finally:
            lightning.setLevel(before[0])
            optuna.logging.set_verbosity(before[1])


def work(search: Search) -> None:
    """Run trials in this process until the study is full, the time is over or the space is used up.

    Raises:
        InputError: the objective is not logged, or data that cannot be read.
        KeyboardInterrupt: this process was told to stop; its trial will be tried again.
    """

    def after_trial(study: optuna.Study, trial: FrozenTrial) -> None:
        log_trial(search, trial)
        print(progress(search, study, trial), flush=True)

    with quiet(), Interrupts() as interrupts, open_storage(search.storage, search.options.heartbeat) as storage:
        run_trial = RunTrial(search, *search_songs(search), interrupts)
        study = SharedStudy(search, storage, interrupts)
        while True:
            try:
                study.optimize(run_trial, callbacks=[after_trial])
            except StudyEndedError as ended:
                print(ended, end="\n" if str(ended) else "", flush=True)
                return
            except (ValueError, UpdateFinishedTrialError):  # what Optuna says of a trial that was taken for lost
                if not study.lost_latest():
                    raise
                print(f"trial {study.latest}: gave no heartbeat for too long and is tried again", flush=True)


def run_workers(search: Search) -> int:
    """Run the worker processes of this machine until they end; the exit code.

    Raises:
        KeyboardInterrupt: after all workers have stopped.
    """
    # forked from a process that has imported everything but run nothing: importing costs seconds, threads do not fork
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
    context.set_forkserver_preload([__name__])
    count = search.options.workers
    threads = max(1, torch.get_num_threads() // count)
    processes = [context.Process(target=_work, args=(search, threads), name=f"worker {i + 1}") for i in range(count)]
    for process in processes:
        process.start()
    try:
        with Interrupts() as interrupts, interrupts.allowed():
            for process in processes:
                process.join()
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()  # a terminal has told them already; they ignore a second signal
            process.join()
        raise
    for process in processes:
        if process.exitcode < 0:
            print(f"{process.name} was killed by signal {-process.exitcode}; its trial was tried again")
    return max(0, *(process.exitcode for process in processes))  # a killed worker costs nothing


def _work(search: Search, threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        work(search)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
