"""Where a study lives: SQLite, PostgreSQL or Optuna's journal file, each with a lock and a heartbeat.

Optuna makes single steps atomic, but not "count the trials, then begin another": trials begin under one lock per
storage, a file lock or PostgreSQL's advisory lock, which is released when the process that holds it ends.
"""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages._heartbeat import BaseHeartbeat  # Optuna has no public name for it
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from popularity.errors import InputError

_MISSED = 4  # heartbeats in a row after which a trial is lost


class Journal(JournalStorage, BaseHeartbeat):
    """Optuna's journal file with a heartbeat, which Optuna offers for databases only.

    The clocks of machines that share a journal must agree better than the grace period.
    """

    def __init__(self, file: Path, interval: int) -> None:
        super().__init__(JournalFileBackend(str(file)))
        self._interval = interval

    def record_heartbeat(self, trial_id: int) -> None:
        """Record the time, unless the trial was taken for lost."""
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self.set_trial_user_attr(trial_id, "heartbeat", time.time())

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        oldest = time.time() - _MISSED * self._interval
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        return [trial._trial_id for trial in running if trial.user_attrs.get("heartbeat", oldest) < oldest]

    def get_heartbeat_interval(self) -> int:
        """Seconds between heartbeats."""
        return self._interval

    def get_heartbeat_stale_trial_callback(self) -> None:
        """None: lost trials are queued again under the lock, which Optuna does not hold when it calls this."""


class Storage(NamedTuple):
    """What Optuna reads and writes, and a lock that keeps out every other process: ``with storage.lock(): ...``."""

    optuna: RDBStorage | Journal
    lock: Callable[[], AbstractContextManager[Any]]


@contextmanager
def open_storage(text: str, heartbeat: int) -> Iterator[Storage]:
    """Open or create the storage of ``--storage``, with seconds between heartbeats, and close it at the end.

    Raises:
        InputError: another kind of storage, one that does not answer, is damaged or full, or a missing driver.
    """
    try:
        storage = _open(text, heartbeat)
    except ModuleNotFoundError as error:
        raise InputError(f"--storage: {error}, install this project's extra [tune]") from error
    except (
        *(sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, OSError, RuntimeError),
        *(ValueError, KeyError, TypeError, AssertionError),  # a damaged journal raises whatever the damage leads to
    ) as error:
        raise InputError(f"--storage {hide_password(text)}: {_first_line(error)}") from error
    try:
        yield storage
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, json.JSONDecodeError) as error:
        reason = f"is damaged, or cannot be written: {_first_line(error.__cause__ or error)}"
        raise InputError(f"--storage {hide_password(text)}: {reason}") from error
    finally:
        if isinstance(storage.optuna, RDBStorage):
            storage.optuna.remove_session()
            storage.optuna.engine.dispose()


def _open(text: str, heartbeat: int) -> Storage:
    url = sqlalchemy.make_url(text) if "://" in text else None
    file = Path(text if url is None else url.database or "")
    kind = file.suffix if url is None else url.get_backend_name()
    if kind not in (".log", "sqlite", "postgresql") or str(file) in (".", ":memory:"):
        expected = "sqlite:///FILE, postgresql://USER@HOST/DATABASE or the name of a journal FILE.log"
        raise InputError(f"--storage: expected {expected}, got {hide_password(text)}")
    lock: Callable[[], AbstractContextManager[Any]] = partial(FileLock, f"{file}.claim")  # FILE.lock is Optuna's own
    if kind != "postgresql":
        file.parent.mkdir(parents=True, exist_ok=True)
    if url is None:
        return Storage(Journal(file, heartbeat), lock)
    options: dict[str, Any] = {"connect_args": {"timeout": 60}}
    if kind == "postgresql":
        url = url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
        lock, options = partial(_advisory_lock, url), {"pool_pre_ping": True}
    with lock():  # two processes that create the tables at once would collide
        text = url.render_as_string(hide_password=False)
        return Storage(RDBStorage(text, options, heartbeat_interval=heartbeat, grace_period=_MISSED * heartbeat), lock)


@contextmanager
def _advisory_lock(url: sqlalchemy.URL) -> Iterator[None]:
    # a connection of its own: Optuna's pool may be used up while the lock is waited for
    with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).begin() as connection:
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(zlib.crc32(b"popularity"))))
        yield  # the lock is released with the transaction


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__  # SQLAlchemy adds statements and links


def hide_password(text: str) -> str:
    """A storage's URL as it may be printed."""
    return re.sub(r"(://[^/@]*?):[^/@]*@", r"\1:***@", text)
