"""Hit prediction: what a hit is, where the threshold comes from, and that test songs have no say in it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.evaluation.conftest import Constant

CUTOFFS = ("40", "50", "99", "median", "top_quarter")


@pytest.fixture
def plan(protocol, kinds):
    kinds["constant"] = Constant
    return protocol(
        {"linear": {"kind": "linear"}, "net": {"kind": "constant"}},
        repeats=1,
        hits={"logistic": {"kind": "logistic"}, "net": {"kind": "constant"}},
        cutoffs=CUTOFFS,
    )


def test_all_tables_of_hits(plan, songs, run_all, tmp_path):
    from popularity.metrics import hit_scores

    tables = run_all(plan, songs, against="net")
    tables.write(tmp_path)
    folds = tables.hit_folds
    assert len(folds) == 2 * 5 * 3
    assert folds.loc[folds["cutoff"] == "99", "skipped"].str.contains("0 hits among").all()
    assert folds.loc[folds["cutoff"] != "99", "skipped"].isna().all()
    summary = tables.hit_summary.set_index(["cutoff", "model"])
    assert list(tables.hit_summary["cutoff"].unique()) == ["40", "50", "99", "median", "top_quarter"]
    assert summary.loc[("40", "logistic"), ["folds", "skipped"]].tolist() == [3, 0]
    assert summary.loc[("99", "logistic"), ["folds", "skipped"]].tolist() == [0, 3], "none is silently left out"
    assert summary.loc["99", ["auroc", "f1", "brier"]].isna().all(axis=None)
    assert summary["auroc"].min() > 0.8, "the songs are made so that features explain a lot"
    songs_of = tables.hits[
        (tables.hits["model"] == "net") & (tables.hits["cutoff"] == "50") & (tables.hits["fold"] == 1)
    ]
    assert (songs_of["hit"].to_numpy() == (songs["popularity"].to_numpy()[songs_of["row"]] >= 50)).all()
    row = folds[(folds["model"] == "net") & (folds["cutoff"] == "50") & (folds["fold"] == 1)].iloc[0]
    again = hit_scores(songs_of["probability"].to_numpy(), songs_of["hit"].to_numpy(), row["threshold"])
    assert {name: row[name] for name in again} == pytest.approx(again)
    assert row["majority"] == pytest.approx(max(row["hits"], 1 - row["hits"]))
    paired = folds[folds["cutoff"] == "50"].pivot(index="fold", columns="model", values="auroc")
    difference = paired["logistic"] - paired["net"]
    told = summary.loc[("50", "logistic")]
    assert told["reference"] == "net"
    assert told["auroc_difference"] == pytest.approx(difference.mean())
    half = 4.302653 * np.sqrt((1 / 3 + 1 / 2) * difference.var())  # t at .975, 2 degrees of freedom
    assert [told["auroc_low"], told["auroc_high"]] == pytest.approx(
        [difference.mean() - half, difference.mean() + half], abs=1e-3
    )
    assert told["wins"] == (difference > 0).sum()
    assert summary.loc[("50", "net"), ["reference", "auroc_difference"]].isna().all()


def test_a_fit_that_hits_take_over_is_a_cost_of_theirs(plan, songs, tmp_path):
    from popularity.evaluation.jobs import run_job

    first = {bool(job.cutoff): job for job in plan.jobs({"net"}) if job.fold == 0}
    alone = run_job(plan, songs, first[True], tmp_path)
    assert run_job(plan, songs, first[False], tmp_path)["error"] is None
    path = first[False].path(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 1000.0, "cpu_seconds": 500.0}))
    result = run_job(plan, songs, first[True], tmp_path)
    assert alone["seconds"] < 100
    assert 1000 < result["seconds"] < 1100
    assert 500 < result["cpu_seconds"] < 600
    assert result["hits"] == alone["hits"]


def test_without_a_reference_that_predicts_hits_no_differences(plan, songs, run_all):
    assert "auroc_difference" not in run_all(plan, songs, against="linear").hit_summary


def test_quantiles_are_those_of_the_training_songs(plan, songs):
    from popularity.evaluation.hits import cutoff_value

    popularity = plan.draw(songs, 0, 0).task.train["popularity"].to_numpy()
    assert np.mean(popularity >= cutoff_value("top_quarter", popularity)) == pytest.approx(0.25, abs=0.05)
    assert np.mean(popularity >= cutoff_value("median", popularity)) == pytest.approx(0.5, abs=0.05)
    assert cutoff_value("70", popularity) == 70


def test_test_songs_have_no_say_in_what_a_hit_is(plan, songs):
    from dataclasses import replace

    from popularity.evaluation.entries import build
    from popularity.evaluation.hits import cutoff_value, score_classifier, score_regressor

    fold = plan.draw(songs, 0, 0)
    other = replace(fold, answers=np.where(np.arange(len(fold.answers)) < 5, 0.0, 100.0))
    popularity = fold.task.train["popularity"].to_numpy()
    everybody = np.append(popularity, fold.answers)
    assert cutoff_value("median", everybody) != cutoff_value("median", popularity), "or this test shows nothing"
    for cutoff in ("median", "top_quarter"):
        for one in (fold, other):
            scored = (
                score_classifier(build("logistic", "logistic", {}), one, cutoff),
                score_regressor(Constant(), one, CUTOFFS)[cutoff],
            )
            assert [found.scores["value"] for found in scored] == [cutoff_value(cutoff, popularity)] * 2


def test_one_fit_serves_all_cutoffs(plan, songs):
    """Twice fitted, for the thresholds and for the test songs; once where the test songs were predicted before."""
    from popularity.evaluation.hits import INNER_FOLDS, score_regressor

    fold = plan.draw(songs, 0, 0)
    count = len(fold.task.train)
    entry = Constant()
    scored = score_regressor(entry, fold, CUTOFFS)
    assert entry.fits == [len(fold.task.inner(INNER_FOLDS)[0][0]), count]
    known = Constant().fit_predict(fold.task).cutoffs
    entry = Constant()
    again = score_regressor(entry, fold, CUTOFFS, known)
    assert len(entry.fits) == 1
    assert {cut: one.scores for cut, one in scored.items()} == {cut: one.scores for cut, one in again.items()}


def test_the_threshold_is_chosen_without_the_test_songs(plan, songs):
    from dataclasses import replace

    from popularity.evaluation.entries import build
    from popularity.evaluation.hits import score_classifier, score_regressor

    seen = []

    class Spy:
        def fit_probability(self, task, hit):
            seen.append(task)
            assert len(hit) == len(task.train)
            assert (hit == (task.train["popularity"] >= 40)).all()
            return build("logistic", "logistic", {}).fit_probability(task, hit)

    fold = plan.draw(songs, 0, 0)
    plain = score_classifier(Spy(), fold, "40")
    inner, outer = seen
    ours = set(fold.task.train["track_id"])
    assert set(inner.train["track_id"]) | set(inner.test["track_id"]) == ours
    assert not set(inner.train["track_id"]) & set(inner.test["track_id"])
    assert set(outer.train["track_id"]) == ours
    assert inner.test["popularity"].isna().all()
    other = replace(fold, answers=fold.answers[::-1])
    assert score_classifier(Spy(), other, "40").scores["threshold"] == plain.scores["threshold"]
    assert (score_classifier(Spy(), other, "40").chance == plain.chance).all()
    assert score_classifier(Spy(), other, "40").scores["auroc"] != plain.scores["auroc"]
    thresholds = [score_regressor(Constant(), one, CUTOFFS)["40"].scores["threshold"] for one in (fold, other)]
    assert thresholds[0] == thresholds[1]


def test_a_distribution_between_its_cutoffs():
    from popularity.evaluation.hits import probability_at

    cutoffs = {1.0: np.array([1.0, 0.8]), 2.0: np.array([0.5, 0.4]), 3.0: np.array([0.1, 0.0])}
    assert probability_at(cutoffs, 2).tolist() == [0.5, 0.4]
    assert probability_at(cutoffs, 2.25) == pytest.approx([0.4, 0.3])
    with pytest.raises(ValueError, match="goes from 1 to 3, not to 4"):
        probability_at(cutoffs, 4)


def test_a_regressor_without_a_distribution_fails(songs, protocol, tmp_path):
    from popularity.evaluation.jobs import run_job

    plan = protocol({"linear": {"kind": "linear"}}, hits={"linear": {"kind": "linear"}}, cutoffs=("40",))
    job = next(job for job in plan.jobs({"linear"}) if job.cutoff)
    assert "gives no distribution" in run_job(plan, songs, job, tmp_path)["error"]


def test_what_is_no_probability_fails(songs, protocol, kinds, tmp_path):
    from popularity.evaluation.jobs import run_job

    class Score:
        def fit_probability(self, task, hit):
            return np.full(len(task.test), 1.5)

    kinds["score"] = Score
    plan = protocol({"linear": {"kind": "linear"}}, hits={"score": {"kind": "score"}}, cutoffs=("40",))
    assert "must give" in run_job(plan, songs, plan.jobs({"score"})[0], tmp_path)["error"]


def test_a_job_is_charged_for_rows_that_were_kept(plan, songs, tmp_path, monkeypatch):
    from popularity.evaluation import jobs
    from popularity.evaluation.hits import Scored

    def scored(*_):
        jobs.spared.seconds += 100
        jobs.spared.cpu_seconds += 50
        return Scored({"value": 40, "skipped": "made up"}, None)

    monkeypatch.setattr(jobs, "score_classifier", scored)
    for cutoff in ("40", "50"):
        result = jobs.run_job(plan, songs, jobs.Job("logistic", 0, 0, cutoff), tmp_path)
        assert result["error"] is None
        assert 100 < result["seconds"] < 140
        assert 50 < result["cpu_seconds"] < 90
