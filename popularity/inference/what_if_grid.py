"""Variants of one song: features set to other values inside the range of the songs that a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from popularity.errors import InputError
from popularity.features.base import Encoder
from popularity.features.encoder import HistoryEncoder
from popularity.features.song import CATEGORIES, CLOSED, NUMERIC_FEATURES, ColumnEncoder, FeatureEncoder
from popularity.inference.distribution import interval
from popularity.inference.explain_features import NUMERIC, Numeric
from popularity.inference.explain_model import Model, load_own_songs
from popularity.inference.predictor import Prediction
from popularity.training.datamodule import PopularityDataModule

#: Features that can be varied: numbers, and categories with few values.
VARIED: tuple[str, ...] = (*NUMERIC, *CLOSED)

LEVEL = 0.8  # of the intervals
_NOTHING_LEARNED = "this network has learned nothing from it: all its training songs had one value, or none"


@dataclass(frozen=True)
class Range:
    """The values of a numeric feature in the training songs.

    Attributes:
        numeric: how the feature follows from its column.
        mean: of the feature.
        scale: its standard deviation.
        low: lowest value in standard deviations from the mean; networks see no difference below -4.
        high: highest value; networks see no difference above 4.
    """

    numeric: Numeric
    mean: float
    scale: float
    low: float
    high: float

    def column(self, features: np.ndarray) -> np.ndarray:
        """Values of the column from values in standard deviations."""
        return self.numeric.column_value(features * self.scale + self.mean)

    def standard(self, column: float) -> float:
        """Standard deviations from a value of the column."""
        return float((self.numeric.feature_value(np.array(column)) - self.mean) / self.scale)


def feature_ranges(path: str, model: Model, data: PopularityDataModule) -> dict[str, Range]:
    """Ranges of the numeric features that a network reads, by column; a checkpoint holds them, for most encoders.

    Raises:
        InputError: an own encoder, or one whose ranges are only in the training songs, and these are not there.
    """
    encoder = model.encoder
    features = encoder.features if isinstance(encoder, HistoryEncoder) else encoder
    if isinstance(features, FeatureEncoder):
        places = {column: NUMERIC_FEATURES.index(feature) for column, (feature, _) in NUMERIC.items()}
        low, high = features.edges[:, 0], features.edges[:, -1]
        return {
            column: Range(NUMERIC[column][1], features.mean[at], features.scale[at], low[at], high[at])
            for column, at in places.items()
            if features.present[at] and high[at] > low[at]
        }
    if not isinstance(encoder, ColumnEncoder):
        raise InputError(f"what_if: expected an encoder of this project, got {type(encoder).__name__}")
    load_own_songs(path, data)
    songs = data.songs("train")[list(NUMERIC)]
    mean, scale = songs.mean(), songs.std(ddof=0)
    low, high = (songs.min() - mean) / scale, (songs.max() - mean) / scale
    return {
        column: Range(Numeric(column), mean[column], scale[column], low[column], high[column])
        for column in NUMERIC
        if scale[column] > 0
    }


def check_learned(encoder: Encoder, features: Sequence[str]) -> None:
    """Refuse categories that were the same in all training songs: no value of theirs would change anything.

    Raises:
        InputError: the first of them.
    """
    own = encoder.features if isinstance(encoder, HistoryEncoder) else encoder
    if not isinstance(own, FeatureEncoder):
        return
    of_category = own.present[len(NUMERIC_FEATURES) :]
    for feature in features:
        if feature in CLOSED and not of_category[CATEGORIES.index(feature)]:
            raise InputError(f"{feature}: {_NOTHING_LEARNED}")


def values_of(feature: str, ranges: dict[str, Range], steps: int) -> np.ndarray:
    """Values of a column to set a feature to: evenly spaced for a number, all of them for a category.

    Raises:
        InputError: a feature that the network does not read.
    """
    if feature in CLOSED:
        return np.array(CLOSED[feature], dtype=np.float64)
    if feature not in ranges:
        raise InputError(f"{feature}: {_NOTHING_LEARNED}")
    low, high = ranges[feature].column(np.array([ranges[feature].low, ranges[feature].high]))
    return np.linspace(low, high, steps)


def variants(song: pd.DataFrame, columns: Sequence[str], values: np.ndarray) -> pd.DataFrame:
    """A song table of ``n`` variants of a song.

    Args:
        song: one row.
        columns: ``k`` columns to set.
        values: ``(n, k)``.
    """
    table = song.iloc[np.zeros(len(values), dtype=int)].reset_index(drop=True)
    return table.assign(**{column: values[:, index] for index, column in enumerate(columns)})


def with_interval(prediction: Prediction) -> pd.DataFrame:
    """``prediction`` in points and, of a model with a distribution, ``low, high``: the ends of its 80 % intervals."""
    table = pd.DataFrame({"prediction": prediction.mean})
    if prediction.probabilities is not None:
        table["low"], table["high"] = interval(prediction, LEVEL)
    return table
