"""The mean, linear regression and logistic regression."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from popularity.data.schema import AUDIO
from popularity.evaluation.baselines import linear_regression
from popularity.evaluation.task import Outcome, Task


class Mean:
    """The mean of the training songs."""

    def fit_predict(self, task: Task) -> Outcome:
        """The same for every song."""
        return Outcome(np.full(len(task.test), task.train["popularity"].mean()))


class Linear:
    """Ordinary least squares on the 13 audio columns."""

    def fit_predict(self, task: Task) -> Outcome:
        """Fit and predict."""
        columns = list(AUDIO)
        model = linear_regression().fit(task.train[columns], task.train["popularity"])
        return Outcome(np.clip(model.predict(task.test[columns]), 0, 100))


class Logistic:
    """Logistic regression on the same columns with the same preprocessing."""

    def fit_probability(self, task: Task, hit: np.ndarray) -> np.ndarray:
        """Fit and predict."""
        columns = list(AUDIO)
        model = make_pipeline(linear_regression()[:-1], LogisticRegression(max_iter=2000))
        return np.asarray(model.fit(task.train[columns], hit).predict_proba(task.test[columns])[:, 1])
