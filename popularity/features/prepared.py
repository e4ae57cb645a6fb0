"""Tabular features to a full matrix, for models that cannot read missing values, codes or skewed numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, SplineTransformer, StandardScaler

from popularity.features.song import CATEGORIES, CLIP, SKEWED


def medians() -> SimpleImputer:
    """Medians in place of missing values."""
    return SimpleImputer(strategy="median", keep_empty_features=True)


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
        FunctionTransformer(np.clip, feature_names_out="one-to-one", kw_args={"a_min": -CLIP, "a_max": CLIP}),
    )
    if knots:
        numbers.steps.append(("splines", SplineTransformer(n_knots=knots, extrapolation="linear", include_bias=False)))
    one_hot, codes = OneHotEncoder(handle_unknown="ignore", sparse_output=False), f"(?:{'|'.join(CATEGORIES)})"
    columns = (make_column_selector(rf"^(?!{codes}$)"), make_column_selector(rf"^{codes}$"))
    split = ColumnTransformer([("numbers", numbers, columns[0]), ("codes", one_hot, columns[1])])
    return make_pipeline(FunctionTransformer(_logarithms), split)


def _logarithms(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(**{name: np.log(rows[name] + least) for name, least in SKEWED.items() if name in rows})
