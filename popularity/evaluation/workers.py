"""Runs in parallel processes by joblib; a process that dies loses only the runs in progress."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError
from threadpoolctl import threadpool_limits

from popularity.errors import InputError
from popularity.evaluation.protocol import Protocol, Run
from popularity.evaluation.runs import Result, execute, header, read_result, write_result
from popularity.program import begin_worker

Done = tuple[Run, dict[str, Any]]  # a run and the facts of its result
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
                waiting.remove(run)
                yield run, facts
        except TerminatedWorkerError:
            for run in [run for run in waiting if _marker(run, folder).exists()]:
                waiting.remove(run)
                yield run, _bury(protocol, run, folder)
            failures = failures + 1 if len(waiting) == before else 0
            if failures == _STARTS:
                raise InputError(f"worker processes cannot start; {folder / 'runs'}/worker-*.log says why") from None


def _pool(protocol: Protocol, songs: pd.DataFrame, runs: Sequence[Run], folder: Path) -> Iterator[Done]:
    processes = (
        {"initializer": begin_worker, "initargs": (folder / "runs", os.getpid())} if protocol.workers > 1 else {}
    )
    with parallel_config("loky", n_jobs=protocol.workers, inner_max_num_threads=1, max_nbytes=None, **processes):
        pool = Parallel(return_as="generator_unordered", batch_size=1)
        yield from pool(delayed(_work)(protocol, songs, run, folder) for run in list(runs))


def _work(protocol: Protocol, songs: pd.DataFrame, run: Run, folder: Path) -> Done:
    marker, threads = _marker(run, folder), torch.get_num_threads()
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            return run, execute(protocol, songs, run, folder).facts
    finally:
        torch.set_num_threads(threads)
        marker.unlink()


def _marker(run: Run, folder: Path) -> Path:
    """A file that is there while a run is in progress."""
    return run.path(folder).with_suffix(".running")


def _bury(protocol: Protocol, run: Run, folder: Path) -> dict[str, Any]:
    """The facts of a run whose process has died, or of another that was in progress at that time."""
    _marker(run, folder).unlink()
    finished = read_result(protocol, run, folder)
    if finished is not None and not finished.error:  # it died after its result was written
        return finished.facts
    facts = header(protocol, run) | {"error": "a worker process died during this run", "seconds": None}
    write_result(run.path(folder), Result(facts, {}))
    return facts
