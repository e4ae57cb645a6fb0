"""Estimators that scikit-learn does not have, and the preparation of rows that many models share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import deepcopy
from importlib import import_module
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, SplineTransformer, StandardScaler

from popularity.data.albums import first_artists

# The constant added before the logarithm keeps an exact 0 finite, about one step below the smallest value found.
_SKEWED = {"duration_ms": 0.0, "instrumentalness": 1e-6, "liveness": 1e-3, "speechiness": 1e-2}
_CODES = "(?:key|mode|time_signature|explicit|genre|subgenre)"
_CLIP = 4.0  # standard deviations


#: (parameters, seed) to an estimator with ``fit(rows, popularity)`` and ``predict(rows)``.
Make = Callable[[dict[str, Any], int], Any]


def maker(class_path: str, before: Callable[[], Any] | None = None, **fixed: Any) -> Make:
    """What makes estimators of a class, imported when the first one is made.

    Args:
        class_path: where it is imported from.
        before: makes what prepares the rows; None: the estimator is given missing values as NaN.
        fixed: arguments beside the parameters; ``random_state``, if the class has one, is seeded unless given.
    """

    def make(parameters: dict[str, Any], seed: int) -> Any:
        module, _, name = class_path.rpartition(".")
        kind, arguments = getattr(import_module(module), name), deepcopy(fixed)
        model = kind(**arguments)
        # some name it in their signature, others where scikit-learn asks for it
        known = {*inspect.signature(kind).parameters, *getattr(model, "get_params", dict)()}
        if "random_state" in known - fixed.keys():
            model = kind(**arguments, random_state=seed)
        if parameters:
            model.set_params(**parameters)
        return make_pipeline(before(), model) if before else model

    return make


def medians() -> SimpleImputer:
    """Medians in place of missing values."""
    return SimpleImputer(strategy="median", keep_empty_features=True)


def imputed(model: Any) -> Pipeline:
    """A model behind medians in place of missing values."""
    return make_pipeline(medians(), model)


def prepared(knots: int = 0) -> Pipeline:
    """A pipeline from tabular features to a full matrix, for models that add up or measure distances.

    Numbers that are skewed over decades become logarithms; all are standardised and cut at 4 standard deviations;
    missing ones become the median. Codes become one-hot columns; one that did not occur in training is a row of zeros.

    Args:
        knots: of cubic splines on each number; 0 for none.
    """
    numbers = make_pipeline(
        medians(),
        StandardScaler(),
        FunctionTransformer(np.clip, feature_names_out="one-to-one", kw_args={"a_min": -_CLIP, "a_max": _CLIP}),
    )
    if knots:
        numbers.steps.append(("splines", SplineTransformer(n_knots=knots, extrapolation="linear", include_bias=False)))
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = (make_column_selector(rf"^(?!{_CODES}$)"), make_column_selector(rf"^{_CODES}$"))
    split = ColumnTransformer([("numbers", numbers, columns[0]), ("codes", one_hot, columns[1])])
    return make_pipeline(FunctionTransformer(_logarithms), split)


def _logarithms(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(**{name: np.log(rows[name] + least) for name, least in _SKEWED.items() if name in rows})


class Neighbours(KNeighborsRegressor):  # type: ignore[misc] # scikit-learn has no types
    """Nearest neighbours: as many as there are songs, where there are fewer than asked for."""

    def fit(self, X: Any, y: Any) -> Self:
        """Fit."""
        self.n_neighbors = min(int(self.get_params()["n_neighbors"]), len(y))
        super().fit(X, y)
        return self


class ArtistMean(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """The mean of the first artist's songs, shrunk towards the mean of all songs (James and Stein, 1961).

    With :math:`n` known songs of mean :math:`a` and the mean :math:`m` of all songs the prediction is
    :math:`m + (a - m) n / (n + s)`, with the shrinkage :math:`s`: the variance within artists over that between them.
    """

    def __init__(self, shrinkage: float = 1.0) -> None:
        self.shrinkage = shrinkage

    def fit(self, songs: pd.DataFrame, popularity: np.ndarray) -> Self:
        """Fit to a song table."""
        self.mean_ = float(popularity.mean())
        residuals = pd.Series(popularity - self.mean_, first_artists(songs))
        self.known_ = residuals.groupby(level=0).agg(["sum", "size"])
        return self

    def predict(self, songs: pd.DataFrame) -> np.ndarray:
        """Popularity of songs ``(n,)``."""
        found = self.known_.reindex(first_artists(songs)).fillna(0.0)
        return np.asarray(self.mean_ + found["sum"] / (found["size"] + self.shrinkage))
