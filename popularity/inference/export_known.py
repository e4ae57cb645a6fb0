"""`popularity.features.related` as a graph: from names and albums to the known songs that are read for a song.

Where a song has at most as many candidates as a history holds, they are those of `HistoryEncoder`. Where it has more,
`HistoryEncoder` samples histories at random and averages their predictions; a graph reads one: songs on the same album
first, then the songs of the artist, and of these the most similar ones.

Glossary of shapes: ``B`` songs, ``N`` known songs, ``C`` candidates of a song, ``H`` songs of a history.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.data.albums import album_keys, albums
from popularity.data.credits import artist_names, credits
from popularity.data.schema import AUDIO
from popularity.errors import InputError
from popularity.features.encoder import DAYS_PER_MONTH, HistoryEncoder
from popularity.features.related import ALBUM, CREDITED, NO_SONG, OF_ALBUM, OF_CREDITED, SAME, keys_of
from popularity.features.sampling import CREDITED_PLACES
from popularity.inference.export_characters import LIMIT, Alphabet, code_points
from popularity.inference.export_lookup import Lookup, taken
from popularity.inference.export_song import Read, Songs

#: Names of a song whose known songs are read, and candidates of each name and of an album.
_NAMES, _OF_NAME, _OF_ALBUM = 4, 20, 16
_OWN = 16  # of the candidates of a name, its own songs
_SHIFT, _DAYS = 1 << 21, 1 << 20  # to join two numbers in one key; to make days positive
_NEVER = 2.0**31  # a day later than all


class KnownSongs(nn.Module):
    """Finds the known songs that are read for a song.

    Args:
        encoder: fitted.
        songs: the ``N`` songs that it was fitted to.
        alphabet: of hashes.

    Raises:
        InputError: these are other songs.
    """

    def __init__(self, encoder: HistoryEncoder, songs: pd.DataFrame, alphabet: Alphabet) -> None:
        super().__init__()
        songs = encoder.without_constants(songs).reset_index(drop=True)
        related = encoder.related
        assert related is not None
        if not np.array_equal(keys_of(songs).identity, related.keys.identity):
            raise InputError("export: expected the songs that the checkpoint was trained on, got others")
        self.alphabet, self.history, self.earlier = alphabet, encoder.history, encoder.earlier
        self.has_albums, self.counted = bool(len(related.albums)), encoder.albums_counted
        self.count = len(songs)
        self._names(songs)
        self._albums(songs)
        self._identity(songs)
        self.register_buffer("day", torch.from_numpy(np.append(related.keys.day, 0).astype(np.float64)))
        for name, value in {**encoder.known, "label": encoder.label}.items():  # and last, a row for no song
            self.register_buffer(f"known_{name}", torch.cat([value, torch.zeros_like(value[:1])]))

    def _names(self, songs: pd.DataFrame) -> None:
        of_song, firsts = credits(songs), [names[0] if names else None for names in artist_names(songs)]
        names = sorted({name for some in of_song for name in some})
        number = {name: place for place, name in enumerate(names)}
        self.nobody = len(names)
        self.find_name = Lookup(_unique_keys(self.alphabet, names))
        self.register_buffer("first", torch.tensor([*(number.get(name or "", self.nobody) for name in firsts), -2]))
        order = _by_release(songs)
        own: list[list[int]] = [[] for _ in names]
        other: list[list[int]] = [[] for _ in names]
        for row in order:
            for name in of_song[row]:
                (own if name == firsts[row] else other)[number[name]].append(row)
        own = [_spread(rows, _OWN) for rows in own]
        rows = [[*mine, *_spread(theirs, _OF_NAME - len(mine))] for mine, theirs in zip(own, other, strict=True)]
        self.register_buffer("of_name", _padded([*rows, []], _OF_NAME, len(songs)))
        self.register_buffer("own", torch.tensor([*map(len, own), 0]))

    def _albums(self, songs: pd.DataFrame) -> None:
        parts, key = album_keys(songs), albums(songs)
        code, _ = pd.factorize(key)
        names = sorted(parts["name"].dropna().unique())
        place = pd.Index(names).get_indexer(parts["name"])
        day = _days(songs)
        by_date, by_artist = dict[int, int](), dict[int, int]()
        by_name = [-1] * len(names)
        for row in np.flatnonzero(code >= 0):
            if not np.isnan(day[row]):
                by_date[int(place[row]) * _SHIFT + int(day[row]) + _DAYS] = int(code[row])
            elif key[row] == parts["name"][row]:
                by_name[place[row]] = int(code[row])
            else:
                by_artist[int(place[row]) * _SHIFT + int(self.first[row])] = int(code[row])
        self.find_album = Lookup(_unique_keys(self.alphabet, names))
        self.find_dated, self.find_by_artist = Lookup(_keys(by_date)), Lookup(_keys(by_artist))
        self.register_buffer("dated", torch.tensor([*by_date.values(), -1]))
        self.register_buffer("by_artist", torch.tensor([*by_artist.values(), -1]))
        self.register_buffer("by_name", torch.tensor([*by_name, -1]))
        on_album: list[list[int]] = [[] for _ in range(int(code.max(initial=-1)) + 1)]
        for row in _by_release(songs):
            if code[row] >= 0:
                on_album[code[row]].append(row)
        rows = [_spread(some, _OF_ALBUM) if self.has_albums else [] for some in on_album]
        self.register_buffer("of_album", _padded([*rows, []], _OF_ALBUM, len(songs)))
        self.register_buffer("album", torch.tensor([*code, -2]))
        self.register_buffer("album_size", torch.tensor([*map(len, on_album), 0]))
        pairs = pd.Series(
            [c * _SHIFT + int(f) for c, f in zip(code, self.first[:-1], strict=True) if c >= 0], dtype="int64"
        )
        counts = pairs.value_counts()
        self.find_pair = Lookup(torch.tensor(counts.index.to_list(), dtype=torch.int64))
        self.register_buffer("pair_size", torch.tensor([*counts.to_list(), 0]))

    def _identity(self, songs: pd.DataFrame) -> None:
        track, _ = pd.factorize(songs["track_id"].str.casefold())  # the order of `export_graph.vocabularies`
        self.register_buffer("track", torch.tensor([*track, -2]))
        both = songs["artist"].notna() & songs["title"].notna()
        texts = [code_points(songs[name].fillna("").to_list()) for name in ("artist", "title")]
        key = _joined(*(self.alphabet.key(text.clamp_max(LIMIT)) for text in texts))
        named = torch.tensor(both.to_numpy())
        self.register_buffer("both", F.pad(torch.where(named, key, 0), (0, 1)))
        audio = torch.tensor(songs[list(AUDIO)].to_numpy(np.float64))
        self.register_buffer("mixer", torch.rand(len(AUDIO), generator=torch.Generator().manual_seed(0)).double() + 0.5)
        self.register_buffer("sound", F.pad(self._sound(audio), (0, 1), value=torch.nan))

    def _sound(self, audio: Tensor) -> Tensor:
        """``(B,)`` one number of all 13 audio columns; NaN, which is like no other, where most are missing."""
        enough = audio.isfinite().sum(1) > len(AUDIO) // 2
        return torch.where(enough, (torch.nan_to_num(audio, -1.0) * self.mixer).sum(1), torch.nan)

    def forward(self, songs: Songs, read: Read, near: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The known songs that are read for songs.

        Args:
            songs: as given.
            read: what was read of them.
            near: ``(B, F)`` numbers that distances are measured in.

        Returns:
            The tensors that `HistoryEncoder.attach` adds to a batch, with one sample, and ``album_others`` ``(B,)``.
        """
        names = self.find_name(torch.cat([read.artists, read.credited], 1))
        first = torch.where(names[:, 0] >= 0, names[:, 0], torch.where(read.artists[:, 0] == 0, self.nobody, -1))
        album = self._album(read, first)
        row, role = self._candidates(names, first, album)
        same_album = (taken(self.album, row) == album.unsqueeze(1)) & self.has_albums
        day = torch.nan_to_num(read.day, _NEVER).unsqueeze(1)
        here = (row < self.count) & ~self._is_itself(songs, read, row)
        here = here & (F.pad(row, (1, 0), value=-1)[:, :-1] != row)  # once, in its closest role
        place = (taken(self.known_near, row) - near.unsqueeze(1)).square().sum(-1)
        if self.earlier:
            here = here & (taken(self.day, row) < day)
            place = (day / DAYS_PER_MONTH).float() - torch.nan_to_num(F.pad(self.known_month, (0, 1)))[row]
        chosen = _chosen(role, here, same_album, 1 / (1 + place.clamp_min(0)), self.history)
        place = torch.where(chosen.values >= 0, place.gather(1, chosen.indices), torch.inf)
        place, order = place.sort(dim=1, descending=True)  # padding in front, the nearest last
        used, order = place.isfinite(), chosen.indices.gather(1, order)
        row = torch.where(used, row.gather(1, order), 0)
        found = {
            f"history_{name}": taken(getattr(self, f"known_{name}"), row)
            for name in ("song", "category", "month", "label")
        }
        found["history_row"] = row
        found["role"] = torch.where(used, role.gather(1, order), NO_SONG)
        if self.has_albums:
            found["same_album"] = same_album.gather(1, order) & used
        return {name: value.unsqueeze(0) for name, value in found.items()}, self._others(album, first)

    def _album(self, read: Read, first: Tensor) -> Tensor:
        """``(B,)`` number of the album, -1 where it is not that of a known song."""
        text = read.album
        name = self.find_album(self.alphabet.names(text, ~text.end, text.blank | text.any_of("."), 1)[:, 0])
        day = torch.nan_to_num(read.day).long()
        dated = _taken_or_last(self.dated, self.find_dated(name * _SHIFT + day + _DAYS))
        by_name = _taken_or_last(self.by_name, name)
        by_artist = _taken_or_last(self.by_artist, self.find_by_artist(name * _SHIFT + first))
        other = torch.where(by_name >= 0, by_name, by_artist)
        return torch.where(name >= 0, torch.where(read.day.isnan(), other, dated), -1)

    def _others(self, album: Tensor, first: Tensor) -> Tensor:
        """``(B,)`` number of known songs by other first-named artists on the album."""
        mine = _taken_or_last(self.pair_size, self.find_pair(album * _SHIFT + first))
        return torch.where(album >= 0, _taken_or_last(self.album_size, album) - mine, 0) * self.counted

    def _candidates(self, names: Tensor, first: Tensor, album: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of known songs and their roles, ``(B, C)`` each, sorted by row and then role."""
        repeated = (names.unsqueeze(2) == names.unsqueeze(1)).tril(-1).any(2)
        place = torch.arange(names.shape[1], 0, -1, device=names.device)
        which = torch.where((names >= 0) & ~repeated, place, 0).topk(_NAMES, dim=1).indices
        names = torch.where(repeated, -1, names).gather(1, which)  # the first four that are known
        rows = _taken_or_last(self.of_name, names)  # (B, 4, 20); the last row is empty
        own = torch.arange(_OF_NAME, device=names.device) < _taken_or_last(self.own, names).unsqueeze(2)
        role = torch.where(own & (names == first.unsqueeze(1)).unsqueeze(2), SAME, CREDITED)
        on_album = _taken_or_last(self.of_album, album)
        by_artist = (taken(self.first, on_album) == first.unsqueeze(1)) & (first != self.nobody).unsqueeze(1)
        rows = torch.cat([rows.flatten(1), on_album], 1)
        role = torch.cat([role.flatten(1), torch.where(by_artist, SAME, ALBUM)], 1)
        both = (rows * 8 + role).sort(dim=1).values
        return both // 8, both % 8

    def _is_itself(self, songs: Songs, read: Read, row: Tensor) -> Tensor:
        """``(B, C)``: a known song is the song itself, by id, by artist and title, or by its audio columns."""
        named = ~read.artist.end[:, 0] & ~read.title.end[:, 0]
        key = torch.where(named, _joined(*(self.alphabet.key(text.codes) for text in (read.artist, read.title))), 0)
        sound = self._sound(songs.numbers[:, : len(AUDIO)])
        same = (taken(self.track, row) == songs.track_id.unsqueeze(1)) & (songs.track_id >= 0).unsqueeze(1)
        same = same | ((taken(self.both, row) == key.unsqueeze(1)) & named.unsqueeze(1))
        return same | ((taken(self.sound, row) - sound.unsqueeze(1)).abs() < 1e-7)


def _chosen(role: Tensor, here: Tensor, same_album: Tensor, chance: Tensor, length: int) -> torch.return_types.topk:
    """The candidates that make up a history, by the priorities of `popularity.features.sampling`."""
    for kind, most in ((CREDITED, OF_CREDITED), (ALBUM, OF_ALBUM)):  # no more than `RelatedSongs.candidates` gives
        mine = here & (role == kind)
        best = torch.where(mine, chance + same_album, -1.0).topk(most, dim=1)
        kept = torch.zeros_like(chance).scatter(1, best.indices, torch.ones_like(best.values))
        here = here & (~mine | (kept > 0))
    priority = torch.where(role == SAME, chance + 1, chance)
    credited = torch.where(here & (role == CREDITED), chance, -1.0).topk(CREDITED_PLACES, dim=1)
    priority = priority.scatter_add(1, credited.indices, torch.where(credited.values >= 0, 2.0, 0.0))
    priority = torch.where(same_album, chance + 5, priority)
    return torch.where(here, priority, -1.0).topk(length, dim=1)


def _taken_or_last(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table, the last one for -1."""
    return taken(table, torch.where(index < 0, table.shape[0] - 1, index))


def _joined(artist: Tensor, title: Tensor) -> Tensor:
    return artist * 0x2545F4914F6CDD1D + title


def _unique_keys(alphabet: Alphabet, names: list[str]) -> Tensor:
    texts = code_points(names).clamp_max(LIMIT)
    return torch.cat([alphabet.key(some) for some in texts.split(4096)])


def _keys(table: dict[int, int]) -> Tensor:
    return torch.tensor(list(table), dtype=torch.int64)


def _days(songs: pd.DataFrame) -> np.ndarray:
    """``(n,)`` float64 days since 1970, NaN where unknown."""
    date = songs["release_date"].to_numpy("datetime64[D]")
    return np.where(np.isnat(date), np.nan, date.astype(np.int64).astype(np.float64))


def _by_release(songs: pd.DataFrame) -> np.ndarray:
    """Row numbers, the earliest first, songs without a date last."""
    return np.argsort(np.nan_to_num(_days(songs), nan=np.inf), kind="stable")


def _spread(rows: list[int], most: int) -> list[int]:
    """At most this many, spread evenly over the list."""
    return rows if len(rows) <= most else [rows[(2 * step + 1) * len(rows) // (2 * most)] for step in range(most)]


def _padded(rows: list[list[int]], width: int, fill: int) -> Tensor:
    return torch.tensor([[*some, *[fill] * (width - len(some))] for some in rows], dtype=torch.int64)
