"""A worker claims trials and runs them until the study holds as many as were asked for."""

from __future__ import annotations

import logging
import math
import signal
import statistics
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.trial import TrialState

from popularity.cli import quiet_lightning
from popularity.tuning.options import Search
from popularity.tuning.report import log_trial
from popularity.tuning.space import load_space
from popularity.tuning.storage import ENDED, StudyStorage, open_storage
from popularity.tuning.study import claim, finite, make_pruner, remaining
from popularity.tuning.trial import Tables, run_trial

#: What an interruption looks like: Lightning turns Ctrl-C into an exit of the process.
STOPPED = (KeyboardInterrupt, SystemExit, SIGTERMException)
_POLL = 1.0  # seconds between looks at a study whose last trials run elsewhere


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what Optuna and Lightning say at each trial."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("popularity").setLevel(logging.INFO)
    lightning = logging.getLogger("lightning.pytorch")
    before = lightning.level, optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        quiet_lightning()
        # heartbeat, retry and the signed-rank pruner are what Optuna offers; tests show that they hold
        warnings.simplefilter("ignore", ExperimentalWarning)
        # ours beats during ask and tell as well
        warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used with Study.optimize")
        lightning.setLevel(logging.WARNING)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            yield
        finally:
            lightning.setLevel(before[0])
            optuna.logging.set_verbosity(before[1])


class Interrupts:
    """Turns SIGINT and SIGTERM into one KeyboardInterrupt, which waits while a trial is claimed or told."""

    def __init__(self) -> None:
        self._deferred = self._pending = self._raised = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        self._pending = True
        self._raise_unless_deferred()

    def _raise_unless_deferred(self) -> None:
        if self._pending and not self._deferred and not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Interruptions wait until the end of this block."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        self._raise_unless_deferred()


class Worker:
    """One process of a search.

    Args:
        search: the search.
        storage: of the study.
        interrupts: of this process.
    """

    def __init__(self, search: Search, storage: StudyStorage, interrupts: Interrupts) -> None:
        self.search, self.storage, self.interrupts = search, storage, interrupts
        self.space = load_space(search.options.space)
        self.study = optuna.load_study(
            study_name=search.options.study, storage=self.storage.optuna, pruner=make_pruner(search)
        )
        self.tables: Tables = {}
        self.overheads: list[float] = []

    def run(self) -> None:
        """Work until the study is full, the time is over or the space is used up.

        Raises:
            KeyboardInterrupt: after the running trial has been queued again.
        """
        while True:
            began = time.perf_counter()
            trial = None
            try:
                with self.interrupts.deferred(), self.storage.lock():
                    self.storage.retry_lost(self.study)
                    left, running = remaining(self.search, self.study)
                    late = self.search.deadline is not None and time.time() > self.search.deadline
                    if left > 0 and not late:
                        trial = claim(self.search, self.storage, self.study, self.space)
                if trial is not None:
                    self._run(trial, began)
                elif late or left > 0 or not running:
                    if left > 0 and not late:
                        print("the space holds no other settings: the search ends before --trials")
                    return
                else:
                    # the last trials run elsewhere; should their worker die, they are tried again here
                    time.sleep(_POLL)
            except STOPPED as stopped:
                if trial is not None:
                    self.storage.requeue(self.study, trial.number, limited=False)
                raise KeyboardInterrupt from stopped
            except UpdateFinishedTrialError:
                assert trial is not None
                print(f"trial {trial.number}: gave no sign of life for too long, and is tried again")
            except BaseException:
                if trial is not None:
                    self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
                raise

    def _run(self, trial: optuna.Trial, began: float) -> None:
        folder = self.search.folder / f"trial_{trial.number:04d}"
        values: list[float] | None = None
        note = ""
        try:
            with self.storage.alive(trial._trial_id):
                metrics = run_trial(self.search, trial, folder, self.tables)
            values = [metrics[objective.name] for objective in self.search.objectives]
            trial.set_user_attr("metrics", {k: v for k, v in metrics.items() if math.isfinite(v)})
            if not finite(values):
                values, note = None, "diverged"
        except optuna.TrialPruned as pruned:
            note = str(pruned)
        except torch.OutOfMemoryError:
            note = "out of memory"
        with self.interrupts.deferred():
            if values is not None:
                self.study.tell(trial, values)
            else:
                trial.set_user_attr("note", note)
                trial.set_user_attr(ENDED, True)
                # a sampler learns from a pruned trial that its settings are bad; fronts know no pruned trials
                state = TrialState.PRUNED if len(self.search.objectives) == 1 else TrialState.FAIL
                self.study.tell(trial, state=state)
            frozen = self.study.get_trials(deepcopy=False)[trial.number]
            log_trial(folder, frozen, self.search.objectives)
            seconds = frozen.user_attrs.get("seconds", 0.0)
            self.overheads.append(time.perf_counter() - began - seconds)
            told = "  ".join(f"{o.name} {v:.5g}" for o, v in zip(self.search.objectives, values or [], strict=False))
            print(f"trial {trial.number}: {told or note}  ({seconds:.1f} s)", flush=True)

    def summary(self) -> str:
        """One line on how long trials took beside their training."""
        if not self.overheads:
            return "no trial was run here"
        first, *rest = self.overheads
        line = f"{len(self.overheads)} trials here; seconds beside training: {first:.2f} for the first"
        return line + (f", then {statistics.median(rest):.2f} (at most {max(rest):.2f})" if rest else "")


def work(search: Search) -> None:
    """Run a worker in this process."""
    with quiet(), Interrupts() as interrupts, open_storage(search.storage, search.options.heartbeat) as storage:
        worker = Worker(search, storage, interrupts)
        try:
            worker.run()
        finally:
            print(worker.summary(), flush=True)
