"""From results to tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

LINEAR, MEAN = {"baseline": "linear"}, {"baseline": "mean"}


def test_a_model_against_itself_under_another_name(songs, protocol, run_all):
    tables = run_all(protocol({"linear": LINEAR, "twin": LINEAR, "mean": MEAN}), songs)
    table = tables.differences.set_index("model")
    twin = table.loc["twin"]
    assert (twin["difference"], twin["p_value"], twin["ratio_to_reference"], twin["wins"]) == (0, 1, 1, 0)
    assert (twin["low"], twin["high"], twin["song_low"], twin["song_high"]) == (0, 0, 0, 0)
    assert np.isnan(table.loc["linear", "p_value"])
    assert table.loc["mean", "difference"] > 0
    assert table.loc["mean", "p_value"] < 0.05, "the songs are made so that features explain a lot"
    assert table.loc["mean", "song_low"] > 0


def test_the_summary_from_its_folds(songs, protocol, run_all, tmp_path):
    from popularity.evaluation.tables import SUMMARY, write_tables

    tables = run_all(protocol({"mean": MEAN, "linear": LINEAR}, limits={"mean": 1}), songs)
    write_tables(vars(tables), tmp_path)
    assert not (tmp_path / "hits.parquet").exists(), "nobody was asked for hits"
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
    lines = folds.set_index("model").loc["linear"]
    assert summary.set_index("model").loc["linear", "slope"] == pytest.approx(lines["slope"].mean(), rel=1e-5)
    assert abs(lines["slope"].mean() - 1) < 0.2
    paired = mse["linear"].loc[0]  # the repeat that both have
    assert row["difference"] == pytest.approx((mse["mean"].loc[0] - paired).mean(), rel=1e-5)
    assert row["ratio_to_reference"] == pytest.approx(mse["mean"].loc[0].mean() / paired.mean(), rel=1e-5)
    truth = songs["popularity"].to_numpy()
    squares = (predictions["prediction"] - truth[predictions["row"]]) ** 2
    keys = [predictions[name].astype(folds[name].dtype) for name in ("model", "repeat", "fold")]
    for key, value in squares.groupby(keys):
        assert value.mean() == pytest.approx(mse[key])


def test_the_line_of_the_truth_on_the_prediction():
    from popularity.evaluation.tables import calibration_lines

    songs = pd.DataFrame({"popularity": [10, 20, 60, 50, 30, 40]})
    rows = [("half", 0, 0, row, 3 + 2 * songs["popularity"][row]) for row in range(3)]
    rows += [("half", 0, 1, row, songs["popularity"][row] - 4.0) for row in range(3, 6)]
    rows += [("flat", 0, 0, row, 25.0) for row in range(3)]
    table = pd.DataFrame(rows, columns=["model", "repeat", "fold", "row", "prediction"]).astype({"model": "category"})
    lines = calibration_lines(table, songs)
    assert lines.loc[("half", 0, 0), "slope"] == pytest.approx(0.5)
    assert lines.loc[("half", 0, 0), "mean_residual"] == pytest.approx(30 - 63)
    assert lines.loc[("half", 0, 1)].tolist() == pytest.approx([1, 4])
    assert np.isnan(lines.loc[("flat", 0, 0), "slope"])
    assert lines.loc[("flat", 0, 0), "mean_residual"] == pytest.approx(5)


def test_mixed_folds_are_refused():
    from popularity.errors import InputError
    from popularity.evaluation.tables import check_folds

    rows = [("a", 0, 0, 1), ("a", 0, 0, 2), ("b", 0, 0, 1), ("b", 0, 0, 3)]
    table = pd.DataFrame(rows, columns=["model", "repeat", "fold", "row"])
    with pytest.raises(InputError, match="repeat 0, fold 0: a and b were tested on different songs"):
        check_folds(table)
    check_folds(table.assign(row=[1, 2, 2, 1]))


def test_tables_without_any_result_of_the_reference(songs, protocol, run_all, tmp_path):
    from popularity.evaluation.tables import write_tables

    tables = run_all(protocol({"mean": MEAN}), songs)
    assert tables.summary["ratio_to_reference"].isna().all()
    (tmp_path / "hits.parquet").touch()
    write_tables(vars(tables), tmp_path)
    assert not (tmp_path / "hits.parquet").exists(), "of an earlier comparison"


def test_folds_that_are_the_same_songs_are_compared_separately():
    """Fold 0 has the same four test songs in both repeats, where b is behind; on all others it is ahead."""
    from popularity.evaluation.significance import repeated_folds

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
    assert list(found.index) == ["b", "a", "few"], "by differences: MSEs of other folds cannot be compared"
    assert found.loc["few", ["folds_repeated", "folds_others", "tests"]].tolist() == [1, 2, 1]


def test_folds_that_are_all_repeated_are_told_of(songs, protocol, run_all):
    few = songs.assign(artist=[f"artist {i % 3}" for i in range(len(songs))])
    tables = run_all(protocol({"mean": MEAN, "linear": LINEAR}, split="artist"), few)
    assert tables.repeated_folds["tests"].tolist() == [3, 3]
    assert tables.repeated_folds["folds_others"].tolist() == [0, 0]
