"""What an encoder has learned from many songs, kept in the cache folder for the next fit to the same songs.

Learning takes most of the time before training, and whoever tries settings of a network on a large file would wait for
it each time. A file is found by everything that it depends on: the songs, those of them that train, the rule of the
split, the encoder's settings, the code that reads and encodes songs, and the libraries beneath.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import torch
from filelock import Timeout

from popularity.data.sources import machine_lock
from popularity.errors import InputError
from popularity.features.base import Encoder
from popularity.io import is_whole, write_atomically

logger = logging.getLogger(__name__)

#: Training songs from which on an encoder is kept, and files in the folder: the one that was used longest ago goes.
LEAST, KEPT = 200_000, 4
_LIBRARIES = ("numpy", "pandas", "scikit-learn", "scipy", "torch")


def place_of(
    cache_dir: Path | None, settings: Mapping[str, Any], fingerprint: str, kind: str, rows: np.ndarray
) -> Path:
    """The file for an encoder, whether it is there or not.

    Args:
        cache_dir: as for downloads.
        settings: of the encoder: its class and arguments.
        fingerprint: of the song table.
        kind: rule of the split.
        rows: ``(n,)`` of the table that train.
    """
    said = [settings, fingerprint, kind, hashlib.sha256(rows.tobytes()).hexdigest(), _code()]
    said += [[name, version(name)] for name in _LIBRARIES]
    name = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:32]
    return Path(cache_dir or pooch.os_cache("popularity")) / "encoders" / f"{name}.pt"


def learn_or_read(encoder: Encoder, learn: Callable[[], None], path: Path) -> None:
    """Bring an encoder to what it learns, from the file if it is there and whole; otherwise learn, and keep it.

    Of several processes that train together one learns, and the others wait and read. A cache that cannot be written is
    no reason to end a fit.

    Args:
        encoder: not fitted.
        learn: fits it.
        path: from :func:`place_of`.
    """
    if _read(encoder, path):
        return
    with _one_at_a_time(path):
        if not (path.is_file() and is_whole(path)):  # else another process has learned it meanwhile
            learn()
            _keep(encoder, path)
            return
    if not _read(encoder, path):
        learn()


def _keep(encoder: Encoder, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path, binary=True) as file:
            torch.save(encoder.state(), file)
        for old in sorted(path.parent.glob("*.pt"), key=lambda one: one.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)
        logger.info("encoder: kept for the next fit to these songs in %s", path)
    except (OSError, InputError) as error:
        logger.warning("the encoder is not kept for the next fit: %s", error)


def _read(encoder: Encoder, path: Path) -> bool:
    """Whether the file was there, and whole."""
    if not path.is_file():
        return False
    if not is_whole(path):
        logger.warning("%s: damaged, learned again", path)
        return False
    encoder.load_state(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    with suppress(OSError):  # a cache that is only read
        path.touch()
    logger.info("encoder: learned by an earlier fit to these songs, read from %s", path)
    return True


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Processes of one machine take turns; where it has no locks, they do not."""
    with ExitStack() as stack:
        with suppress(OSError, NotImplementedError):
            lock = machine_lock(path.stem)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                logger.info("encoder: another process learns from these songs, which is waited for")
                lock.acquire()
            stack.callback(lock.release)
        yield


@cache
def _code() -> str:
    """SHA-256 of the modules that read and encode songs."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(path for part in ("data", "features") for path in (package / part).rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
