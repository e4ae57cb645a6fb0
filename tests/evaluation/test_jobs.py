"""A job's result: whole or not there, and worth something only for the settings and songs it was made with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


class Broken:
    def __init__(self, how: str = "raises", fold: int | None = None) -> None:
        self.how, self.fold = how, fold

    def fit_predict(self, task):
        from popularity.evaluation.folds import Outcome

        prediction = np.full(len(task.test), 50.0)
        if self.fold is not None and task.fold != self.fold:
            return Outcome(prediction)
        if self.how == "raises":
            raise RuntimeError("no luck\ntoday")
        if self.how == "nan":
            prediction[3] = np.nan
        if self.how == "short":
            prediction = prediction[1:]
        return Outcome(prediction, notes={"epochs": np.int64(3), "best": float("nan"), "sizes": (1, np.float32(2))})


@pytest.mark.parametrize(
    ("how", "told"), [("raises", "RuntimeError: no luck"), ("nan", "must be finite, however: 1 of"), ("short", "shape")]
)
def test_what_goes_wrong_is_recorded(how, told, songs, protocol, kinds, tmp_path):
    from popularity.evaluation.jobs import read_result, run_job
    from popularity.evaluation.summary import done

    kinds["broken"] = Broken
    plan = protocol({"broken": {"kind": "broken", "how": how}})
    job = plan.jobs()[0]
    result = run_job(plan, songs, job, tmp_path)
    assert told in result["error"]
    assert "Traceback" in result["traceback"]
    assert read_result(plan, job, tmp_path)["error"] == result["error"]
    assert not done(plan, plan.jobs(), tmp_path)


def test_a_stack_takes_over_what_its_members_have_predicted(songs, protocol, tmp_path):
    from popularity.evaluation.jobs import read_arrays, run_job

    of = {"linear": {"kind": "linear"}, "mean": {"kind": "mean"}}
    plan = protocol({**of, "mix": {"kind": "stack", "of": of}})
    first = {job.model: job for job in plan.jobs() if (job.repeat, job.fold) == (0, 0)}
    fresh = run_job(plan, songs, first["mix"], tmp_path)
    wanted = read_arrays(first["mix"], tmp_path)["prediction"]
    costs = run_job(plan, songs, first["linear"], tmp_path)["seconds"]
    known_seconds = costs + run_job(plan, songs, first["mean"], tmp_path)["seconds"]
    again = run_job(plan, songs, first["mix"], tmp_path)
    np.testing.assert_array_equal(read_arrays(first["mix"], tmp_path)["prediction"], wanted)
    assert again["metrics"] == fresh["metrics"]
    assert again["seconds"] > costs
    assert again["elapsed"] == pytest.approx(again["seconds"] - known_seconds, abs=1e-6)
    # that they are taken over: a member whose prediction was replaced
    replaced = dict(read_arrays(first["linear"], tmp_path))
    replaced["prediction"] = np.full_like(replaced["prediction"], 100.0)
    np.savez_compressed(first["linear"].path(tmp_path, ".npz"), **replaced)
    run_job(plan, songs, first["mix"], tmp_path)
    assert read_arrays(first["mix"], tmp_path)["prediction"].mean() > wanted.mean() + 10


def test_time_left_is_of_what_jobs_take_here(protocol):
    """What a job takes over is a cost of its model, and no time to wait for."""
    from popularity.evaluation.progress import Board

    jobs = protocol({"mean": {"kind": "mean"}}).jobs()
    results = {"error": None, "seconds": 90.0, "elapsed": 3.0}
    assert Board(jobs, dict.fromkeys(jobs[:2], results), workers=2).seconds_left() == 4 * 3 / 2
    del results["elapsed"]  # of an earlier version
    assert Board(jobs, dict.fromkeys(jobs[:2], results), workers=2).seconds_left() == 4 * 90 / 2


def test_a_result_says_where_it_comes_from(songs, protocol, kinds, tmp_path):
    from popularity.evaluation.jobs import code_version, read_arrays, run_job

    kinds["odd"] = Broken
    plan = protocol({"odd": {"kind": "odd", "how": "never"}})
    job = plan.jobs()[-1]
    run_job(plan, songs, job, tmp_path)
    found = json.loads((tmp_path / "jobs" / "odd" / "r1-f2.json").read_text())
    assert (found["model"], found["repeat"], found["fold"], found["error"]) == ("odd", 1, 2, None)
    assert found["settings"] == {"kind": "odd", "how": "never"}
    assert found["data"] == plan.fingerprint
    assert found["config"] == plan.config_hash(job)
    assert found["songs_train"] + found["songs_test"] == len(songs)
    assert found["seconds"] >= 0
    assert found["cpu_seconds"] >= 0
    assert found["versions"]["pandas"] == pd.__version__
    assert found["versions"]["popularity"] == code_version()
    assert found["notes"] == {"epochs": 3, "best": None, "sizes": [1, 2.0]}
    assert found["metrics"]["spearman"] is None, "the rank correlation of a constant"
    arrays = read_arrays(job, tmp_path)
    truth = songs["popularity"].to_numpy()[arrays["rows"]]
    assert found["metrics"]["mse"] == pytest.approx(np.mean((truth - 50) ** 2))
    assert not list(tmp_path.rglob("*.part"))


def test_predictions_are_clipped(songs, protocol, kinds, tmp_path):
    from popularity.evaluation.jobs import read_arrays, run_job

    kinds["far"] = lambda: Far()

    class Far:
        def fit_predict(self, task):
            from popularity.evaluation.folds import Outcome

            return Outcome(np.linspace(-50, 150, len(task.test)))

    plan = protocol({"far": {"kind": "far"}})
    run_job(plan, songs, plan.jobs()[0], tmp_path)
    prediction = read_arrays(plan.jobs()[0], tmp_path)["prediction"]
    assert (prediction.min(), prediction.max()) == (0, 100)


def test_other_settings_or_songs_make_a_result_void(songs, protocol, tmp_path):
    from dataclasses import replace

    from popularity.evaluation.jobs import read_result, run_job

    config = tmp_path / "model.yaml"
    config.write_text("width: 3\n")
    plan = protocol({"mean": {"kind": "mean"}, "net": {"kind": "network", "configs": [str(config)]}})
    job, net = plan.jobs({"mean"})[0], next(job for job in plan.jobs() if job.model == "net")
    assert run_job(plan, songs, job, tmp_path)["error"] is None
    assert read_result(plan, job, tmp_path)
    assert read_result(replace(plan, repeats=1, limits={"mean": 1}), job, tmp_path), "no result depends on these"
    assert read_result(replace(plan, fingerprint="0" * 64), job, tmp_path) is None
    assert read_result(replace(plan, models={"mean": {"kind": "mean", "more": 1}}), job, tmp_path) is None
    before = plan.config_hash(net)
    config.write_text("width: 4\n")
    assert plan.config_hash(net) != before, "a config file that has changed"


def test_a_model_that_draws_from_global_generators_gives_the_same_in_any_order(songs, protocol, kinds, tmp_path):
    from popularity.evaluation.jobs import read_arrays, run_job

    class Draws:
        def fit_predict(self, task):
            import torch

            from popularity.evaluation.folds import Outcome

            return Outcome(50 + np.random.randn(len(task.test)) + torch.randn(1).item())  # noqa: NPY002

    kinds["draws"] = Draws
    plan = protocol({"draws": {"kind": "draws"}})
    jobs = plan.jobs()
    found = []
    for order in (jobs, jobs[::-1]):
        for job in order:
            run_job(plan, songs, job, tmp_path)
        found.append([read_arrays(job, tmp_path)["prediction"] for job in jobs])
    assert all((a == b).all() for a, b in zip(*found, strict=True))


def test_jobs_in_order(protocol):
    """A fold for all models before the next fold, so that differences are paired from the start; hits come last."""
    plan = protocol(
        {"a": {"kind": "mean"}, "b": {"kind": "linear"}},
        limits={"b": 1},
        hits={"a": {"kind": "logistic"}, "c": {"kind": "mean"}},
        hit_limits={"a": 1},
        cutoffs=("50", "median"),
    )
    told = [(job.repeat, job.fold, job.model) for job in plan.jobs({"a", "b"}) if not job.cutoff]
    of_both = [(0, fold, model) for fold in range(3) for model in "ab"]
    assert told == [*of_both, (1, 0, "a"), (1, 1, "a"), (1, 2, "a")]
    hits = [job for job in plan.jobs({"a", "b", "c"}) if job.cutoff]
    assert [job.cutoff for job in hits if job.model == "a"] == ["50", "median"] * 3
    assert [job.cutoff for job in hits if job.model == "c"] == ["all"] * 6
    assert len({job.path(Path()) for job in plan.jobs({"a", "b", "c"})}) == 9 + 6 + 6


def test_time_is_drawn_once(protocol):
    plan = protocol({"a": {"kind": "mean"}}, split="time", folds=5, repeats=3)
    assert plan.folds_of("a") == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_a_model_against_itself_under_another_name(songs, protocol, run_all):
    plan = protocol({"linear": {"kind": "linear"}, "twin": {"kind": "linear"}, "mean": {"kind": "mean"}})
    tables = run_all(plan, songs)
    table = tables.differences.set_index("model")
    twin = table.loc["twin"]
    assert (twin["difference"], twin["p_value"], twin["ratio_to_reference"], twin["wins"]) == (0, 1, 1, 0)
    assert (twin["low"], twin["high"], twin["song_low"], twin["song_high"]) == (0, 0, 0, 0)
    assert np.isnan(table.loc["linear", "p_value"])
    assert table.loc["mean", "difference"] > 0
    assert table.loc["mean", "p_value"] < 0.05, "the songs are made so that features explain a lot"
    assert table.loc["mean", "song_low"] > 0


def test_the_summary_from_its_folds(songs, protocol, run_all, tmp_path):
    from popularity.evaluation.summary import SUMMARY

    plan = protocol({"mean": {"kind": "mean"}, "linear": {"kind": "linear"}}, limits={"mean": 1})
    tables = run_all(plan, songs)
    tables.write(tmp_path)
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert tuple(summary.columns) == SUMMARY
    assert list(summary["model"]) == ["linear", "mean"]
    folds = pd.read_parquet(tmp_path / "folds.parquet")
    predictions = pd.read_parquet(tmp_path / "predictions.parquet")
    assert isinstance(predictions["model"].dtype, pd.CategoricalDtype)
    row, mse = summary.set_index("model").loc["mean"], folds.set_index(["model", "repeat", "fold"])["mse"]
    assert row["folds"] == 3
    assert summary.set_index("model").loc["linear", "folds"] == 6
    assert row["mse"] == pytest.approx(mse["mean"].mean(), rel=1e-5)
    assert row["mse_sd"] == pytest.approx(mse["mean"].std(), rel=1e-5)
    paired = mse["linear"].loc[0]  # the repeat that both have
    assert row["difference"] == pytest.approx((mse["mean"].loc[0] - paired).mean(), rel=1e-5)
    assert row["ratio_to_reference"] == pytest.approx(mse["mean"].loc[0].mean() / paired.mean(), rel=1e-5)
    truth = songs["popularity"].to_numpy()
    squares = (predictions["prediction"] - truth[predictions["row"]]) ** 2
    for key, value in squares.groupby(
        [predictions[name].astype(folds[name].dtype) for name in ("model", "repeat", "fold")]
    ):
        assert value.mean() == pytest.approx(mse[key])


def test_mixed_folds_are_refused():
    from popularity.errors import InputError
    from popularity.evaluation.summary import check_folds

    rows = [("a", 0, 0, 1), ("a", 0, 0, 2), ("b", 0, 0, 1), ("b", 0, 0, 3)]
    table = pd.DataFrame(rows, columns=["model", "repeat", "fold", "row"])
    with pytest.raises(InputError, match="repeat 0, fold 0: a and b were tested on other songs"):
        check_folds(table)
    check_folds(table.assign(row=[1, 2, 2, 1]))


def test_tables_without_any_result_of_the_reference(songs, protocol, run_all, tmp_path):
    plan = protocol({"mean": {"kind": "mean"}})
    tables = run_all(plan, songs)
    assert tables.summary["ratio_to_reference"].isna().all()
    tables.write(tmp_path)
    assert not (tmp_path / "hits.parquet").exists(), "nobody was asked for hits"


def test_budgets_are_told_and_a_changed_default_makes_results_stale(protocol, monkeypatch):
    from popularity.evaluation.cli import _budget
    from popularity.evaluation.entries import families

    plan = protocol({"linear": {"kind": "linear"}, "knn": {"kind": "knn", "trials": 2}, "ridge": {"kind": "ridge"}})
    assert [_budget(settings) for settings in plan.models.values()] == ["", "2 trials", "10 trials"]
    members = {"knn": plan.models["knn"], "linear": {"kind": "linear"}}
    assert _budget({"kind": "stack", "of": members}) == "3 folds of knn 2 trials"
    jobs = {job.model: job for job in plan.jobs({"knn", "ridge"})}
    before = {name: plan.config_hash(job) for name, job in jobs.items()}
    monkeypatch.setattr(families.ridge, "__defaults__", ("audio", 11))
    monkeypatch.setattr(families.knn, "__defaults__", ("audio", 9))
    assert plan.config_hash(jobs["ridge"]) != before["ridge"]
    assert plan.config_hash(jobs["knn"]) == before["knn"], "this one has a budget of its own"


def test_folds_that_are_the_same_songs_are_compared_apart():
    """Fold 0 has the same four test songs in both repeats, where b is behind; on all others it is ahead."""
    from popularity.evaluation.paired import repeated_folds

    tested = {
        (0, 0): [0, 1, 2, 3],
        (0, 1): [4, 5],
        (0, 2): [6, 7],
        (1, 0): [3, 2, 1, 0],
        (1, 1): [4, 6],
        (1, 2): [5, 7],
    }
    mse = {"a": [10, 20, 30, 12, 22, 32], "b": [15, 18, 27, 13, 21, 30]}
    keys = list(tested)
    folds = pd.DataFrame(
        [(model, *key, value, 6, 2) for model, values in mse.items() for key, value in zip(keys, values, strict=True)],
        columns=["model", "repeat", "fold", "mse", "songs_train", "songs_test"],
    )
    predictions = pd.DataFrame(
        [(model, *key, row) for model in mse for key in keys for row in tested[key]],
        columns=["model", "repeat", "fold", "row"],
    )
    found = repeated_folds(predictions, folds, "a").set_index("model")
    assert list(found.index) == ["b", "a"], "best on the others first"
    assert found.loc["b", ["songs", "folds_repeated", "folds_others"]].tolist() == [4, 2, 4]
    assert found.loc["b", ["mse_repeated", "mse_others"]].tolist() == [14, 24]
    assert found.loc["b", ["difference_repeated", "difference_others"]].tolist() == [3, -2]
    assert found.loc["b", "low_others"] < -2 < found.loc["b", "high_others"]
    apart = predictions.assign(row=lambda table: table["row"] + 10 * table["repeat"])
    assert repeated_folds(apart, folds, "a").empty
    assert repeated_folds(predictions, folds, "nobody").empty
    few = folds[(folds["model"] == "b") & (folds["repeat"] == 0)].assign(model="few", mse=[10, 21, 31])
    found = repeated_folds(predictions, pd.concat([folds, few]), "a").set_index("model")
    assert list(found.index) == ["b", "a", "few"], "by differences: MSEs of other folds are no measure"
    assert found.loc["few", ["folds_repeated", "folds_others", "tests"]].tolist() == [1, 2, 1]


def test_folds_that_are_all_repeated_are_told_of(songs, protocol, run_all):
    few = songs.assign(artist=[f"artist {i % 3}" for i in range(len(songs))])
    plan = protocol({"mean": {"kind": "mean"}, "linear": {"kind": "linear"}}, split="artist")
    tables = run_all(plan, few)
    assert tables.repeated_folds["tests"].tolist() == [3, 3]
    assert tables.repeated_folds["folds_others"].tolist() == [0, 0]
