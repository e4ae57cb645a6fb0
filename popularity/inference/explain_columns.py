"""What columns of a song table say about popularity, by least squares on nothing else."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Folds = Collection[tuple[np.ndarray, np.ndarray]]  # rows of training and of test songs


def coefficients(songs: pd.DataFrame, columns: Sequence[str], folds: Folds) -> pd.DataFrame:
    """Fit least squares on standardised columns to the training songs of each fold; missing values become the mean.

    Returns:
        ``feature, mean, half``, largest mean first: points of popularity per standard deviation of the column, and half
        the width of the 95 % interval of the delete-d jackknife (Shao & Wu, 1989): folds share most of their training
        songs, so the variance over folds is scaled by training songs over left-out songs.
    """
    features, truth = songs[list(columns)].to_numpy(), songs["popularity"].to_numpy()
    model = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), LinearRegression())
    found = np.array([model.fit(features[train], truth[train])[-1].coef_ for train, _ in folds])
    half = 1.96 * np.sqrt(found.var(axis=0) / np.mean([len(test) / len(train) for train, test in folds]))
    table = pd.DataFrame({"feature": columns, "mean": found.mean(axis=0), "half": half})
    return table.sort_values("mean", key=np.abs, ascending=False, ignore_index=True)
