"""How this program was started, for help texts, of which versions it is, and how it ends when it is told to stop."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

from popularity import __version__

#: Modules whose version a result records if they are loaded.
_PACKAGES = (
    *("numpy", "pandas", "scipy", "sklearn", "torch", "lightning", "optuna"),
    *("lightgbm", "xgboost", "catboost", "pytabkit", "tabicl", "tabpfn"),
)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Environment variable: the process that answers a signal for those that it starts.
ANSWERS = "POPULARITY_ANSWERS_SIGNALS"


def program() -> str:
    """``popularity`` for the console script, else ``python -m popularity``."""
    return "popularity" if Path(sys.argv[0]).stem == "popularity" else "python -m popularity"


@functools.cache
def code_version() -> str:
    """The package's version and the first digits of a SHA-256 over its Python files as this process found them."""
    digest, root = hashlib.sha256(), Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:8]}"


def versions() -> dict[str, str]:
    """Versions of Python, this package, and those of the packages that this process has loaded."""
    from importlib import metadata  # slow to import, and --help must not wait for it

    found = {"python": platform.python_version(), "popularity": code_version()}
    for name in _PACKAGES:
        if name in sys.modules:  # the package xgboost comes with the distribution xgboost or xgboost-cpu
            version = getattr(sys.modules[name], "__version__", None) or metadata.version(name)
            found["scikit-learn" if name == "sklearn" else name] = str(version)
    return found


class Stopped(KeyboardInterrupt):
    """The process was told to stop: by Ctrl-C, by SIGTERM or by SIGHUP.

    Args:
        number: of the signal.
        message: what to tell the user.
    """

    def __init__(self, number: int = signal.SIGINT, message: str = "interrupted") -> None:
        super().__init__(message)
        self.number = number

    @property
    def code(self) -> int:
        """Exit code as shells count it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self.number


def stopped(error: BaseException) -> Stopped:
    """How a process was told to stop, from what that raised: Lightning makes a `SystemExit` of `KeyboardInterrupt`."""
    found = error if isinstance(error, KeyboardInterrupt) else error.__context__
    return found if isinstance(found, Stopped) else Stopped()


@contextmanager
def stop_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does: what is half written is removed, and the exit code says why.

    The first signal counts; later ones would interrupt the clean-up. A signal that is ignored stays ignored, as
    ``nohup`` wants. Where the parent answers for this process, it ends with its parent and not by itself.
    """
    if os.environ.get(ANSWERS) == str(parent := os.getppid()):
        _follow(parent, _SIGNALS)
        yield
        return
    before = _not_ignored()
    ours = list(before)

    def stop(number: int, frame: FrameType | None) -> None:
        for other in ours:
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


def _not_ignored() -> dict[signal.Signals, Any]:
    """The signals that may tell this process to stop, with their handlers."""
    found = {number: signal.getsignal(number) for number in _SIGNALS}
    return {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}


class Stop:
    """Whether a signal told this process to stop; it looks where nothing is half written.

    A signal that is ignored stays ignored, as in `stop_signals`.
    """

    told = 0  # the number of the first one

    def __enter__(self) -> Self:
        self._before = _not_ignored()
        for number in self._before:
            signal.signal(number, self._tell)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self.told = self.told or number

    def check(self) -> None:
        """Raise `Stopped` if told to stop."""
        if self.told:
            raise Stopped(self.told)


@contextmanager
def no_hangup() -> Iterator[None]:
    """Start a process here that must outlive a terminal, which when it is closed reaches all processes of a command."""
    if threading.current_thread() is not threading.main_thread():  # only the first can say what signals do
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def in_processes(count: int, run: Callable[[], None], preload: str) -> list[int]:
    """Run a function in new processes of this machine until it has returned in all of them.

    Told to stop, this process tells them. One that is killed leaves the others alone.

    Args:
        count: number of processes.
        run: can be pickled; looks whether it is told to stop, by `Stop`.
        preload: module that is imported once for all of them.

    Returns:
        Which processes were killed, counted from 1.

    Raises:
        Stopped: told to stop.
        Exception: what the function raised in one of them.
    """
    # slow to import, and --help must not wait for it
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import forkserver

    # forked from a process that has imported everything but run nothing: importing costs seconds, threads do not fork
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    with no_hangup():  # nor for the processes that it starts: this one tells them
        forkserver.ensure_running()
    ignore = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches one that has nothing left to do as well
    with ExitStack() as stack, Stop() as stop:
        # a pool for each: one process that is killed breaks its whole pool
        pools = [stack.enter_context(ProcessPoolExecutor(1, context, signal.signal, ignore)) for _ in range(count)]
        futures = [pool.submit(run) for pool in pools]
        while wait(futures, timeout=0.1).not_done and not stop.told:
            pass
        for child in multiprocessing.active_children() if stop.told else []:
            child.terminate()
        wait(futures)
        stop.check()
    killed = []
    for number, future in enumerate(futures, 1):
        try:
            future.result()
        except BrokenProcessPool:
            killed.append(number)
    return killed


def begin_worker(folder: Path, parent: int) -> None:
    """In a new process: its output goes to a file, its parent answers the terminal, and it ends with its parent."""
    file = os.open(folder / f"worker-{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    _follow(parent, (signal.SIGINT, signal.SIGHUP))


def _follow(parent: int, ignored: Iterable[int]) -> None:
    """Leave these signals to the parent, and end with it."""
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Without its parent a process would go on with runs that the next command begins too."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
