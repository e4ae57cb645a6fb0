"""The baselines: a table of scikit-learn pipelines and of other libraries' estimators with their search spaces.

To add one, write a row; to compare an own scikit-learn regressor without touching this file, name its ``class_path`` in
the config of ``compare``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.distributions import FloatDistribution as Float
from optuna.distributions import IntDistribution as Int
from sklearn.dummy import DummyRegressor
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeRegressor

from popularity.data.schema import AUDIO
from popularity.evaluation.estimators import ArtistMean, Make, maker, medians, prepared
from popularity.features.trees import BOOSTING, FIXED, LIGHTGBM, PATIENCE, stopped_early
from popularity.training.baselines import linear_regression


@dataclass(frozen=True)
class Baseline:
    """How to make, search and fit an estimator. The config may give another feature set and other trials."""

    make: Make  # one that has a parameter ``cv`` is given inner folds by the rule of the split
    feature_set: Literal["nothing", "artist", "audio", "everything"] = "audio"
    fixed_features: bool = False  # the config has no say in what it reads
    whole_songs: bool = False  # it reads the song table itself in place of tabular features
    defaults: Mapping[str, Any] = field(default_factory=dict)  # without a search, and the first trial of one
    space: Mapping[str, BaseDistribution] = field(default_factory=dict)
    trials: int = 0  # settings tried inside the training songs
    trees: str = ""  # name of the parameter for the number of trees, which a search chooses by early stopping
    #: Fits to rows and popularity, stops early on those of held-out songs, and returns the number of trees.
    watch: Callable[[Any, pd.DataFrame, np.ndarray, tuple[pd.DataFrame, np.ndarray]], int] | None = None
    members: int = 1  # fits with different seeds whose mean is the prediction
    bagged: bool = False  # each member is fitted to other inner folds and stops early on the one that is left
    weights: bool = False  # it is pretrained: the config names the file of its weights
    package: str = ""  # must be installed


def _artist_mean(parameters: dict[str, Any], seed: int) -> GridSearchCV:
    shrinkages = {"shrinkage": [0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0]}
    return GridSearchCV(ArtistMean(), shrinkages, scoring="neg_mean_squared_error")


def _linear(parameters: dict[str, Any], seed: int) -> Pipeline:
    return make_pipeline(FunctionTransformer(lambda songs: songs[list(AUDIO)]), linear_regression())


def _forward(parameters: dict[str, Any], seed: int) -> Pipeline:
    # columns are added as long as R2 on inner folds grows; not on features that rest on popularities: there a training
    # song's row rests on the labels of held-out songs
    least_squares = LinearRegression()
    chosen = SequentialFeatureSelector(least_squares, n_features_to_select="auto", tol=5e-4, scoring="r2")
    return make_pipeline(prepared(), chosen, least_squares)


def _splines(parameters: dict[str, Any], seed: int) -> Pipeline:
    before = partial(prepared, parameters["knots"])
    return maker("sklearn.linear_model.Ridge", before, alpha=parameters["alpha"])({}, seed)


def _watch_xgboost(model: Any, rows: pd.DataFrame, popularity: np.ndarray, held_out: tuple[Any, Any]) -> int:
    model.set_params(early_stopping_rounds=PATIENCE)
    return int(model.fit(rows, popularity, eval_set=[held_out], verbose=False).best_iteration) + 1


def _watch_catboost(model: Any, rows: pd.DataFrame, popularity: np.ndarray, held_out: tuple[Any, Any]) -> int:
    return int(model.fit(rows, popularity, eval_set=held_out, early_stopping_rounds=PATIENCE).tree_count_)


def _net(estimator: str, **settings: Any) -> Make:
    """A network of pytabkit, by name; torch, which it needs, is slow to import."""
    return maker("popularity.evaluation.neural.Net", estimator=estimator, settings=settings)


def _searched(make: Make, trials: int, search: Mapping[str, tuple[float, BaseDistribution]], **more: Any) -> Baseline:
    """A row that searches: the default of a parameter stands beside its distribution."""
    defaults = {name: default for name, (default, _) in search.items()} | more.pop("defaults", {})
    space = {name: distribution for name, (_, distribution) in search.items()}
    return Baseline(make, defaults=defaults, space=space, trials=trials, **more)


def _boosted(make: Make, trials: int, search: Mapping[str, tuple[float, BaseDistribution]], **more: Any) -> Baseline:
    # the difference between two settings is smaller than that between two seeds: the mean of three is taken
    return _searched(make, trials, search, feature_set="everything", members=3, **more)


_TREE = DecisionTreeRegressor(min_samples_leaf=5)
_FOREST = {"min_samples_leaf": (4, Int(2, 16, log=True)), "max_features": (0.4, Float(0.15, 0.8))}
_TREES: Mapping[str, tuple[float, BaseDistribution]] = {
    "learning_rate": (BOOSTING["learning_rate"], Float(0.02, 0.1, log=True)),
    "colsample_bytree": (BOOSTING["colsample_bytree"], Float(0.2, 0.8)),
    "reg_lambda": (BOOSTING["reg_lambda"], Float(0.1, 30.0, log=True)),
}
_LEAVES: Mapping[str, tuple[float, BaseDistribution]] = {
    "num_leaves": (LIGHTGBM["num_leaves"], Int(4, 63, log=True)),
    "min_child_samples": (LIGHTGBM["min_child_samples"], Int(10, 60)),
}
_STOPPED: dict[str, Any] = {"use_early_stopping": True, "early_stopping_multiplicative_patience": 1}
_BAGGED: dict[str, Any] = {"feature_set": "everything", "bagged": True, "package": "pytabkit"}

BASELINES: dict[str, Baseline] = {
    "mean": Baseline(lambda p, seed: DummyRegressor(), "nothing", fixed_features=True, whole_songs=True),
    "artist_mean": Baseline(_artist_mean, "artist", fixed_features=True, whole_songs=True),
    # the reference: the 13 columns prepared as the original project did
    "linear": Baseline(_linear, fixed_features=True, whole_songs=True),
    "forward": Baseline(_forward, fixed_features=True),
    "ridge": _searched(
        maker("sklearn.linear_model.Ridge", prepared), 10, {"alpha": (50.0, Float(1.0, 3000.0, log=True))}
    ),
    "lasso": _searched(
        maker("sklearn.linear_model.Lasso", prepared, max_iter=20_000),
        10,
        {"alpha": (0.05, Float(0.005, 1.0, log=True))},
    ),
    "splines": _searched(_splines, 10, {"knots": (5, Int(3, 8)), "alpha": (5.0, Float(0.1, 300.0, log=True))}),
    "knn": _searched(
        maker("popularity.evaluation.estimators.Neighbours", prepared, weights="distance"),
        8,
        {"n_neighbors": (40, Int(5, 150, log=True))},
    ),
    "svr": _searched(
        maker("sklearn.svm.SVR", prepared),
        8,
        {
            "C": (6.0, Float(0.5, 30.0, log=True)),
            "epsilon": (2.0, Float(0.5, 8.0)),
            "gamma": (0.02, Float(0.003, 0.1, log=True)),
        },
    ),
    "forest": _searched(maker("sklearn.ensemble.RandomForestRegressor", n_estimators=150), 5, _FOREST),
    "extra_trees": _searched(
        maker("sklearn.ensemble.ExtraTreesRegressor", n_estimators=150),
        5,
        _FOREST | {"max_features": (0.6, Float(0.15, 0.8))},
    ),
    "adaboost": _searched(
        maker("sklearn.ensemble.AdaBoostRegressor", medians, estimator=_TREE, n_estimators=60),
        5,
        {"estimator__max_depth": (5, Int(2, 8)), "learning_rate": (0.05, Float(0.01, 1.0, log=True))},
    ),
    "lightgbm": _boosted(
        maker("lightgbm.LGBMRegressor", **FIXED),
        15,
        {**_LEAVES, **_TREES},
        defaults={"n_estimators": LIGHTGBM["n_estimators"]},
        trees="n_estimators",
        watch=stopped_early,
        package="lightgbm",
    ),
    "xgboost": _boosted(
        maker("xgboost.XGBRegressor", subsample=0.7, tree_method="hist", n_jobs=1),
        10,
        {"max_depth": (4, Int(2, 6)), "min_child_weight": (15, Int(2, 40)), **_TREES},
        defaults={"n_estimators": 350},
        trees="n_estimators",
        watch=_watch_xgboost,
        package="xgboost",
    ),
    "catboost": _boosted(
        maker("catboost.CatBoostRegressor", thread_count=1, verbose=0, allow_writing_files=False),
        6,
        {
            "learning_rate": (0.06, Float(0.03, 0.12, log=True)),
            "depth": (5, Int(3, 6)),
            "l2_leaf_reg": (6.0, Float(1.0, 30.0, log=True)),
            "rsm": (0.4, Float(0.2, 0.8)),
        },
        defaults={"iterations": 400},
        trees="iterations",
        watch=_watch_catboost,
        package="catboost",
    ),
    # with their authors' values; that training ends once it no longer helps changes no prediction and costs a seventh
    "mlp": Baseline(_net("RealMLP_TD_S", **_STOPPED), members=4, **_BAGGED),
    "realmlp": Baseline(_net("RealMLP_TD", **_STOPPED), members=4, **_BAGGED),
    "tabm": Baseline(_net("TabM_D"), **_BAGGED),
    # a tenth of its cost, and more dropout and weight decay for files of a few thousand songs
    "tabm_small": Baseline(
        _net("TabM_D", tabm_k=16, d_block=160, n_blocks=2, dropout=0.2, weight_decay=0.03), members=4, **_BAGGED
    ),
    # pretrained: `fit` only takes the songs in
    "tabicl": Baseline(
        maker("tabicl.TabICLRegressor", allow_auto_download=False, device="cpu"),
        "everything",
        weights=True,
        package="tabicl",
    ),
    "tabpfn": Baseline(
        maker("tabpfn.TabPFNRegressor", ignore_pretraining_limits=True, device="cpu"),
        "everything",
        weights=True,
        package="tabpfn",
    ),
}
