"""A run's result: whole or not there, and worth something only for the settings and songs it was made with."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


def broken(how, fold=None):
    """A model that does something wrong, on one fold or on all."""

    def fit_predict(task):
        from popularity.evaluation.folds import Outcome

        prediction = np.full(len(task.test), 50.0)
        if how == "raises":
            raise RuntimeError("no luck\ntoday")
        if how == "nan":
            prediction[3] = np.nan
        if how == "short":
            prediction = prediction[1:]
        return Outcome(prediction, notes={"epochs": np.int64(3), "best": float("nan"), "sizes": (1, np.float32(2))})

    return fit_predict


@pytest.mark.parametrize(
    ("how", "told"),
    [("raises", "RuntimeError: no luck today"), ("nan", "expected finite values, got 1 of"), ("short", "shape")],
)
def test_what_goes_wrong_is_recorded(how, told, songs, protocol, own, tmp_path):
    from popularity.evaluation.runs import execute, read_result

    own["broken"] = broken(how)
    plan = protocol({"broken": {"own": "broken"}})
    run = plan.runs()[0]
    result = execute(plan, songs, run, tmp_path)
    assert told in result.error
    assert "Traceback" in result.facts["traceback"]
    assert read_result(plan, run, tmp_path).error == result.error


def test_a_result_says_where_it_comes_from(songs, protocol, own, tmp_path):
    from popularity.evaluation.runs import execute, read_result
    from popularity.program import code_version

    own["odd"] = broken("never")
    plan = protocol({"odd": {"own": "odd"}})
    run = plan.runs()[-1]
    execute(plan, songs, run, tmp_path)
    assert [path.name for path in (tmp_path / "runs" / "odd").iterdir()] == ["r1-f2.npz"], "one file"
    result = read_result(plan, run, tmp_path)
    found = result.facts
    assert (found["model"], found["repeat"], found["fold"], found["error"]) == ("odd", 1, 2, None)
    assert (found["data"], found["config"]) == (plan.fingerprint, plan.config_hash(run))
    assert found["songs_train"] + found["songs_test"] == len(songs)
    assert found["seconds"] >= 0
    assert found["cpu_seconds"] >= 0
    assert found["versions"]["pandas"] == pd.__version__
    assert found["versions"]["popularity"] == code_version()
    assert np.isnan(found["notes"].pop("best"))
    assert found["notes"] == {"epochs": 3, "sizes": [1, 2.0]}
    assert np.isnan(found["metrics"]["spearman"]), "the rank correlation of a constant"
    truth = songs["popularity"].to_numpy()[result.arrays["rows"]]
    assert found["metrics"]["mse"] == pytest.approx(np.mean((truth - 50) ** 2))


def test_predictions_are_clipped(songs, protocol, own, tmp_path):
    from popularity.evaluation.folds import Outcome
    from popularity.evaluation.runs import execute

    own["far"] = lambda task: Outcome(np.linspace(-50, 150, len(task.test)))
    plan = protocol({"far": {"own": "far"}})
    prediction = execute(plan, songs, plan.runs()[0], tmp_path).arrays["prediction"]
    assert (prediction.min(), prediction.max()) == (0, 100)


def test_a_model_that_predicts_no_numbers_or_leaves_has_failed(songs, protocol, own, tmp_path):
    from popularity.evaluation.folds import Outcome
    from popularity.evaluation.runs import execute

    def leave(task):
        raise SystemExit(3)

    own["infinite"] = lambda task: Outcome(np.full(len(task.test), np.inf))
    own["none"] = lambda task: Outcome(np.full(len(task.test), np.nan))
    own["leaves"] = leave
    plan = protocol({name: {"own": name} for name in own})
    errors = {run.model: execute(plan, songs, run, tmp_path).error for run in plan.runs()}
    for name in ("infinite", "none"):
        assert errors[name].startswith("ValueError: prediction: expected finite values, got ")
    assert errors["leaves"] == "SystemExit: 3"


def test_other_settings_or_songs_make_a_result_void(songs, protocol, tmp_path):
    from popularity.evaluation.runs import execute, read_result

    plan = protocol({"ridge": {"baseline": "ridge", "trials": 0}})
    run = plan.runs()[0]
    assert execute(plan, songs, run, tmp_path).error is None
    assert read_result(plan, run, tmp_path)
    assert read_result(replace(plan, repeats=1, limits={"ridge": 1}), run, tmp_path), "no result depends on these"
    assert read_result(replace(plan, models={"ridge": {"baseline": "ridge", "trials": 0, "feature_set": "audio"}}), run,
                       tmp_path), "the default, written out"  # fmt: skip
    assert read_result(replace(plan, fingerprint="0" * 64), run, tmp_path) is None
    assert read_result(replace(plan, models={"ridge": {"baseline": "ridge", "trials": 1}}), run, tmp_path) is None
    run.path(tmp_path).write_bytes(run.path(tmp_path).read_bytes()[:99])
    assert read_result(plan, run, tmp_path) is None, "a damaged one"


@pytest.mark.parametrize("part", ["error", "metrics", "rows", "prediction", "facts", "nothing"])
def test_a_result_without_one_of_its_parts_is_none(part, songs, protocol, tmp_path):
    """Its checksums are right: somebody, or another program, has written it."""
    from popularity.evaluation.runs import execute, read_result, write_result

    plan = protocol({"mean": {"baseline": "mean"}})
    run = plan.runs()[0]
    result = execute(plan, songs, run, tmp_path)
    facts, arrays = dict(result.facts), dict(result.arrays)
    if part == "prediction":
        arrays[part] = arrays[part][:3]
    elif part == "facts":
        facts = [1]
    else:
        facts.pop(part, None)
        arrays.pop(part, None)
    write_result(run.path(tmp_path), replace(result, facts=facts, arrays=arrays))
    assert (read_result(plan, run, tmp_path) is None) == (part != "nothing")


def test_changed_files_defaults_and_cutoffs_make_results_void(protocol, tmp_path, monkeypatch):
    from popularity.evaluation.baselines import BASELINES
    from popularity.evaluation.protocol import Run

    config = tmp_path / "model.yaml"
    config.write_text("model: {net: {init_args: {width: 3}}}\n")
    plan = protocol({"knn": {"baseline": "knn", "trials": 2}, "net": {"configs": ["mamba", str(config)]}})
    net, knn = Run("net", 0, 0), Run("knn", 0, 0)
    before = plan.config_hash(net), plan.config_hash(knn)
    config.write_text("model: {net: {init_args: {width: 4}}}\n")
    plan = replace(plan)  # another command: one reads each file once
    assert plan.config_hash(net) != before[0]
    more = replace(plan, cutoffs=("50",))
    assert more.config_hash(knn) == before[1]
    assert more.config_hash(replace(knn, hits=True)) != plan.config_hash(replace(knn, hits=True))
    monkeypatch.setitem(BASELINES, "knn", replace(BASELINES["knn"], defaults={"n_neighbors": 41}))
    assert replace(plan).config_hash(knn) != before[1]


def test_a_model_that_uses_global_generators_gives_the_same_in_any_order(songs, protocol, own, tmp_path):
    from popularity.evaluation.runs import execute

    def fit_predict(task):
        import torch

        from popularity.evaluation.folds import Outcome

        return Outcome(50 + np.random.randn(len(task.test)) + torch.randn(1).item())  # noqa: NPY002

    own["random"] = fit_predict
    plan = protocol({"random": {"own": "random"}})
    runs = plan.runs()
    found = [{run: execute(plan, songs, run, tmp_path) for run in order} for order in (runs, runs[::-1])]
    assert all((found[0][run].arrays["prediction"] == found[1][run].arrays["prediction"]).all() for run in runs)


def test_runs_in_order(protocol):
    """A fold for all models before the next fold, so that differences are paired from the start; hits come last."""
    plan = protocol(
        {"a": {"baseline": "mean"}, "b": {"baseline": "linear"}},
        classifiers={"c": {"classifier": "logistic"}},
        limits={"b": 1, "c": 1},
        cutoffs=("50", "median"),
    )
    told = [(run.repeat, run.fold, run.model) for run in plan.runs() if not run.hits]
    of_both = [(0, fold, model) for fold in range(3) for model in "ab"]
    assert told == [*of_both, (1, 0, "a"), (1, 1, "a"), (1, 2, "a")]
    assert [run.hits for run in plan.runs()] == [False] * 9 + [True] * 12
    assert [run.model for run in plan.runs() if run.hits][:3] == ["a", "b", "c"]
    assert [run.model for run in plan.runs({"c"})] == ["c"] * 3
    assert plan.runs({"c"}, hits=False) == []
    assert len({run.path(Path()) for run in plan.runs()}) == 21


def test_time_is_split_once(protocol):
    plan = protocol({"a": {"baseline": "mean"}}, split="time", folds=5, repeats=3)
    assert plan.folds_of("a") == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_six_folds_of_time_are_five_rolling_origins(protocol, songs):
    plan = protocol({"a": {"baseline": "mean"}}, split="time", folds=6, repeats=3)
    dated = songs.assign(
        release_date=pd.date_range("1990-01-01", periods=len(songs), freq="61D").astype("datetime64[us]")
    )
    folds = [plan.make_fold(dated, *origin) for origin in plan.folds_of("a")]
    assert len(folds) == 5
    for newer, older in pairwise(fold.task for fold in folds):
        assert older.test["release_date"].max() < newer.test["release_date"].min()
        assert older.test["release_date"].max() <= newer.train["release_date"].max()
        assert older.train["release_date"].max() < older.test["release_date"].min()


def test_models_stand_where_they_belong(protocol):
    from popularity.errors import InputError

    for models, classifiers in (({"a": {"classifier": "lda"}}, {}), ({}, {"a": {"baseline": "mean"}})):
        with pytest.raises(InputError, match="model a: expected classifiers under"):
            protocol(models, classifiers=classifiers).build("a")


def progress_of(plan, finished, workers=1, songs=2000):
    from rich.console import Console

    from popularity.evaluation.progress import Progress

    console = Console(record=True, width=200, markup=False)
    return Progress(replace(plan, workers=workers), plan.runs(), finished, songs, console), console


def test_time_left_is_of_what_runs_take_here(protocol):
    """What a run takes over is a cost of its model, and no time to wait for."""
    plan = protocol({"mean": {"baseline": "mean"}, "other": {"baseline": "linear"}})
    runs = plan.runs()
    facts = {"error": None, "seconds": 90.0, "elapsed": 3.0, "metrics": {"mse": 7.0}}
    progress, console = progress_of(plan, dict.fromkeys(runs[:2], facts), workers=2)
    assert progress.seconds_left() == 10 * 3 / 2
    progress.ended(runs[2], facts | {"metrics": {"mse": 3.0}})
    progress.ended(runs[3], {"error": "ValueError: [bad]\nluck"})
    assert console.export_text().splitlines() == [
        "3/12  mean, repeat 0, fold 1: MSE 3.00, 3.0 s; best so far mean 5.00; 0:00:14 left",
        "4/12  other, repeat 0, fold 1: failed (ValueError: [bad] luck); best so far mean 5.00; 0:00:12 left",
    ]


def test_time_left_counts_models_that_have_not_run_yet(protocol):
    """A network does not take as long as a linear regression, and more songs take longer."""
    models = {"linear": {"baseline": "linear"}, "mamba": {"configs": ["mamba"]}, "audio": {"configs": ["audio"]}}
    plan = protocol(models)
    runs, facts = plan.runs(), {"error": None, "elapsed": 0.5}
    progress, _ = progress_of(plan, {runs[0]: facts})
    network = 2 * 20  # thousands of songs, seconds for each
    assert progress.seconds_left() == 5 * 0.5 + 12 * network
    assert progress_of(plan, {runs[0]: facts}, songs=8000)[0].seconds_left() > 3.9 * progress.seconds_left()
    progress.ended(runs[1], facts | {"elapsed": 100.0})  # the first network says what networks take here
    assert progress.seconds_left() == 5 * 0.5 + 11 * 100
    progress.ended(runs[2], facts | {"elapsed": 30.0})
    assert progress.seconds_left() == 5 * (0.5 + 100 + 30)


def test_time_left_counts_hits(protocol):
    """A run of hits fits its model once more; a classifier is a baseline like others."""
    plan = protocol(
        {"mamba": {"configs": ["mamba"]}}, classifiers={"lda": {"classifier": "lda"}}, cutoffs=("50",), repeats=1
    )
    runs = plan.runs()
    progress, _ = progress_of(plan, {run: {"error": None, "elapsed": 70.0} for run in runs if not run.hits})
    assert progress.seconds_left() == 3 * 70 + 3 * 2 * 2


def test_a_run_in_progress_elsewhere_is_left_alone(songs, protocol, own, tmp_path):
    """And once it is done there, its result is taken."""
    from filelock import FileLock

    from popularity.evaluation import workers
    from popularity.evaluation.protocol import Run

    fits: list[int] = []
    own["noted"] = lambda task: fits.append(1) or broken("nothing")(task)
    plan, run = protocol({"mine": {"own": "noted"}}), Run("mine", 0, 0)
    marker = workers._marker(run, tmp_path)
    marker.parent.mkdir(parents=True)
    with FileLock(marker):
        assert workers._work(plan, songs, run, tmp_path) == (run, None)
    assert not fits
    facts = workers._work(plan, songs, run, tmp_path)[1]
    assert facts is not None
    assert facts["error"] is None
    done = len(fits)
    assert workers._work(plan, songs, run, tmp_path)[1] == workers.read_result(plan, run, tmp_path).facts
    assert len(fits) == done
    assert not marker.exists()
