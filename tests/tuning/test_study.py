"""How trials begin, are tried again and are stopped, with a formula in the place of a fit."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import Lazy

pytestmark = pytest.mark.filterwarnings(
    "ignore::optuna.exceptions.ExperimentalWarning", "ignore:Heartbeat of storage is supposed"
)
STORAGES = ["sqlite", "journal"]

optuna = Lazy("optuna")
distributions = Lazy("optuna.distributions")
optuna_trial = Lazy("optuna.trial")
torch = Lazy("torch")
program = Lazy("popularity.program")
of_space = Lazy("popularity.tuning.space")
of_storage = Lazy("popularity.tuning.storage")
of_study = Lazy("popularity.tuning.study")


def all_of_space() -> dict[str, Any]:
    return {
        "x": distributions.FloatDistribution(-1.0, 1.0),
        "n": distributions.IntDistribution(1, 8),
        "kind": distributions.CategoricalDistribution(["a", "b"]),
    }


def search_of(space=None, **options) -> of_space.Search:
    given = of_space.Options(space="none", trials=options.pop("trials", 24), heartbeat=1, **options)
    validated = ("check_val_every_n_epoch", "limit_val_batches")
    config = {
        "seed_everything": 0,
        "log_dir": "none",
        "data": {"validation": 0.1, "folds": 5},
        "trainer": {**dict.fromkeys((*of_space.TRAINER, *validated)), "max_epochs": 9},
    }
    return of_space.Search(given, config, space or all_of_space(), float("inf"))


def url(kind: str, folder: Path) -> str:
    return f"sqlite:///{folder / 'study.db'}" if kind == "sqlite" else str(folder / "study.log")


def begin(storage, search=None, first: dict | None = None) -> of_study.SharedStudy:
    search = search or search_of()
    of_study.begin_study(search, storage, "songs", first)
    return of_study.SharedStudy(search, storage, program.Stop())


@pytest.fixture(params=STORAGES)
def storage(request, tmp_path):
    with of_storage.open_storage(url(request.param, tmp_path), 1) as opened:
        yield opened


@pytest.mark.parametrize("kind", STORAGES)
def test_any_number_of_workers_end_at_exactly_the_number_asked_for(kind, tmp_path):
    search = search_of(trials=24, sampler="random")
    with of_storage.open_storage(url(kind, tmp_path), 1) as storage:
        begin(storage, search)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with of_storage.open_storage(url(kind, tmp_path), 1) as storage:
                of_study.SharedStudy(search, storage, program.Stop()).optimize(lambda trial: trial.params["x"])
        except of_study.StudyEndedError:
            pass
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with of_storage.open_storage(url(kind, tmp_path), 1) as storage:
        trials = optuna.load_study(study_name="tune", storage=storage.optuna).get_trials()
    assert Counter(trial.state for trial in trials) == {optuna_trial.TrialState.COMPLETE: 24}
    assert len({str(trial.params) for trial in trials}) == 24


@pytest.mark.slow
def test_a_trial_without_heartbeat_is_tried_again_and_a_living_one_is_not(storage):
    study = begin(storage)
    dead, alive = study.ask(), study.ask()
    until = time.monotonic() + 120
    while study.trials[dead.number].state == optuna_trial.TrialState.RUNNING:
        assert time.monotonic() < until
        storage.optuna.record_heartbeat(alive._trial_id)
        with storage.lock():
            of_study.queue_lost_trials(study)
        time.sleep(0.3)
    states = [trial.state for trial in study.trials]
    assert states == [optuna_trial.TrialState.FAIL, optuna_trial.TrialState.RUNNING, optuna_trial.TrialState.WAITING]
    again = study.ask()
    assert again.number == 2
    assert again.params == dead.params
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        dead.report(1.0, 0)


def test_a_worker_that_dies_while_it_samples_leaves_no_trial_behind(storage):
    study = begin(storage)
    orphan = optuna.Study.ask(study, all_of_space())  # and not signed
    assert study.ask().params == orphan.params
    assert study.trials[orphan.number].state == optuna_trial.TrialState.FAIL


def test_a_trial_that_kills_its_workers_is_given_up(storage):
    study = begin(storage)
    first = study.ask()
    tries = 1
    study.tell(first.number, state=optuna_trial.TrialState.FAIL)  # as for missed heartbeats: without a note
    while (again := study.ask()).params == first.params:
        tries += 1
        study.tell(again.number, state=optuna_trial.TrialState.FAIL)
    assert tries == 1 + of_study.RETRIES


def test_a_search_can_be_stopped_any_number_of_times(storage):
    study = begin(storage)
    first = study.ask()
    trial = first
    for _ in range(2 + of_study.RETRIES):
        trial.set_user_attr("stopped", True)
        study.tell(trial.number, state=optuna_trial.TrialState.FAIL)
        trial = study.ask()
        assert trial.params == first.params


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "gp"])
def test_samplers_sample_from_the_space_without_repeating(sampler, tmp_path):
    search = search_of({name: all_of_space()[name] for name in "xn"}, sampler=sampler)
    with of_storage.open_storage(str(tmp_path / "study.log"), 1) as storage:
        study = begin(storage, search)
        for _ in range(14):
            trial = study.ask()
            study.tell(trial, (trial.params["x"] - 0.3) ** 2 + 0.01 * trial.params["n"])
        done = study.get_trials(states=(optuna_trial.TrialState.COMPLETE,))
    assert len({str(trial.params) for trial in done}) == 14
    if sampler != "random":  # they learn
        late = [abs(trial.params["x"] - 0.3) for trial in done[10:]]
        assert min(late) < 0.5


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_a_pareto_search_goes_on_after_a_trial_that_diverged(sampler, tmp_path):
    search = search_of(sampler=sampler, objective="val/mse,seconds")
    with of_storage.open_storage(str(tmp_path / "study.log"), 1) as storage:
        study = begin(storage, search)
        for number in range(14):
            trial = study.ask()
            if number % 5 == 1:
                study.tell(trial, state=optuna_trial.TrialState.PRUNED)
            else:
                study.tell(trial, [trial.params["x"] ** 2, trial.params["n"]])
        assert len(study.best_trials) > 0


def test_a_space_that_is_used_up_ends_the_search(storage):
    search = search_of(
        {"kind": distributions.CategoricalDistribution(["a", "b"]), "n": distributions.IntDistribution(1, 2)},
        sampler="random",
    )
    study = begin(storage, search)
    with pytest.raises(of_study.StudyEndedError, match="no other settings"):
        study.optimize(lambda trial: 1.0)
    done = study.get_trials(states=(optuna_trial.TrialState.COMPLETE,))
    assert len(done) == len({str(sorted(trial.params.items())) for trial in done}) == 4


def test_the_config_as_it_stands_is_tried_first(storage):
    first = {"x": 0.25, "n": 3, "kind": "b"}
    assert begin(storage, first=first).ask().params == first


# --- a worker in this process, with a formula for a fit ---------------------------------------------------------------


def trials(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "tune" / "study.csv")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interruption_ends_cleanly_and_loses_nothing(name, tune, tmp_path, capsys):
    """Lightning turns Ctrl-C into an exit; the trial is queued again all the same, and the report is there."""
    number, ours = getattr(signal, name), signal.default_int_handler
    before = signal.signal(number, ours)  # it may be ignored: Ctrl-C where a shell starts tests in the background
    more = ("--trials", "3", "--pruner", "none")
    try:
        code = tune(*more, f"--trainer.callbacks+=tests.tuning.test_study.Send{name}InTrial1", epochs=2)
        assert signal.getsignal(number) == ours
    finally:
        signal.signal(number, before)
    assert code == 128 + number
    stopped = capsys.readouterr().out.strip().splitlines()[-1]
    assert stopped.startswith("stopped: nothing is lost. Continue with: python -m popularity tune --log_dir ")
    found = trials(tmp_path)
    assert found["state"].tolist() == ["COMPLETE", "FAIL", "WAITING"]
    assert (tmp_path / "tune" / "best.yaml").is_file()
    assert tune(*more, epochs=2) == 0
    found = trials(tmp_path)
    assert Counter(found["state"]) == {"COMPLETE": 3, "FAIL": 1}
    settings = ["model.learning_rate", "model.net.dropout", "model.net.width"]
    assert found.loc[1, settings].tolist() == found.loc[2, settings].tolist()


@pytest.mark.slow
def test_the_same_command_goes_on_and_ends_at_the_number_asked_for(tune, formula, tmp_path):
    for asked, held in (("2", 2), ("4", 4), ("4", 4), ("3", 4)):
        assert tune("--trials", asked, "--pruner", "none") == 0
        assert len(trials(tmp_path)) == held


@pytest.mark.slow
def test_a_trial_that_diverges_counts_as_bad(tune, formula, tmp_path):
    formula += [None, float("nan"), torch.OutOfMemoryError("too much")]
    assert tune("--trials", "4") == 0
    found = trials(tmp_path)
    assert found["state"].tolist() == ["COMPLETE", "PRUNED", "PRUNED", "COMPLETE"]
    assert found["note"].tolist()[1:3] == ["diverged", "too much"]


@pytest.mark.slow
def test_a_fault_is_raised_and_its_trial_is_not_left_running(tune, formula, tmp_path):
    formula += [None, ZeroDivisionError("a fault of ours")]
    with pytest.raises(ZeroDivisionError):
        tune("--trials", "3")
    assert trials(tmp_path)["state"].tolist() == ["COMPLETE", "FAIL"], "the report is written however a search ends"
    assert tune("--trials", "3") == 0
    assert Counter(trials(tmp_path)["state"]) == {"COMPLETE": 3, "FAIL": 1}


def _lost(trial) -> None:
    """As another process does that misses its heartbeats."""
    trial.study.tell(trial.number, state=optuna_trial.TrialState.FAIL)


def _lost_at_the_last_moment(trial) -> None:
    """Between Optuna's look at the trial and its end."""
    storage = trial.study._storage

    def late(number, state, values=None):
        del storage.set_trial_state_values
        storage.set_trial_state_values(number, optuna_trial.TrialState.FAIL)
        return storage.set_trial_state_values(number, state, values)

    storage.set_trial_state_values = late


@pytest.mark.slow
@pytest.mark.parametrize("lost", [_lost, _lost_at_the_last_moment])
def test_a_trial_that_was_taken_for_lost_is_dropped_and_tried_again(lost, tune, formula, tmp_path, capsys):
    formula += [None, lost]
    assert tune("--trials", "3") == 0
    assert "trial 1: gave no heartbeat for too long and is tried again" in capsys.readouterr().out
    found = trials(tmp_path)
    assert Counter(found["state"]) == {"COMPLETE": 3, "FAIL": 1}
    assert found.loc[1, "model.net.dropout"] == found.loc[2, "model.net.dropout"]


@pytest.mark.slow
def test_no_trial_begins_after_the_timeout(tune, formula, tmp_path):
    formula += [lambda trial: time.sleep(4)]
    assert tune("--trials", "50", "--timeout", "4") == 0
    assert 1 <= len(trials(tmp_path)) < 50


def __getattr__(name: str):
    """Callback classes for the command line, made when asked for: Lightning is slow to import."""
    if not name.startswith("Send"):
        raise AttributeError(name)
    from lightning.pytorch import Callback

    class Interrupt(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.logger.name == "trial_0001":
                os.kill(os.getpid(), getattr(signal, name[4:11].removesuffix("I")))

    return Interrupt
