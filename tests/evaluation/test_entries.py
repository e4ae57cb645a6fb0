"""Every model of popularity on made-up songs: finite, in range, repeatable, blind to test labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from popularity.errors import InputError
from tests.features.test_tabular import made_up_task

CHEAP: dict[str, dict[str, Any]] = {
    "mean": {},
    "artist_mean": {},
    "linear": {},
    "forward": {},
    "ridge": {"trials": 2},
    "lasso": {"trials": 2},
    "splines": {"trials": 2},
    "knn": {"trials": 2},
    "svr": {"trials": 2},
    "forest": {"trials": 0},
    "extra_trees": {"trials": 0},
    "adaboost": {"trials": 0},
    "lightgbm": {"trials": 2},
    "xgboost": {"trials": 0},
    "catboost": {"trials": 0, "information": "audio"},
}
TOLD = [kind for kind in CHEAP if kind not in ("mean", "artist_mean", "linear", "forward")]


def build(kind: str, settings: dict[str, Any]) -> Any:
    from popularity.evaluation.entries import build

    if kind in ("lightgbm", "xgboost", "catboost"):
        pytest.importorskip(kind)
    return build(kind, kind, settings)


@pytest.mark.parametrize("kind", CHEAP)
def test_finite_in_range_repeatable_and_blind_to_test_labels(kind: str) -> None:
    task, answers = made_up_task(90)
    entry = build(kind, CHEAP[kind])
    outcome = entry.fit_predict(task)
    assert outcome.prediction.shape == (len(task.test),)
    assert np.isfinite(outcome.prediction).all()
    assert outcome.prediction.min() >= 0
    assert outcome.prediction.max() <= 100
    leaked = replace(task, test=task.test.assign(popularity=answers))
    again = build(kind, CHEAP[kind]).fit_predict(leaked)
    np.testing.assert_array_equal(outcome.prediction, again.prediction)
    assert outcome.notes == again.notes


@pytest.mark.parametrize("kind", TOLD)
def test_everything_is_worth_more_than_audio(kind: str) -> None:
    """Made-up popularity hangs on the artist and on a word of the title."""
    task, answers = made_up_task(300)
    settings = {"trials": 0} if "trials" in CHEAP[kind] else {}
    errors = {
        amount: np.mean((build(kind, {**settings, "information": amount}).fit_predict(task).prediction - answers) ** 2)
        for amount in ("audio", "everything")
    }
    assert errors["everything"] < 0.9 * errors["audio"]


@pytest.mark.parametrize("split", ["artist", "credits", "album", "time"])
def test_each_rule(split: str) -> None:
    task, _ = made_up_task(120, split)
    for kind, settings in (("artist_mean", {}), ("ridge", {"information": "everything", "trials": 2})):
        assert np.isfinite(build(kind, settings).fit_predict(task).prediction).all()


def test_artist_mean_by_hand() -> None:
    from popularity.data.credits import artist_names

    task, _ = made_up_task()
    outcome = build("artist_mean", {}).fit_predict(task)
    mean = task.train["popularity"].mean()
    first = np.array([names[0] for names in artist_names(task.train)])
    for names, prediction in zip(artist_names(task.test), outcome.prediction, strict=True):
        own = task.train["popularity"].to_numpy()[first == names[0]]
        assert prediction == pytest.approx(mean + (own - mean).sum() / (len(own) + outcome.notes["shrinkage"]))


def test_artist_mean_is_the_mean_for_unknown_artists() -> None:
    task, _ = made_up_task(split="artist")
    outcome = build("artist_mean", {}).fit_predict(task)
    np.testing.assert_allclose(outcome.prediction, task.train["popularity"].mean())


def test_forward_selection_is_that_of_least_squares() -> None:
    """The same columns in the same order as fitting every candidate anew."""
    from sklearn.linear_model import LinearRegression

    from popularity.evaluation.entries.simple import forward_selection

    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(120, 6)) @ rng.normal(size=(6, 6)) + 3
    target = matrix @ np.array([0.0, 2, 0, 1, 0, 0.2]) + rng.normal(size=120)
    rows = np.arange(120)
    folds = [(rows[rows % 3 != k], rows[rows % 3 == k]) for k in range(3)]

    def error(columns: list[int]) -> float:
        models = [LinearRegression().fit(matrix[fit][:, columns], target[fit]) for fit, _ in folds]
        parts = zip(models, folds, strict=True)
        return float(
            sum(np.sum((model.predict(matrix[out][:, columns]) - target[out]) ** 2) for model, (_, out) in parts)
        )

    expected: list[int] = []
    last = float(sum(np.sum((target[out] - target[fit].mean()) ** 2) for fit, out in folds))
    while len(expected) < 6:
        best = min(set(range(6)) - set(expected), key=lambda j: error([*expected, j]))
        if error([*expected, best]) >= last:
            break
        expected.append(best)
        last = error(expected)
    assert forward_selection(matrix, target, folds, 0.0) == expected


def test_search_stays_inside_the_training_songs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial is fitted to rows of inner folds alone and scored on the rest, by the rule of the split."""
    from popularity.data.credits import artist_names
    from popularity.evaluation.entries import tabular

    task, _ = made_up_task(split="artist")
    seen = []
    real = tabular.information

    def spy(part: Any, amount: Any) -> Any:
        seen.append(part)
        return real(part, amount)

    monkeypatch.setattr(tabular, "information", spy)
    build("ridge", {"trials": 3}).fit_predict(task)
    *inner, last = seen
    assert last is task
    assert len(inner) == tabular.FOLDS
    for part in inner:
        fit, held_out = ({names[0] for names in artist_names(songs)} for songs in (part.train, part.test))
        assert not fit & held_out
        assert part.test["popularity"].isna().all()
        assert set(part.train["track_id"]) | set(part.test["track_id"]) == set(task.train["track_id"])


def test_search_finds_what_is_better() -> None:
    """A linear relation with hardly any noise: the penalty found is the smaller one."""
    task, _ = made_up_task(300)
    line = 40 + 40 * task.train["energy"]
    outcome = build("ridge", {"trials": 8}).fit_predict(replace(task, train=task.train.assign(popularity=line)))
    assert outcome.notes["parameters"]["alpha"] < 50


def test_seeds_of_models_differ_between_folds_and_repeats() -> None:
    from popularity.evaluation.entries.tabular import seeds

    task, _ = made_up_task()
    tasks = [task, replace(task, fold=1), replace(task, seed=7), replace(task, repeat=1)]
    assert len({seed for one in tasks for seed in seeds(one, 2)}) == 8


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("lightbgm", {}, "kind must be one of"),
        ("ridge", {"alpha": 1}, "no setting 'alpha', expected one of information, trials"),
        ("mean", {"trials": 1}, "no setting 'trials', it has none"),
        ("ridge", {"information": "all"}, "information must be one of audio, everything, but is 'all'"),
        ("ridge", {"trials": -1}, "trials must be a whole number from 0 on, but is -1"),
        ("forward", {"information": "audio"}, "kind forward has no setting 'information', it has none"),
        ("stack", {}, "needs the setting 'of'"),
    ],
)
def test_bad_settings(kind: str, settings: dict[str, Any], message: str) -> None:
    from popularity.evaluation.entries import build

    with pytest.raises(InputError, match=message) as raised:
        build("mine", kind, settings)
    assert "model mine" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from popularity.evaluation.entries import build

    monkeypatch.setitem(sys.modules, "catboost", None)
    with pytest.raises(InputError, match=r"model mine: catboost is missing: `pip install 'popularity\[baselines\]'`"):
        build("mine", "catboost", {})


def test_registry_imports_no_model() -> None:
    """Asking for one kind must not pay for the others."""
    import subprocess
    import sys

    code = (
        "import sys; from popularity.evaluation.entries import build; build('m', 'ridge', {});"
        "print([name for name in ('lightgbm', 'xgboost', 'catboost', 'pytabkit', 'tabm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
