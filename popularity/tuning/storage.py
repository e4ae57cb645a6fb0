"""Where a study lives: SQLite, PostgreSQL or a journal file, each with a lock, signs of life and retries.

Optuna's storages make single steps atomic, not "count the trials and begin another". Every claim of a trial therefore
runs under one lock per storage: a file lock beside SQLite and the journal, an advisory lock in PostgreSQL. Both
end with the process that holds them, however it ends.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from popularity.errors import InputError

log = logging.getLogger("popularity")

#: A trial is taken for lost after this many signs of life that did not come.
MISSED = 4
#: A trial that kills its worker this often is not tried again.
RETRIES = 3
#: Under this name the trial says which process runs it.
WORKER = "worker"
#: Marks a failed trial that counts as done: trying it again would end the same way.
ENDED = "ended"
_BEAT = "beat"


class _Retry(RetryHeartbeatStaleTrialCallback):
    """Optuna's own retry, but for the dead worker's notes: the next worker writes its own."""

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        trial.user_attrs = {}
        super().__call__(study, trial)


class StudyStorage:
    """One storage for all workers of a study.

    Args:
        heartbeat: seconds between signs of life.
    """

    optuna: BaseStorage

    def __init__(self, heartbeat: int) -> None:
        self.heartbeat = heartbeat
        self.retry = _Retry(max_retry=RETRIES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connections, if there are any."""

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep out every other process that uses this storage."""
        raise RuntimeError("open_storage gives a storage that has a lock")
        yield

    def beat(self, trial_id: int) -> None:
        """Record a sign of life of a trial."""
        raise RuntimeError("open_storage gives a storage that has a heartbeat")

    def retry_lost(self, study: Study) -> None:
        """Fail the trials of dead workers and queue them again; only under the lock."""
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # a worker signs its trial under the lock that is ours now: it died in between
            if WORKER not in trial.user_attrs or self._is_lost(trial):
                self.requeue(study, trial.number)
                log.info(f"trial {trial.number}: its worker died, it is tried again")

    def _is_lost(self, trial: FrozenTrial) -> bool:
        return False

    def requeue(self, study: Study, number: int, *, limited: bool = True) -> None:
        """Fail a running trial and queue its settings again; one without settings is drawn anew."""
        failed = study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        if failed.state == TrialState.FAIL and failed.params and ENDED not in failed.user_attrs:
            (self.retry if limited else _Retry())(study, failed)

    @contextmanager
    def alive(self, trial_id: int) -> Iterator[None]:
        """Give signs of life of a trial from a thread."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(self.heartbeat):
                try:
                    self.beat(trial_id)
                except Exception as error:  # the next beat may pass; if none does, the trial is tried again elsewhere
                    log.debug(f"no sign of life of trial id {trial_id}: {error}")

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


class _Database(StudyStorage):
    """SQLite and PostgreSQL: Optuna's own heartbeat, by the database's clock."""

    def __init__(self, url: str, heartbeat: int) -> None:
        super().__init__(heartbeat)
        self.url = sqlalchemy.make_url(url)
        sqlite = self.url.get_backend_name() == "sqlite"
        self.file = Path(self.url.database or "") if sqlite else None
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        # the lock's connection is no part of Optuna's pool, which may be used up while the lock is waited for
        self.engine = sqlalchemy.create_engine(self.url, poolclass=sqlalchemy.NullPool)
        with self.lock():  # two processes that create the tables at once would collide
            self.database = RDBStorage(
                self.url.render_as_string(hide_password=False),
                engine_kwargs={"connect_args": {"timeout": 60}} if sqlite else {"pool_pre_ping": True},
                heartbeat_interval=heartbeat,
                grace_period=MISSED * heartbeat,
                heartbeat_stale_trial_callback=self.retry,
            )
        self.optuna = self.database

    def __exit__(self, *error: object) -> None:
        """Close the connections."""
        self.database.remove_session()
        self.database.engine.dispose()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """File lock beside SQLite, advisory lock of PostgreSQL."""
        if self.file is not None:
            with FileLock(f"{self.file}.claim"):
                yield
        else:
            with self.engine.begin() as connection:  # released with the transaction
                connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(zlib.crc32(b"popularity"))))
                yield

    def beat(self, trial_id: int) -> None:
        """Record a sign of life of a trial."""
        self.database.record_heartbeat(trial_id)

    def retry_lost(self, study: Study) -> None:
        """Fail the trials of dead workers and queue them again; only under the lock."""
        super().retry_lost(study)
        optuna.storages.fail_stale_trials(study)


class _Journal(StudyStorage):
    """Optuna's journal file, which has no heartbeat of its own.

    A running trial counts its signs of life in an attribute. Whoever claims a trial remembers the counts that it saw;
    one that stands still for the whole time of grace, by the observer's own clock, belongs to a dead worker. No two
    machines' clocks are ever compared.
    """

    def __init__(self, file: Path, heartbeat: int) -> None:
        super().__init__(heartbeat)
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        with self.lock():
            self.optuna = JournalStorage(JournalFileBackend(str(file)))
        self._count: dict[int, int] = {}
        self._seen: dict[int, tuple[int, float]] = {}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """File lock beside the journal."""
        with FileLock(f"{self.file}.claim"):
            yield

    def beat(self, trial_id: int) -> None:
        """Record a sign of life of a trial."""
        self._count[trial_id] = self._count.get(trial_id, 0) + 1
        self.optuna.set_trial_user_attr(trial_id, _BEAT, self._count[trial_id])

    def _is_lost(self, trial: FrozenTrial) -> bool:
        now, count = time.monotonic(), trial.user_attrs.get(_BEAT, 0)
        before = self._seen.get(trial._trial_id)
        if before is None or before[0] != count:
            self._seen[trial._trial_id] = (count, now)
            return False
        return now - before[1] > MISSED * self.heartbeat


def open_storage(text: str, heartbeat: int) -> StudyStorage:
    """Open or create a storage.

    Args:
        text: ``sqlite:///FILE``, ``postgresql://USER@HOST/DATABASE``, or the name of a file that ends in ``.log``.
        heartbeat: seconds between signs of life of a trial.

    Raises:
        InputError: another kind of storage, one that does not answer, or a missing database driver.
    """
    try:
        if "://" not in text:
            if not text.endswith(".log"):
                raise InputError(f"--storage {text}: expected sqlite:///FILE, postgresql://... or a journal FILE.log")
            return _Journal(Path(text), heartbeat)
        url = sqlalchemy.make_url(text)
        if url.get_backend_name() == "postgresql" and url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() not in ("sqlite", "postgresql") or not url.database or url.database == ":memory:":
            raise InputError(
                f"--storage {hide_password(text)}: expected sqlite:///FILE, postgresql://USER@HOST/DATABASE or a "
                "journal FILE.log; in-memory databases and others cannot be shared safely"
            )
        return _Database(url.render_as_string(hide_password=False), heartbeat)
    except ModuleNotFoundError as error:
        raise InputError(f"--storage: {error}; PostgreSQL needs `pip install 'popularity[postgres]'`") from error
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"--storage {hide_password(text)}: {reason}") from error


def hide_password(text: str) -> str:
    """A storage's URL as it may be printed."""
    try:
        return sqlalchemy.make_url(text).render_as_string(hide_password=True) if "://" in text else text
    except sqlalchemy.exc.ArgumentError:
        return text
