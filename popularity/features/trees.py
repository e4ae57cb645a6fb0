"""Boosted trees over tabular features: LightGBM with settings that suit most files, and a number of trees that fits.

The settings are those that the baseline `lightgbm` of `compare` begins its search with; nothing is searched here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from popularity.errors import InputError
from popularity.features.base import Folds
from popularity.features.packed import packed, unpacked
from popularity.features.tabular import FeatureSet, TabularFeatures

#: Settings of boosted trees, by LightGBM's names for them, and of LightGBM alone.
BOOSTING: dict[str, Any] = {"learning_rate": 0.03, "colsample_bytree": 0.4, "reg_lambda": 5.0, "n_estimators": 350}
LIGHTGBM: dict[str, Any] = {"num_leaves": 10, "min_child_samples": 25, **BOOSTING}
#: Arguments of LightGBM with which every run grows the same trees, without messages; with what else is never searched.
REPRODUCIBLE: dict[str, Any] = {"deterministic": True, "force_row_wise": True, "verbosity": -1}
FIXED: dict[str, Any] = {"subsample": 0.7, "subsample_freq": 1, "n_jobs": 1, **REPRODUCIBLE}
#: Trees after the best number of them that a fit waits for a better one, and the maximum number of trees.
PATIENCE, MOST_TREES = 50, 1500
#: Fits with different seeds whose mean is the prediction, and inner folds on which fits stop early.
MEMBERS, STOPPED_FOLDS = 3, 3


def check_lightgbm() -> None:
    """Refuse to begin without LightGBM.

    Raises:
        InputError: it is not installed.
    """
    if find_spec("lightgbm") is None:
        raise InputError(
            "data.encoder StackedEncoder: the package lightgbm is missing, install this project's extra [baselines]"
        )


def stopped_early(
    model: Any, rows: pd.DataFrame, popularity: ArrayLike, held_out: tuple[pd.DataFrame, np.ndarray]
) -> int:
    """Fit an ``LGBMRegressor`` until held-out songs get no better predictions, and return its number of trees."""
    stop = import_module("lightgbm").early_stopping(PATIENCE, verbose=False)
    return int(model.fit(rows, popularity, eval_X=held_out[0], eval_y=held_out[1], callbacks=[stop]).best_iteration_)


class BoostedTrees:
    """The mean of a few LightGBM models on tabular features, which a checkpoint can carry.

    Args:
        feature_set: of the tabular features.
    """

    def __init__(self, feature_set: FeatureSet = "everything") -> None:
        self.features = TabularFeatures(feature_set)
        self._boosters: list[Any] = []
        self._state: dict[str, Any] = {}

    def fit(self, songs: pd.DataFrame, folds: Folds) -> pd.DataFrame:
        """Learn from training songs.

        Args:
            songs: ``n`` songs, with popularity.
            folds: inner folds of them by the rule of the split. Features are made out of fold by them, and the number
                of trees is the mean of those at which fits to some of them stop early.

        Returns:
            The songs' tabular features ``(n, features)``, out of fold.

        Raises:
            InputError: no folds, or songs that are the same in every column.
        """
        rows = self.features.fit_transform(songs, inner=folds)
        trees = {"n_estimators": number_of_trees(self.features.feature_set, songs, folds)}
        models = [_regressor(seed, **trees).fit(rows, songs["popularity"]) for seed in range(MEMBERS)]
        texts = [model.booster_.model_to_string() for model in models]
        self._boosters = _loaded(texts)
        self._state = {"features": self.features.state(), "boosters": packed(texts)}
        return rows

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Predicted popularity ``(n,)`` in points from 0 to 100, of rows ``(n, features)``, NaN where missing."""
        found = [booster.predict(rows, num_threads=1) for booster in self._boosters] if len(rows) else np.zeros((1, 0))
        return np.clip(np.mean(found, axis=0), 0, 100)

    def contributions(self, rows: np.ndarray) -> np.ndarray:
        """What each feature adds to the prediction in points ``(n, features)``, before it is cut to 0 to 100.

        Shapley values of the trees (Lundberg et al. 2020, "From local explanations to global understanding with
        explainable AI for trees").
        """
        found = [booster.predict(rows, num_threads=1, pred_contrib=True) for booster in self._boosters]
        parts: np.ndarray = np.mean(found, axis=0)[:, :-1]  # the last is the mean prediction
        return parts

    def state(self) -> dict[str, Any]:
        """Everything that was learned, as tensors and plain Python."""
        return dict(self._state)

    def load_state(self, state: Mapping[str, Any]) -> Self:
        """Restore what :meth:`state` returned."""
        self._state = dict(state)
        self.features = TabularFeatures().load_state(state["features"])
        self._boosters = _loaded(unpacked(state["boosters"]))
        return self


def number_of_trees(feature_set: FeatureSet, songs: pd.DataFrame, folds: Folds) -> int:
    """The mean number of trees at which fits to inner folds stop early on what these hold out.

    Args:
        feature_set: of the tabular features, which are made anew for each fold: none of its rows rests on a label that
            it holds out.
        songs: training songs.
        folds: of them.
    """
    popularity, found = songs["popularity"].to_numpy(np.float64), []
    for fit, held_out in folds[:STOPPED_FOLDS]:
        inner = within(fit, folds)
        if not inner:
            continue
        features = TabularFeatures(feature_set)
        rows = features.fit_transform(songs.iloc[fit].reset_index(drop=True), inner=inner)
        new = features.transform(songs.iloc[held_out].reset_index(drop=True))
        model = _regressor(0, n_estimators=MOST_TREES)
        found.append(stopped_early(model, rows, popularity[fit], (new, popularity[held_out])))
    return round(np.mean(found)) if found else int(LIGHTGBM["n_estimators"])


def within(rows: np.ndarray, folds: Folds) -> list[tuple[np.ndarray, np.ndarray]]:
    """What folds make of some of the songs, in row numbers among these; folds that leave a part empty are left out.

    Args:
        rows: sorted row numbers of these songs.
        folds: of all songs.
    """
    places = [tuple(np.flatnonzero(np.isin(rows, part)) for part in fold) for fold in folds]
    return [(fit, held_out) for fit, held_out in places if len(fit) and len(held_out)]


def _regressor(seed: int, **settings: Any) -> Any:
    return import_module("lightgbm").LGBMRegressor(**{**FIXED, **LIGHTGBM, **settings}, random_state=seed)


def _loaded(texts: Sequence[str]) -> list[Any]:
    return [import_module("lightgbm").Booster(model_str=text) for text in texts]
