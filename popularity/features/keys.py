"""The keys by which songs are matched: by their names, as the same song, by their album.

Glossary of shapes: ``n`` songs.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from popularity.data.albums import albums
from popularity.data.credits import artist_names, credits, known_names
from popularity.data.mapped import in_chunks
from popularity.data.schema import AUDIO

DAYS_PER_MONTH = 30.4375
HASH_BITS = 62
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Keys:
    """The keys by which songs are matched, as hashes instead of texts.

    Attributes:
        start: ``(n + 1)`` where each song's names begin in ``name``.
        name: names of all songs, as hashes of the normalised text.
        first: ``(n)`` hash of the first-named artist, 0 where there is none.
        identity: ``(n, 3)`` hashes of id, of artist and title, and of the audio columns; songs that agree in one of
            them are the same song. Negative where missing, which matches nothing.
        day: ``(n)`` release in days since 1970, the largest number where unknown: later than everything.
        album: ``(n)`` hash of the album (`popularity.data.albums`). Negative where missing, which matches nothing.
    """

    start: np.ndarray
    name: np.ndarray
    first: np.ndarray
    identity: np.ndarray
    day: np.ndarray
    album: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: np.ndarray) -> Keys:
        """The keys of some of the songs."""
        count = np.diff(self.start)[rows]
        start = np.concatenate([[0], count.cumsum()])
        place = np.repeat(self.start[rows] - start[:-1], count) + np.arange(start[-1])
        others = {name: value[rows] for name, value in vars(self).items() if name not in ("start", "name")}
        return Keys(start=start, name=self.name[place], **others)

    def __getitem__(self, part: slice) -> Keys:
        """The keys of songs next to each other."""
        start = self.start[part.start : part.stop + 1]
        others = {name: value[part] for name, value in vars(self).items() if name not in ("start", "name")}
        return Keys(start=start - start[0], name=self.name[start[0] : start[-1]], **others)

    def followed_by(self, more: Keys) -> Keys:
        """The keys of these songs and of more behind them."""
        return Keys.joined([self, more])

    @staticmethod
    def joined(parts: Sequence[Keys]) -> Keys:
        """The keys of songs one behind the other."""
        before = np.cumsum([0, *(len(part.name) for part in parts)])
        start = [part.start[:-1] + names for part, names in zip(parts, before.tolist(), strict=False)]
        others = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0]) if name != "start"
        }
        return Keys(start=np.concatenate([*start, before[-1:]]), **others)

    def state(self) -> dict[str, Tensor]:
        """As tensors."""
        return {name: torch.from_numpy(value) for name, value in vars(self).items()}

    @property
    def month(self) -> Tensor:
        """``(n)`` float32 months of release since 1970, NaN where unknown."""
        unknown = self.day == np.iinfo(np.int32).max
        return torch.from_numpy(np.where(unknown, np.nan, self.day / DAYS_PER_MONTH).astype(np.float32))

    @staticmethod
    def of_state(state: Mapping[str, Tensor]) -> Keys:
        """From what :meth:`state` gave.

        Raises:
            ValueError: its parts are not those of the same songs.
        """
        keys = Keys(**{name: value.cpu().numpy() for name, value in state.items()})
        songs, start = len(keys), keys.start
        shapes = [start.shape, keys.first.shape, keys.identity.shape, keys.day.shape, keys.album.shape]
        if shapes != [(songs + 1,), (songs,), (songs, 3), (songs,), (songs,)]:
            raise ValueError("keys of different songs")
        if start[0] != 0 or start[-1] != len(keys.name) or (start[1:] < start[:-1]).any():
            raise ValueError("names of no song")
        return keys


def hashes(texts: Sequence[str]) -> np.ndarray:
    """Positive 62-bit hashes, the same on every machine."""
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    hashes: np.ndarray = (pd.util.hash_array(array, categorize=False) >> np.uint64(2)).astype(np.int64) + 1
    return hashes


def tie_breaker(identity: np.ndarray) -> np.ndarray:
    """A 62-bit tie-breaker hashed from the song's identity, independent of row order."""
    tie: np.ndarray = identity.max(1) & ((1 << HASH_BITS) - 1)
    return tie


def _text_hashes(texts: pd.Series) -> np.ndarray:
    known = texts.notna().to_numpy(np.bool_)
    return np.where(known, hashes([text.casefold() for text in texts.fillna("").tolist()]), -1)


class KnownNames:
    """The names of known songs; only their hashes are kept.

    Args:
        hashes: in rising order.
    """

    def __init__(self, hashes: np.ndarray) -> None:
        self.hashes = hashes

    def __contains__(self, name: object) -> bool:
        wanted = hashes([str(name)])[0]
        place = int(np.searchsorted(self.hashes, wanted))
        return place < len(self.hashes) and bool(self.hashes[place] == wanted)


def keys_of(songs: pd.DataFrame, known: Container[str] | None = None) -> Keys:
    """The keys of a song table.

    Args:
        songs: ``n`` songs.
        known: names that are not split in titles; those in the artist column of these songs by default.
    """
    known = known_names(songs) if known is None else known
    return Keys.joined([_keys_of(part, known) for part in in_chunks(songs)])


def _keys_of(songs: pd.DataFrame, known: Container[str]) -> Keys:
    names = credits(songs, known)
    firsts = [of_song[0] if of_song else "" for of_song in artist_names(songs)]
    first = np.where(np.array(firsts, dtype=object) == "", 0, hashes(firsts)) if len(songs) else np.zeros(0, np.int64)
    both = (songs["artist"] + "\n" + songs["title"]).where(songs["artist"].notna() & songs["title"].notna())
    audio = songs[list(AUDIO)].to_numpy(np.float64)
    row_hash = np.zeros(len(songs), dtype=np.uint64)
    for column in range(audio.shape[1]):
        # + 0.0: minus zero is zero; the multiplier spreads the columns
        row_hash = row_hash * np.uint64(1_000_003) + pd.util.hash_array(audio[:, column] + 0.0)
    enough = np.isfinite(audio).sum(1) > len(AUDIO) // 2
    date = songs["release_date"].to_numpy("datetime64[us]")
    dated = ~np.isnat(date)
    day = np.full(len(songs), np.iinfo(np.int32).max, dtype=np.int64)
    day[dated] = (date[dated] - np.datetime64("1970-01-01", "us")) // _DAY
    return Keys(
        start=np.cumsum([0, *(len(of_song) for of_song in names)]).astype(np.int64),
        name=hashes([name for of_song in names for name in of_song]),
        first=np.asarray(first, dtype=np.int64),
        identity=np.stack(
            [
                _text_hashes(songs["track_id"]),
                _text_hashes(both),
                np.where(enough, (row_hash >> np.uint64(2)).astype(np.int64) + 1, -1),
            ],
            axis=1,
        ),
        day=day,
        album=_text_hashes(albums(songs)),
    )


def shared(identity: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Whether each song ``(n, k)`` has an identity in common with known songs ``(m, k)``, negative ones being none."""
    columns = [np.isin(mine, theirs) & (mine >= 0) for mine, theirs in zip(identity.T, known.T, strict=True)]
    found: np.ndarray = np.any(columns, axis=0)
    return found
