"""The baselines: a table of scikit-learn pipelines and of other libraries' estimators with their search spaces.

To add one, write a row; to compare an own scikit-learn regressor without touching this file, name its ``class_path`` in
the config of ``compare``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from optuna.distributions import BaseDistribution
from optuna.distributions import FloatDistribution as Float
from optuna.distributions import IntDistribution as Int
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import AdaBoostRegressor, ExtraTreesRegressor, RandomForestRegressor
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.linear_model import Lasso, LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor

from popularity.data.schema import AUDIO
from popularity.evaluation.estimators import ArtistMean, Neighbours, imputed, prepared
from popularity.training.baselines import linear_regression


@dataclass(frozen=True)
class Baseline:
    """How to make, search and fit an estimator.

    Attributes:
        make: (parameters, seed) to an estimator with ``fit(rows, popularity)`` and ``predict(rows)``. One that has a
            parameter ``cv`` is given inner folds by the rule of the split.
        feature_set: what it reads unless the config says otherwise.
        fixed_features: the config has no say in what it reads.
        whole_songs: it reads the song table itself in place of tabular features.
        defaults: parameters without a search, and the first trial of one.
        space: parameters to search and their distributions.
        trials: trials of the search inside the training songs unless the config says otherwise.
        epochs: maximum number of epochs, of which the best one on held-out training songs is taken; 0: has no epochs.
        members: fits with different seeds whose mean is the prediction.
        package: what must be installed.
    """

    make: Callable[[dict[str, Any], int], Any]
    feature_set: Literal["nothing", "artist", "audio", "everything"] = "audio"
    fixed_features: bool = False
    whole_songs: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, BaseDistribution] = field(default_factory=dict)
    trials: int = 0
    epochs: int = 0
    members: int = 1
    package: str = ""


def _artist_mean(parameters: dict[str, Any], seed: int) -> GridSearchCV:
    shrinkages = {"shrinkage": [0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0]}
    return GridSearchCV(ArtistMean(), shrinkages, scoring="neg_mean_squared_error")


def _linear(parameters: dict[str, Any], seed: int) -> Pipeline:
    return make_pipeline(FunctionTransformer(_audio_columns), linear_regression())


def _audio_columns(songs: Any) -> Any:
    return songs[list(AUDIO)]


def _forward(parameters: dict[str, Any], seed: int) -> Pipeline:
    # columns are added as long as R2 on inner folds grows; not on features that rest on popularities: there a training
    # song's row rests on the labels of held-out songs
    least_squares = LinearRegression()
    chosen = SequentialFeatureSelector(least_squares, n_features_to_select="auto", tol=5e-4, scoring="r2")
    return make_pipeline(prepared(), chosen, least_squares)


def _adaboost(parameters: dict[str, Any], seed: int) -> Pipeline:
    tree = DecisionTreeRegressor(max_depth=parameters["max_depth"], min_samples_leaf=5)
    return imputed(
        AdaBoostRegressor(tree, n_estimators=60, learning_rate=parameters["learning_rate"], random_state=seed)
    )


def _lightgbm(parameters: dict[str, Any], seed: int) -> Any:
    fixed = {"subsample": 0.7, "subsample_freq": 1, "n_jobs": 1, "verbosity": -1}
    reproducible = {"deterministic": True, "force_row_wise": True, "random_state": seed}
    return import_module("lightgbm").LGBMRegressor(**parameters, **fixed, **reproducible)


def _xgboost(parameters: dict[str, Any], seed: int) -> Any:
    fixed = {"subsample": 0.7, "tree_method": "hist", "n_jobs": 1}
    return import_module("xgboost").XGBRegressor(**parameters, **fixed, random_state=seed)


def _catboost(parameters: dict[str, Any], seed: int) -> Any:
    quiet = {"thread_count": 1, "verbose": 0, "allow_writing_files": False}
    return import_module("catboost").CatBoostRegressor(**parameters, **quiet, random_seed=seed)


def _neural(name: str) -> Callable[[dict[str, Any], int], Any]:
    """An estimator of `popularity.evaluation.neural`, imported when it is made: torch is slow to import."""
    return lambda parameters, seed: getattr(import_module("popularity.evaluation.neural"), name)(
        **parameters, seed=seed
    )


_FOREST = {"min_samples_leaf": Int(2, 16, log=True), "max_features": Float(0.15, 0.8)}
_BOOSTED = {"n_estimators": 350, "learning_rate": 0.03, "colsample_bytree": 0.4, "reg_lambda": 5.0}
_TREES = {"n_estimators": Int(100, 500, step=50), "learning_rate": Float(0.015, 0.08, log=True)}
_REGULARISATION = {"colsample_bytree": Float(0.2, 0.8), "reg_lambda": Float(0.1, 30.0, log=True)}
#: The difference between two settings of boosted trees is smaller than that between two seeds: they are means of three.
_SEEDS = 3

BASELINES: dict[str, Baseline] = {
    "mean": Baseline(lambda p, seed: DummyRegressor(), "nothing", fixed_features=True, whole_songs=True),
    "artist_mean": Baseline(_artist_mean, "artist", fixed_features=True, whole_songs=True),
    # the reference: the 13 columns prepared as the original project did
    "linear": Baseline(_linear, fixed_features=True, whole_songs=True),
    "forward": Baseline(_forward, fixed_features=True),
    "ridge": Baseline(
        lambda p, seed: make_pipeline(prepared(), Ridge(**p)),
        defaults={"alpha": 50.0},
        space={"alpha": Float(1.0, 3000.0, log=True)},
        trials=10,
    ),
    "lasso": Baseline(
        lambda p, seed: make_pipeline(prepared(), Lasso(**p, max_iter=20_000)),
        defaults={"alpha": 0.05},
        space={"alpha": Float(0.005, 1.0, log=True)},
        trials=10,
    ),
    "splines": Baseline(
        lambda p, seed: make_pipeline(prepared(p["knots"]), Ridge(p["alpha"])),
        defaults={"knots": 5, "alpha": 5.0},
        space={"knots": Int(3, 8), "alpha": Float(0.1, 300.0, log=True)},
        trials=10,
    ),
    "knn": Baseline(
        lambda p, seed: make_pipeline(prepared(), Neighbours(**p, weights="distance")),
        defaults={"n_neighbors": 40},
        space={"n_neighbors": Int(5, 150, log=True)},
        trials=8,
    ),
    "svr": Baseline(
        lambda p, seed: make_pipeline(prepared(), SVR(**p)),
        defaults={"C": 6.0, "epsilon": 2.0, "gamma": 0.02},
        space={"C": Float(0.5, 30.0, log=True), "epsilon": Float(0.5, 8.0), "gamma": Float(0.003, 0.1, log=True)},
        trials=8,
    ),
    "forest": Baseline(
        lambda p, seed: RandomForestRegressor(150, **p, random_state=seed),
        defaults={"min_samples_leaf": 4, "max_features": 0.4},
        space=_FOREST,
        trials=5,
    ),
    "extra_trees": Baseline(
        lambda p, seed: ExtraTreesRegressor(150, **p, random_state=seed),
        defaults={"min_samples_leaf": 4, "max_features": 0.6},
        space=_FOREST,
        trials=5,
    ),
    "adaboost": Baseline(
        _adaboost,
        defaults={"max_depth": 5, "learning_rate": 0.05},
        space={"max_depth": Int(2, 8), "learning_rate": Float(0.01, 1.0, log=True)},
        trials=5,
    ),
    "lightgbm": Baseline(
        _lightgbm,
        "everything",
        defaults={**_BOOSTED, "num_leaves": 10, "min_child_samples": 25},
        space={**_TREES, "num_leaves": Int(4, 20), "min_child_samples": Int(10, 60), **_REGULARISATION},
        trials=15,
        members=_SEEDS,
        package="lightgbm",
    ),
    "xgboost": Baseline(
        _xgboost,
        "everything",
        defaults={**_BOOSTED, "max_depth": 4, "min_child_weight": 15},
        space={**_TREES, "max_depth": Int(2, 6), "min_child_weight": Int(2, 40), **_REGULARISATION},
        trials=10,
        members=_SEEDS,
        package="xgboost",
    ),
    "catboost": Baseline(
        _catboost,
        "everything",
        defaults={"iterations": 400, "learning_rate": 0.06, "depth": 5, "l2_leaf_reg": 6.0, "rsm": 0.4},
        space={
            "iterations": Int(200, 600, step=50),
            "learning_rate": Float(0.03, 0.12, log=True),
            "depth": Int(3, 6),
            "l2_leaf_reg": Float(1.0, 30.0, log=True),
            "rsm": Float(0.2, 0.8),
        },
        trials=6,
        members=_SEEDS,
        package="catboost",
    ),
    # epochs are chosen on held-out training songs; the network that is judged is trained anew on all of them
    "mlp": Baseline(_neural("MLP"), "everything", epochs=40),
    "tabm": Baseline(_neural("TabM"), "everything", epochs=30, package="tabm"),
    "realmlp": Baseline(_neural("RealMLP"), "everything", epochs=32, package="pytabkit"),
}
