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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Self

from popularity import __version__

#: Modules whose version a result records if they are loaded.
_PACKAGES = (
    *("numpy", "pandas", "scipy", "sklearn", "torch", "lightning", "optuna"),
    *("lightgbm", "xgboost", "catboost", "pytabkit", "tabicl", "tabpfn"),
)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
    ``nohup`` wants.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]

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


class Stop:
    """Whether SIGINT or SIGTERM told this process to stop; it looks where nothing is half written."""

    told = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._tell) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _tell(self, *_: object) -> None:
        self.told = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if told to stop."""
        if self.told:
            raise KeyboardInterrupt


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
        KeyboardInterrupt: told to stop.
        Exception: what the function raised in one of them.
    """
    # slow to import, and --help must not wait for it
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool

    # forked from a process that has imported everything but run nothing: importing costs seconds, threads do not fork
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
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
    """In a new process: its output goes to a file, Ctrl-C is its parent's business, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    file = os.open(folder / f"worker-{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Without its parent a process would go on with runs that the next command begins too."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
