"""Neural networks and stacks on made-up songs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from popularity.errors import InputError
from tests.features.test_tabular import made_up_task

NEURAL: dict[str, dict[str, Any]] = {
    "mlp": {"epochs": 3},
    "tabm": {"epochs": 2},
    "realmlp": {"epochs": 2},
}
PACKAGE = {"tabm": "tabm", "realmlp": "pytabkit"}


def build(kind: str, **settings: Any) -> Any:
    import importlib.util

    from popularity.evaluation.entries import build

    if kind in PACKAGE and importlib.util.find_spec(PACKAGE[kind]) is None:
        pytest.skip(f"{PACKAGE[kind]} is not installed")
    return build(kind, kind, settings)


@pytest.mark.parametrize("kind", NEURAL)
def test_neural_finite_repeatable_and_blind_to_test_labels(kind: str) -> None:
    import torch

    task, answers = made_up_task(90)
    state = torch.get_rng_state()
    prediction = build(kind, **NEURAL[kind]).fit_predict(task).prediction
    assert prediction.shape == (len(task.test),)
    assert np.isfinite(prediction).all()
    assert prediction.min() >= 0
    assert prediction.max() <= 100
    assert torch.equal(state, torch.get_rng_state()), "draws from the generator of others"
    torch.manual_seed(5)
    leaked = replace(task, test=task.test.assign(popularity=answers))
    np.testing.assert_array_equal(prediction, build(kind, **NEURAL[kind]).fit_predict(leaked).prediction)


@pytest.mark.parametrize("kind", NEURAL)
def test_epochs_are_chosen_on_songs_whose_labels_no_row_rests_on(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from popularity.evaluation.entries import neural

    asked, information = [], neural.information

    def noted(task: Any, amount: Any) -> Any:
        asked.append(task)
        return information(task, amount)

    monkeypatch.setattr(neural, "information", noted)
    task, _ = made_up_task(90)
    build(kind, **NEURAL[kind]).fit_predict(task)
    inner, outer = asked
    assert outer is task
    assert len(inner.train) + len(inner.test) == len(task.train)
    assert inner.test["popularity"].isna().all()


def test_realmlp_is_fitted_to_all_songs_until_the_chosen_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    from popularity.evaluation.entries import neural

    entry, fits = build("realmlp", epochs=2), []
    fitted = type(entry)._fitted

    def noted(self: Any, inputs: np.ndarray, *rest: Any, **more: Any) -> Any:
        fits.append((len(inputs), more.get("stop_epoch")))
        return fitted(self, inputs, *rest, **more)

    monkeypatch.setattr(type(entry), "_fitted", noted)
    task, _ = made_up_task(90)
    notes = entry.fit_predict(task).notes
    assert fits == [(len(task.train), None), (len(task.train), notes["epochs"])]
    assert notes["epochs"] in (1, 2)
    inputs, popularity = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), np.arange(60.0)
    after = [entry._fitted(inputs, popularity, 0, stop_epoch=epoch, val_fraction=0.0) for epoch in (1, 2)]
    with neural._quiet():
        predictions = [model.predict(inputs) for model in after]
    assert not np.allclose(*predictions)


def test_mlp_learns_and_stops_on_held_out_songs() -> None:
    task, answers = made_up_task(500)
    outcome = build("mlp").fit_predict(task)
    assert np.mean((outcome.prediction - answers) ** 2) < 0.8 * np.var(answers)
    noise = np.random.default_rng(0).permutation(task.train["popularity"])
    aimless = build("mlp").fit_predict(replace(task, train=task.train.assign(popularity=noise)))
    assert aimless.notes["epochs"] < outcome.notes["epochs"]


def test_tabm_members_differ() -> None:
    import torch

    network = build("tabm").recipe.make(5)
    network.eval()
    output = network(torch.randn(7, 5))
    assert output.shape == (7, 16)
    assert (output.std(1) > 0).all()


def test_mixing_weights_are_those_of_constrained_least_squares() -> None:
    from scipy.optimize import minimize

    from popularity.evaluation.entries.stack import mixing_weights

    rng = np.random.default_rng(0)
    answers = rng.normal(50, 10, 400)
    predictions = answers[:, None] + rng.normal(0, [5.0, 8.0, 30.0], (400, 3)) + [0, 0, 20]
    found = mixing_weights(predictions, answers)
    best = minimize(
        lambda w: np.mean((predictions @ w - answers) ** 2),
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    )
    np.testing.assert_allclose(found, best.x, atol=2e-3)
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(mixing_weights(predictions, answers, caution=1e6), 1 / 3, atol=1e-3)


def test_stack_of_equals_is_the_same_model() -> None:
    task, _ = made_up_task(90)
    linear = {"kind": "linear"}
    stack = build("stack", of={"a": linear, "b": linear})
    outcome = stack.fit_predict(task)
    np.testing.assert_allclose(outcome.prediction, build("linear").fit_predict(task).prediction)
    assert sum(outcome.notes["weights"].values()) == pytest.approx(1)


@pytest.mark.parametrize("split", ["random", "artist", "time"])
def test_stack_prefers_the_better(split: str) -> None:
    """Against the mean of all songs, a model that sees the artist or the audio gets the weight."""
    task, answers = made_up_task(240, split)
    strong = {"kind": "ridge", "information": "everything", "trials": 0}
    outcome = build("stack", of={"mean": {"kind": "mean"}, "ridge": strong}).fit_predict(task)
    assert np.isfinite(outcome.prediction).all()
    if split == "random":
        assert outcome.notes["weights"]["ridge"] > 0.7
    leaked = replace(task, test=task.test.assign(popularity=answers))
    again = build("stack", of={"mean": {"kind": "mean"}, "ridge": strong}).fit_predict(leaked)
    np.testing.assert_array_equal(outcome.prediction, again.prediction)


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (["mean", "linear"], "at least two models, each with its kind"),
        ({"mean": {"kind": "mean"}}, "at least two models"),
        ({"a": {"kind": "mean"}, "b": {"kind": "logistic"}}, "b predicts hits, not popularity"),
        ({"a": {"kind": "mean"}, "b": {"kind": "nothing"}}, "model b: kind must be one of"),
    ],
)
def test_bad_stacks(of: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("stack", of=of)
