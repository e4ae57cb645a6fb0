"""Runs in parallel processes by joblib; a process that dies loses only the runs in progress."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.backend.resource_tracker import ensure_running
from joblib.externals.loky.process_executor import TerminatedWorkerError
from threadpoolctl import threadpool_limits

from popularity.errors import InputError
from popularity.evaluation.protocol import Protocol, Run
from popularity.evaluation.runs import Result, execute, header, read_result, write_result
from popularity.program import begin_worker, no_hangup

Done = tuple[Run, dict[str, Any]]  # a run and the facts of its result
_Tried = tuple[Run, dict[str, Any] | None]  # without facts: in progress elsewhere
_PAUSE = 1.0  # seconds between looks at runs in progress elsewhere
_STARTS = 3  # pools that may die one after the other without beginning a run: the next would fare no better


def run_all(protocol: Protocol, songs: pd.DataFrame, runs: Sequence[Run], folder: Path) -> Iterator[Done]:
    """Do runs in this order, each on one thread; with one worker in this process, with more in as many others.

    Yields:
        Each run and the facts of its result, which has been written, as it ends.

    Raises:
        InputError: processes cannot start.
    """
    waiting, failures = list(runs), 0
    (folder / "runs").mkdir(exist_ok=True)
    while waiting:
        before = len(waiting)
        try:
            for run, facts in _pool(protocol, songs, waiting, folder):
                if facts is not None:
                    waiting.remove(run)
                    yield run, facts
            if len(waiting) == before:
                time.sleep(_PAUSE)  # all that is left is in progress elsewhere
        except TerminatedWorkerError:
            for run in [run for run in waiting if _marker(run, folder).exists()]:
                with suppress(Timeout), FileLock(_marker(run, folder), timeout=0):  # else in progress elsewhere
                    facts = _bury(protocol, run, folder)
                    waiting.remove(run)
                    yield run, facts
            failures = failures + 1 if len(waiting) == before else 0
            if failures == _STARTS:
                raise InputError(f"worker processes cannot start; {folder / 'runs'}/worker-*.log says why") from None


def _pool(protocol: Protocol, songs: pd.DataFrame, runs: Sequence[Run], folder: Path) -> Iterator[_Tried]:
    processes = dict[str, Any]()
    if protocol.workers > 1:
        processes = {"initializer": begin_worker, "initargs": (folder / "runs", os.getpid())}
        with no_hangup():  # joblib's own helper tidies up when this process has ended
            ensure_running()
    with parallel_config("loky", n_jobs=protocol.workers, inner_max_num_threads=1, max_nbytes=None, **processes):
        pool = Parallel(return_as="generator_unordered", batch_size=1)
        yield from pool(delayed(_work)(protocol, songs, run, folder) for run in list(runs))


def _work(protocol: Protocol, songs: pd.DataFrame, run: Run, folder: Path) -> _Tried:
    marker, threads = _marker(run, folder), torch.get_num_threads()
    marker.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(marker, timeout=0):
            try:
                return run, _done_elsewhere(protocol, run, folder) or _execute(protocol, songs, run, folder)
            finally:
                torch.set_num_threads(threads)
                marker.unlink(missing_ok=True)
    except Timeout:
        return run, None


def _execute(protocol: Protocol, songs: pd.DataFrame, run: Run, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    with threadpool_limits(1):
        return execute(protocol, songs, run, folder).facts


def _done_elsewhere(protocol: Protocol, run: Run, folder: Path) -> dict[str, Any] | None:
    """The facts of a run that another command on this folder has done since this one looked."""
    found = read_result(protocol, run, folder)
    return None if found is None or found.error else found.facts


def _marker(run: Run, folder: Path) -> Path:
    """A file that is there, and locked, while a run is in progress: no other command does it meanwhile."""
    return run.path(folder).with_suffix(".running")


def _bury(protocol: Protocol, run: Run, folder: Path) -> dict[str, Any]:
    """The facts of a run whose process has died, or of another that was in progress at that time."""
    _marker(run, folder).unlink(missing_ok=True)
    finished = read_result(protocol, run, folder)
    if finished is not None and not finished.error:  # it died after its result was written
        return finished.facts
    facts = header(protocol, run) | {"error": "a worker process died during this run", "seconds": None}
    write_result(run.path(folder), Result(facts, {}))
    return facts
