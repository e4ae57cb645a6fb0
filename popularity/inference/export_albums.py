"""`popularity.data.albums` as a graph: from what is said of an album to its number among those of known songs.

Glossary of shapes: ``B`` songs, ``N`` known songs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from popularity.data.albums import album_keys, albums
from popularity.features.related import RelatedSongs
from popularity.inference.export_characters import LIMIT, Alphabet, code_points
from popularity.inference.export_lookup import Lookup, Tables, taken_or_last
from popularity.inference.export_song import Read

_SHIFT, _DAYS = 1 << 21, 1 << 20  # to join two numbers in one key; to make days positive


class KnownAlbums(Tables):
    """Dictionaries from what is said of an album to its number, and how many songs are on it.

    Args:
        songs: the ``N`` known songs.
        related: their lists.
        first: ``(N,)`` place of the first-named artist of each.
        alphabet: of hashes.
        counted: whether songs by others are told.
    """

    def __init__(
        self, songs: pd.DataFrame, related: RelatedSongs, first: np.ndarray, alphabet: Alphabet, counted: bool
    ) -> None:
        super().__init__()
        self.alphabet, self.counted = alphabet, counted
        parts, key = album_keys(songs), albums(songs)
        distinct, code = np.unique(related.keys.album, return_inverse=True)
        code = np.where(related.keys.album < 0, -1, code - int((distinct < 0).sum()))  # as in `RelatedSongs.albums`
        names = sorted(parts["name"].dropna().unique())
        place = pd.Index(names).get_indexer(parts["name"])
        day = songs["release_date"].to_numpy("datetime64[D]")
        by_date, by_artist = dict[int, int](), dict[int, int]()
        by_name = [-1] * len(names)
        for row in np.flatnonzero(code >= 0):
            if not np.isnat(day[row]):
                by_date[int(place[row]) * _SHIFT + int(day[row].astype(np.int64)) + _DAYS] = int(code[row])
            elif key[row] == parts["name"][row]:
                by_name[place[row]] = int(code[row])
            else:
                by_artist[int(place[row]) * _SHIFT + int(first[row])] = int(code[row])
        self.find_album = Lookup(name_keys(alphabet, names))
        self.find_dated, self.find_by_artist = Lookup(_keys(by_date)), Lookup(_keys(by_artist))
        self.register_buffer("dated", torch.tensor([*by_date.values(), -1]))
        self.register_buffer("by_artist", torch.tensor([*by_artist.values(), -1]))
        self.register_buffer("by_name", torch.tensor([*by_name, -1]))
        self.register_buffer("album", torch.from_numpy(np.append(code, -2)))
        on_album = code[code >= 0]
        self.register_buffer("album_size", torch.from_numpy(np.append(np.bincount(on_album), 0)))
        pairs, sizes = np.unique(on_album * _SHIFT + first[code >= 0], return_counts=True)
        self.find_pair = Lookup(torch.from_numpy(pairs))
        self.register_buffer("pair_size", torch.from_numpy(np.append(sizes, 0)))

    def number(self, read: Read, first: Tensor) -> Tensor:
        """``(B,)`` number of the album, -1 where it is not that of a known song."""
        text = read.album
        name = self.find_album(self.alphabet.name(text, ~text.end, text.blank | text.any_of(".")))
        day = torch.nan_to_num(read.day).long()
        dated = taken_or_last(self.dated, self.find_dated(name * _SHIFT + day + _DAYS))
        by_name = taken_or_last(self.by_name, name)
        by_artist = taken_or_last(self.by_artist, self.find_by_artist(name * _SHIFT + first))
        other = torch.where(by_name >= 0, by_name, by_artist)
        return torch.where(name >= 0, torch.where(read.day.isnan(), other, dated), -1)

    def others(self, album: Tensor, first: Tensor) -> Tensor:
        """``(B,)`` number of known songs by other first-named artists on the album."""
        mine = taken_or_last(self.pair_size, self.find_pair(album * _SHIFT + first))
        return torch.where(album >= 0, taken_or_last(self.album_size, album) - mine, 0) * self.counted


def name_keys(alphabet: Alphabet, names: list[str]) -> Tensor:
    """``(n,)`` hashes of names as they stand."""
    texts = code_points(names).clamp_max(LIMIT)
    return torch.cat([alphabet.key(some) for some in texts.split(4096)])


def _keys(table: dict[int, int]) -> Tensor:
    return torch.tensor(list(table), dtype=torch.int64)
