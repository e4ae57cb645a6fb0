"""Atomic file writes, early checks of output paths, and the lock of a folder."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import stat
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from popularity.errors import NO_SPACE, InputError
from popularity.remote import address_of, check_address, sent

#: As an output path: standard output.
STANDARD_OUTPUT = "-"

#: Ending of files that are not complete yet, and the seconds after which one that nobody has locked is a leftover: a
#: new one is locked at once.
_PART, _LEFT_OVER = ".popularity.part", 5


def check_target(path: str | Path, inputs: Sequence[str | Path | None] = ()) -> None:
    """Check, before any work is done, that a file can be written. Nothing is opened or created.

    Args:
        path: of the file to write; symbolic links are followed, and ``-`` is standard output.
        inputs: files that must not be overwritten; ``None`` and names of files that do not exist are skipped.

    Raises:
        InputError: the path is a folder, a block device or a socket; its folder does not exist, is not a folder or
            is not writable; it is one of the inputs; or there is no such bucket in object storage.
    """
    if str(path) == STANDARD_OUTPUT:
        return
    if not str(path):
        raise InputError("expected the name of a file to write, got an empty text")
    if (address := address_of(path)) is not None:
        check_address(address)
        return
    mode = _mode(path)
    for source in inputs:
        if source is not None and _same_file(path, source):
            raise InputError(f"{path}: expected another file to write to, this is the input {source}")
    if mode is not None:
        if stat.S_ISDIR(mode):
            raise InputError(f"{path}: expected the name of a file to write, got a directory")
        if not stat.S_ISREG(mode) and not _is_stream(mode):
            raise InputError(f"{path}: expected a file or a pipe to write to, got a block device or a socket")
        if not os.access(path, os.W_OK):
            raise InputError(f"{path}: cannot write: no permission to write to this file")
    if not _is_stream(mode):
        folder = Path(os.path.realpath(path)).parent
        if not folder.is_dir():
            raise InputError(f"{path}: cannot write: {folder} is not a folder")
        if not os.access(folder, os.W_OK):
            raise InputError(f"{path}: cannot write: no permission to write to {folder}")


def check_folder(path: Path) -> None:
    """Check that a folder is writable, or can be created if it does not exist.

    Raises:
        InputError: it, or the folder it would be created in, is not a folder or is not writable; or no folder can
            have this name.
    """
    if (address := address_of(path)) is not None:
        raise InputError(f"{address}: expected a folder of this machine, got an address in object storage")
    nearest = next(folder for folder in (path, *path.absolute().parents) if _mode(folder) is not None)
    if not nearest.is_dir():
        raise InputError(f"{path}: cannot create this folder: {nearest} is not a folder")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"{path}: cannot write: no permission to write to {nearest}")


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of results, created if needed: two commands must not fill it at the same time.

    Raises:
        InputError: another command holds the lock, or the folder is not writable.
    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"{folder}: another command is running in this folder") from error
    except OSError as error:
        raise InputError(f"{folder}: cannot write: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def write_atomically(path: str | Path, *, binary: bool = False, durable: bool = False) -> Iterator[IO[Any]]:
    """Open a file that replaces ``path`` only if the block succeeds; otherwise the old file stays as it was.

    A symbolic link stays a link and its target is replaced. Pipes, character devices and ``-`` (standard output) are
    never replaced: they receive the content as a stream once it is complete, and nothing if the block fails. The same
    holds for addresses such as ``s3://bucket/file``.

    Args:
        path: of the file to write.
        binary: bytes instead of text; a file, not a stream, can be read as well, to check what was written.
        durable: wait until the disk has the file, so that it survives a power cut too.

    Raises:
        InputError: as :func:`check_target`; or there is no space left, or nobody reads from the pipe any more.
    """
    check_target(path)
    try:
        if str(path) == STANDARD_OUTPUT or _is_standard_output(path):
            with _collected(binary) as file:
                yield file
                _print(file)
        elif (address := address_of(path)) is not None:
            with sent(address, binary=binary) as file:
                yield file
        elif _is_stream(_mode(path)):
            with _collected(binary) as file:
                yield file
                _send(path, file)
        else:
            with _replacement(Path(os.path.realpath(path)), binary=binary, durable=durable) as file:
                yield file
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise  # not about this file: the block does other things as well
        raise InputError(f"{path}: cannot write: {error.strerror}") from error


def _mode(path: str | Path) -> int | None:
    """Type and permissions of the file at the end of the symbolic links; ``None`` if it does not exist."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # a loop of links, a name that is too long, a folder that may not be entered
        raise InputError(f"{str(path)[:200]}: cannot write: {error.strerror}") from error
    except ValueError as error:  # a config can hold it, the command line cannot
        raise InputError(f"{str(path)!r}: cannot write: a name cannot hold the character NUL") from error


def _is_stream(mode: int | None) -> bool:
    return mode is not None and (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode))


def _is_standard_output(path: str | Path) -> bool:
    """Whether a path such as ``/dev/stdout`` is a file that standard output goes to: replacing it would cut it off."""
    with suppress(OSError):
        return os.path.samestat(os.stat(path), os.fstat(1))
    return False


def _same_file(path: str | Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):  # one of them does not exist, or cannot
        return False


def _collected(binary: bool) -> IO[Any]:
    """A file without a name, as the content may be larger than memory."""
    if binary:
        return tempfile.TemporaryFile()
    return tempfile.TemporaryFile("w+", encoding="utf-8", newline="")


def _print(file: IO[Any]) -> None:
    file.seek(0)
    if isinstance(file.read(0), bytes):
        sys.stdout.flush()
        shutil.copyfileobj(file, sys.stdout.buffer)
    else:
        shutil.copyfileobj(file, sys.stdout)
    sys.stdout.flush()


def _send(path: str | Path, file: IO[Any]) -> None:
    file.seek(0)
    text = isinstance(file.read(0), str)
    try:
        with open(path, "w", encoding="utf-8", newline="") if text else open(path, "wb") as stream:
            shutil.copyfileobj(file, stream)
    except OSError as error:
        reason = "the reader has gone away" if isinstance(error, BrokenPipeError) else error.strerror
        raise InputError(f"{path}: cannot write: {reason}") from error


@contextmanager
def _replacement(target: Path, *, binary: bool, durable: bool) -> Iterator[IO[Any]]:
    """A temporary file beside ``target``: it replaces it on success and is removed on failure."""
    _sweep(target.parent)
    try:
        # a name that is cut: with its prefix and suffix it must not get longer than file names may be
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.", suffix=_PART)
    except OSError as error:
        raise InputError(f"{target}: cannot write: {error.strerror}") from error
    try:
        with open(handle, "w+b") if binary else open(handle, "w", encoding="utf-8", newline="") as file:
            _lock(handle)
            yield file
            if durable:
                file.flush()
                os.fsync(handle)
        os.chmod(name, _permissions(target))
        os.replace(name, target)
    except BaseException:
        with suppress(FileNotFoundError):  # a signal may arrive after the file got its name
            os.unlink(name)
        raise
    if durable:
        _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """The new name of a file is kept by its folder, which some file systems cannot sync."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Lock a file until it is closed, by the end of its process at the latest; False where that cannot be done."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process holds the lock, or the file system has none
        return False
    return True


def remove_left_over(path: Path) -> None:
    """Remove what a killed process left behind, unless a process is there that holds the lock of this file."""
    with suppress(OSError), open(path, "rb") as file:  # somebody else's, or just completed
        if _lock(file.fileno()):
            path.unlink()


@functools.cache
def _sweep(folder: Path) -> None:
    """Remove what killed processes left half written in a folder; once per process."""
    for path in folder.glob(f".*{_PART}"):
        with suppress(OSError):  # just completed
            if time.time() - path.stat().st_mtime >= _LEFT_OVER:
                remove_left_over(path)


def _permissions(target: Path) -> int:
    """Those of the file that is replaced, or those that a plain ``open()`` gives a new one (mkstemp's are private)."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def is_whole(file: str | Path | IO[bytes]) -> bool:
    """Whether a checkpoint is complete and as it was written: a checkpoint is a zip file with checksums (CRC-32).

    Its parts are never compressed: a small file that unpacks to a huge one is not whole either.

    Args:
        file: a path or an open file.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in archive.infolist())
            return stored and archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, OverflowError, IndexError):
        return False
