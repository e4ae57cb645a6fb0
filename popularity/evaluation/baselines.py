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
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeRegressor

from popularity.data.schema import AUDIO
from popularity.evaluation.estimators import ArtistMean, Make, maker
from popularity.features.prepared import medians, prepared
from popularity.features.trees import BOOSTING, FIXED, LIGHTGBM, PATIENCE, stopped_early

#: Fits to rows and popularity, stops early on those of held-out songs, and returns the number of trees.
Watch = Callable[[Any, pd.DataFrame, np.ndarray, tuple[pd.DataFrame, np.ndarray]], int]
#: The default of a parameter, and where a search looks for a better value.
Parameter = tuple[float, BaseDistribution]


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
    watch: Watch | None = None
    members: int = 1  # fits with different seeds whose mean is the prediction
    bagged: bool = False  # each member is fitted to other inner folds and stops early on the one that is left
    weights: bool = False  # it is pretrained: the config names the file of its weights
    package: str = ""  # must be installed


def _audio() -> FunctionTransformer:
    return FunctionTransformer(lambda songs: songs[list(AUDIO)])


def _forward() -> Pipeline:
    # columns are added as long as R2 on inner folds grows; not on features that rest on popularities: there a training
    # song's row rests on the labels of held-out songs
    settings: dict[str, Any] = {"n_features_to_select": "auto", "tol": 5e-4, "scoring": "r2"}
    return make_pipeline(prepared(), SequentialFeatureSelector(LinearRegression(), **settings))


def _splines(parameters: dict[str, Any], seed: int) -> Pipeline:
    before = partial(prepared, parameters["knots"])
    return maker("sklearn.linear_model.Ridge", before, alpha=parameters["alpha"])({}, seed)


def _watch_xgboost(model: Any, rows: pd.DataFrame, popularity: np.ndarray, held_out: tuple[Any, Any]) -> int:
    model.set_params(early_stopping_rounds=PATIENCE)
    return int(model.fit(rows, popularity, eval_set=[held_out], verbose=False).best_iteration) + 1


def _watch_catboost(model: Any, rows: pd.DataFrame, popularity: np.ndarray, held_out: tuple[Any, Any]) -> int:
    return int(model.fit(rows, popularity, eval_set=held_out, early_stopping_rounds=PATIENCE).tree_count_)


def _float(default: float, low: float, high: float) -> Parameter:
    return default, Float(low, high)


def _log(default: float, low: float, high: float) -> Parameter:
    return default, Float(low, high, log=True)


def _search(trials: int, **parameters: Parameter | int) -> dict[str, Any]:
    """Of a row that searches: the default of a parameter stands beside its distribution, or alone."""
    pairs = {name: one if isinstance(one, tuple) else (one, None) for name, one in parameters.items()}
    space = {name: distribution for name, (_, distribution) in pairs.items() if distribution is not None}
    return {"trials": trials, "defaults": {name: default for name, (default, _) in pairs.items()}, "space": space}


def _boosted(package: str, watch: Watch, trees: str = "n_estimators") -> dict[str, Any]:
    # the difference between two settings is smaller than that between two seeds: the mean of three is taken
    return {"feature_set": "everything", "trees": trees, "watch": watch, "members": 3, "package": package}


def _net(estimator: str, members: int = 4, **settings: Any) -> Baseline:
    """A network of pytabkit, by name."""
    make = maker("popularity.evaluation.estimators.Net", estimator=estimator, settings=settings)
    return Baseline(make, "everything", members=members, bagged=True, package="pytabkit")


def _pretrained(class_path: str, **settings: Any) -> Baseline:
    """A pretrained model: `fit` only takes the songs in."""
    make = maker(class_path, device="cpu", **settings)
    return Baseline(make, "everything", weights=True, package=class_path.partition(".")[0])


_TREE = DecisionTreeRegressor(min_samples_leaf=5)
_LEAVES = (4, Int(2, 16, log=True))
_TREES: dict[str, Any] = {
    "learning_rate": _log(BOOSTING["learning_rate"], 0.02, 0.1),
    "colsample_bytree": _float(BOOSTING["colsample_bytree"], 0.2, 0.8),
    "reg_lambda": _log(BOOSTING["reg_lambda"], 0.1, 30.0),
    "n_estimators": BOOSTING["n_estimators"],
}
_SHRINKAGES = {"shrinkage": [0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0]}
_GRID: dict[str, Any] = {"param_grid": _SHRINKAGES, "scoring": "neg_mean_squared_error"}
_WHOLE: dict[str, Any] = {"fixed_features": True, "whole_songs": True}
_STOPPED: dict[str, Any] = {"use_early_stopping": True, "early_stopping_multiplicative_patience": 1}

BASELINES: dict[str, Baseline] = {
    "mean": Baseline(maker("sklearn.dummy.DummyRegressor"), "nothing", **_WHOLE),
    "artist_mean": Baseline(
        maker("sklearn.model_selection.GridSearchCV", estimator=ArtistMean(), **_GRID), "artist", **_WHOLE
    ),
    # the reference: the 13 columns prepared as the original project did
    "linear": Baseline(maker("popularity.training.baselines.linear_regression", _audio), **_WHOLE),
    "forward": Baseline(maker("sklearn.linear_model.LinearRegression", _forward), fixed_features=True),
    "ridge": Baseline(maker("sklearn.linear_model.Ridge", prepared), **_search(10, alpha=_log(50.0, 1.0, 3000.0))),
    "lasso": Baseline(
        maker("sklearn.linear_model.Lasso", prepared, max_iter=20_000), **_search(10, alpha=_log(0.05, 0.005, 1.0))
    ),
    "splines": Baseline(_splines, **_search(10, knots=(5, Int(3, 8)), alpha=_log(5.0, 0.1, 300.0))),
    "knn": Baseline(
        maker("popularity.evaluation.estimators.Neighbours", prepared, weights="distance"),
        **_search(8, n_neighbors=(40, Int(5, 150, log=True))),
    ),
    "svr": Baseline(
        maker("sklearn.svm.SVR", prepared),
        **_search(8, C=_log(6.0, 0.5, 30.0), epsilon=_float(2.0, 0.5, 8.0), gamma=_log(0.02, 0.003, 0.1)),
    ),
    "forest": Baseline(
        maker("sklearn.ensemble.RandomForestRegressor", n_estimators=150),
        **_search(5, min_samples_leaf=_LEAVES, max_features=_float(0.4, 0.15, 0.8)),
    ),
    "extra_trees": Baseline(
        maker("sklearn.ensemble.ExtraTreesRegressor", n_estimators=150),
        **_search(5, min_samples_leaf=_LEAVES, max_features=_float(0.6, 0.15, 0.8)),
    ),
    "adaboost": Baseline(
        maker("sklearn.ensemble.AdaBoostRegressor", medians, estimator=_TREE, n_estimators=60),
        **_search(5, estimator__max_depth=(5, Int(2, 8)), learning_rate=_log(0.05, 0.01, 1.0)),
    ),
    "lightgbm": Baseline(
        maker("lightgbm.LGBMRegressor", **FIXED),
        **_search(
            15,
            num_leaves=(LIGHTGBM["num_leaves"], Int(4, 63, log=True)),
            min_child_samples=(LIGHTGBM["min_child_samples"], Int(10, 60)),
            **_TREES,
        ),
        **_boosted("lightgbm", stopped_early),
    ),
    "xgboost": Baseline(
        maker("xgboost.XGBRegressor", subsample=0.7, tree_method="hist", n_jobs=1),
        **_search(10, max_depth=(4, Int(2, 6)), min_child_weight=(15, Int(2, 40)), **_TREES),
        **_boosted("xgboost", _watch_xgboost),
    ),
    "catboost": Baseline(
        maker("catboost.CatBoostRegressor", thread_count=1, verbose=0, allow_writing_files=False),
        **_search(
            6,
            learning_rate=_log(0.06, 0.03, 0.12),
            depth=(5, Int(3, 6)),
            l2_leaf_reg=_log(6.0, 1.0, 30.0),
            rsm=_float(0.4, 0.2, 0.8),
            iterations=400,
        ),
        **_boosted("catboost", _watch_catboost, "iterations"),
    ),
    # with their authors' values; that training ends once it no longer helps changes no prediction and costs a seventh
    "mlp": _net("RealMLP_TD_S", **_STOPPED),
    "realmlp": _net("RealMLP_TD", **_STOPPED),
    "tabm": _net("TabM_D", members=1),
    # a tenth of its cost, and more dropout and weight decay for files of a few thousand songs
    "tabm_small": _net("TabM_D", tabm_k=16, d_block=160, n_blocks=2, dropout=0.2, weight_decay=0.03),
    "tabicl": _pretrained("tabicl.TabICLRegressor", allow_auto_download=False),
    "tabpfn": _pretrained("tabpfn.TabPFNRegressor", ignore_pretraining_limits=True),
}
