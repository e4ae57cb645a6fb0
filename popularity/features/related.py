"""Finds the songs related to a song among the known songs; `popularity.features.sampling` samples histories from them.

Roles: ``SAME`` is a known song by the song's first-named artist. ``CREDITED`` is a known song that shares another name
with it (a featured artist's own song, a song that features the first-named artist). ``ALBUM`` is a song by somebody
else on the same album: songs on the same album often have similar popularity. ``RETRIEVED`` is one of the most similar
known songs by others (`popularity.features.retrieved`). ``same_album`` marks known songs of any role on the same album.

Row order is never used: in public files it can carry the label.

Glossary of shapes: ``n`` songs, ``N`` known songs, ``C`` candidates of a song.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from popularity.features.album_stats import AlbumSongs
from popularity.features.keys import HASH_BITS, Keys, tie_breaker
from popularity.features.mapped import in_chunks

SAME, CREDITED, RETRIEVED, QUERY, ALBUM = range(5)  # QUERY: the song whose popularity is predicted
#: Most candidates of a song in the roles ``SAME``, ``CREDITED`` and ``ALBUM``.
OF_SAME, OF_CREDITED, OF_ALBUM = 24, 8, 8
#: In ``role``: padding, no song.
NO_SONG = -1

_CHUNK = 50_000  # songs whose candidates are searched at a time, to bound memory
#: Bits left for the tie-breaker in a 63-bit sort key, after the song, role and album of a pair.
_LAST_BITS = 63 - (2 * _CHUNK * 5).bit_length()


class RelatedSongs:
    """Index of known songs by name and by album: for each name its own songs, and songs that credit it otherwise.

    Args:
        keys: of the ``N`` known songs.
        earlier: only songs released before a song may stand in its history (split ``time``).
    """

    def __init__(self, keys: Keys, *, earlier: bool = False) -> None:
        self.keys, self.earlier = keys, earlier
        self.names = np.unique(keys.name)
        rows = np.repeat(np.arange(len(keys)), np.diff(keys.start))
        entry = 2 * np.searchsorted(self.names, keys.name) + (keys.name != keys.first[rows])
        apart = len(np.unique(keys.album)) > 1  # an album that all known songs share relates none of them
        on_album = np.flatnonzero((keys.album >= 0) & apart)
        self.albums = np.unique(keys.album[on_album])
        rows = np.concatenate([rows, on_album])
        entry = np.concatenate([entry, 2 * len(self.names) + np.searchsorted(self.albums, keys.album[on_album])])
        # within a list by release, then by a hash of the song, which is independent of the label
        tie = np.where(keys.identity[rows, 1] >= 0, keys.identity[rows, 1], keys.identity[rows, 2])
        order = np.lexsort((tie, keys.day[rows], entry))
        self.rows, self.days = rows[order].astype(np.int32), keys.day[rows][order]
        self.begin = np.searchsorted(entry[order], np.arange(2 * len(self.names) + len(self.albums) + 1))
        self.tie = tie_breaker(keys.identity)
        self.latest = np.empty(len(keys), dtype=np.int64)  # place by release, the latest first
        self.latest[np.lexsort((self.tie, -keys.day))] = np.arange(len(keys))

    @cached_property
    def on_albums(self) -> AlbumSongs:
        """Known songs by album."""
        return AlbumSongs(self.keys)

    def candidates(
        self,
        songs: Keys,
        own: np.ndarray | None = None,
    ) -> CandidateSet:
        """Known songs that may stand in the histories of songs, never the song itself or a duplicate of it.

        Where a name has more songs than there is room for, they are spread evenly over its list by release; with
        ``earlier`` the latest before the song are taken. Songs on the same album come first. The choice differs from
        song to song for known songs, so that training sees more of them, and is the same for all others.

        Args:
            songs: keys of ``n`` songs.
            own: ``(n)`` row of each song among the known songs, if they are known songs themselves.

        Returns:
            Rows, roles and the same-album mark, each ``(n, C)``: at most ``OF_SAME``, ``OF_CREDITED`` and, where albums
            are known, ``OF_ALBUM`` in the three roles.
        """
        room = {SAME: OF_SAME, CREDITED: OF_CREDITED, **({ALBUM: OF_ALBUM} if len(self.albums) else {})}
        width = sum(room.values())

        def fill(part: slice) -> dict[str, Tensor]:
            shape = part.stop - part.start, width
            row, role = np.zeros(shape, dtype=np.int32), np.full(shape, NO_SONG, dtype=np.int8)
            same_album = np.zeros(shape, dtype=np.bool_)
            self._fill(songs, own, part, room, row, role, same_album)
            found = {"row": row, "role": role, "same_album": same_album}
            return {name: torch.from_numpy(value) for name, value in found.items()}

        return CandidateSet(**in_chunks(fill, len(songs), _CHUNK))

    def _pairs(
        self, songs: Keys, part: slice, of_name: int, of_album: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Song (numbered within the part), known song and role of each pair, with repeats, capped per list."""
        count = np.diff(songs.start[part.start : part.stop + 1])
        of_song = np.repeat(np.arange(len(count)), count)
        name = songs.name[songs.start[part.start] : songs.start[part.stop]]
        code, found = _places(self.names, name)
        of_song, name, code = of_song[found], name[found], code[found]
        first = name == songs.first[part][of_song]
        role = np.where(np.concatenate([first, np.zeros_like(first)]), SAME, CREDITED).astype(np.int8)
        album, on_album = _places(self.albums, songs.album[part])
        on_album = np.flatnonzero(on_album)
        lists = np.concatenate([2 * code, 2 * code + 1, 2 * len(self.names) + album[on_album]])
        of_song = np.concatenate([of_song, of_song, on_album])
        role = np.concatenate([role, np.full(len(on_album), ALBUM, dtype=np.int8)])
        begin, size = self.begin[lists], self.begin[lists + 1] - self.begin[lists]
        if self.earlier:
            size = self._released_before(lists, songs.day[part][of_song]) - begin
        limit = np.where(role == ALBUM, of_album, of_name)
        taken = np.minimum(size, limit)
        step = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
        if self.earlier:
            position = np.repeat(begin + size - taken, taken) + step
        else:
            wide, limit = np.repeat(size, taken), np.repeat(limit, taken)
            position = np.repeat(begin, taken) + np.where(
                wide > limit, ((2 * step + 1) * wide) // (2 * np.repeat(np.maximum(taken, 1), taken)), step
            )
        return np.repeat(of_song, taken), self.rows[position].astype(np.int64), np.repeat(role, taken)

    def _released_before(self, lists: np.ndarray, day: np.ndarray) -> np.ndarray:
        """Position behind the last entry of each list that was released before ``day``: a search by halves."""
        low: np.ndarray = self.begin[lists].copy()
        high: np.ndarray = self.begin[lists + 1].copy()
        while (open_ := low < high).any():
            middle = (low + high) // 2
            before = np.zeros_like(open_)
            before[open_] = self.days[middle[open_]] < day[open_]
            low, high = np.where(open_ & before, middle + 1, low), np.where(open_ & ~before, middle, high)
        return low

    def _fill(
        self,
        songs: Keys,
        own: np.ndarray | None,
        part: slice,
        room: Mapping[int, int],
        row: np.ndarray,
        role: np.ndarray,
        same_album: np.ndarray,
    ) -> None:
        # a few more than there is room for, because the song itself and its duplicates drop out
        song, known, kind = self._pairs(songs, part, max(room.values()) + 4, room.get(ALBUM, 0) + 4)
        # an artist may have more songs than were taken from the list
        at = np.flatnonzero(kind == ALBUM)
        first = songs.first[part][song[at]]
        kind[at[(first != 0) & (self.keys.first[known[at]] == first)]] = SAME
        # one number per pair (song, known song, closer role first) sorts much faster than three
        pair = (song * len(self.keys) + known) * (ALBUM + 1) + kind
        pair.sort()
        both, kind = np.divmod(pair, ALBUM + 1)
        fresh = np.ones(len(both), dtype=bool)
        fresh[1:] = both[1:] != both[:-1]  # once, in its closest role
        (song, known), kind = np.divmod(both[fresh], len(self.keys)), kind[fresh]
        apart = np.ones(len(song), dtype=bool) if own is None else known != own[part][song]
        for mine, theirs in zip(songs.identity[part].T, self.keys.identity.T, strict=True):
            value = mine[song]
            apart &= (value != theirs[known]) | (value < 0)
        song, known, kind = song[apart], known[apart], kind[apart]
        together = self.keys.album[known] == songs.album[part][song]
        together &= (self.keys.album[known] >= 0) & bool(len(self.albums))
        group = song * (ALBUM + 1) + kind
        # which candidates stay must not depend on row numbers: the latest, or chosen by a hash
        if self.earlier:
            last = self.latest[known]
        else:
            other = 0 if own is None else tie_breaker(songs.identity[part])[song]
            last = (self.tie[known] ^ other) >> (HASH_BITS - _LAST_BITS)
        order = np.argsort(((2 * group + ~together) << _LAST_BITS) | last)
        known, kind, song, together, group = known[order], kind[order], song[order], together[order], group[order]
        begins = np.flatnonzero(np.diff(group, prepend=-1))
        place = np.arange(len(group)) - np.repeat(begins, np.diff(begins, append=len(group)))
        most, begin = np.zeros(ALBUM + 1, dtype=np.int64), np.zeros(ALBUM + 1, dtype=np.int64)
        most[list(room)] = list(room.values())
        begin[list(room)] = np.cumsum([0, *room.values()])[:-1]
        kept = place < most[kind]
        where = song[kept], (place + begin[kind])[kept]
        row[where], role[where], same_album[where] = known[kept], kind[kept], together[kept]


def _places(names: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each of ``n`` names stands among names in rising order, and whether it does."""
    if not len(names):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    place = np.minimum(np.searchsorted(names, wanted), len(names) - 1)
    return place, names[place] == wanted


@dataclass(frozen=True)
class CandidateSet:
    """Candidates for the histories of ``n`` songs.

    Attributes:
        row: ``(n, C)`` int32 rows of known songs.
        role: ``(n, C)`` int8 roles, ``NO_SONG`` where there is none.
        same_album: ``(n, C)`` bool, on the same album as the song.
    """

    row: Tensor
    role: Tensor
    same_album: Tensor
