"""`PopularityRegressor` is a scikit-learn estimator over DataFrames; its checkpoints are the command line's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from popularity.__main__ import main
from popularity.errors import InputError
from tests.conftest import Lazy, make_songs

regressor = Lazy("popularity.inference.regressor")
SETTINGS = {"model.net.width": 4, "model.net.layers": 1, "model.net.mlp_width": 4, "model.net.d_state": 2}
SETTINGS["data.batch_size"] = 32
SETTINGS |= {
    "trainer.max_epochs": 1,
    "trainer.accelerator": "cpu",
    "choice.members": False,
    "choice.calibrate": False,
}


@pytest.fixture(scope="module")
def songs() -> pd.DataFrame:
    return make_songs(90)


@pytest.fixture(scope="module")
def fitted(songs):
    return regressor.PopularityRegressor(settings=SETTINGS).fit(songs[:60])


def test_predictions(fitted, songs):
    new = songs[60:].drop(columns="popularity")
    predicted = fitted.predict(new)
    assert predicted.shape == (30,)
    narrow, wide = fitted.predict_interval(new, 0.5), fitted.predict_interval(new, 0.95)
    assert narrow.shape == (30, 2)
    assert (wide[:, 0] <= narrow[:, 0]).all()
    assert (narrow[:, 0] < narrow[:, 1]).all()
    assert (narrow[:, 1] <= wide[:, 1]).all()
    assert (fitted.predict_proba_at_least(new, 60) <= fitted.predict_proba_at_least(new, 40)).all()
    for nothing in (0, 170, float("nan")):
        with pytest.raises(ValueError, match="cutoff: expected a number from 1 to 100"):
            fitted.predict_proba_at_least(new, nothing)
    told = fitted.explain(new)
    assert told.index.tolist() == new.index.tolist()
    assert told["predicted_popularity"].tolist() == predicted.round(2).tolist()
    assert told["reasons"].str.contains(" it by ").any()


def test_y_and_the_column_are_the_same_popularity(fitted, songs):
    again = regressor.PopularityRegressor(settings=SETTINGS)
    again.fit(songs[:60].drop(columns="popularity"), songs["popularity"][:60])
    assert again.predict(songs[60:]).tolist() == fitted.predict(songs[60:]).tolist()
    assert fitted.score(songs[60:]) == fitted.score(songs[60:], songs["popularity"][60:])
    other = regressor.PopularityRegressor(settings=SETTINGS, random_state=1).fit(songs[:60])
    assert other.predict(songs[60:]).tolist() != fitted.predict(songs[60:]).tolist()


def test_columns_of_any_kind_are_read_as_in_a_file(fitted, songs):
    new = songs[60:70].rename(columns={"artist_name": "Künstlername(n)", "tempo": "bpm"})
    odd = new.assign(
        explicit=[True, False] * 5,
        track_genre=new["track_genre"].astype("category"),
        release_date=pd.to_datetime(new["release_date"]),
        album_name=new["album_name"].astype(object).where(new.index > 61, None),
    )
    plain = odd.assign(track_genre=new["track_genre"], release_date=new["release_date"])
    assert fitted.predict(odd).tolist() == fitted.predict(plain).tolist()


def test_a_checkpoint_of_the_command_line(fitted, songs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fitted.save("model.ckpt")
    loaded = regressor.PopularityRegressor.load("model.ckpt")
    assert loaded.predict(songs[60:]).tolist() == fitted.predict(songs[60:]).tolist()
    loaded.save("again.ckpt")
    songs[60:].to_csv("new.csv", index=False)
    plain = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    arguments = ["--ckpt_path", "again.ckpt", "--data.predict_source", "new.csv", "--output", "out.csv"]
    assert main(["predict", *arguments, *plain]) == 0
    assert pd.read_csv("out.csv")["predicted_popularity"].tolist() == fitted.predict(songs[60:]).round(2).tolist()
    with pytest.raises(InputError, match=r"cannot write: .* is not a folder"):
        fitted.save("nowhere/model.ckpt")


def test_what_is_refused(fitted, songs):
    from sklearn.exceptions import NotFittedError

    empty = songs[60:63].copy()
    empty.iloc[1] = None
    for X, error in (
        (songs[60:62].to_numpy(), "X: expected a DataFrame with a row for each song, got ndarray"),
        (songs[:0], "X: expected songs, got an empty DataFrame"),
        (songs[["tempo"]], "X: no column for acousticness, danceability, "),
        (empty, r"X: expected a song in each row, got 1 empty \(such as row 2\)"),
    ):
        with pytest.raises(InputError, match=f"^{error}"):
            fitted.predict(X)
    with pytest.raises(InputError, match=r"^y: expected 60 popularities, one per song, got 3"):
        regressor.PopularityRegressor(settings=SETTINGS).fit(songs[:60], [1, 2, 3])
    with pytest.raises(NotFittedError):
        regressor.PopularityRegressor().predict(songs)
    with pytest.raises(ValueError, match="share: expected a number between 0 and 1, got 80"):
        fitted.predict_interval(songs, 80)


def test_it_is_calibrated_as_by_the_command_fit(songs):
    settings = {**SETTINGS, "choice.calibrate": True}
    assert not regressor.PopularityRegressor(settings=settings).fit(songs).module_.calibration.is_identity()


def test_in_scikit_learns_tools(songs):
    from sklearn.base import clone
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    model = regressor.PopularityRegressor(settings=SETTINGS)
    changed = clone(model).set_params(random_state=3)
    assert changed.get_params() == {"config": "mamba", "settings": SETTINGS, "random_state": 3}
    pipeline = make_pipeline(FunctionTransformer(lambda songs: songs.drop(columns="track_genre")), model)
    scores = cross_val_score(pipeline, songs, songs["popularity"], cv=2)
    assert np.isfinite(scores).all()


#: Checks of scikit-learn that need no data. All others make up an array of numbers, which cannot be
#: songs: a song has named columns, so that the estimator takes DataFrames alone.
APPLY = {
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
}


@pytest.mark.slow
def test_scikit_learns_checks():
    """All pass but those whose X is an array of numbers, and these are refused for that reason alone."""
    from sklearn.utils.estimator_checks import check_estimator

    passed = set()
    for result in check_estimator(regressor.PopularityRegressor(), on_fail=None, on_skip=None):
        if result["status"] == "passed":
            passed.add(result["check_name"])
        elif result["status"] == "failed":
            causes = [result["exception"]]
            while causes[-1].__cause__ or causes[-1].__context__:
                causes.append(causes[-1].__cause__ or causes[-1].__context__)
            told = " ".join(map(str, causes))
            array, strange = "expected a DataFrame with a row for each song", "no column for acousticness"
            assert array in told or strange in told, (result["check_name"], told)
    assert passed >= APPLY
