"""A search from end to end with small fits: what it does with songs, folds and trials, and what it leaves behind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from popularity.__main__ import main
from popularity.data.songs import load_songs
from tests.conftest import Lazy, make_songs
from tests.tuning.conftest import CPU, arguments

BOOSTING = """
lightgbm.n_estimators: {class_path: CategoricalDistribution, init_args: {choices: [1, 60]}}
lightgbm.learning_rate: {class_path: FloatDistribution, init_args: {low: 0.05, high: 0.2}}
"""

callbacks = Lazy("popularity.training.callbacks")
datamodule = Lazy("popularity.training.datamodule")
splits = Lazy("popularity.data.splits")
trial_module = Lazy("popularity.tuning.trial")


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
    assert "songs.csv (CSV, utf-8): 240 rows, 240 songs" in printed, "what was read is said, as by every verb"
    trials = table(folder)
    assert len(trials) == 8
    assert set(trials["state"]) == {"COMPLETE", "PRUNED"}, "the median pruner ends what is worse"
    assert trials["best"].sum() == 1
    assert trials.loc[trials["best"], "val/mse"].item() == trials["val/mse"].min()
    assert trials["model.learning_rate"].nunique() == 8
    first = trials.iloc[0]
    assert (first["model.net.width"], first["model.net.dropout"]) == (8, 0.2), "the config as it stands comes first"
    plots = {path.name for path in (folder / "tune" / "plots").glob("*.html")}
    names = {"optimization_history", "param_importances", "parallel_coordinate", "slice"}
    assert plots == {"intermediate_values.html", *(f"{name}_val_mse.html" for name in names)}
    assert "8 of 8 trials" in printed
    assert "optuna-dashboard sqlite:///" in printed


def test_a_trial_takes_little_beside_its_training(searched):
    """The goal is one second per trial on a machine that does nothing else; tests run side by side."""
    trials = pd.read_csv(searched[0] / "tune" / "study.csv", parse_dates=["begun", "ended"]).query(
        "state == 'COMPLETE'"
    )
    beside = (trials["ended"] - trials["begun"]).dt.total_seconds() - trials["seconds"]
    assert beside.median() < 3 * max(1, trials["seconds"].median())


def test_progress_shows_the_result_the_best_so_far_and_the_time_left(searched):
    lines = re.findall(
        r"^trial (\d+): (.+); (\d) of 8 done; best val/mse ([\d.]+) \(trial \d+\)(.*)$", searched[1], re.M
    )
    assert [int(number) for number, *_ in lines] == list(range(8))
    assert [int(done) for _, _, done, _, _ in lines] == list(range(1, 9))
    best = [float(value) for _, _, _, value, _ in lines]
    assert best == sorted(best, reverse=True)
    assert all(re.fullmatch(r"; about \d+:\d\d:\d\d left", left) for *_, left in lines[:-1])
    assert lines[-1][-1] == ""


@pytest.mark.slow
def test_fit_with_best_yaml_reaches_the_score_of_the_best_trial(searched, tmp_path):
    """What a trial trains is what ``fit`` trains, to the last digit."""
    folder, _ = searched
    best = table(folder).query("best").iloc[0]
    assert main(["fit", "-c", str(folder / "tune" / "best.yaml"), "--log_dir", str(tmp_path), "--name", "best"]) == 0
    metrics = pd.read_csv(tmp_path / "best" / "version_0" / "metrics.csv")
    assert metrics["val/mse"].min() == pytest.approx(best["val/mse"], rel=1e-6)


def hyperparameters(folder: Path):
    """The events of a run, and its row in the HPARAMS tab."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    run = EventAccumulator(str(folder)).Reload()
    content = run.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    return run, HParamsPluginData.FromString(content).session_start_info.hparams


def test_tensorboard_shows_settings_and_score_of_each_trial_under_the_names_of_fit(searched, tmp_path):
    folder, _ = searched
    again = ["-c", str(folder / "tune" / "best.yaml"), "--log_dir", str(tmp_path), "--trainer.max_epochs", "1"]
    assert main(["fit", *again, "--name", "fit", *CPU]) == 0
    _, of_fit = hyperparameters(tmp_path / "fit" / "version_0")
    for row in table(folder).to_dict("records"):
        run, shown = hyperparameters(folder / "tune" / f"trial_{row['trial']:04d}")
        assert shown["learning_rate"].number_value == pytest.approx(row["model.learning_rate"])
        assert shown["net.width"].number_value == row["model.net.width"]
        assert set(shown) == set(of_fit)
        best = run.Scalars(callbacks.BestSoFar.metric)[-1].value
        assert best == min(event.value for event in run.Scalars("val/mse"))
        if row["state"] == "COMPLETE":
            assert best == pytest.approx(row["val/mse"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("folds", [1, 2])
def test_test_songs_are_never_touched(folds, tmp_path, tune, monkeypatch):
    """A search on a file whose test songs are poisoned is the same search."""
    clean = make_songs(100, seed=3)
    songs = load_songs(_write(clean, tmp_path / "clean.csv")).songs
    test = splits.make_split(songs, "random", folds=5, fold=0, seed=0, validation=0.1).test
    rows = clean["track_id"].isin(songs["track_id"].iloc[test])
    assert rows.sum() == 20
    poisoned = clean.copy()
    poisoned.loc[rows, "popularity"] = 100
    poisoned.loc[rows, ["danceability", "energy"]] = 0.999
    poisoned.loc[rows, "tempo"] = 240.0
    _write(poisoned, tmp_path / "poisoned.csv")

    def refuse(self):
        raise AssertionError("a search asked for test songs")

    monkeypatch.setattr(datamodule.PopularityDataModule, "test_dataloader", refuse)
    results = []
    for name in ("clean", "poisoned"):
        folder = tmp_path / name
        more = ("--trials", "2", "--folds", str(folds), "--pruner", "none")
        assert tune(*more, folder=folder, source=tmp_path / f"{name}.csv", epochs=1) == 0
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
    split = splits.make_split(songs, kind, folds=5, fold=0, seed=seed, validation=0.1)
    known = set(split.train) | set(split.validation)
    parts = splits.inner_splits(songs, split, kind, folds, seed)
    assert len(parts) == folds
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


@pytest.mark.slow
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
    assert config["model"]["net"]["init_args"]["width"] == front.sort_values("val/mse")["model.net.width"].iloc[0]


@pytest.mark.slow
def test_hyperband_prunes_by_epochs(tune, tmp_path):
    assert tune("--trials", "8", "--pruner", "hyperband", "--sampler", "random", epochs=6) == 0
    assert (table(tmp_path)["note"].str.contains("pruned at epoch")).any()


@pytest.mark.slow
def test_lightgbm_goes_through_the_same_search_on_the_same_folds(tune, tmp_path, monkeypatch):
    seen: set[tuple[tuple[int, ...], ...]] = set()

    def spy(self, trial, split, fold):
        seen.add((tuple(split.train), tuple(split.validation)))
        return fit(self, trial, split, fold)

    fit = trial_module.RunTrial._fit
    monkeypatch.setattr(trial_module.RunTrial, "_fit", spy)
    assert tune("--trials", "1", "--folds", "5", "--study", "network", "--pruner", "none", epochs=1) == 0
    network = set(seen)
    seen.clear()
    space = tmp_path / "boosting.yaml"
    space.write_text(BOOSTING)
    more = ("--trials", "8", "--folds", "5", "--study", "trees", "--pruner", "wilcoxon", "--sampler", "random")
    assert tune(*more, "--lightgbm.n_estimators", "60", space=space) == 0
    assert seen == network
    assert len(network) == 5
    trials = table(tmp_path, "trees")
    assert trials.loc[trials["best"], "lightgbm.n_estimators"].item() == 60
    assert trials["note"].str.contains("pruned after fold [34]").any(), "one tree is worse in every fold"
    assert trials.loc[trials["lightgbm.n_estimators"] == 1, "state"].eq("PRUNED").all()
    # the winner's file starts another search
    best = str(tmp_path / "trees" / "best.yaml")
    assert yaml.safe_load(Path(best).read_text())["lightgbm"]["n_estimators"] == 60
    again = ["tune", "-c", best, "--space", str(space), "--trials", "1", "--study", "again", *CPU]
    assert main([*again, "--log_dir", str(tmp_path)]) == 0


@pytest.mark.slow
def test_a_study_goes_on_only_with_the_question_that_it_was_begun_with(tune, formula, capsys, tmp_path):
    space, other_space, other_songs = tmp_path / "space.yaml", tmp_path / "other.yaml", tmp_path / "other.csv"
    for path, most in ((space, 0.5), (other_space, 0.6)):
        path.write_text(f"model.net.dropout: {{class_path: FloatDistribution, init_args: {{low: 0.0, high: {most}}}}}")
    assert tune("--trials", "1", epochs=1, space=space) == 0
    make_songs(60, seed=5).to_csv(other_songs, index=False)
    for more, options, told in (
        (["--objective", "val/mae"], {}, "objective: val/mse -> val/mae"),
        (["--folds", "2"], {}, "folds: 1 -> 2"),
        (["--data.fold", "1"], {}, "data.fold: 0 -> 1"),
        ([], {"source": other_songs}, "songs: "),
        ([], {"space": other_space}, "space.model.net.dropout: "),
        ([], {"epochs": 2}, "trainer.max_epochs: 1 -> 2"),
        (["--ema.decay", "0.9"], {}, "ema.decay: 0.995 -> 0.9"),
        (["--model.net.d_state", "2"], {}, "model.net.d_state: 4 -> 2"),
        (["--model.head", "MSEHead"], {}, "model.head: HistogramHead -> MSEHead"),
        (["--data.encoder.history", "3"], {}, "data.encoder.history: 10 -> 3"),
    ):
        capsys.readouterr()
        assert tune("--trials", "2", *more, **{"epochs": 1, "space": space, **options}) == 2, more
        error = capsys.readouterr().err.strip()
        assert error.startswith("error: study 'tune' was begun with other settings")
        assert told in error
        assert "\n" not in error
    assert len(table(tmp_path)) == 1
    elsewhere = ["--trainer.log_every_n_steps", "3", "--name", "other", "--plots.every_n_epochs", "0"]
    assert tune("--trials", "2", *elsewhere, epochs=1, space=space) == 0, "what is logged is no part of the question"


@pytest.mark.slow
def test_a_study_of_another_network_is_refused(tune, formula, capsys, tmp_path, song_file):
    space = tmp_path / "space.yaml"
    space.write_text("model.learning_rate: {class_path: FloatDistribution, init_args: {low: 0.001, high: 0.1}}")
    assert tune("--trials", "1", epochs=1, space=space) == 0
    where = ["--log_dir", str(tmp_path), "--data.source", str(song_file), "--space", str(space), *CPU]
    for name, network in (("audio", "FeatureTokensMamba"), ("single_token", "SingleTokenMamba")):
        assert main(["tune", "-c", name, *where, "--trials", "2", "--data.validation", "0.1"]) == 2
        assert f"model.net: HistoryMamba -> {network}" in capsys.readouterr().err
    assert len(table(tmp_path)) == 1


WITHOUT_PLOTLY = """
import sys
sys.modules["plotly"] = None
from popularity.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_without_plotly_all_but_the_plots_is_there(tmp_path, song_file, space_file):
    command = arguments(tmp_path, song_file, space_file, "--trials", "2", epochs=1)
    done = subprocess.run([sys.executable, "-c", WITHOUT_PLOTLY, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "the package plotly is missing, install this project's extra [tune]" in done.stdout
    assert (tmp_path / "tune" / "best.yaml").is_file()
    assert not list((tmp_path / "tune").glob("plots/*"))
