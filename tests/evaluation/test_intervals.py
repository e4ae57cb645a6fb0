"""Intervals in a comparison: which songs they rest on, and whether they hold what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Lazy
from tests.evaluation.helpers import Lively, made_up_task, predict

intervals = Lazy("popularity.evaluation.intervals")
coverage = Lazy("popularity.evaluation.coverage")
folds = Lazy("popularity.evaluation.folds")
runs = Lazy("popularity.evaluation.runs")
distribution = Lazy("popularity.inference.distribution")
stats = Lazy("scipy.stats")


@given(st.integers(0, 1_000))
def test_constant_widths_hold_exchangeable_errors(seed):
    rng = np.random.default_rng(seed)
    widths = intervals.half_widths(rng.standard_t(3, 999))
    assert (np.diff(widths) > 0).all()
    for width, share in zip(widths, (0.5, 0.8, 0.95), strict=True):
        # the coverage that 999 errors give is a beta variable (Vovk 2012)
        exact = 2 * stats.t.cdf(width, 3) - 1
        assert 1e-7 < stats.beta.cdf(exact, 1_000 * share, 1_000 * (1 - share)) < 1 - 1e-7


def test_the_error_that_an_interval_reaches():
    assert intervals.half_widths(np.array([-4.0, 1, -2, 3])).tolist() == [3.0, 4.0, np.inf]
    assert intervals.half_widths(np.arange(1.0, 40)).tolist() == [20.0, 32.0, 38.0]
    low, high = intervals.around(np.array([50.0, 2.0]), np.array([3.0, 4.0, np.inf])).swapaxes(0, 1)
    assert low.tolist() == [[47, 0], [46, 0], [0, 0]]
    assert high.tolist() == [[53, 5], [54, 6], [100, 100]]


@pytest.mark.parametrize("settings", [{"baseline": "ridge", "trials": 2}, {"baseline": "linear"}])
def test_residuals_are_those_of_held_out_songs(settings):
    """A search knows them; a model without one is fitted once more, and its time is given back."""
    task, _ = made_up_task()
    outcome, calls = predict(settings, task), []

    def fit_predict(part):
        calls.append(len(part.train))
        assert part.test["popularity"].isna().all()
        return predict(settings, part)

    residuals, spent = intervals.held_out_residuals(fit_predict, task, outcome)
    if "trials" in settings:
        assert not calls
        assert not spent
        assert len(residuals) == len(task.train)
    else:
        assert calls == [len(task.train) - len(residuals)]
        assert len(residuals) == pytest.approx(len(task.train) / 5, abs=1)
        assert spent["seconds"] < 0
    assert 0 < np.abs(residuals).mean() < np.abs(task.popularity - task.popularity.mean()).mean() * 1.3


def test_songs_that_cannot_be_split_have_no_intervals():
    task, _ = made_up_task(split="artist")
    alone = folds.Task(task.train.assign(artist="one"), task.test, "artist")
    assert intervals.held_out_residuals(lambda task: None, alone, folds.Outcome(np.zeros(1))) == (None, {})


def test_the_table_of_a_comparison(songs, protocol, own, run_all, tmp_path):
    from popularity.evaluation.results import Results
    from popularity.reports.report_tables import coverage as shown

    own["lively"], own["constant"] = Lively(), lambda task: folds.Outcome(np.full(len(task.test), 50.0))
    plan = protocol({"lively": {"own": "lively"}, "constant": {"own": "constant"}}, repeats=1)
    tables = run_all(plan, songs, reference="constant")
    done = {run: runs.read_result(plan, run, tmp_path) for run in plan.runs()}
    table = coverage.interval_table(done, songs, tables.predictions, plan)
    assert list(table) == coverage.COLUMNS
    every = table[table["known"] == "all"].set_index("model")
    assert every["intervals"].to_dict() == {"lively": "distribution", "constant": "constant width"}
    assert (every["predictions"] == len(songs)).all()
    truth, width = songs["popularity"].to_numpy(), []
    inside = []
    for run, result in done.items():
        if run.model == "constant":
            half = result.arrays["half_widths"][1]
            inside.append(np.abs(truth[result.arrays["rows"]] - 50) <= half)
            width.append(min(50 + half, 100) - max(50 - half, 0))
    assert every.loc["constant", "coverage_80"] == pytest.approx(np.concatenate(inside).mean())
    assert every.loc["constant", "width_80"] == pytest.approx(np.mean(width), rel=0.02)
    assert every.loc["constant", "coverage_80"] == pytest.approx(0.8, abs=0.12)
    assert every.loc["lively", ["width_50", "width_80", "width_95"]].tolist() == pytest.approx([4, 10, 18])
    bands = table[table["known"] != "all"].groupby("model")["predictions"].agg(["sum", "size"])
    assert (bands["sum"] == len(songs)).all()
    assert (bands["size"] > 1).all()
    percent = shown(Results({}, {"intervals": table}))
    assert percent["inside 80 %"].iloc[0] == pytest.approx(100 * table["coverage_80"].iloc[0], abs=0.06)
    # a result of an earlier version
    for result in done.values():
        result.arrays.pop("half_widths", None)
    assert set(coverage.interval_table(done, songs, tables.predictions, plan)["model"]) == {"lively"}
    for result in done.values():
        result.arrays.pop("intervals", None)
    assert coverage.interval_table(done, songs, tables.predictions, plan).empty
    assert shown(Results({}, {})) is None
