"""LightGBM on the features of the network's encoder: the baseline that goes through the same search."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch

from popularity.data.schema import AUDIO
from popularity.errors import InputError
from popularity.features.song import CATEGORIES, FeatureEncoder
from popularity.training.module import regression_metrics


@dataclass(frozen=True)
class LightGBM:
    """Gradient boosted trees; names and meanings are LightGBM's own, early stopping watches the validation MSE.

    Args:
        learning_rate: shrinkage of each tree.
        num_leaves: most leaves of a tree.
        min_child_samples: fewest songs in a leaf.
        subsample: share of the songs that each tree sees.
        colsample_bytree: share of the features that each tree sees.
        reg_alpha: L1 penalty of the leaves.
        reg_lambda: L2 penalty of the leaves.
        n_estimators: most trees.
        stopping_rounds: trees without a better validation MSE before it stops.
    """

    learning_rate: float = 0.05
    num_leaves: int = 31
    min_child_samples: int = 20
    subsample: float = 0.8
    colsample_bytree: float = 0.8
    reg_alpha: float = 1e-3
    reg_lambda: float = 1.0
    n_estimators: int = 2000
    stopping_rounds: int = 50


def tabular_features(encoder: FeatureEncoder, songs: pd.DataFrame) -> pd.DataFrame:
    """The 13 audio columns as they are, and what the encoder makes of a song: ``(n, 13 + F + C + T + 1)``."""
    encoded = encoder.encode(songs)
    numeric = np.concatenate([songs[list(AUDIO)].to_numpy(np.float64), encoded["numeric"], encoded["title"]], axis=1)
    table = pd.DataFrame(numeric, columns=[f"x{i}" for i in range(numeric.shape[1])])
    return table.assign(**dict(zip(CATEGORIES, encoded["category"].numpy().T, strict=True)))


def fit_lightgbm(
    settings: LightGBM, train: pd.DataFrame, validation: pd.DataFrame, seed: int
) -> tuple[dict[str, float], int]:
    """Fit to training songs; the validation metrics of the best round, and the number of leaves.

    Raises:
        InputError: LightGBM is not installed, or refuses a setting.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise InputError("LightGBM is missing: `pip install 'popularity[baselines]'`") from error
    encoder = FeatureEncoder().fit(train)
    features = tabular_features(encoder, validation)
    parameters = {
        **asdict(settings),
        "objective": "l2",
        "subsample_freq": 1,
        "seed": seed,
        "num_threads": torch.get_num_threads(),
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    rounds, stopping = parameters.pop("n_estimators"), parameters.pop("stopping_rounds")
    known = lightgbm.Dataset(
        tabular_features(encoder, train), train["popularity"].to_numpy(), categorical_feature=list(CATEGORIES)
    )
    held_out = lightgbm.Dataset(features, validation["popularity"].to_numpy(), reference=known)
    stop = lightgbm.early_stopping(stopping, verbose=False)
    try:
        model = lightgbm.train(parameters, known, rounds, valid_sets=[held_out], callbacks=[stop])
    except lightgbm.basic.LightGBMError as error:
        raise InputError(f"lightgbm: {error}") from error
    metrics = regression_metrics("val")
    prediction = torch.from_numpy(np.asarray(model.predict(features, num_iteration=model.best_iteration))).clamp(0, 100)
    metrics.update(prediction, torch.from_numpy(validation["popularity"].to_numpy(copy=True)))
    leaves = sum(tree["num_leaves"] for tree in model.dump_model(num_iteration=model.best_iteration)["tree_info"])
    return {name: value.item() for name, value in metrics.compute().items()}, leaves
