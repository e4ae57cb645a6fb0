"""What columns of a song table say about popularity, by two models that read nothing else."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
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


def importance(songs: pd.DataFrame, columns: Sequence[str], folds: Folds) -> pd.DataFrame:
    """Shuffle a column among the test songs of a histogram gradient boosting on these columns (Breiman, 2001).

    Returns:
        ``feature, mean, half``, largest first: rise of the squared error (points squared); `half` is the standard
        deviation over folds.
    """
    features, truth = songs[list(columns)].to_numpy(), songs["popularity"].to_numpy()
    found = []
    for train, test in folds:
        model = HistGradientBoostingRegressor(random_state=0).fit(features[train], truth[train])
        settings = {"scoring": "neg_mean_squared_error", "n_repeats": 5, "random_state": 0}
        found.append(permutation_importance(model, features[test], truth[test], **settings).importances_mean)
    table = pd.DataFrame({"feature": columns, "mean": np.mean(found, axis=0), "half": np.std(found, axis=0)})
    return table.sort_values("mean", ascending=False, ignore_index=True)
