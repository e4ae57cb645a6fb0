"""The two baselines whose scores are printed beside those of every run."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from popularity.data.mapped import in_chunks
from popularity.data.schema import AUDIO
from popularity.features.song import STANDARDISED
from popularity.features.vectors import some_rows


def linear_regression() -> Pipeline:
    """Ordinary least squares on the 13 audio columns with the original project's preprocessing.

    Five columns are standardised and eight passed on; missing values become the column's training mean.
    """
    scale = ColumnTransformer([("standardise", StandardScaler(), list(STANDARDISED))], remainder="passthrough")
    impute = SimpleImputer(keep_empty_features=True).set_output(transform="pandas")
    return make_pipeline(impute, scale, LinearRegression())


BASELINES = {"training mean": DummyRegressor, "linear, 13 columns": linear_regression}


def baseline_predictions(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, np.ndarray]:
    """Name to predicted popularity ``(n_test,)`` of baselines fitted to the training songs, 200,000 of them at most."""
    columns, some = list(AUDIO), some_rows(len(train))
    train = train[[*columns, "popularity"]] if some is None else train[[*columns, "popularity"]].iloc[some]
    fitted = {name: build().fit(train[columns], train["popularity"]) for name, build in BASELINES.items()}
    return {
        name: np.concatenate([model.predict(part[columns]) for part in in_chunks(test)])
        for name, model in fitted.items()
    }
