"""Models of scikit-learn that read a song as one row: linear ones, neighbours, support vectors, forests, AdaBoost."""

from __future__ import annotations

from typing import Any

from optuna.trial import BaseTrial
from sklearn.ensemble import AdaBoostRegressor, ExtraTreesRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lasso, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor

from popularity.evaluation.entries.prepared import prepared
from popularity.evaluation.entries.tabular import Family, Tabular
from popularity.features.tabular import Amount


def ridge(information: Amount = "audio", trials: int = 10) -> Tabular:
    """Linear regression with a quadratic penalty."""

    def make(parameters: dict[str, Any], seed: int) -> Pipeline:
        return make_pipeline(prepared(), Ridge(**parameters))

    def space(trial: BaseTrial) -> dict[str, Any]:
        return {"alpha": trial.suggest_float("alpha", 1.0, 3000.0, log=True)}

    return Tabular(Family(make, space, {"alpha": 50.0}), information, trials)


def lasso(information: Amount = "audio", trials: int = 10) -> Tabular:
    """Linear regression with an absolute penalty, which leaves features out."""

    def make(parameters: dict[str, Any], seed: int) -> Pipeline:
        return make_pipeline(prepared(), Lasso(**parameters, max_iter=20_000))

    def space(trial: BaseTrial) -> dict[str, Any]:
        return {"alpha": trial.suggest_float("alpha", 0.005, 1.0, log=True)}

    return Tabular(Family(make, space, {"alpha": 0.05}), information, trials)


def splines(information: Amount = "audio", trials: int = 10) -> Tabular:
    """Ridge regression on cubic splines of each number."""

    def make(parameters: dict[str, Any], seed: int) -> Pipeline:
        return make_pipeline(prepared(parameters["knots"]), Ridge(parameters["alpha"]))

    def space(trial: BaseTrial) -> dict[str, Any]:
        return {"knots": trial.suggest_int("knots", 3, 8), "alpha": trial.suggest_float("alpha", 0.1, 300.0, log=True)}

    return Tabular(Family(make, space, {"knots": 5, "alpha": 5.0}), information, trials)


def knn(information: Amount = "audio", trials: int = 8) -> Tabular:
    """Mean of the nearest songs, the nearer the more."""

    def make(parameters: dict[str, Any], seed: int) -> Pipeline:
        return make_pipeline(prepared(), _Neighbours(**parameters, weights="distance"))

    def space(trial: BaseTrial) -> dict[str, Any]:
        return {"n_neighbors": trial.suggest_int("n_neighbors", 5, 150, log=True)}

    return Tabular(Family(make, space, {"n_neighbors": 40}), information, trials)


class _Neighbours(KNeighborsRegressor):
    """As many neighbours as there are songs, where there are fewer than asked for."""

    def fit(self, X: Any, y: Any) -> _Neighbours:
        """Fit."""
        self.n_neighbors: int = min(int(self.get_params()["n_neighbors"]), len(y))
        return super().fit(X, y)


def svr(information: Amount = "audio", trials: int = 8) -> Tabular:
    """Support vector regression with a Gaussian kernel."""

    def make(parameters: dict[str, Any], seed: int) -> Pipeline:
        return make_pipeline(prepared(), SVR(**parameters))

    def space(trial: BaseTrial) -> dict[str, Any]:
        return {
            "C": trial.suggest_float("C", 0.5, 30.0, log=True),
            "epsilon": trial.suggest_float("epsilon", 0.5, 8.0),
            "gamma": trial.suggest_float("gamma", 0.003, 0.1, log=True),
        }

    return Tabular(Family(make, space, {"C": 6.0, "epsilon": 2.0, "gamma": 0.02}), information, trials)


def forest(information: Amount = "audio", trials: int = 5) -> Tabular:
    """Random forest."""

    def make(parameters: dict[str, Any], seed: int) -> RandomForestRegressor:
        return RandomForestRegressor(150, **parameters, random_state=seed)

    return Tabular(Family(make, _forest_space, {"min_samples_leaf": 4, "max_features": 0.4}), information, trials)


def extra_trees(information: Amount = "audio", trials: int = 5) -> Tabular:
    """Extremely randomised trees."""

    def make(parameters: dict[str, Any], seed: int) -> ExtraTreesRegressor:
        return ExtraTreesRegressor(150, **parameters, random_state=seed)

    return Tabular(Family(make, _forest_space, {"min_samples_leaf": 4, "max_features": 0.6}), information, trials)


def _forest_space(trial: BaseTrial) -> dict[str, Any]:
    return {
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 2, 16, log=True),
        "max_features": trial.suggest_float("max_features", 0.15, 0.8),
    }


def adaboost(information: Amount = "audio", trials: int = 5) -> Tabular:
    """AdaBoost.R2 over regression trees."""

    def make(parameters: dict[str, Any], seed: int) -> Pipeline:
        tree = DecisionTreeRegressor(max_depth=parameters["max_depth"], min_samples_leaf=5)
        boosted = AdaBoostRegressor(tree, n_estimators=60, learning_rate=parameters["learning_rate"], random_state=seed)
        return make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), boosted)

    def space(trial: BaseTrial) -> dict[str, Any]:
        return {
            "max_depth": trial.suggest_int("max_depth", 2, 8),
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 1.0, log=True),
        }

    return Tabular(Family(make, space, {"max_depth": 5, "learning_rate": 0.05}), information, trials)
