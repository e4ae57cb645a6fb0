"""Jobs in parallel processes. One that dies loses its running job alone."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pandas as pd

from popularity.errors import InputError
from popularity.evaluation.jobs import header, read_result, run_job, write_result
from popularity.evaluation.protocol import Job, Protocol

#: What a process reads when it loads a numerical library: one thread, so that N workers do not fight over the cores.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_PATIENCE = 5.0  # seconds that a worker has to end when it is told to
_STARTS = 3  # workers that may die one after the other before they are ready: the next would fare no better
#: Spawned, not forked: no lock or thread of this process is half copied into a worker.
_CONTEXT = multiprocessing.get_context("spawn")


class Worker:
    """A process that runs one job after the other; its output goes to a log file."""

    def __init__(self, protocol: Protocol, songs: pd.DataFrame, folder: Path, number: int) -> None:
        self.log = folder / "jobs" / f"worker-{number}.log"
        self.job: Job | None = None
        self.ready = False
        self.connection, theirs = _CONTEXT.Pipe()
        arguments = (protocol, songs, folder, self.log, theirs)
        self.process = _CONTEXT.Process(target=_serve, args=arguments, name=f"worker {number}")
        with _for_workers():
            self.process.start()
        theirs.close()

    def give(self, job: Job) -> None:
        """Start a job."""
        self.job = job
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died: the next look at its pipe will tell
            self.connection.send(job)

    def stop(self) -> None:
        """End the process now."""
        self.process.terminate()
        self.process.join(_PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def run_jobs(
    protocol: Protocol,
    songs: pd.DataFrame,
    jobs: Sequence[Job],
    folder: Path,
    workers: int,
    ended: Callable[[Job, dict[str, Any]], None],
) -> None:
    """Run jobs in worker processes.

    Args:
        protocol: the comparison.
        songs: the whole song table.
        jobs: in the order in which they begin.
        folder: of the comparison.
        workers: processes.
        ended: told of each job and its result, which has been written.

    Raises:
        InputError: workers cannot start.
    """
    queue = deque(jobs)
    pool: list[Worker] = []
    numbers = itertools.count(1)
    unready = 0  # in a row
    try:
        while queue or any(worker.job for worker in pool):
            while queue and len(pool) < workers:
                pool.append(Worker(protocol, songs, folder, next(numbers)))
                pool[-1].give(queue.popleft())
            ready = wait([worker.connection for worker in pool])
            for worker in [worker for worker in pool if worker.connection in ready]:
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):  # at the end of a message, or within one
                    pool.remove(worker)
                    if worker.job is None:  # there was nothing left for it to do
                        worker.stop()
                        continue
                    if worker.ready:
                        _bury(worker, worker.job, protocol, folder, ended)
                        continue
                    worker.stop()
                    unready += 1
                    if unready == _STARTS:
                        raise InputError(f"{worker.process.name} could not start; {worker.log} says why") from None
                    queue.appendleft(worker.job)  # it was not begun
                    continue
                if message is None:
                    worker.ready, unready = True, 0
                    continue
                job, worker.job = worker.job, None
                assert job is not None
                ended(job, message)
                if queue:
                    worker.give(queue.popleft())
    finally:
        for worker in pool:
            worker.stop()


def _bury(
    worker: Worker, job: Job, protocol: Protocol, folder: Path, ended: Callable[[Job, dict[str, Any]], None]
) -> None:
    worker.process.join(_PATIENCE)
    code = worker.process.exitcode
    worker.stop()
    finished = read_result(protocol, job, folder)
    if finished is not None and not finished["error"]:  # it died after its result was written
        ended(job, finished)
        return
    how = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
    result = header(protocol, job) | {"error": f"its process was {how}", "seconds": None}
    write_result(job.path(folder), result, {})
    ended(job, result)


@contextmanager
def _for_workers() -> Iterator[None]:
    """What a new process inherits: one thread per library, and deafness to Ctrl-C, which is this process's business."""
    before = {name: os.environ.get(name) for name in _THREADS}
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if main:
            signal.signal(signal.SIGINT, handler)


def _serve(protocol: Protocol, songs: pd.DataFrame, folder: Path, log: Path, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    import torch

    torch.set_num_threads(1)
    connection.send(None)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        print(f"--- {job}", flush=True)
        connection.send(run_job(protocol, songs, job, folder))


def _die_with_parent() -> None:
    """A worker must not go on when nobody waits for it: the next command would run the same job beside it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
