"""`PopularityRegressor` is a scikit-learn estimator over DataFrames; its checkpoints are the command line's."""

from __future__ import annotations

import pickle
import re

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
    named = songs[60:].rename(columns={"popularity": "Track Popularity"})
    assert fitted.score(named) == fitted.score(songs[60:])
    with pytest.raises(InputError, match=r"X: expected a popularity in each row, got 29 of 30"):
        fitted.score(songs[60:].assign(popularity=songs["popularity"].where(songs.index != 70)))
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


def test_it_can_be_pickled(fitted, songs):
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.predict(songs[60:]) == fitted.predict(songs[60:])).all()


def test_popularity_of_any_kind(songs):
    """As an array of objects, which a table of texts and numbers becomes, or a column of a matrix."""
    from popularity.inference.regressor import _songs as read

    y = songs["popularity"][:60].to_numpy()
    kinds = [y.astype(object), y.astype(str), y.reshape(-1, 1), pd.Series(y, dtype="Int64")]
    first, *others = [read(songs[:60], kind, deduplicate=False, optional_audio=False) for kind in kinds]
    assert first.songs["popularity"].tolist() == y.tolist()
    for other in others:
        pd.testing.assert_frame_equal(other.songs, first.songs)


def test_a_cut_off_between_whole_numbers_is_the_next_one(fitted, songs):
    new = songs[60:]
    chance = fitted.predict_proba_at_least(new, 50.5)
    assert (chance == fitted.predict_proba_at_least(new, 51)).all()
    assert (chance < fitted.predict_proba_at_least(new, 50)).any()


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
    with pytest.raises(InputError, match=r"^y: expected 60 popularities, one per song, got 1"):
        regressor.PopularityRegressor(settings=SETTINGS).fit(songs[:60], 5)
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


ARRAY = "X is an array of numbers: a song has named columns, so X has to be a DataFrame"
SPARSE = (
    "X is a sparse array: a song has named columns, and what is refused is told to be no DataFrame, not to be sparse"
)
#: Checks of scikit-learn that make up an array of numbers as songs; all of them are refused for that.
CANNOT_APPLY = {
    "check_complex_data": ARRAY,
    "check_dict_unchanged": ARRAY,
    "check_dont_overwrite_parameters": ARRAY,
    "check_dtype_object": ARRAY,
    "check_estimator_sparse_array": SPARSE,
    "check_estimator_sparse_matrix": SPARSE,
    "check_estimator_sparse_tag": SPARSE,
    "check_estimators_dtypes": ARRAY,
    "check_estimators_empty_data_messages": ARRAY,
    "check_estimators_fit_returns_self": ARRAY,
    "check_estimators_overwrite_params": ARRAY,
    "check_estimators_pickle": ARRAY,
    "check_f_contiguous_array_estimator": ARRAY,
    "check_fit1d": ARRAY,
    "check_fit2d_1feature": ARRAY,
    "check_fit2d_1sample": ARRAY,
    "check_fit2d_predict1d": ARRAY,
    "check_fit_check_is_fitted": ARRAY,
    "check_fit_idempotent": ARRAY,
    "check_fit_score_takes_y": ARRAY,
    "check_methods_sample_order_invariance": ARRAY,
    "check_methods_subset_invariance": ARRAY,
    "check_n_features_in": ARRAY,
    "check_n_features_in_after_fitting": ARRAY,
    "check_pipeline_consistency": ARRAY,
    "check_positive_only_tag_during_fit": ARRAY,
    "check_readonly_memmap_input": ARRAY,
    "check_regressor_data_not_an_array": ARRAY,
    "check_regressors_int": ARRAY,
    "check_regressors_no_decision_function": ARRAY,
    "check_regressors_train": ARRAY,
    "check_supervised_y_2d": ARRAY,
    "check_supervised_y_no_nan": ARRAY,
}


@pytest.mark.slow
def test_scikit_learns_checks(monkeypatch):
    """All pass but those that are named, each refused for its reason alone; one is about arrays of other libraries."""
    from sklearn.utils.estimator_checks import check_estimator

    monkeypatch.delenv("SCIPY_ARRAY_API", raising=False)  # with it, the check of such arrays is not left out
    checks = check_estimator(
        regressor.PopularityRegressor(), expected_failed_checks=CANNOT_APPLY, on_fail=None, on_skip=None
    )
    names = {status: set() for status in ("passed", "xfail", "failed", "skipped")}
    for check in checks:
        names[check["status"]].add(check["check_name"])
        if check["status"] == "xfail":
            error = check["exception"]
            while not isinstance(error, InputError):
                assert error is not None, check["check_name"]
                error = error.__cause__ or error.__context__
            given = (
                "csr_(array|matrix)" if check["expected_to_fail_reason"] == SPARSE else r"(ndarray|memmap|_NotAnArray)"
            )
            assert re.fullmatch(f"X: expected a DataFrame with a row for each song, got {given}", str(error))
    assert names["failed"] == set()
    assert names["xfail"] == CANNOT_APPLY.keys()
    assert names["skipped"] == {"check_array_api_input"}
    assert not names["passed"] & CANNOT_APPLY.keys(), "the reason is none any more"
