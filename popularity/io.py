"""Writing files so that nobody ever finds half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from popularity.errors import InputError


def check_target(path: Path) -> None:
    """Tell, before the work is done, whether a file can be written.

    Raises:
        InputError: the folder does not exist, is none, or cannot be written to.
    """
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a file to write, this is a directory")
    if not path.parent.is_dir():
        raise InputError(f"{path}: cannot write there: {path.parent} is no folder")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path}: cannot write there: no right to write to {path.parent}")


def check_folder(path: Path) -> None:
    """Tell whether a folder can be written to, or made if it is not there.

    Raises:
        InputError: it, or the folder it would be made in, is none or cannot be written to.
    """
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise InputError(f"{path}: cannot be made: {nearest} is no folder")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"{path}: cannot write there: no right to write to {nearest}")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of jobs: two commands must not run the same ones.

    Raises:
        InputError: another command holds it, or it cannot be written to.
    """
    check_folder(folder / "jobs")
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "jobs" / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"--output {folder}: another command is running there") from error
    except OSError as error:
        raise InputError(f"--output {folder}: cannot write there: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def write_atomically(path: Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path``; on success it takes the place of ``path``, on failure it is removed.

    Args:
        path: of the file to write.
        binary: bytes instead of text.

    Raises:
        InputError: the folder does not exist, is none, or cannot be written to.
    """
    check_target(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise InputError(f"{path}: cannot write there: {error.strerror}") from error
    try:
        with open(handle, "wb") if binary else open(handle, "w", encoding="utf-8", newline="") as file:
            yield file
        # mkstemp makes a private file; give it the rights that a plain open() would have given
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
