"""LightGBM on the tabular features: the baseline that goes through the same search as the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from popularity.data.schema import AUDIO
from popularity.data.splits import Split
from popularity.errors import InputError
from popularity.features.song import CATEGORIES, FeatureEncoder
from popularity.metrics import regression_scores
from popularity.tuning.options import Search

#: What a space or ``--lightgbm.NAME`` may replace or add to, under LightGBM's own names.
DEFAULTS = {
    **{"learning_rate": 0.05, "n_estimators": 2000, "num_leaves": 31, "min_child_samples": 20},
    **{"subsample": 0.8, "subsample_freq": 1, "colsample_bytree": 0.8, "reg_alpha": 1e-3, "reg_lambda": 1.0},
}
_REPRODUCIBLE = {"deterministic": True, "force_row_wise": True, "verbosity": -1}
_STOPPING_ROUNDS = 50  # trees without a better validation MSE


def settings(search: Search, params: dict[str, Any]) -> dict[str, Any]:
    """All settings of LightGBM for a trial's parameters.

    Raises:
        InputError: LightGBM is not installed, or has no such setting.
    """
    try:
        from lightgbm import LGBMRegressor
    except ImportError as error:
        raise InputError(f"this space needs lightgbm, in this project's extra [baselines] ({error})") from error
    given = {**search.options.lightgbm, **{key.removeprefix("lightgbm."): value for key, value in params.items()}}
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
        InputError: LightGBM is not installed, or refuses a setting.
    """
    chosen = {**settings(search, params), **_REPRODUCIBLE, "seed": search.seed, "n_jobs": torch.get_num_threads()}
    import lightgbm

    train, validation = songs.iloc[split.train], songs.iloc[split.validation]
    known, held_out = features(train, validation)
    truth = validation["popularity"].to_numpy()
    learned = lightgbm.Dataset(known, train["popularity"].to_numpy())
    scored = lightgbm.Dataset(held_out, truth, reference=learned)
    stop = lightgbm.early_stopping(_STOPPING_ROUNDS, verbose=False)
    try:
        model = lightgbm.train(chosen, learned, chosen.pop("n_estimators"), valid_sets=[scored], callbacks=[stop])
    except lightgbm.basic.LightGBMError as error:
        raise InputError(f"lightgbm: {error}") from error
    scores = regression_scores(np.asarray(model.predict(held_out)).clip(0, 100), truth)
    trees = model.dump_model(num_iteration=model.best_iteration)["tree_info"]
    return {f"val/{k}": v for k, v in scores.items()} | {"parameters": sum(tree["num_leaves"] for tree in trees)}
