"""Files in object storage, by fsspec: ``s3://bucket/...``, ``gs://bucket/...`` and ``hf://datasets/...``."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from filelock import FileLock

from popularity.errors import InputError

#: No others: fsspec also knows shells of other machines and files within files, and a checkpoint may name its source.
_ADDRESS = re.compile(r"(s3|gs|hf):/+(.+)", re.DOTALL)


def address_of(path: str | Path) -> str | None:
    """The address in object storage that is meant, None for a file of this machine.

    Args:
        path: as given, also as `Path`, which makes one slash of two.
    """
    found = _ADDRESS.fullmatch(str(path))
    return f"{found[1]}://{found[2]}" if found else None


@contextmanager
def storage(address: str, what: str) -> Iterator[tuple[Any, str]]:
    """The file system of an address and the path in it; what it refuses, in the block too, is one line.

    Args:
        address: from :func:`address_of`.
        what: is done, for the message.

    Raises:
        InputError: the package for it is not installed, there is no such file, or what the storage says.
    """
    from fsspec.core import url_to_fs  # slow to import

    try:
        yield url_to_fs(address)
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{address}: cannot {what}: install this project's extra [cloud] ({error})") from error
    except FileNotFoundError as error:
        raise InputError(f"{address}: cannot {what}: there is no such file or bucket") from error
    except Exception as error:  # each storage has errors of its own
        told = " ".join(str(error).split())[:200]
        raise InputError(f"{address}: cannot {what}: {told or type(error).__name__}") from error


def fetch(address: str, folder: Path) -> Path:
    """Copy a file to this machine; once for each version of it, also where several processes ask at once.

    A copy that has been damaged since is made again: its SHA-256 lies beside it.

    Args:
        address: from :func:`address_of`.
        folder: of the copies.

    Raises:
        InputError: as :func:`storage`.
    """
    with storage(address, "read") as (files, path):
        found = files.info(path)
        if found["type"] != "file":
            raise InputError(f"{address}: expected a file, got a directory")
        version = hashlib.sha256(f"{address}\0{files.ukey(path)}".encode()).hexdigest()[:16]
        kept = folder / version / PurePosixPath(path).name
        told = kept.with_name(f"{kept.name}.sha256")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if not kept.is_file() or not told.is_file() or told.read_text() != _sha256(kept):
                part = kept.with_name(f".{kept.name}.part")
                with files.open(path, "rb") as source, open(part, "wb") as file:
                    shutil.copyfileobj(source, file)
                told.write_text(_sha256(part))
                part.replace(kept)
    return kept


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_address(address: str) -> None:
    """Check, before any work is done, that there is a bucket to write to.

    Raises:
        InputError: as :func:`storage`.
    """
    with storage(address, "write") as (files, path):
        bucket = path.lstrip("/").partition("/")[0]
        if not address.startswith("hf") and not files.exists(bucket):
            raise InputError(f"{address}: cannot write: there is no bucket {bucket}")


@contextmanager
def sent(address: str, *, binary: bool) -> Iterator[IO[Any]]:
    """A file of this machine that goes to an address if the block succeeds; it appears there whole or not at all.

    Raises:
        InputError: as :func:`storage`.
    """
    text: dict[str, Any] = {} if binary else {"encoding": "utf-8", "newline": ""}
    with tempfile.NamedTemporaryFile("w+b" if binary else "w", **text) as file:
        yield file
        file.flush()
        with storage(address, "write") as (files, path):
            files.put_file(file.name, path)
