"""A search from end to end with small fits: what it does with songs, folds and trials, and what it leaves behind."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from popularity.__main__ import main
from popularity.data.songs import load_songs
from tests.conftest import make_songs
from tests.test_fit import PLAIN
from tests.tuning.conftest import arguments

BOOSTING = """
lightgbm.n_estimators: {class_path: CategoricalDistribution, init_args: {choices: [1, 60]}}
lightgbm.learning_rate: {class_path: FloatDistribution, init_args: {low: 0.05, high: 0.2}}
"""


@pytest.fixture(scope="module", autouse=True)
def _imports() -> None:
    """What is slow to import: with the first of these tests, not while tests are collected."""
    global PopularityDataModule, make_split, trial_module, search_split
    from popularity.data.splits import make_split
    from popularity.training.datamodule import PopularityDataModule
    from popularity.tuning import trial as trial_module
    from popularity.tuning.trial import search_split


def table(folder: Path, study: str = "tune") -> pd.DataFrame:
    return pd.read_csv(folder / study / "study.csv")


@pytest.fixture(scope="module")
def searched(tmp_path_factory, song_file, space_file) -> tuple[Path, str]:
    """A search of 8 trials and what it printed."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("search")
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main(arguments(folder, song_file, space_file, "--trials", "8")) == 0
    return folder, output.getvalue()


def test_a_search_leaves_everything_behind(searched):
    folder, printed = searched
    trials = table(folder)
    assert len(trials) == 8
    assert set(trials["state"]) == {"COMPLETE", "PRUNED"}, "the median pruner ends what is worse"
    assert trials["best"].sum() == 1
    assert trials.loc[trials["best"], "val/mse"].item() == trials["val/mse"].min()
    assert trials["model.learning_rate"].nunique() == 8
    first = trials.iloc[0]
    assert (first["model.width"], first["model.dropout"]) == (8, 0.2), "the config as it stands comes first"
    plots = {path.name for path in (folder / "tune" / "plots").glob("*.html")}
    names = {"history", "importances", "parallel_coordinate", "slice", "intermediate_values"}
    assert plots == {f"{name}.html" for name in names}
    assert "tune: 8 of 8 trials" in printed
    assert "optuna-dashboard sqlite:///" in printed


def test_seconds_beside_training(searched):
    """The goal is one second per trial on a machine that does nothing else; tests run side by side."""
    found = re.search(r"([\d.]+) s per trial beside training", searched[1])
    assert found is not None
    assert float(found[1]) < 3.0


def test_fit_with_best_yaml_reaches_the_score_of_the_best_trial(searched, tmp_path):
    """What a trial trains is what ``fit`` trains, to the last digit."""
    folder, _ = searched
    best = table(folder).query("best").iloc[0]
    assert main(["fit", "-c", str(folder / "tune" / "best.yaml"), "--log_dir", str(tmp_path), "--name", "best"]) == 0
    metrics = pd.read_csv(tmp_path / "best" / "version_0" / "metrics.csv")
    assert metrics["val/mse"].min() == pytest.approx(best["val/mse"], rel=1e-6)


def test_tensorboard_shows_settings_and_score_of_each_trial(searched):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    folder, _ = searched
    for row in table(folder).to_dict("records"):
        run = EventAccumulator(str(folder / "tune" / f"trial_{row['trial']:04d}")).Reload()
        content = run.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        shown = HParamsPluginData.FromString(content).session_start_info.hparams
        assert shown["model.learning_rate"].number_value == pytest.approx(row["model.learning_rate"])
        assert shown["model.width"].number_value == row["model.width"]
        score = run.Scalars("val/mse")[-1].value
        assert np.isfinite(score)
        if row["state"] == "COMPLETE":
            assert score == pytest.approx(row["val/mse"], rel=1e-5)


def test_the_same_command_goes_on_and_ends_at_the_number_asked_for(tune, tmp_path):
    for asked, held in (("2", 2), ("4", 4), ("4", 4), ("3", 4)):
        assert tune("--trials", asked, "--pruner", "none", epochs=1) == 0
        assert len(table(tmp_path)) == held


@pytest.mark.parametrize("folds", [1, 2])
def test_test_songs_are_never_touched(folds, tmp_path, tune, monkeypatch):
    """A search on a file whose test songs are poisoned is the same search."""
    clean = make_songs(200, seed=3)
    songs = load_songs(_write(clean, tmp_path / "clean.csv")).songs
    test = make_split(songs, "random", folds=5, fold=0, seed=0, validation=0.1).test
    rows = clean["track_id"].isin(songs["track_id"].iloc[test])
    assert rows.sum() == 40
    poisoned = clean.copy()
    poisoned.loc[rows, "popularity"] = 100
    poisoned.loc[rows, ["danceability", "energy"]] = 0.999
    poisoned.loc[rows, "tempo"] = 240.0
    _write(poisoned, tmp_path / "poisoned.csv")

    def refuse(self):
        raise AssertionError("a search asked for test songs")

    monkeypatch.setattr(PopularityDataModule, "test_dataloader", refuse)
    results = []
    for name in ("clean", "poisoned"):
        folder = tmp_path / name
        more = ("--trials", "3", "--folds", str(folds), "--pruner", "none")
        assert tune(*more, folder=folder, source=tmp_path / f"{name}.csv", epochs=2) == 0
        found = table(folder).drop(columns=["seconds", "begun", "ended", "worker"], errors="ignore")
        results.append(found)
    pd.testing.assert_frame_equal(*results)


def _write(songs: pd.DataFrame, path: Path) -> str:
    songs.to_csv(path, index=False)
    return str(path)


@given(
    kind=st.sampled_from(["random", "artist", "credits", "album", "time"]), folds=st.integers(2, 4), seed=st.integers(0)
)
def test_folds_share_out_the_songs_that_are_not_test_songs(kind, folds, seed):
    seed %= 1000
    songs = _canonical()
    split = make_split(songs, kind, folds=5, fold=0, seed=seed, validation=0.1)
    known = set(split.train) | set(split.validation)
    parts = [search_split(songs, split, kind, folds, fold, seed) for fold in range(folds)]
    for part in parts:
        assert len(part.test) == 0
        assert not set(part.train) & set(part.validation)
        assert set(part.train) | set(part.validation) <= known
        if kind == "time":
            assert songs["release_date"].iloc[part.train].max() < songs["release_date"].iloc[part.validation].min()
        else:
            assert set(part.train) | set(part.validation) == known
    validated = np.concatenate([part.validation for part in parts])
    assert len(validated) == len(set(validated))


def _canonical(cache: list[pd.DataFrame] = []) -> pd.DataFrame:  # noqa: B006  # loaded once for all examples
    if not cache:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            cache.append(load_songs(_write(make_songs(150, seed=1), Path(folder) / "songs.csv")).songs)
    return cache[0]


def test_a_pareto_front_of_error_and_size(tune, tmp_path):
    assert tune("--trials", "5", "--objective", "val/mse,parameters", epochs=1) == 0
    trials = table(tmp_path)
    assert set(trials["state"]) == {"COMPLETE"}, "a front has no order to prune by"
    front = trials[trials["best"]]
    for _, one in front.iterrows():
        better = (trials["val/mse"] < one["val/mse"]) & (trials["parameters"] < one["parameters"])
        assert not better.any()
    assert (tmp_path / "tune" / "plots" / "pareto_front.html").is_file()
    config = yaml.safe_load((tmp_path / "tune" / "best.yaml").read_text())
    assert config["model"]["width"] == front.sort_values("val/mse")["model.width"].iloc[0]


def test_hyperband_prunes_by_epochs(tune, tmp_path):
    assert tune("--trials", "8", "--pruner", "hyperband", "--sampler", "random", epochs=6) == 0
    assert (table(tmp_path)["note"].str.contains("pruned at epoch")).any()


def test_lightgbm_goes_through_the_same_search_on_the_same_folds(tune, tmp_path, monkeypatch):
    seen: list[tuple[tuple[int, ...], ...]] = []
    split = search_split

    def spy(*given):
        part = split(*given)
        seen.append((tuple(part.train), tuple(part.validation)))
        return part

    monkeypatch.setattr(trial_module, "search_split", spy)
    assert tune("--trials", "1", "--folds", "5", "--study", "network", "--pruner", "none", epochs=1) == 0
    network = set(seen)
    seen.clear()
    space = tmp_path / "boosting.yaml"
    space.write_text(BOOSTING)
    more = ("--trials", "8", "--folds", "5", "--study", "trees", "--pruner", "wilcoxon", "--sampler", "random")
    assert tune(*more, "--lightgbm.n_estimators", "60", space=space) == 0
    assert set(seen) == network
    assert len(network) == 5
    trials = table(tmp_path, "trees")
    assert trials.loc[trials["best"], "lightgbm.n_estimators"].item() == 60
    assert trials["note"].str.contains("pruned after fold [34]").any(), "one tree is worse in every fold"
    assert trials.query("state == 'PRUNED'")["lightgbm.n_estimators"].eq(1).all()
    # the winner's file starts another search
    best = str(tmp_path / "trees" / "best.yaml")
    assert yaml.safe_load(Path(best).read_text())["lightgbm"]["n_estimators"] == 60
    again = ["tune", "-c", best, "--space", str(space), "--trials", "1", "--study", "again", *PLAIN]
    assert main([*again, "--log_dir", str(tmp_path)]) == 0


def test_a_study_begun_with_other_settings_is_refused(tune, capsys):
    assert tune("--trials", "1", epochs=1) == 0
    for more, told in (
        (["--objective", "val/mae"], "objective"),
        (["--data.fold", "1"], "fit/data/fold: 0 -> 1"),
    ):
        capsys.readouterr()
        assert tune("--trials", "2", *more, epochs=1) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("error: study 'tune' was begun with other settings")
        assert told in error
        assert "\n" not in error


def test_an_objective_that_is_not_logged_is_named(tune, capsys):
    assert tune("--trials", "1", "--objective", "val/made_up", epochs=1) == 2
    error = capsys.readouterr().err
    assert "got val/made_up" in error
    assert "val/mse" in error
    # nothing was measured, so that the name is free
    assert tune("--trials", "1", "--objective", "val/mae", epochs=1) == 0
