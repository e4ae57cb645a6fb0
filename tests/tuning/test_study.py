"""Claims, retries and interruptions, with a formula in the place of a fit."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from popularity.tuning.options import Objective, Options, Search

pytestmark = pytest.mark.filterwarnings(
    "ignore::optuna.exceptions.ExperimentalWarning", "ignore:Heartbeat of storage is supposed"
)
STORAGES = ["sqlite", "journal"]


@pytest.fixture(scope="module", autouse=True)
def _imports() -> None:
    """What is slow to import: with the first of these tests, not while tests are collected."""
    global optuna, torch, CategoricalDistribution, IntDistribution, TrialState, StudyStorage
    global storage_module, worker_module, claim, make_sampler, open_storage, open_study, remaining, SPACE
    import optuna
    import torch
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.trial import TrialState

    from popularity.tuning import storage as storage_module
    from popularity.tuning import worker as worker_module
    from popularity.tuning.storage import StudyStorage, open_storage
    from popularity.tuning.study import claim, make_sampler, open_study, remaining

    SPACE = {
        "x": FloatDistribution(-1.0, 1.0),
        "n": IntDistribution(1, 8),
        "kind": CategoricalDistribution(["a", "b"]),
    }


def search_of(**options) -> Search:
    given = Options(space="none", trials=options.pop("trials", 24), heartbeat=1, **options)
    config = {"seed_everything": 0, "trainer": {"max_epochs": 9}}
    return Search(given, (Objective("val/mse", "minimize"),), "none", config, None, "", Path("none"))


def url(kind: str, folder: Path) -> str:
    return f"sqlite:///{folder / 'study.db'}" if kind == "sqlite" else str(folder / "study.log")


def begin(search: Search, storage: StudyStorage, first: dict | None = None) -> optuna.Study:
    open_study(search, storage, {"the": "question"}, first)
    return optuna.load_study(study_name=search.options.study, storage=storage.optuna)


@pytest.fixture(params=STORAGES)
def storage(request, tmp_path):
    with open_storage(url(request.param, tmp_path), 1) as opened:
        yield opened


@pytest.mark.parametrize("kind", STORAGES)
def test_claims_of_many_workers_end_at_exactly_the_number_asked_for(kind, tmp_path):
    search = search_of(trials=24, sampler="random")
    with open_storage(url(kind, tmp_path), 1) as storage:
        begin(search, storage)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with open_storage(url(kind, tmp_path), 1) as storage:
                study = optuna.load_study(study_name="tune", storage=storage.optuna)
                while True:
                    with storage.lock():
                        left, _ = remaining(search, study)
                        trial = claim(search, storage, study, SPACE) if left > 0 else None
                    if trial is None:
                        return
                    study.tell(trial, trial.params["x"])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with open_storage(url(kind, tmp_path), 1) as storage:
        trials = optuna.load_study(study_name="tune", storage=storage.optuna).get_trials()
    assert Counter(trial.state for trial in trials) == {TrialState.COMPLETE: 24}
    assert len({str(trial.params) for trial in trials}) == 24


def test_a_trial_without_signs_of_life_is_tried_again_and_a_living_one_is_not(storage, monkeypatch):
    search = search_of()
    study = begin(search, storage)
    dead = claim(search, storage, study, SPACE)
    alive = claim(search, storage, study, SPACE)
    assert dead is not None
    assert alive is not None
    with storage.alive(alive._trial_id):
        monkeypatch.setattr(storage_module, "MISSED", 2)
        if hasattr(storage, "database"):
            storage.database.grace_period = 2
        until = time.monotonic() + 20
        while study.trials[dead.number].state == TrialState.RUNNING:
            assert time.monotonic() < until
            with storage.lock():
                storage.retry_lost(study)
            time.sleep(0.3)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]
    with storage.lock():
        again = claim(search, storage, study, SPACE)
    assert again is not None
    assert again.number == 2
    assert again.params == dead.params
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        dead.report(1.0, 0)


def test_a_worker_that_dies_while_it_claims_leaves_no_trial_behind(storage):
    search = search_of()
    study = begin(search, storage)
    orphan = study.ask(SPACE)  # and not signed
    with storage.lock():
        storage.retry_lost(study)
        again = claim(search, storage, study, SPACE)
    assert again is not None
    assert again.params == orphan.params
    assert study.trials[orphan.number].state == TrialState.FAIL


def test_a_trial_that_kills_its_workers_is_given_up(storage):
    search = search_of()
    study = begin(search, storage)
    first = claim(search, storage, study, SPACE)
    assert first is not None
    number, tries = first.number, 0
    while True:
        tries += 1
        storage.requeue(study, number)
        waiting = study.get_trials(states=(TrialState.WAITING,))
        if not waiting:
            break
        again = claim(search, storage, study, SPACE)
        assert again is not None
        assert again.params == first.params
        number = again.number
    assert tries == 1 + storage_module.RETRIES


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "gp"])
def test_samplers_draw_from_the_space_without_repeating(sampler, tmp_path):
    search = search_of(sampler=sampler)
    numbers = {"x": SPACE["x"], "n": SPACE["n"]}
    with open_storage(str(tmp_path / "study.log"), 1) as storage:
        study = begin(search, storage)
        for _ in range(14):
            trial = claim(search, storage, study, numbers)
            assert trial is not None
            study.tell(trial, (trial.params["x"] - 0.3) ** 2 + 0.01 * trial.params["n"])
        done = study.get_trials(states=(TrialState.COMPLETE,))
    assert len({str(trial.params) for trial in done}) == 14
    if sampler != "random":  # they learn
        late = [abs(trial.params["x"] - 0.3) for trial in done[10:]]
        assert min(late) < 0.5


def test_two_objectives_are_refused_by_cmaes_alone(tmp_path):
    both = (Objective("val/mse", "minimize"), Objective("seconds", "minimize"))
    for sampler in ("tpe", "random", "gp"):
        make_sampler(replace(search_of(sampler=sampler), objectives=both), 0)


def test_a_space_that_is_used_up_ends_the_search(storage):
    search = search_of(trials=10, sampler="random")
    study = begin(search, storage)
    small = {"kind": CategoricalDistribution(["a", "b"]), "n": IntDistribution(1, 2)}
    found = []
    while (trial := claim(search, storage, study, small)) is not None:
        study.tell(trial, 1.0)
        found.append(str(sorted(trial.params.items())))
    assert len(found) == len(set(found)) == 4


# --- a worker in this process, with a formula for a fit ---------------------------------------------------------------


@pytest.fixture
def formula(monkeypatch):
    """Replace the fit; the list holds what the trials do instead of returning a score."""
    events: list[object] = []

    def run_trial(search, trial, folder, tables):
        event = events.pop(0) if events else None
        if isinstance(event, BaseException):
            raise event
        if callable(event):
            event()
        return {"val/mse": event if isinstance(event, float) else trial.params["model.dropout"], "seconds": 0.0}

    monkeypatch.setattr(worker_module, "run_trial", run_trial)
    return events


def trials(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "tune" / "study.csv")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_cleanly_and_loses_nothing(number, tune, formula, tmp_path, capsys):
    formula += [None, None, lambda: (os.kill(os.getpid(), number), time.sleep(5))]
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert tune("--trials", "5") == 130
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert "nothing is lost" in capsys.readouterr().out
    found = trials(tmp_path)
    assert found["state"].tolist() == ["COMPLETE", "COMPLETE", "FAIL", "WAITING"]
    assert (tmp_path / "tune" / "best.yaml").is_file()
    assert tune("--trials", "5") == 0
    found = trials(tmp_path)
    assert Counter(found["state"]) == {"COMPLETE": 5, "FAIL": 1}
    settings = ["model.learning_rate", "model.dropout", "model.width"]
    assert found.loc[2, settings].tolist() == found.loc[3, settings].tolist()


def test_ctrl_c_within_a_fit(tune, tmp_path):
    """Lightning turns it into an exit; the trial is queued again all the same."""
    assert tune("--trials", "3", "--trainer.callbacks+=tests.tuning.test_study.Interrupt") == 130
    assert trials(tmp_path)["state"].tolist() == ["FAIL", "WAITING"]


def test_a_trial_that_diverges_counts_as_bad(tune, formula, tmp_path):
    formula += [None, float("nan"), torch.OutOfMemoryError("too much")]
    assert tune("--trials", "4") == 0
    found = trials(tmp_path)
    assert found["state"].tolist() == ["COMPLETE", "PRUNED", "PRUNED", "COMPLETE"]
    assert found["note"].tolist()[1:3] == ["diverged", "out of memory"]


def test_a_fault_is_raised_and_its_trial_is_not_left_running(tune, formula, tmp_path):
    formula += [None, ZeroDivisionError("a fault of ours")]
    with pytest.raises(ZeroDivisionError):
        tune("--trials", "3")
    assert tune("--trials", "3") == 0
    assert Counter(trials(tmp_path)["state"]) == {"COMPLETE": 3, "FAIL": 1}


def test_a_trial_that_another_worker_took_over_is_dropped(tune, formula, tmp_path):
    formula += [None, optuna.exceptions.UpdateFinishedTrialError("told elsewhere")]
    # the trial itself stays RUNNING in this made-up case, until its signs of life are missed
    assert tune("--trials", "3", "--heartbeat", "1") == 0
    assert Counter(trials(tmp_path)["state"]) == {"COMPLETE": 3, "FAIL": 1}


def test_no_trial_begins_after_the_timeout(tune, formula, tmp_path):
    formula += [lambda: time.sleep(4)]
    assert tune("--trials", "50", "--timeout", "4") == 0
    assert 1 <= len(trials(tmp_path)) < 50


def __getattr__(name: str):
    """A callback class for the command line, made when asked for: Lightning is slow to import."""
    if name != "Interrupt":
        raise AttributeError(name)
    from lightning.pytorch import Callback

    class Interrupt(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            os.kill(os.getpid(), signal.SIGINT)

    return Interrupt
