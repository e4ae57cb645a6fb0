"""How far a song lies from the songs that a model was trained on, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from popularity.data.schema import AUDIO
from popularity.features.base import Encoder
from popularity.features.song import CATEGORIES, NUMERIC_FEATURES, OPEN, SKEWED, FeatureEncoder, numeric_features

#: Numeric feature -> its name in words, and from its value to what is shown.
_SHOWN: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "log_duration": ("duration in seconds", lambda value: np.exp(value) / 1000),
    "log_instrumentalness": ("instrumentalness", lambda value: np.exp(value) - SKEWED["instrumentalness"]),
    "log_liveness": ("liveness", lambda value: np.exp(value) - SKEWED["liveness"]),
    "log_speechiness": ("speechiness", lambda value: np.exp(value) - SKEWED["speechiness"]),
    "release_year": ("release year", np.floor),
    "artists": ("number of artists", np.round),
}
#: Known songs that distances are learned from, and the share of them that lie nearer than a song that is warned of.
_SONGS, _SHARE = 10_000, 0.999
#: Ids identify songs, and no model reads them.
_NOT_READ = ("track_id",)


def warnings_of(
    encoder: Encoder, trained_with: Sequence[str], songs: pd.DataFrame, encoded: Mapping[str, Tensor]
) -> np.ndarray:
    """What to keep in mind with the predictions of some songs.

    Named are numbers outside the range of the training songs (cut at 4 standard deviations, where the model sees no
    difference any more), genres and keys that no training song has, and values that are missing though training had
    them. Of a song whose numbers are ordinary one by one: the two that together put it further from the mean than
    99.9 % of the known songs (Mahalanobis, 1936).

    Args:
        encoder: of the model.
        trained_with: columns of the song table that had a value in training.
        songs: ``n`` songs.
        encoded: what the encoder made of them.

    Returns:
        ``(n,)`` texts, empty for a song like those of the training.
    """
    features = _features(encoder)
    found = np.full(len(songs), "", dtype=object)
    parts = [_missing(trained_with, songs, only_audio=features is None or features.audio_only)]
    if features is not None:
        outside = list(_outside(features, songs))
        alone = np.logical_or.reduce([texts != "" for texts in outside], initial=False)
        together = np.where(alone, "", _together(encoder, songs, encoded))
        parts = [*outside, together, *_new_values(features, songs, encoded), *parts]
    for texts in parts:
        found = np.where((found != "") & (texts != ""), found + "; ", found) + texts
    return found


def _features(encoder: Encoder) -> FeatureEncoder | None:
    if isinstance(encoder, FeatureEncoder):
        return encoder
    inner = getattr(encoder, "features", None)
    return inner if isinstance(inner, FeatureEncoder) else None


def _outside(features: FeatureEncoder, songs: pd.DataFrame) -> Iterator[np.ndarray]:
    """Texts on each numeric feature that some song has outside the range of the training songs."""
    values = numeric_features(songs)
    standard = (values - features.mean) / features.scale
    low, high = features.edges[:, 0], features.edges[:, -1]
    used = features.present[: len(NUMERIC_FEATURES)] & (high > low)
    if features.audio_only:
        used &= np.array([name.removeprefix("log_") not in ("release_year", "artists") for name in NUMERIC_FEATURES])
    with np.errstate(invalid="ignore"):
        beyond = ((standard < low - 1e-6) | (standard > high + 1e-6)) & used
    for index in np.flatnonzero(beyond.any(0)):
        name, show = _SHOWN.get(NUMERIC_FEATURES[index], (NUMERIC_FEATURES[index], lambda value: value))
        ends = show(np.array([low[index], high[index]]) * features.scale[index] + features.mean[index])
        texts = np.full(len(songs), "", dtype=object)
        rows = np.flatnonzero(beyond[:, index])
        texts[rows] = [
            f"{name} {value:.4g} outside {ends[0]:.4g} to {ends[1]:.4g}" for value in show(values[rows, index])
        ]
        yield texts


def _together(encoder: Encoder, songs: pd.DataFrame, encoded: Mapping[str, Tensor]) -> np.ndarray:
    """Texts on songs whose numbers are further from the mean than those of nearly all known songs."""
    texts = np.full(len(songs), "", dtype=object)
    known = getattr(encoder, "known", {}).get("song")
    if known is None:
        return texts
    of_known, there = _numbers(known[:: -(-len(known) // _SONGS) or 1])
    standard, given = _numbers(encoded["song"])
    values = numeric_features(songs)
    bits = 1 << np.arange(given.shape[1])
    patterns, pattern = np.unique(given @ bits, return_inverse=True)
    for index, used in enumerate(patterns[:, None] & bits > 0):  # who lacks the same numbers is judged by the others
        like = of_known[there[:, used].all(1)][:, used]
        if not used.any() or len(like) < 1 / (1 - _SHARE):
            continue
        mean, inverse = like.mean(0), np.linalg.pinv(np.atleast_2d(np.cov(like, rowvar=False)), hermitian=True)
        limit = np.quantile(_parts(like - mean, inverse).sum(1), _SHARE)
        rows = np.flatnonzero(pattern == index)
        parts = _parts(standard[rows][:, used] - mean, inverse)
        far = parts.sum(1) > limit
        for row, part in zip(rows[far], parts[far], strict=True):
            told = []
            for place in np.flatnonzero(used)[np.argsort(-part)[:2]]:
                name, show = _SHOWN.get(NUMERIC_FEATURES[place], (NUMERIC_FEATURES[place], lambda value: value))
                told.append(f"{name} {show(values[row, place]):.4g}")
            texts[row] = "unusual together: " + " and ".join(told)
    return texts


def _numbers(vectors: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Standardised numeric features ``(n, F)`` of song vectors, and which of them are known."""
    count = len(NUMERIC_FEATURES)
    standard, missing = vectors[:, : 2 * count].double().numpy().reshape(len(vectors), 2, count).swapaxes(0, 1)
    return standard, missing == 0


def _parts(away: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """What each number adds to the squared Mahalanobis distance, ``(n, F)``."""
    found: np.ndarray = away * (away @ inverse)
    return found


def _new_values(features: FeatureEncoder, songs: pd.DataFrame, encoded: Mapping[str, Tensor]) -> Iterator[np.ndarray]:
    """Texts on each category of which some song has a value that no training song has."""
    if "category" not in encoded:
        return
    unknown = encoded["category"].numpy() == 0
    for index, name in enumerate(CATEGORIES):
        if not features.met[index, 1:].any() or (features.audio_only and name not in AUDIO):
            continue
        rows = np.flatnonzero(unknown[:, index] & songs[name].notna().to_numpy(bool))
        texts = np.full(len(songs), "", dtype=object)
        values = songs[name].iloc[rows]
        texts[rows] = [f"unknown {name} {value!r}" if name in OPEN else f"unknown {name} {value:g}" for value in values]
        yield texts


def _missing(trained_with: Sequence[str], songs: pd.DataFrame, *, only_audio: bool) -> np.ndarray:
    names = [name for name in trained_with if name not in _NOT_READ and (name in AUDIO or not only_audio)]
    if not names:
        return np.full(len(songs), "", dtype=object)
    lacking = songs[names].isna().to_numpy()
    codes, patterns = pd.factorize(lacking @ (1 << np.arange(len(names))))
    told = [
        "missing: " + ", ".join(name for place, name in enumerate(names) if pattern >> place & 1) if pattern else ""
        for pattern in patterns.tolist()
    ]
    texts: np.ndarray = np.array(told, dtype=object)[codes]
    return texts
