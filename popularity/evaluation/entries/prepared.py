"""Rows of numbers made fit for models that add or measure distances: logarithms, one-hot codes, nothing missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, SplineTransformer, StandardScaler

# What is added before the logarithm keeps an exact 0 finite, about one step below the smallest value met.
_SKEWED = {"duration_ms": 0.0, "instrumentalness": 1e-6, "liveness": 1e-3, "speechiness": 1e-2}
_CODES = ("key", "mode", "time_signature", "explicit", "genre", "subgenre")
_CLIP = 4.0  # standard deviations


def prepared(knots: int = 0) -> Pipeline:
    """A pipeline from a table of :func:`~popularity.features.tabular.information` to a full matrix.

    Numbers that are skewed over decades become logarithms; all are standardised, cut at 4 standard deviations and the
    median where missing. Codes become one-hot columns; one that was not met in training is a row of zeros.

    Args:
        knots: of cubic splines on each number; 0 for none.
    """
    numbers = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        StandardScaler(),
        FunctionTransformer(_clipped, feature_names_out="one-to-one"),
    )
    if knots:
        numbers.steps.append(("splines", SplineTransformer(n_knots=knots, extrapolation="linear", include_bias=False)))
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    split = ColumnTransformer([("numbers", numbers, _numbers), ("codes", one_hot, _codes)])
    return make_pipeline(FunctionTransformer(_logarithms), split)


def _logarithms(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(**{name: np.log(rows[name] + least) for name, least in _SKEWED.items() if name in rows})


def _clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -_CLIP, _CLIP)


def _codes(rows: pd.DataFrame) -> list[str]:
    return [name for name in rows if name in _CODES]


def _numbers(rows: pd.DataFrame) -> list[str]:
    return [name for name in rows if name not in _CODES]
