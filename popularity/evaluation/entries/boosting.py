"""Gradient boosted trees, tuned inside the training songs: LightGBM, XGBoost, CatBoost. One thread each: jobs are many.

The lead of a setting over another is smaller than what two seeds differ by, so the prediction is a mean of three.
"""

from __future__ import annotations

from typing import Any

from optuna.trial import BaseTrial

from popularity.evaluation.entries.tabular import Family, Tabular, needed
from popularity.features.tabular import Amount

_MEMBERS = 3


def lightgbm(information: Amount = "everything", trials: int = 15) -> Tabular:
    """LightGBM (Ke et al., 2017)."""
    package = needed("lightgbm")

    def make(parameters: dict[str, Any], seed: int) -> Any:
        return package.LGBMRegressor(
            **parameters,
            subsample=0.7,
            subsample_freq=1,
            random_state=seed,
            n_jobs=1,
            verbosity=-1,
            deterministic=True,
            force_row_wise=True,
        )

    def space(trial: BaseTrial) -> dict[str, Any]:
        return {
            "n_estimators": trial.suggest_int("n_estimators", 100, 500, step=50),
            "learning_rate": trial.suggest_float("learning_rate", 0.015, 0.08, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 4, 20),
            "min_child_samples": trial.suggest_int("min_child_samples", 10, 60),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.2, 0.8),
            "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 30.0, log=True),
        }

    defaults = {
        "n_estimators": 350,
        "learning_rate": 0.03,
        "num_leaves": 10,
        "min_child_samples": 25,
        "colsample_bytree": 0.4,
        "reg_lambda": 5.0,
    }
    return Tabular(Family(make, space, defaults, _MEMBERS), information, trials)


def xgboost(information: Amount = "everything", trials: int = 10) -> Tabular:
    """XGBoost (Chen and Guestrin, 2016)."""
    package = needed("xgboost")

    def make(parameters: dict[str, Any], seed: int) -> Any:
        return package.XGBRegressor(**parameters, subsample=0.7, tree_method="hist", random_state=seed, n_jobs=1)

    def space(trial: BaseTrial) -> dict[str, Any]:
        return {
            "n_estimators": trial.suggest_int("n_estimators", 100, 500, step=50),
            "learning_rate": trial.suggest_float("learning_rate", 0.015, 0.08, log=True),
            "max_depth": trial.suggest_int("max_depth", 2, 6),
            "min_child_weight": trial.suggest_int("min_child_weight", 2, 40),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.2, 0.8),
            "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 30.0, log=True),
        }

    defaults = {
        "n_estimators": 350,
        "learning_rate": 0.03,
        "max_depth": 4,
        "min_child_weight": 15,
        "colsample_bytree": 0.4,
        "reg_lambda": 5.0,
    }
    return Tabular(Family(make, space, defaults, _MEMBERS), information, trials)


def catboost(information: Amount = "everything", trials: int = 6) -> Tabular:
    """CatBoost (Prokhorenkova et al., 2018)."""
    package = needed("catboost")

    def make(parameters: dict[str, Any], seed: int) -> Any:
        return package.CatBoostRegressor(
            **parameters, random_seed=seed, thread_count=1, verbose=0, allow_writing_files=False
        )

    def space(trial: BaseTrial) -> dict[str, Any]:
        return {
            "iterations": trial.suggest_int("iterations", 200, 600, step=50),
            "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.12, log=True),
            "depth": trial.suggest_int("depth", 3, 6),
            "l2_leaf_reg": trial.suggest_float("l2_leaf_reg", 1.0, 30.0, log=True),
            "rsm": trial.suggest_float("rsm", 0.2, 0.8),
        }

    defaults = {"iterations": 400, "learning_rate": 0.06, "depth": 5, "l2_leaf_reg": 6.0, "rsm": 0.4}
    return Tabular(Family(make, space, defaults, _MEMBERS), information, trials)
