"""What an album says of a song beside its known songs' popularities: whether it is a single, or a compilation.

The same recording is often in a file twice over: on the album of its artist, where people play it, and on compilations,
where few do. Popularity differs by most of the scale between the two.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from popularity.data.credits import straight_quoted
from popularity.data.search import contains
from popularity.features.keys import Keys

ALBUM_STATISTICS: tuple[str, ...] = (
    "album_missing",
    "album_is_title",  # a single, or the title song; whatever stands in brackets or behind a dash is not compared
    "album_others",  # log of 1 + the number of known songs by other first artists on the album
)
_BESIDE = re.compile(r"\s*[(\[].*$|\s+-\s.*$")


class AlbumSongs:
    """How many known songs an album has, and how many of them are by one artist.

    Args:
        known: keys of the known songs.
    """

    def __init__(self, known: Keys) -> None:
        on_album = known.album >= 0
        album, first = known.album[on_album], known.first[on_album]
        self.albums, self.songs = np.unique(album, return_counts=True)
        self.pairs, self.own = np.unique(_pair(album, first), return_counts=True)

    def by_others(self, songs: Keys) -> np.ndarray:
        """Number of known songs by other first-named artists on the album of each song, ``(n,)``.

        A song that is itself known is not among them, for it is by its own artist.

        Args:
            songs: keys of ``n`` songs.
        """
        if not len(self.albums):
            return np.zeros(len(songs))
        total = _looked_up(self.albums, self.songs, songs.album)
        own = _looked_up(self.pairs, self.own, _pair(songs.album, songs.first))
        return np.where(songs.album >= 0, total - own, 0.0)


def _pair(album: np.ndarray, first: np.ndarray) -> np.ndarray:
    """A hash of two hashes."""
    mixed: np.ndarray = album.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + first.astype(np.uint64)
    return mixed


def _looked_up(names: np.ndarray, counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    place = np.minimum(np.searchsorted(names, wanted), len(names) - 1)
    return np.where(names[place] == wanted, counts[place], 0)


def album_statistics(songs: pd.DataFrame, keys: Keys, known: AlbumSongs, *, counted: bool) -> np.ndarray:
    """The statistics ``(n, 3)`` float64; zeros where no album of known songs is known.

    Args:
        songs: ``n`` songs.
        keys: of them.
        known: of the known songs.
        counted: whether ``album_others`` is told; else it is 0.
    """
    if not len(known.albums):
        return np.zeros((len(songs), len(ALBUM_STATISTICS)))
    others = known.by_others(keys) if counted else np.zeros(len(songs))
    return np.concatenate([album_names(songs), np.log1p(others)[:, None]], axis=1)


def album_names(songs: pd.DataFrame) -> np.ndarray:
    """The statistics that need no other song, ``(n, 2)`` float64: ``album_missing`` and ``album_is_title``."""
    album, title = (_bare(songs[name]) for name in ("album", "title"))
    missing = songs["album"].isna().to_numpy(np.float64)
    return np.stack([missing, ((album == title) & (album != "")).astype(np.float64)], axis=1)


def _bare(texts: pd.Series) -> np.ndarray:
    codes, distinct = pd.factorize(texts.fillna(""))
    straight = straight_quoted(pd.Series(distinct, dtype="str"))
    marked = contains(straight, r"[(\[]|-")  # few: most have nothing to be taken off
    bare = [_BESIDE.sub("", text) if some else text for text, some in zip(straight, marked.tolist(), strict=True)]
    found: np.ndarray = np.array([text.casefold().strip() for text in bare], dtype=object)[codes]
    return found
