"""LightGBM on the tabular features: the baseline that goes through the same search as the network."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import torch

from popularity.data.schema import AUDIO
from popularity.data.splits import Split
from popularity.errors import InputError
from popularity.features.song import CATEGORIES, FeatureEncoder
from popularity.training.module import regression_metrics
from popularity.tuning.space import Search

#: What a space or ``--lightgbm.NAME`` may replace or add to, under LightGBM's own names.
DEFAULTS = {
    "learning_rate": 0.05,
    "n_estimators": 2000,
    "num_leaves": 31,
    "min_child_samples": 20,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.8,
    "reg_alpha": 1e-3,
    "reg_lambda": 1.0,
}
_FIXED = {"deterministic": True, "force_row_wise": True, "verbosity": -1}  # equal trees on every run
_STOPPING_ROUNDS = 50  # trees without a better validation MSE


def lightgbm_settings(search: Search, params: dict[str, Any]) -> dict[str, Any]:
    """The settings of LightGBM for a trial's parameters.

    Raises:
        InputError: LightGBM is not installed, or has no such setting.
    """
    if find_spec("lightgbm") is None:
        raise InputError("the package lightgbm is missing, install this project's extra [baselines]")
    from lightgbm import LGBMRegressor

    given = {**search.options.lightgbm, **{key.removeprefix("lightgbm."): params[key] for key in params}}
    if unknown := sorted(set(given) - set(LGBMRegressor().get_params())):
        raise InputError(f"lightgbm.{unknown[0]}: LightGBM has no such setting")
    return {**DEFAULTS, **given}


def features(train: pd.DataFrame, validation: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tabular features of training and validation songs, fitted on the training songs alone."""
    encoder = FeatureEncoder().fit(train)

    def table(songs: pd.DataFrame) -> pd.DataFrame:
        encoded = encoder.encode(songs)
        numeric = np.concatenate([songs[list(AUDIO)].to_numpy(np.float64), encoded["numeric"], encoded["title"]], 1)
        found = pd.DataFrame(numeric, columns=[f"x{i}" for i in range(numeric.shape[1])])
        return found.assign(**dict(zip(CATEGORIES, encoded["category"].numpy().T, strict=True)))

    return table(train), table(validation)


def fit_lightgbm(search: Search, params: dict[str, Any], songs: pd.DataFrame, split: Split) -> dict[str, float]:
    """Fit LightGBM to training songs; the ``val/*`` metrics of its best round, and ``parameters``, its leaves.

    Raises:
        InputError: LightGBM refuses a setting.
    """
    import lightgbm

    settings = {**lightgbm_settings(search, params), **_FIXED, "seed": search.seed, "n_jobs": torch.get_num_threads()}
    train, held_out = features(songs.iloc[split.train], songs.iloc[split.validation])
    truth = songs["popularity"].to_numpy(np.float64)
    learned = lightgbm.Dataset(train, truth[split.train])
    scored = lightgbm.Dataset(held_out, truth[split.validation], reference=learned)
    stop = lightgbm.early_stopping(_STOPPING_ROUNDS, verbose=False)
    try:
        model = lightgbm.train(settings, learned, settings.pop("n_estimators"), [scored], callbacks=[stop])
    except lightgbm.basic.LightGBMError as error:
        raise InputError(f"lightgbm: {error}") from error
    metrics = regression_metrics("val")
    prediction = torch.from_numpy(np.asarray(model.predict(held_out))).clamp(0, 100)
    metrics.update(prediction, torch.from_numpy(truth[split.validation]))
    trees = model.dump_model(num_iteration=model.best_iteration)["tree_info"]
    scores = {name: value.item() for name, value in metrics.compute().items()}
    return {**scores, "parameters": sum(tree["num_leaves"] for tree in trees)}
