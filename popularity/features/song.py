"""Encodes a song by itself: numeric features, categories and title statistics, or the 13 raw audio columns.

What is learned goes to the checkpoint in double precision, apart from the network, so that ``--trainer.precision
bf16-true`` does not round it: a loaded checkpoint encodes new songs exactly as it encoded the songs it was trained on.

Glossary of shapes: ``n`` songs, ``F`` numeric features, ``K`` quantile bins, ``C`` categories, ``T`` title statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from popularity.data.credits import artist_names
from popularity.data.schema import AUDIO
from popularity.errors import InputError
from popularity.features.base import Encoder, Folds, Inputs
from popularity.features.checked import checked, checked_terms
from popularity.features.title_stats import TITLE_STATISTICS, title_statistics

#: Numeric features. ``log_`` marks those whose distribution spans several orders of magnitude.
NUMERIC_FEATURES: tuple[str, ...] = (
    "acousticness",
    "danceability",
    "log_duration",
    "energy",
    "log_instrumentalness",
    "log_liveness",
    "loudness",
    "log_speechiness",
    "tempo",
    "valence",
    "release_year",
    "artists",
)

#: Categories with a closed set of values: column -> values in the order of their codes (code 0 is unknown).
CLOSED: dict[str, tuple[int, ...]] = {
    "key": tuple(range(12)),
    "mode": (0, 1),
    "time_signature": (1, 2, 3, 4, 5, 6, 7),
    "explicit": (0, 1),
}
#: Categories whose vocabulary is learned from the training rows.
OPEN: tuple[str, ...] = ("genre", "subgenre")
CATEGORIES: tuple[str, ...] = (*CLOSED, *OPEN)
#: An open vocabulary keeps this many of its most frequent values; the rest are unknown.
MAX_LEVELS = 128
#: How many codes each category has, the unknown included.
CODES: tuple[int, ...] = (*(len(v) + 1 for v in CLOSED.values()), *(MAX_LEVELS + 1 for _ in OPEN))

#: Columns that are skewed over decades, and the constant added before the logarithm: it keeps an exact 0 finite,
#: about one step below the smallest value found.
SKEWED = {"duration_ms": 0.0, "instrumentalness": 1e-6, "liveness": 1e-3, "speechiness": 1e-2}

#: The five columns that the original project standardised; it passed the other eight of the 13 on as they are.
STANDARDISED: tuple[str, ...] = ("duration_ms", "loudness", "tempo", "energy", "liveness")

CLIP = 4.0  # standard deviations: beyond, a value says "extreme" and no more


def numeric_features(songs: pd.DataFrame) -> np.ndarray:
    """Features :data:`NUMERIC_FEATURES` of songs before standardisation, ``(n, F)`` float64, NaN where missing."""
    column = {name: songs[name].to_numpy(np.float64) for name in songs.columns if name in AUDIO}
    date = songs["release_date"]
    known = songs["artist"].notna().to_numpy()
    count = np.array([len(names) for names in artist_names(songs)], dtype=np.float64)
    features = {
        **column,
        **{f"log_{name.removesuffix('_ms')}": np.log(column[name] + least) for name, least in SKEWED.items()},
        "release_year": (date.dt.year + (date.dt.day_of_year - 1) / 366).to_numpy(np.float64),
        "artists": np.where(known, count, np.nan),
    }
    return np.stack([features[name] for name in NUMERIC_FEATURES], axis=1)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column where it is known; 0 and 1 where there is nothing to learn."""
    seen = np.isfinite(values)
    count = np.maximum(seen.sum(0), 1)
    mean = np.where(seen, values, 0).sum(0) / count
    scale = np.sqrt(np.where(seen, (values - mean) ** 2, 0).sum(0) / count)
    return mean, np.where(scale > 1e-8, scale, 1.0)


def piecewise_linear(x: Tensor, edges: Tensor) -> Tensor:
    r"""Piecewise-linear encoding (Gorishniy et al. 2022, "On Embeddings for Numerical Features", section 3.1, eq. 1).

    Bin :math:`t` of a feature with edges :math:`b_0 \le \dots \le b_K` holds
    :math:`(x - b_{t-1}) / (b_t - b_{t-1})`, cut to [0, 1] but for the outer sides of the first and the last bin, which
    stay linear down to -1 and up to 2. An empty bin (two equal edges) is a step.

    Args:
        x: ``(..., F)``, in the units of ``edges``; NaN gives a row of zeros.
        edges: ``(F, K + 1)``, ascending along the last axis.

    Returns:
        ``(..., F, K)``.
    """
    low, high = edges[:, :-1], edges[:, 1:]
    x = torch.where(x.isnan(), edges[:, 0], x)  # 0 in each bin
    code = (x.unsqueeze(-1) - low) / (high - low).clamp_min(1e-6)
    bins = low.shape[-1]
    floor = torch.zeros(bins, device=x.device, dtype=x.dtype)
    ceiling = torch.ones(bins, device=x.device, dtype=x.dtype)
    floor[0], ceiling[-1] = -1.0, 2.0
    return code.clamp(floor, ceiling)


class FeatureEncoder(Encoder):
    """Numeric features, categories and title statistics of a song.

    Args:
        bins: number of quantile bins of the piecewise-linear encoding.
        audio_only: read only the 13 audio columns and treat everything else as missing.

    Attributes:
        edges: ``(F, K + 1)`` bin edges in standard deviations.
        present: ``(F + C + 1)``, which numeric features, categories and (last) titles differ between training rows.
        met: ``(C, most codes)``, which codes occur in training rows; the embedding of any other code stays untrained.
    """

    _ARRAYS = ("mean", "scale", "edges", "title_mean", "title_scale", "present", "met")

    def __init__(self, bins: int = 8, audio_only: bool = False) -> None:
        if bins < 1:
            raise InputError(f"data.encoder.bins: expected at least 1, got {bins}")
        self.audio_only = audio_only
        features, titles = len(NUMERIC_FEATURES), len(TITLE_STATISTICS)
        self.mean, self.scale = np.zeros(features), np.ones(features)
        self.edges = np.zeros((features, bins + 1))
        self.title_mean, self.title_scale = np.zeros(titles), np.ones(titles)
        self.present = np.zeros(features + len(CATEGORIES) + 1, dtype=bool)
        self.met = np.zeros((len(CATEGORIES), max(CODES)), dtype=bool)
        self.vocabulary: dict[str, list[str]] = {name: [] for name in OPEN}

    @property
    def inputs(self) -> Inputs:
        """See the base class."""
        return Inputs(
            numeric=len(NUMERIC_FEATURES), bins=self.edges.shape[1] - 1, title=len(TITLE_STATISTICS) + 1, codes=CODES
        )

    def fit(self, songs: pd.DataFrame, folds: Folds = (), *, earlier: bool = False) -> None:
        """Learn moments, quantile bins and vocabularies from training songs."""
        songs = self._seen(songs)
        numeric = numeric_features(songs)
        self.mean, self.scale = _moments(numeric)
        known = np.isfinite(numeric).any(0)
        grid = np.linspace(0, 1, self.edges.shape[1])
        self.edges = np.zeros_like(self.edges)
        self.edges[known] = np.nanquantile(self._standard(numeric)[:, known], grid, axis=0).T
        self.title_mean, self.title_scale = _moments(title_statistics(songs["title"]).astype(np.float64))
        for name in OPEN:
            counts = songs[name].value_counts()
            # ties by name: the codes must not depend on the order of the rows
            ranked = sorted(counts.index, key=lambda level: (-counts[level], level))
            self.vocabulary[name] = [str(level) for level in ranked[:MAX_LEVELS]]
        self.met = np.zeros_like(self.met)
        self.met[np.arange(len(CATEGORIES)), self._codes(songs)] = True
        category = np.array([songs[name].notna().any() for name in CATEGORIES])
        occurs = np.concatenate([known, category, [songs["title"].notna().any()]])
        differs = np.array(
            [
                *(len(np.unique(column)) > 1 for column in numeric.T),  # NaN is a value of its own
                *(songs[name].nunique(dropna=False) > 1 for name in (*CATEGORIES, "title")),
            ]
        )
        # a single song, or copies of one song, have nothing that differs
        self.present = occurs & differs if (occurs & differs).any() else occurs

    def _seen(self, songs: pd.DataFrame) -> pd.DataFrame:
        if not self.audio_only:
            return songs
        empty = songs.copy()
        for name in songs:
            if name not in AUDIO:
                empty[name] = pd.Series(pd.NaT if name == "release_date" else np.nan, songs.index, songs[name].dtype)
        return empty

    def _standard(self, numeric: np.ndarray) -> np.ndarray:
        return ((numeric - self.mean) / self.scale).clip(-CLIP, CLIP)

    def encode(self, songs: pd.DataFrame, *, training: bool = False) -> dict[str, Tensor]:
        """Encode songs; missing values and values never seen in training can be told from all others.

        Returns:
            ``numeric``: ``(n, F)`` float32, standardised, clipped at 4 standard deviations, NaN where missing;
            ``bins``: ``(n, F, K)`` float32, their piecewise-linear encoding, 0 where missing;
            ``category``: ``(n, C)`` int64 codes, 0 where missing, unknown or not met in training;
            ``title``: ``(n, T + 1)`` float32, standardised statistics (0 where a statistic is missing) and, last, 1 for
            a missing title;
            ``present``: ``(n, F + C + 1)`` bool, equal in all rows: which features differed between training rows.

            A feature that was the same in all training rows, so that nothing could be learned from it, is missing for
            every song.
        """
        songs = self._seen(songs)
        of_numeric, of_category, of_title = np.split(
            self.present, [len(NUMERIC_FEATURES), len(NUMERIC_FEATURES) + len(CATEGORIES)]
        )
        numeric = self._standard(numeric_features(songs))
        # one value or missing: only whether it is missing could be learned
        single = (self.edges == self.edges[:, :1]).all(1)
        numeric[:, single] = np.where(np.isnan(numeric[:, single]), np.nan, 0.0)
        numeric[:, ~of_numeric] = np.nan
        titles = songs["title"].where(np.full(len(songs), of_title.item()))
        title = (title_statistics(titles).astype(np.float64) - self.title_mean) / self.title_scale
        missing = titles.isna().to_numpy(np.float64)[:, None]
        title = np.concatenate([np.nan_to_num(title).clip(-CLIP, CLIP), missing], axis=1)
        codes = self._codes(songs)
        codes = codes * self.met[np.arange(len(CATEGORIES)), codes] * of_category
        values = torch.from_numpy(numeric.astype(np.float32))
        return {
            "numeric": values,
            "bins": piecewise_linear(values, torch.from_numpy(self.edges).float()),
            "category": torch.from_numpy(codes),
            "title": torch.from_numpy(title.astype(np.float32)),
            "present": torch.from_numpy(self.present).expand(len(songs), -1),
        }

    def _codes(self, songs: pd.DataFrame) -> np.ndarray:
        """``(n, C)`` int64 places in :meth:`_levels`, from 1 on; 0 for none of them."""
        codes = [pd.Index(self._levels(name)).get_indexer(songs[name]).astype(np.int64) + 1 for name in CATEGORIES]
        return np.stack(codes, axis=1)

    def _levels(self, name: str) -> Sequence[Any]:
        return CLOSED[name] if name in CLOSED else self.vocabulary[name]

    def state(self) -> dict[str, Any]:
        """Everything that was learned, as tensors and plain Python."""
        arrays = {name: torch.from_numpy(getattr(self, name).copy()) for name in self._ARRAYS}
        return {**arrays, "vocabulary": {name: list(levels) for name, levels in self.vocabulary.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        for name in self._ARRAYS:
            setattr(self, name, checked(name, state[name], getattr(self, name).shape).numpy().copy())
        self.vocabulary = {name: checked_terms(name, state["vocabulary"][name], MAX_LEVELS) for name in OPEN}


class ColumnEncoder(Encoder):
    """The 13 audio columns as the original project fed them: five standardised, eight as they are.

    A missing value becomes the training mean of its column, since this encoding has no place for "missing". A column
    that is the same in all training rows, or missing, is 0 for every song: weights that never saw it differ know no
    answer to another value.
    """

    _ARRAYS = ("shift", "scale", "fill")

    def __init__(self) -> None:
        self.shift, self.scale, self.fill = np.zeros(len(AUDIO)), np.ones(len(AUDIO)), np.zeros(len(AUDIO))

    @property
    def inputs(self) -> Inputs:
        """See the base class."""
        return Inputs(columns=len(AUDIO))

    def fit(self, songs: pd.DataFrame, folds: Folds = (), *, earlier: bool = False) -> None:
        """Learn the moments of the training songs."""
        values = songs[list(AUDIO)].to_numpy(np.float64)
        mean, scale = _moments(values)
        chosen = np.array([name in STANDARDISED for name in AUDIO])
        self.shift, self.scale, self.fill = np.where(chosen, mean, 0.0), np.where(chosen, scale, 1.0), mean
        self.scale[[len(np.unique(column[~np.isnan(column)])) < 2 for column in values.T]] = np.inf

    def encode(self, songs: pd.DataFrame, *, training: bool = False) -> dict[str, Tensor]:
        """Encode songs: ``columns``, ``(n, 13)`` float32 in the order of :data:`~popularity.data.schema.AUDIO`."""
        values = songs[list(AUDIO)].to_numpy(np.float64)
        columns = (np.where(np.isnan(values), self.fill, values) - self.shift) / self.scale
        return {"columns": torch.from_numpy(columns.astype(np.float32))}

    def state(self) -> dict[str, Any]:
        """Everything that was learned, as tensors."""
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in self._ARRAYS}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        for name in ("shift", "fill"):
            setattr(self, name, checked(name, state[name], (len(AUDIO),)).numpy().copy())
        checked("scale", 1 / state["scale"], (len(AUDIO),))  # infinite where a column says nothing
        self.scale = state["scale"].cpu().numpy().copy()
