"""Entries without a search: the mean, the artist's mean, linear regression as it was, and forward selection."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from popularity.data.credits import artist_names
from popularity.data.schema import AUDIO
from popularity.evaluation.entries.prepared import prepared
from popularity.evaluation.folds import Outcome, Task
from popularity.features.tabular import information, inner_folds
from popularity.training.baselines import linear_regression


class Mean:
    """The mean of the training songs."""

    def fit_predict(self, task: Task) -> Outcome:
        """The same for every song."""
        return Outcome(np.full(len(task.test), float(task.train["popularity"].mean())))


class ArtistMean:
    """The mean of the first artist's songs, shrunk towards the mean of all (James and Stein, 1961).

    With :math:`n` known songs of mean :math:`a` and the mean :math:`m` of all songs the prediction is
    :math:`m + (a - m) n / (n + s)`; the shrinkage :math:`s`, the variance within artists over that between them, is the
    one with the smallest error on inner folds.
    """

    shrinkages = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
    folds = 5

    def fit_predict(self, task: Task) -> Outcome:
        """Choose the shrinkage, then fit to all training songs."""
        errors = dict.fromkeys(self.shrinkages, 0.0)
        for fit, held_out in inner_folds(task, self.folds):
            part = task.part(fit, held_out)
            answers = task.train["popularity"].to_numpy()[held_out]
            for shrinkage in self.shrinkages:
                errors[shrinkage] += float(np.sum((_artist_mean(part, shrinkage) - answers) ** 2))
        best = min(self.shrinkages, key=lambda shrinkage: errors[shrinkage])
        return Outcome(np.clip(_artist_mean(task, best), 0, 100), notes={"shrinkage": best})


def _artist_mean(task: Task, shrinkage: float) -> np.ndarray:
    first_known, first_asked = (
        pd.Series([names[0] if names else None for names in artist_names(songs)], dtype="str")
        for songs in (task.train, task.test)
    )
    popularity = task.train["popularity"].to_numpy(np.float64)
    deviation = (
        pd.Series(popularity - popularity.mean()).groupby(first_known.to_numpy(dtype=object)).agg(["sum", "size"])
    )
    known = deviation.reindex(first_asked.to_numpy(dtype=object)).fillna(0.0).to_numpy()
    return popularity.mean() + known[:, 0] / (known[:, 1] + shrinkage)


class Linear:
    """Ordinary least squares on the 13 audio columns, prepared as the original project did: the reference."""

    def fit_predict(self, task: Task) -> Outcome:
        """Fit and predict."""
        columns = list(AUDIO)
        model = linear_regression().fit(task.train[columns], task.train["popularity"])
        return Outcome(np.clip(model.predict(task.test[columns]), 0, 100))


class Forward:
    """Least squares on the 13 audio columns, added one at a time as long as the R2 on inner folds grows.

    Not on everything in the file: there a training song's row rests on other songs' labels, those held out among them.
    """

    folds = 5
    least_gain = 5e-4

    def fit_predict(self, task: Task) -> Outcome:
        """Select on inner folds, fit to all training songs and predict."""
        rows, asked = information(task, "audio")
        popularity = task.train["popularity"].to_numpy(np.float64)
        prepare = prepared()
        matrix, queries = prepare.fit_transform(rows), prepare.transform(asked)
        chosen = forward_selection(matrix, popularity, inner_folds(task, self.folds), self.least_gain)
        if not chosen:
            return Outcome(np.full(len(asked), popularity.mean()), notes={"features": []})
        model = LinearRegression().fit(matrix[:, chosen], popularity)
        names = prepare[-1].get_feature_names_out()[chosen]
        return Outcome(np.clip(model.predict(queries[:, chosen]), 0, 100), notes={"features": names.tolist()})


def forward_selection(
    matrix: np.ndarray, target: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]], least_gain: float
) -> list[int]:
    """Columns in the order in which they lower the held-out squared error of least squares most.

    Every column not yet chosen is kept orthogonal to the chosen ones (modified Gram-Schmidt), so that what a column
    would add is a product of two vectors and no new fit.

    Args:
        matrix: ``(n, p)``.
        target: ``(n,)``.
        folds: (rows to fit on, rows held out).
        least_gain: share of the held-out error of the mean that a column must save.

    Returns:
        Column numbers; none where no column helps.
    """
    parts = []
    for fit, held_out in folds:
        mean = matrix[fit].mean(0)
        level = target[fit].mean()
        parts.append([matrix[fit] - mean, matrix[held_out] - mean, target[fit] - level, target[held_out] - level])
    error = total = sum(float(np.sum(rest**2)) for *_, rest in parts)
    chosen: list[int] = []
    while True:
        errors = np.zeros(matrix.shape[1])
        for columns, held_columns, rest, held_rest in parts:
            size = (columns**2).sum(0)
            size[size < 1e-6 * len(columns)] = np.inf  # nothing left of it: it would add nothing
            weights = columns.T @ rest / size
            errors += ((held_rest[:, None] - held_columns * weights) ** 2).sum(0)
        best = int(errors.argmin()) if len(errors) else -1
        if best < 0 or error - errors[best] <= least_gain * total:
            return chosen
        error = float(errors[best])
        chosen.append(best)
        for part in parts:
            columns, held_columns, rest, held_rest = part
            column, held_column = columns[:, best].copy(), held_columns[:, best].copy()
            length = max(float(column @ column), 1e-6 * len(column))
            weight = float(column @ rest) / length
            shares = column @ columns / length
            part[:] = [
                columns - np.outer(column, shares),
                held_columns - np.outer(held_column, shares),
                rest - weight * column,
                held_rest - weight * held_column,
            ]


mean, artist_mean, linear, forward = Mean, ArtistMean, Linear, Forward
