"""A study from elsewhere: nothing in it runs code, and what is damaged is told in one line."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from popularity.errors import InputError
from tests.conftest import Lazy
from tests.test_system import space
from tests.tuning.test_study import STORAGES, all_of_space, begin, distributions, of_storage, search_of, url

pytestmark = pytest.mark.filterwarnings(
    "ignore::optuna.exceptions.ExperimentalWarning", "ignore:Heartbeat of storage is supposed"
)

optuna_trial = Lazy("optuna.trial")
report = Lazy("popularity.tuning.report")


class _Code:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("executed",)


def search() -> Any:
    return search_of({name: all_of_space()[name] for name in "xn"}, sampler="cmaes")


def studied(storage: Any, trials: int) -> Any:
    study = begin(storage, search())
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, trial.params["x"] ** 2 + trial.params["n"])
    return study


def with_state(state: str) -> Callable[[Any], None]:
    """A trial that says where CMA-ES has come to."""

    def add(study: Any) -> None:
        trial = study.ask()
        for name, value in {"cma:optimizer:0": state, "cma:generation": 1}.items():
            study._storage.set_trial_system_attr(trial._trial_id, name, value)
        study.tell(trial, 0.0)

    return add


def with_note(name: str, value: Any = "text") -> Callable[[Any], None]:
    """A trial that failed, with a note of this name."""

    def add(study: Any) -> None:
        notes = {name: value, "note": "failed"}
        system = notes if name in ("retry_history", "fixed_params") else {}
        study.add_trial(
            optuna_trial.create_trial(
                state=optuna_trial.TrialState.FAIL, system_attrs=system, user_attrs={} if system else notes
            )
        )

    return add


def two_values() -> Any:
    return optuna_trial.create_trial(values=[0.0, 1.0])


def with_class(study: Any) -> None:
    kinds = {"model.net": distributions.CategoricalDistribution(["my.Net"])}
    study.add_trial(optuna_trial.create_trial(params={"model.net": "my.Net"}, distributions=kinds, value=0.0))


#: What is done to a study, and the line that it leads to.
TAMPERED: dict[str, tuple[Callable[[Any], object], str]] = {
    "code": (with_state(pickle.dumps(_Code()).hex()), "cannot use the state of CMA-ES: it names .*mkdir"),
    "another object": (
        with_state(pickle.dumps([1, 2]).hex()),
        "expected the state of CMA-ES, got a list",
    ),
    "damage": (with_state("zz"), "cannot use the state of CMA-ES: it is damaged"),
    "a class": (with_class, "expected settings within the space, got 'model.net'"),
    "a queued text": (lambda study: study.enqueue_trial({"x": "os.system"}), "expected settings within the space"),
    "a queued number": (lambda study: study.enqueue_trial({"x": 50.0}), "expected settings within the space"),
    **{
        f"a text as {name}": (with_note(name), f"trial 2: expected {name} as tune writes it, got 'text'")
        for name in ("retry_history", "fixed_params", "metrics", "heartbeat")
    },
    "a list of lists as retry_history": (with_note("retry_history", [[0]]), "expected retry_history as tune writes it"),
    "two values": (lambda study: study._storage.create_new_trial(study._study_id, two_values()), "expected 1 values"),
    "another question": (lambda study: study.set_user_attr("question", [1]), "was not begun by this program"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_tampered_study_runs_nothing(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tamper, told = TAMPERED[how]
    with of_storage.open_storage("study.log", 1) as storage:
        tamper(studied(storage, 2))
        with pytest.raises(InputError, match=told) as refused:
            studied(storage, 2)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "executed").exists()


def test_the_state_of_cma_es_is_used(tmp_path: Path) -> None:
    """A sampler that refused every state would pass the test above."""
    with of_storage.open_storage(str(tmp_path / "study.log"), 1) as storage:
        trials = studied(storage, 16).get_trials()
    generations = [trial.system_attrs["cma:generation"] for trial in trials if "cma:generation" in trial.system_attrs]
    assert max(generations) > 0


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2 + 7]


def zeros(content: bytes) -> bytes:
    start, end = len(content) // 3, len(content) // 2
    return content[:start] + bytes(end - start) + content[end:]


@pytest.mark.parametrize("damage", [cut, zeros, lambda content: b"hello\n"], ids=["cut", "zeros", "text"])
@pytest.mark.parametrize("kind", STORAGES)
def test_a_damaged_storage_is_one_line(kind: str, damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    address = url(kind, tmp_path)
    with of_storage.open_storage(address, 1) as storage:
        studied(storage, 3)
    file = next(path for path in tmp_path.iterdir() if path.name in ("study.db", "study.log"))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match="--storage ") as refused, of_storage.open_storage(address, 1) as storage:
        studied(storage, 3)
    assert "\n" not in str(refused.value)


def test_plots_that_find_no_space_leave_nothing_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = search()
    asked.folder.mkdir(parents=True)
    with of_storage.open_storage("study.log", 1) as storage:
        study = studied(storage, 3)
        with space(500_000), pytest.raises(InputError, match=r"plotly\.min\.js: cannot write: File too large"):
            report.write_plots(asked, study)
    assert {path.suffix for path in (asked.folder / "plots").iterdir()} == {".html"}
