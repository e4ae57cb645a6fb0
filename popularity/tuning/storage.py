"""Where a study lives: SQLite, PostgreSQL or Optuna's journal file, each with a lock and a heartbeat.

Optuna makes single steps atomic, but not "count the trials, then begin another". Trials are therefore begun under one
lock per storage: a file lock beside SQLite and the journal, an advisory lock in PostgreSQL. Both are released when the
process that holds them ends, however it ends.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
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

#: A trial is lost after this many heartbeats in a row were missed.
MISSED = 4
_BEAT = "heartbeat"
_EXPECTED = "expected sqlite:///FILE, postgresql://USER@HOST/DATABASE or the name of a journal FILE.log"


class Journal(JournalStorage, BaseHeartbeat):
    """Optuna's journal file with a heartbeat, which Optuna offers for databases only.

    A running trial counts its heartbeats in an attribute. An observer whose own clock sees a count stand still for the
    whole grace period takes the trial for lost: clocks of different machines are never compared.

    Args:
        file: the journal.
        interval: seconds between heartbeats.
    """

    def __init__(self, file: Path, interval: int) -> None:
        super().__init__(JournalFileBackend(str(file)))
        self.interval = interval
        self._beats: dict[int, int] = {}
        self._seen: dict[int, tuple[int, float]] = {}

    def record_heartbeat(self, trial_id: int) -> None:
        """Count one more heartbeat of a trial."""
        self._beats[trial_id] = self._beats.get(trial_id, 0) + 1
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # it was taken for lost
            self.set_trial_user_attr(trial_id, _BEAT, self._beats[trial_id])

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        now, stale = time.monotonic(), []
        for trial in self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,)):
            count = trial.user_attrs.get(_BEAT, 0)
            before, since = self._seen.get(trial._trial_id, (None, now))
            if before != count:
                self._seen[trial._trial_id] = (count, now)
            elif now - since > MISSED * self.interval:
                stale.append(trial._trial_id)
        return stale

    def get_heartbeat_interval(self) -> int:
        """Seconds between heartbeats."""
        return self.interval

    def get_heartbeat_stale_trial_callback(self) -> None:
        """None: lost trials are queued again under the lock, which Optuna does not hold when it calls this."""


class Storage(NamedTuple):
    """What Optuna reads and writes, and what keeps out every other process that uses it (``with storage.lock:``)."""

    optuna: RDBStorage | Journal
    lock: AbstractContextManager[Any]


@contextmanager
def open_storage(text: str, heartbeat: int) -> Iterator[Storage]:
    """Open or create a storage, and close its connections at the end.

    Args:
        text: ``sqlite:///FILE``, ``postgresql://USER@HOST/DATABASE``, or the name of a file that ends in ``.log``.
        heartbeat: seconds between heartbeats of a trial.

    Raises:
        InputError: another kind of storage, one that does not answer, or a missing database driver.
    """
    try:
        storage = _open(text, heartbeat)
    except ModuleNotFoundError as error:
        raise InputError(f"--storage: PostgreSQL needs psycopg, in this project's extra [tune] ({error})") from error
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, OSError, RuntimeError) as error:
        raise InputError(f"--storage {hide_password(text)}: {str(error).strip().splitlines()[0]}") from error
    try:
        yield storage
    finally:
        if isinstance(storage.optuna, RDBStorage):
            storage.optuna.remove_session()
            storage.optuna.engine.dispose()


def _open(text: str, heartbeat: int) -> Storage:
    if "://" not in text:
        if not text.endswith(".log"):
            raise InputError(f"--storage: {_EXPECTED}, got {text}")
        lock = _file_lock(Path(text))
        return Storage(Journal(Path(text), heartbeat), lock)
    url = sqlalchemy.make_url(text)
    kind, database = url.get_backend_name(), url.database
    if kind not in ("sqlite", "postgresql") or not database or database == ":memory:":
        raise InputError(f"--storage: {_EXPECTED}, got {hide_password(text)}")
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    lock = _file_lock(Path(database)) if kind == "sqlite" else _AdvisoryLock(url)
    with lock:  # two processes that create the tables at once would collide
        options = {"connect_args": {"timeout": 60}} if kind == "sqlite" else {"pool_pre_ping": True}
        text = url.render_as_string(hide_password=False)
        return Storage(RDBStorage(text, options, heartbeat_interval=heartbeat, grace_period=MISSED * heartbeat), lock)


def _file_lock(file: Path) -> FileLock:
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{file}.claim")  # FILE.lock is the name of Optuna's own


class _AdvisoryLock(contextlib.ExitStack):
    """A lock in PostgreSQL, released with the transaction of a connection of its own."""

    def __init__(self, url: sqlalchemy.URL) -> None:
        super().__init__()
        self.engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)

    def __enter__(self) -> _AdvisoryLock:
        connection = self.enter_context(self.engine.begin())
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(zlib.crc32(b"popularity"))))
        return self


def hide_password(text: str) -> str:
    """A storage's URL as it may be printed."""
    try:
        return sqlalchemy.make_url(text).render_as_string(hide_password=True) if "://" in text else text
    except sqlalchemy.exc.ArgumentError:
        return text
