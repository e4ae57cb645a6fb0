"""Every model of popularity on made-up songs: finite, in range, repeatable, blind to test labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from popularity.errors import InputError
from tests.evaluation.helpers import made_up_task, predict

CHEAP: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("mean", "artist_mean", "linear", "forward")},
    **{name: {"trials": 2} for name in ("ridge", "lasso", "splines", "knn", "svr", "lightgbm")},
    **{name: {"trials": 0} for name in ("forest", "extra_trees", "adaboost", "xgboost")},
    "catboost": {"trials": 0, "feature_set": "audio"},
    **{name: {} for name in ("mlp", "realmlp", "tabm", "tabm_small")},
}
NETS = ("mlp", "realmlp", "tabm", "tabm_small")
#: Seconds each; their rows come from the same code as those of the others.
SLOW = (*NETS, "forward", "catboost")
FREE = [name for name in CHEAP if name not in ("mean", "artist_mean", "linear", "forward", *NETS)]
PRETRAINED = ("tabicl", "tabpfn")
PACKAGE = {name: name for name in ("lightgbm", "xgboost", "catboost")} | dict.fromkeys(NETS, "pytabkit")


def settings_of(name: str) -> dict[str, Any]:
    import importlib.util

    if name in PACKAGE and importlib.util.find_spec(PACKAGE[name]) is None:
        pytest.skip(f"{PACKAGE[name]} is not installed")
    return {"baseline": name, **CHEAP[name]}


def test_every_baseline_is_tried() -> None:
    from popularity.evaluation.baselines import BASELINES

    assert set(BASELINES) == {*CHEAP, *PRETRAINED}


@pytest.mark.usefixtures("few_trees")
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CHEAP])
def test_finite_in_range_repeatable_and_blind_to_test_labels(name: str) -> None:
    import torch

    task, answers = made_up_task(90)
    state = torch.get_rng_state()
    outcome = predict(settings_of(name), task)
    assert torch.equal(state, torch.get_rng_state()), "samples from the generator of others"
    assert outcome.prediction.shape == (len(task.test),)
    assert np.isfinite(outcome.prediction).all()
    assert outcome.prediction.min() >= 0
    assert outcome.prediction.max() <= 100
    torch.manual_seed(5)
    again = predict(settings_of(name), replace(task, test=task.test.assign(popularity=answers)))
    np.testing.assert_array_equal(outcome.prediction, again.prediction)
    assert outcome.notes == again.notes


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in FREE])
def test_everything_is_worth_more_than_audio(name: str) -> None:
    """Made-up popularity hangs on the artist and on a word of the title."""
    task, answers = made_up_task(300)
    settings = {**settings_of(name), "trials": 0}
    errors = {
        feature_set: np.mean((predict({**settings, "feature_set": feature_set}, task).prediction - answers) ** 2)
        for feature_set in ("audio", "everything")
    }
    assert errors["everything"] < 0.9 * errors["audio"]


@pytest.mark.parametrize(
    "split", ["artist", "time", *(pytest.param(name, marks=pytest.mark.slow) for name in ("credits", "album"))]
)
def test_each_rule(split: str) -> None:
    task, _ = made_up_task(120, split)
    for settings in ({"baseline": "artist_mean"}, {"baseline": "ridge", "feature_set": "everything", "trials": 2}):
        assert np.isfinite(predict(settings, task).prediction).all()


def test_artist_mean_by_hand() -> None:
    from popularity.data.credits import artist_names
    from popularity.evaluation.estimators import ArtistMean

    task, _ = made_up_task()
    prediction = ArtistMean(2.5).fit(task.train, task.popularity).predict(task.test)
    mean = task.popularity.mean()
    first = np.array([names[0] for names in artist_names(task.train)])
    for names, one in zip(artist_names(task.test), prediction, strict=True):
        own = task.popularity[first == names[0]]
        assert one == pytest.approx(mean + (own - mean).sum() / (len(own) + 2.5))


def test_artist_mean_is_the_mean_for_unknown_artists() -> None:
    task, _ = made_up_task(split="artist")
    np.testing.assert_allclose(predict({"baseline": "artist_mean"}, task).prediction, task.popularity.mean())
    nobody = replace(task, train=task.train.assign(artist=task.train["artist"].where(task.train.index > 20)))
    nobody = replace(nobody, test=nobody.test.assign(artist=nobody.test["artist"].where(nobody.test.index > 900)))
    found = predict({"baseline": "artist_mean"}, nobody).prediction
    np.testing.assert_allclose(found, task.popularity.mean(), err_msg="songs without an artist have none in common")


def test_a_search_stays_inside_the_training_songs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial is fitted to rows of inner folds alone and scored on the rest, by the rule of the split."""
    from popularity.data.credits import artist_names
    from popularity.evaluation import fitting
    from popularity.evaluation.folds import Task

    task, _ = made_up_task(split="artist")
    seen = []
    real = Task.features
    monkeypatch.setattr(Task, "features", lambda self, feature_set: seen.append(self) or real(self, feature_set))
    predict({"baseline": "ridge", "trials": 3}, task)
    *inner, last = seen
    assert last is task
    assert len(inner) == fitting.SEARCH_FOLDS
    for part in inner:
        fit, held_out = ({names[0] for names in artist_names(songs)} for songs in (part.train, part.test))
        assert not fit & held_out
        assert part.test["popularity"].isna().all()
        assert set(part.train["track_id"]) | set(part.test["track_id"]) == set(task.train["track_id"])


@pytest.mark.parametrize("name", ["forward", "artist_mean"])
def test_what_an_estimator_chooses_itself_it_chooses_by_the_rule_of_the_split(name: str) -> None:
    from popularity.evaluation.baselines import BASELINES
    from popularity.evaluation.fitting import CV_FOLDS, _made

    task, _ = made_up_task(split="artist")
    row = BASELINES[name]
    model = _made(row, {}, 0, task)
    (folds,) = [value for key, value in model.get_params().items() if key == "cv" or key.endswith("__cv")]
    assert all((a[1] == b[1]).all() for a, b in zip(folds, task.inner(CV_FOLDS), strict=True))


def test_a_search_finds_what_is_better() -> None:
    """A linear relation with hardly any noise: the penalty found is the smaller one."""
    task, _ = made_up_task(300)
    line = replace(task, train=task.train.assign(popularity=40 + 40 * task.train["energy"]))
    assert predict({"baseline": "ridge", "trials": 8}, line).notes["parameters"]["alpha"] < 50


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "catboost"])
def test_trees_are_counted_on_held_out_songs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fit of a search stops early; the final one, on all training songs, has the mean number of trees."""
    from popularity.evaluation import fitting
    from popularity.evaluation.baselines import BASELINES
    from popularity.features.trees import MOST_TREES

    row, counts = BASELINES[name], []
    settings = {**settings_of(name), "trials": 1, "feature_set": "audio"}

    def watch(model: Any, rows: Any, popularity: Any, held_out: Any) -> int:
        assert model.get_params()[row.trees] == MOST_TREES
        assert row.watch is not None
        counts.append(row.watch(model, rows, popularity, held_out))
        return counts[-1]

    task, answers = made_up_task(300)
    models = __import__("popularity.evaluation.models", fromlist=["x"])
    monkeypatch.setitem(models.BASELINES, name, replace(row, watch=watch))
    outcome = predict(settings, task)
    assert len(counts) == fitting.SEARCH_FOLDS
    assert all(1 <= count < MOST_TREES for count in counts)
    assert outcome.notes["parameters"][row.trees] == round(np.mean(counts))
    assert np.mean((outcome.prediction - answers) ** 2) < np.var(answers)


@pytest.mark.slow
@pytest.mark.usefixtures("few_trees")
@pytest.mark.parametrize("name", ["mlp", "tabm"])
def test_a_member_stops_on_songs_whose_labels_no_row_rests_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from popularity.evaluation.baselines import BASELINES
    from popularity.evaluation.estimators import Net
    from popularity.evaluation.fitting import BAG_FOLDS
    from popularity.evaluation.folds import Task

    asked, watched = [], []
    real, fit = Task.features, Net.fit
    monkeypatch.setattr(Task, "features", lambda self, feature_set: asked.append(self) or real(self, feature_set))

    def spy(self: Net, rows: Any, popularity: Any, held_out: Any) -> Net:
        watched.append(held_out)
        return fit(self, rows, popularity, held_out)

    monkeypatch.setattr(Net, "fit", spy)
    task, _ = made_up_task(90)
    predict(settings_of(name), task)
    assert len(asked) == len(watched) == BASELINES[name].members
    for inner, (_, held_out), (rows, popularity) in zip(asked, task.inner(BAG_FOLDS), watched, strict=False):
        assert len(inner.train) + len(inner.test) == len(task.train)
        assert inner.test["popularity"].isna().all()
        assert len(rows) == len(held_out)
        np.testing.assert_array_equal(popularity, task.popularity[held_out])


@pytest.mark.slow
@pytest.mark.usefixtures("few_trees")
def test_a_network_learns() -> None:
    pytest.importorskip("pytabkit")
    task, answers = made_up_task(300)
    outcome = predict({"baseline": "realmlp"}, task)
    assert np.mean((outcome.prediction - answers) ** 2) < 0.8 * np.var(answers)


def test_a_network_is_searched_in_the_space_of_its_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    pytabkit = pytest.importorskip("pytabkit")
    asked: dict[str, Any] = {}

    class Spy:
        def __init__(self, **settings: Any) -> None:
            asked.update(settings)

        def fit(self, rows: Any, popularity: Any, val_idxs: Any) -> Spy:
            return self

        def predict(self, rows: Any) -> np.ndarray:
            return np.full(len(rows), 40.0)

    monkeypatch.setattr(pytabkit, "TabM_HPO_Regressor", Spy)
    task, _ = made_up_task(90)
    assert (predict({"baseline": "tabm", "trials": 7}, task).prediction == 40).all()
    assert (asked["n_hyperopt_steps"], asked["hpo_space_name"]) == (7, "tabarena")


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_pretrained_model_needs_its_package_and_its_weights(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither is installed here: a stand-in notes what it is given."""
    import sys
    from types import SimpleNamespace

    from popularity.evaluation.models import build_model

    class Regressor:
        def __init__(self, **settings: Any) -> None:
            self.settings = settings

        def set_params(self, **settings: Any) -> None:
            self.settings |= settings

        def fit(self, rows: Any, popularity: np.ndarray) -> Regressor:
            assert rows.shape[1] > 20
            return self

        def predict(self, rows: Any) -> np.ndarray:
            assert self.settings["model_path"] == str(path)
            assert self.settings["device"] == "cpu"
            return np.linspace(-5, 90, len(rows))

    path = tmp_path / "weights.ckpt"
    path.write_bytes(b"12")
    settings = {"baseline": name, "weights": str(path)}
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=f"model mine: {name} is not installed: pip install {name}$"):
        build_model("mine", settings)
    kind = {"tabicl": "TabICLRegressor", "tabpfn": "TabPFNRegressor"}[name]
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(**{kind: Regressor}, __spec__=object()))
    for missing in ({}, {"weights": str(tmp_path / "nothing")}):
        with pytest.raises(InputError, match=f"weights: expected the file of {name}'s weights, got"):
            build_model("mine", {"baseline": name, **missing})
    task, _ = made_up_task(90)
    assert predict(settings, task).prediction[0] == 0
    before = build_model("mine", settings).settings
    path.write_bytes(b"123")
    assert build_model("mine", settings).settings != before


@pytest.mark.parametrize("prepare", [True, False])
def test_an_own_baseline_by_its_class_path(prepare: bool) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    from popularity.evaluation.folds import Rows
    from popularity.evaluation.models import build_model

    task, _ = made_up_task()
    settings = {"class_path": "sklearn.ensemble.HistGradientBoostingRegressor", "init_args": {"max_iter": 7}}
    settings |= {"feature_set": "everything", "prepare": prepare}
    found = predict(settings, task)
    train, test = Rows(task, "everything").tables
    expected = HistGradientBoostingRegressor(max_iter=7, random_state=task.seeds(1)[0]).fit(train, task.popularity)
    assert np.allclose(found.prediction, expected.predict(test)) != prepare
    model = build_model("mine", settings)
    assert model.feature_set == "everything"
    assert model.settings != build_model("mine", {**settings, "init_args": {"max_iter": 8}}).settings


def test_an_own_baseline_within_another(tmp_path) -> None:
    """As ensembles take them; the settings are plain, and can be written beside the results."""
    import json

    from sklearn.ensemble import BaggingRegressor, HistGradientBoostingRegressor

    from popularity.evaluation.folds import Rows
    from popularity.evaluation.protocol import read_command
    from tests.conftest import make_songs

    make_songs(60).to_csv(tmp_path / "songs.csv", index=False)
    within = "{class_path: sklearn.ensemble.HistGradientBoostingRegressor, init_args: {max_iter: 7}}"
    own = f"{{class_path: sklearn.ensemble.BaggingRegressor, init_args: {{n_estimators: 2, estimator: {within}}}"
    config = f"models:\n  linear: {{baseline: linear}}\n  own: {own}, feature_set: everything, prepare: false}}\n"
    (tmp_path / "own.yaml").write_text(config + "against: null\n")
    protocol = read_command(["-c", str(tmp_path / "own.yaml"), "--data.source", str(tmp_path / "songs.csv")]).protocol
    json.dumps(protocol.described({"own"}))
    task, _ = made_up_task()
    train, test = Rows(task, "everything").tables
    inner = HistGradientBoostingRegressor(max_iter=7)
    expected = BaggingRegressor(inner, n_estimators=2, random_state=task.seeds(1)[0]).fit(train, task.popularity)
    assert np.allclose(predict(protocol.models["own"], task).prediction, expected.predict(test))


BAD = [
    ({}, "expected one of baseline, class_path, configs, classifier, got none"),
    ({"baseline": "ridge", "configs": []}, "got baseline and configs"),
    ({"baseline": "logistic"}, "baseline: expected one of mean, artist_mean, linear"),
    ({"baseline": "ridge", "alpha": 1}, "expected settings among baseline, feature_set, trials, weights, got 'alpha'"),
    ({"baseline": "mean", "trials": 1}, "the baseline mean has no setting trials"),
    ({"baseline": "ridge", "weights": "a"}, "the baseline ridge has no setting weights"),
    ({"baseline": "forward", "feature_set": "audio"}, "the baseline forward has no setting feature_set"),
    ({"baseline": "ridge", "feature_set": "all"}, "feature_set: expected one of audio, everything, got 'all'"),
    ({"baseline": "ridge", "trials": -1}, "trials: expected a whole number of at least 0, got -1"),
    ({"class_path": "nowhere.Nothing"}, "class_path: cannot import 'nowhere.Nothing'"),
    ({"class_path": "sklearn.linear_model.Ridge", "init_args": {"beta": 1}}, "unexpected keyword argument 'beta'"),
    ({"configs": "mamba"}, "configs: expected a list of config names or YAML files, got 'mamba'"),
    ({"configs": ["mamba"], "overrides": 5}, "overrides: expected a mapping of dotted settings, got 5"),
    ({"configs": ["mamba"], "overrides": {"model.net.widht": 8}}, "unknown setting model.net.widht"),
    (
        {"configs": ["mamba"], "overrides": {"model.net": {"class_path": "my.Net"}}},
        "overrides: expected model.net: CLASS and model.net.SETTING: VALUE, got class_path in model.net",
    ),
    ({"configs": ["nowhere.yaml"]}, "nowhere.yaml: expected a YAML file or one of the shipped configs"),
    (
        {"classifier": "logistic", "balance": "smote"},
        "balance: expected one of none, weights, undersample, got 'smote'",
    ),
    ({"classifier": "lda", "balance": "weights"}, "balance: expected one of none, undersample, got 'weights'"),
    ({"classifier": "no"}, "classifier: expected one of logistic, lda"),
]


@pytest.mark.parametrize(("settings", "message"), BAD)
def test_bad_settings_are_one_line(settings: dict[str, Any], message: str) -> None:
    from popularity.evaluation.models import build_model

    with pytest.raises(InputError) as raised:
        build_model("mine", settings)
    assert str(raised.value).startswith("model mine: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("configs", "overrides", "reads"),
    [
        (["mamba"], {}, "everything"),
        (["mamba"], {"data.encoder.audio_only": True}, "audio"),
        (["audio"], {}, "audio"),
        (["single_token"], {}, "audio"),
        ([], {"data.encoder": "ColumnEncoder"}, "audio"),
    ],
)
def test_what_a_network_reads(configs: list[str], overrides: dict[str, Any], reads: str) -> None:
    from popularity.evaluation.models import build_model

    assert build_model("mine", {"configs": configs, "overrides": overrides}).feature_set == reads


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from popularity.evaluation.models import build_model

    monkeypatch.setitem(sys.modules, "catboost", None)
    with pytest.raises(InputError, match=r"model mine: catboost is not installed: pip install '\.\[baselines\]'"):
        build_model("mine", {"baseline": "catboost"})


@pytest.mark.parametrize(("config", "reads"), [("mamba", "everything"), ("audio", "audio"), ("single_token", "audio")])
def test_a_network_learns_from_the_task_alone(config: str, reads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever songs its config names: they are not looked for, let alone downloaded."""
    from popularity.evaluation.models import build_model

    def refuse(*given: Any, **options: Any) -> Any:
        raise AssertionError("looked for the songs of the config")

    monkeypatch.setattr("popularity.training.datamodule.load_songs", refuse)
    overrides = {"trainer.max_epochs": 1, "data.source": "nowhere.csv", "choice.calibrate": False}
    settings = {"configs": [config], "overrides": overrides}
    task, _ = made_up_task(120)
    outcome = predict(settings, task)
    assert outcome.prediction.shape == (40,)
    assert np.isfinite(outcome.prediction).all()
    assert outcome.notes["epochs"] == 1
    assert build_model("network", settings).feature_set == reads
    assert (outcome.at_least is None) == (config == "single_token")
    if outcome.at_least is not None:
        assert outcome.at_least.shape == (100, 40)
        assert (np.diff(outcome.at_least, axis=0) <= 1e-9).all(), "the higher the cut-off, the fewer hits"
        # a mean is the sum of its tail, where the distribution is not made conformal
        assert outcome.at_least.sum(0) == pytest.approx(outcome.prediction, abs=1)
