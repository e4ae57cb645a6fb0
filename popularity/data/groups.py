"""Groups of songs that a split keeps on one side: by first-named artist, by credited names, by album."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from popularity.data.albums import album_keys, albums, first_artists, nameless_artists
from popularity.data.credits import credits, known_names
from popularity.data.mapped import in_chunks
from popularity.errors import InputError

SplitKind = Literal["random", "artist", "credits", "album", "time"]

#: What one group of each rule is, as messages name it.
GROUPS = {
    "random": "songs",
    "artist": "first-named artists",
    "credits": "groups of songs that share no name",
    "album": "albums",
    "time": "release dates",
}
#: The column without which a rule parts nothing.
_COLUMN: dict[str, str] = {"artist": "artist", "credits": "artist", "album": "album", "time": "release_date"}


def group_numbers(songs: pd.DataFrame, kind: SplitKind) -> np.ndarray:
    """Return the group number of each row, 0 to the number of groups - 1."""
    if kind == "random":
        return np.arange(len(songs))
    check_column(songs, kind)
    if kind == "album":
        return _components(_albums(part) for part in in_chunks(songs))
    nameless = nameless_artists(songs)
    if kind == "artist":
        return own_group_where_missing(first_artists(songs).fillna(nameless))
    known = known_names(songs)
    return _components(
        [(*names, *_known([one])) for one, names in zip(part["nameless"], credits(part, known), strict=True)]
        for part in in_chunks(songs.assign(nameless=nameless))
    )


def check_column(songs: pd.DataFrame, kind: SplitKind) -> None:
    """Refuse songs that a rule cannot part.

    Raises:
        InputError: no song has a value in the column that the rule reads.
    """
    column = _COLUMN.get(kind)
    if column is not None and not songs[column].notna().any():
        raise InputError(
            f"split {kind} needs the column {column}, but none of the {len(songs):,} songs has a value there"
        )


def _albums(songs: pd.DataFrame) -> list[tuple[str, ...]]:
    """What the album of each song may be known by: rather two albums are joined than one is parted."""
    keys = album_keys(songs).assign(album=albums(songs))
    keys["name"] = keys["name"].where(keys["album"].isna())
    return [_known(of_song) for of_song in zip(keys["album"], keys["by_artist"], keys["name"], strict=True)]


def _known(names: Iterable[object]) -> tuple[str, ...]:
    return tuple(name for name in names if isinstance(name, str))


def own_group_where_missing(keys: pd.Series) -> np.ndarray:
    """The number of each key (n,), 0 to the number of groups - 1; a missing key is a group of its own."""
    codes: np.ndarray = pd.factorize(keys)[0].astype(np.int64)
    missing = codes < 0
    codes[missing] = codes.max(initial=-1) + 1 + np.arange(missing.sum())
    return codes


def first_artist_numbers(songs: pd.DataFrame) -> np.ndarray:
    """The number of each song's first-named artist (n,): songs by one artist have much in common."""
    return own_group_where_missing(first_artists(songs))


def _components(parts: Iterable[list[tuple[str, ...]]]) -> np.ndarray:
    """Groups of songs that are joined by common names, directly or through others; one without names is alone.

    Args:
        parts: the names of each song; only their hashes are kept.
    """
    counts, hashes = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.uint64)]
    for names in parts:
        counts.append(np.array([len(names_of_song) for names_of_song in names], dtype=np.int64))
        hashes.append(pd.util.hash_array(np.array([name for one in names for name in one], dtype=object)))
    count = np.concatenate(counts)
    n, rows = len(count), np.repeat(np.arange(len(count)), count)
    codes, distinct = pd.factorize(np.concatenate(hashes))
    size = n + len(distinct)  # nodes: songs, then names
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, n + codes)), shape=(size, size))
    component = connected_components(graph, directed=False)[1][:n]
    groups: np.ndarray = pd.factorize(component)[0].astype(np.int64)
    return groups


def group_sizes(songs: pd.DataFrame, kind: SplitKind) -> np.ndarray:
    """Songs in each group that a rule keeps on one side, the largest first.

    Args:
        songs: canonical song table.
        kind: the rule; ``time`` has no groups, each song is one.

    Raises:
        InputError: a column that the rule needs and no song has.
    """
    sizes = np.bincount(group_numbers(songs, "random" if kind == "time" else kind))
    return np.sort(sizes)[::-1]


def stays_in_training(sizes: np.ndarray, folds: int) -> bool:
    """Whether the largest of these groups, of so many songs, is no part of any fold of the rule ``credits``."""
    return bool(2 * sizes.max() > sizes.sum() and len(sizes) > folds)


def largest_group(songs: pd.DataFrame, kind: SplitKind, folds: int) -> dict[str, Any]:
    """What a rule keeps together: ``of``, in words, and the ``count`` of such groups.

    Beside them the songs in the ``largest`` group, those in a ``fold`` on average, and whether the largest group is
    ``always`` in training.
    """
    sizes = group_sizes(songs, kind)
    always = kind == "credits" and stays_in_training(sizes, folds)
    fold = (sizes.sum() - always * sizes[0]) / folds
    return {"of": GROUPS[kind], "count": len(sizes), "largest": int(sizes[0]), "fold": fold, "always": always}
