"""A weighted mean of other models, the weights learned from predictions for training songs that they were not shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from scipy.optimize import nnls

from popularity.errors import InputError
from popularity.evaluation.entries import Entry, build
from popularity.evaluation.entries.tabular import check_count
from popularity.evaluation.folds import Outcome, Task
from popularity.features.tabular import inner_folds


class Stack:
    """Stacking (Wolpert, 1992) with weights from 0 on (Breiman, 1996, "Stacked Regressions").

    Each member predicts inner folds of the training songs, drawn by the rule of the split; the weights are those of the
    least squares on these predictions, drawn a little towards the plain mean. Then each is fitted to all.

    Args:
        of: name -> ``kind`` and settings of at least two members.
        folds: inner folds; each costs a fit of each member.
    """

    #: Songs' worth of squared error, per member, with which equal weights are preferred.
    caution = 0.02

    def __init__(self, of: Mapping[str, Mapping[str, Any]], folds: int = 3) -> None:
        check_count("folds", folds, 2)
        if not isinstance(of, Mapping) or len(of) < 2:
            raise InputError(
                f"a stack is of at least two models, each with its kind and settings, but this is of {of!r}"
            )
        self.folds = folds
        self.members: dict[str, Entry] = {}
        for name, settings in of.items():
            plain = dict(settings)
            entry = build(name, plain.pop("kind"), plain)
            if not hasattr(entry, "fit_predict"):
                raise InputError(f"{name} predicts hits, not popularity")
            self.members[name] = cast(Entry, entry)

    def fit_predict(self, task: Task, found: Mapping[str, np.ndarray] | None = None) -> Outcome:
        """Learn the weights on inner folds, fit all members to all training songs and mix.

        Args:
            task: training and test songs.
            found: predictions ``(n_test,)`` for the test songs by members that have been fitted to the training songs.
        """
        popularity = task.train["popularity"].to_numpy(np.float64)
        inner = np.full((len(task.train), len(self.members)), np.nan)
        for fit, held_out in inner_folds(task, self.folds):
            part = task.part(fit, held_out)
            for column, entry in enumerate(self.members.values()):
                inner[held_out, column] = np.clip(entry.fit_predict(part).prediction, 0, 100)
        known = np.isfinite(inner).all(1)  # under `time` the oldest songs are never held out
        weights = mixing_weights(inner[known], popularity[known], self.caution)
        found = found or {}
        outer = [
            np.clip(found[name] if name in found else entry.fit_predict(task).prediction, 0, 100)
            for name, entry in self.members.items()
        ]
        notes = {"weights": dict(zip(self.members, weights.tolist(), strict=True))}
        return Outcome(np.clip(np.stack(outer, axis=1) @ weights, 0, 100), notes=notes)


def mixing_weights(predictions: np.ndarray, answers: np.ndarray, caution: float = 0.0) -> np.ndarray:
    """Weights from 0 on that sum to 1 and mix predictions with the smallest squared error.

    Args:
        predictions: ``(n, members)``.
        answers: ``(n,)``.
        caution: pull towards equal weights, in units of the mean squared error of the plain mean.
    """
    members = predictions.shape[1]
    equal = np.full(members, 1 / members)
    errors = predictions - answers[:, None]
    scale = float(np.mean((errors @ equal) ** 2)) + 1e-12
    # w minimises |errors w|^2 subject to sum(w) = 1: the last row makes the sum dear
    rows = np.concatenate(
        [
            errors / np.sqrt(len(errors) * scale),
            np.sqrt(caution * members) * np.eye(members),
            np.full((1, members), 1e4),
        ]
    )
    goal = np.concatenate([np.zeros(len(errors)), np.sqrt(caution * members) * equal, [1e4]])
    weights, _ = nnls(rows, goal)
    return weights / weights.sum()
