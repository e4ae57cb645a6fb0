"""What known songs tell about another song: effects of its artist, its credits, its album and genre, and its words.

Every effect rests on deviations from the mean of the known songs, not on popularities: where nothing is known it is 0
in every inner fold, while the mean itself would differ from fold to fold and give away that of the held-out songs.

Glossary of shapes: ``n`` songs, ``a`` songs asked about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.linear_model import Ridge

#: Songs' worth of prior by which a mean is shrunk: an artist's songs differ about as much as artists do.
SHRINKAGE = 1.2
_RIDGE_PENALTY = 6.0  # for n-grams, whose rows have length 1


@dataclass(frozen=True)
class RelatedBy:
    """What songs are related by, and their popularity.

    Attributes:
        group: name -> ``(n,)`` code of what a song shares with others, -1 for nothing.
        first: ``(n, names)``, 1 at the first-named artist.
        guest: ``(n, names)``, 1 at the other credited names.
        profile: name -> ``(n,)`` audio feature.
        ngrams: name -> ``(n, n-grams)``.
        popularity: ``(n,)``.
    """

    group: Mapping[str, np.ndarray]
    first: csr_array
    guest: csr_array
    profile: Mapping[str, np.ndarray]
    ngrams: Mapping[str, csr_array]
    popularity: np.ndarray

    def take(self, rows: np.ndarray) -> RelatedBy:
        """Some of the songs."""
        parts: dict[str, Any] = {
            name: {key: one[rows] for key, one in value.items()} if isinstance(value, dict) else value[rows]
            for name, value in vars(self).items()
        }
        return RelatedBy(**parts)


def known_song_effects(known: RelatedBy, asked: RelatedBy) -> dict[str, np.ndarray]:
    """Features that rest on the popularities of known songs: columns ``(a,)`` by name.

    Args:
        known: songs whose popularity is known.
        asked: ``a`` songs asked about; their popularity is not read.
    """
    columns = {**_group(known, asked, "artist"), **_artist(known, asked), **_credits(known, asked)}
    for name in known.group:
        if name != "artist":
            columns |= _group(known, asked, name)
    target = known.popularity - known.popularity.mean()
    for name, matrix in known.ngrams.items():
        ridge = Ridge(_RIDGE_PENALTY, solver="sparse_cg", tol=1e-4).fit(matrix, target)
        columns[name] = ridge.predict(asked.ngrams[name])
    return columns


def _shrunk(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Mean of deviations, shrunk to 0."""
    return total / (count + SHRINKAGE)


def _group(known: RelatedBy, asked: RelatedBy, name: str) -> dict[str, np.ndarray]:
    """Known songs of the same group: their shrunk mean deviation and their number."""
    seen, code = known.group[name] >= 0, known.group[name]
    size = int(max(code.max(initial=-1), asked.group[name].max(initial=-1))) + 2  # code -1 takes the last, empty place
    deviation = known.popularity[seen] - known.popularity.mean()
    count = np.bincount(code[seen], minlength=size)[asked.group[name]].astype(np.float64)
    total = np.bincount(code[seen], deviation, minlength=size)[asked.group[name]]
    return {f"{name}_effect": _shrunk(total, count), f"{name}_known": count}


def _artist(known: RelatedBy, asked: RelatedBy) -> dict[str, np.ndarray]:
    """Known songs with the same first artist: range and spread of their popularities, and their mean audio profile."""
    seen, where = known.group["artist"] >= 0, asked.group["artist"]
    code, popularity = known.group["artist"][seen], known.popularity[seen]
    extremes = pd.Series(popularity).groupby(code).agg(["max", "min"]).reindex(where)

    def mean(values: np.ndarray) -> np.ndarray:
        finite = np.isfinite(values)
        size = int(max(code.max(initial=-1), where.max(initial=-1))) + 2  # code -1 takes the last, empty place
        count = np.bincount(code[finite], minlength=size)
        total = np.bincount(code[finite], values[finite], minlength=size)
        return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan)[where])

    variance = mean(popularity**2) - mean(popularity) ** 2
    return {
        "artist_max": extremes["max"].to_numpy(),
        "artist_min": extremes["min"].to_numpy(),
        "artist_std": np.sqrt(np.maximum(variance, 0)),
        **{f"artist_{name}": mean(values[seen]) for name, values in known.profile.items()},
    }


def _credits(known: RelatedBy, asked: RelatedBy) -> dict[str, np.ndarray]:
    """Known songs by another first artist that share a credited name.

    Three ways: songs in any role by the names credited beside the first artist (``guests``), songs on which this first
    artist is a guest (``guest_on``), and both (``credits``).
    """
    deviation = known.popularity - known.popularity.mean()
    same = asked.first @ known.first.T
    guests = asked.guest @ csr_array(known.first + known.guest).T
    guest_on = asked.first @ known.guest.T
    columns = {}
    for name, shared in {"guests": guests, "guest_on": guest_on, "credits": guests + guest_on}.items():
        related = csr_array((shared > 0).astype(np.float64))
        related = related - related.multiply(same > 0)  # the artist's own songs are told apart
        count = np.asarray(related.sum(axis=1)).ravel()
        columns[f"{name}_effect"] = _shrunk(related @ deviation, count)
        columns[f"{name}_known"] = count
    return columns
