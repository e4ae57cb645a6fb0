"""`popularity.features.related` and `sampling` as a graph: from names and albums to the known songs that are read.

The lists of known songs by name and by album are those of `RelatedSongs`, and what is taken of them is the same.

Glossary of shapes: ``B`` songs, ``N`` known songs, ``P`` names of a song, ``C`` candidates, ``D`` samples, ``H`` songs
of a history.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from popularity.data.credits import credits
from popularity.data.schema import AUDIO
from popularity.errors import InputError
from popularity.features.encoder import HistoryEncoder
from popularity.features.keys import DAYS_PER_MONTH, hashes, keys_of
from popularity.features.related import ALBUM, CREDITED, NO_SONG, OF_ALBUM, OF_CREDITED, OF_SAME, SAME, RelatedSongs
from popularity.features.sampling import fixed_chances, placed, priority
from popularity.inference.export_albums import KnownAlbums, name_keys
from popularity.inference.export_characters import LIMIT, Alphabet, code_points, places
from popularity.inference.export_lookup import Lookup, Tables, taken, taken_or_last
from popularity.inference.export_song import Read, Songs

#: Names of a song whose known songs are read; of more, the first ones.
_NAMES = 4
#: What `RelatedSongs.candidates` takes from a list: more than there is room for, since the song itself drops out.
_OF_NAME, _OF_ALBUM = max(OF_SAME, OF_CREDITED, OF_ALBUM) + 4, OF_ALBUM + 4
_ROOM = {SAME: OF_SAME, CREDITED: OF_CREDITED, ALBUM: OF_ALBUM}
_NEVER = 2**31 - 1  # a day later than all


class _Asking(NamedTuple):
    """Songs that may know some: what they are asked by.

    Attributes:
        names: ``(R, P)`` places of the names on a song, -1 for others.
        first: ``(R,)`` place of the first-named artist, -1 if unknown, and of its own if missing.
        album: ``(R,)`` number of the album, -1 if unknown.
        day: ``(R,)`` of release, float64.
        near: ``(R, F)`` numbers that distances are measured in.
        named: ``(R,)`` bool: artist and title are there.
        artist, title, track, numbers: of `Songs`.
    """

    names: Tensor
    first: Tensor
    album: Tensor
    day: Tensor
    near: Tensor
    named: Tensor
    artist: Tensor
    title: Tensor
    track: Tensor
    numbers: Tensor


class KnownSongs(Tables):
    """Finds the known songs that are read for a song.

    Args:
        encoder: fitted.
        songs: the ``N`` songs that it was fitted to.
        alphabet: of hashes.
        samples: histories of each song.

    Raises:
        InputError: these are other songs.
    """

    def __init__(self, encoder: HistoryEncoder, songs: pd.DataFrame, alphabet: Alphabet, samples: int) -> None:
        super().__init__()
        songs = encoder.without_constants(songs).reset_index(drop=True)
        related = encoder.related
        assert related is not None
        if not np.array_equal(keys_of(songs).identity, related.keys.identity):
            raise InputError("export: expected the songs that the checkpoint was trained on, got others")
        self.alphabet, self.history, self.earlier = alphabet, encoder.history, encoder.earlier
        self.has_albums = bool(len(related.albums))
        self.count = len(songs)
        self._lists(songs, related, alphabet)
        self.albums = KnownAlbums(songs, related, self.first[:-1].numpy(), alphabet, encoder.albums_counted)
        self._identity(songs)
        chance = fixed_chances(self.count, samples)
        known = {name: encoder.known[name] for name in ("near", "month")} | {"placed": placed(encoder.known["month"])}
        for name, value in {**known, "label": encoder.label, "chance": chance.T}.items():  # and last, a row for no song
            self.register_buffer(f"known_{name}", torch.cat([value, torch.zeros_like(value[:1])]))

    def _lists(self, songs: pd.DataFrame, related: RelatedSongs, alphabet: Alphabet) -> None:
        """The lists of `RelatedSongs`, in which each name has two, its own songs and the others that credit it."""
        names = np.array(sorted({name for some in credits(songs) for name in some}), dtype=object)
        names = names[np.argsort(hashes(names.tolist()))]  # in the order of `RelatedSongs.names`
        self.nobody = len(names)
        self.find_name = Lookup(name_keys(alphabet, names.tolist()))
        first = np.where(related.keys.first == 0, self.nobody, np.searchsorted(related.names, related.keys.first))
        begin, size = related.begin[:-1], np.diff(related.begin)
        for name, value, last in (
            ("first", first, -2),
            ("begin", begin, 0),
            ("size", size, 0),  # and last, an empty list
            ("listed", related.rows, self.count),
            ("day", related.keys.day, _NEVER),
            # small for those that stay where there are too many
            ("rank", np.argsort(np.argsort(related.latest if self.earlier else related.tie)), self.count),
        ):
            self.register_buffer(name, torch.from_numpy(np.append(value, last).astype(np.int64)))
        self.halves = int(size.max(initial=1)).bit_length()
        self.wide = (min(int(size[: 2 * self.nobody].max(initial=1)), _OF_NAME), _OF_ALBUM)

    def _identity(self, songs: pd.DataFrame) -> None:
        track, _ = pd.factorize(songs["track_id"].str.casefold())  # the order of `export_graph.vocabularies`
        self.register_buffer("track", torch.tensor([*track, -2]))
        both = songs["artist"].notna() & songs["title"].notna()
        texts = [code_points(songs[name].fillna("").to_list()) for name in ("artist", "title")]
        key = self._song_key(*texts)
        named = torch.tensor(both.to_numpy())
        self.register_buffer("both", F.pad(torch.where(named, key, 0), (0, 1)))
        audio = torch.tensor(songs[list(AUDIO)].to_numpy(np.float64))
        self.register_buffer("mixer", torch.rand(len(AUDIO), generator=torch.Generator().manual_seed(0)).double() + 0.5)
        self.register_buffer("sound", F.pad(self._sound(audio), (0, 1), value=torch.nan))

    def _song_key(self, artist: Tensor, title: Tensor) -> Tensor:
        """``(B,)`` hashes of artist and title, which tell a song as `popularity.features.keys.Keys.identity` does."""
        one, other = (self.alphabet.folded_key(text.clamp(0, LIMIT)) for text in (artist, title))
        return one * 0x2545F4914F6CDD1D + other

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
            ``rows`` ``(R,)`` of the songs that may know some, the first of them thrice; the tensors that
            `HistoryEncoder.attach` adds to a batch of these, ``(D, R, H)`` each, with rows of known songs for
            ``history_song`` and ``history_category``; ``candidates`` ``(R,)``, how many there are for them;
            ``known_songs`` ``(B,)``. And how many songs by others are on the album, ``(B,)``.
        """
        keys = torch.cat([read.artists, read.credited], 1)
        some = F.pad(places(keys.flatten() != 0), (2, 0))  # most songs have one name
        found = self.find_name(taken(keys.flatten(), some))
        names = torch.full_like(keys.flatten(), -1).index_put((some,), found).view_as(keys)
        first = torch.where(names[:, 0] >= 0, names[:, 0], torch.where(read.artists[:, 0] == 0, self.nobody, -1))
        album = self.albums.number(read, first)
        # with two more, since graphs take tensors of no row or of one for cases of their own
        rows = F.pad(places((names >= 0).any(1) | (album >= 0)), (2, 0))
        named = ~read.artist.empty & ~read.title.empty
        day = torch.nan_to_num(read.day, _NEVER)
        everything = _Asking(
            names, first, album, day, near, named, songs.artist, songs.title, songs.track_id, songs.numbers
        )
        histories = self._histories(_Asking._make(taken(value, rows) for value in everything))
        known = torch.zeros_like(album).index_put((rows,), histories["known_songs"])
        return {**histories, "rows": rows, "known_songs": known}, self.albums.others(album, first)

    def _histories(self, asking: _Asking) -> dict[str, Tensor]:
        row, role = self._listed(asking)
        row, role, same_album = self._candidates(row, role, asking.album, self._is_itself(asking, row))
        if self.earlier:
            month = (asking.day / DAYS_PER_MONTH).float().unsqueeze(1)
            place = month - taken(self.known_placed, row)
        else:
            place = (taken(self.known_near, row) - asking.near.unsqueeze(1)).square().sum(-1)
        candidates, known = (role != NO_SONG).sum(1), (role == SAME).sum(1)
        chance = taken(self.known_chance, row).permute(2, 0, 1)  # (D, R, C)
        # where all candidates fit, samples would differ in the order of songs that are as near as each other
        chance = torch.where((candidates > self.history).unsqueeze(1), chance, chance[0])
        role, place, same_album, row = (value.expand(chance.shape) for value in (role, place, same_album, row))
        best = priority(role, role != NO_SONG, same_album, chance).topk(min(self.history, row.shape[-1]), dim=-1)
        place = torch.where(best.values >= 0, place.gather(-1, best.indices), torch.inf)
        place, order = place.sort(dim=-1, descending=True)  # padding in front, the nearest last
        used, order = place.isfinite(), best.indices.gather(-1, order)
        row = torch.where(used, row.gather(-1, order), 0)
        found = {"history_song": row, "history_category": row, "known_songs": known, "candidates": candidates}
        found |= {"history_month": taken(self.known_month, row), "history_label": taken(self.known_label, row)}
        found["role"] = torch.where(used, role.gather(-1, order), NO_SONG)
        if self.has_albums:
            found["same_album"] = same_album.gather(-1, order) & used
        return found

    def _listed(self, asking: _Asking) -> tuple[Tensor, Tensor]:
        """Rows of known songs and their roles as the lists give them, ``(R, C)`` each, with repeats."""
        names, first, album, day = asking.names, asking.first, asking.album, asking.day.long()
        repeated = (names.unsqueeze(2) == names.unsqueeze(1)).tril(-1).any(2)
        known = torch.where((names >= 0) & ~repeated, torch.arange(names.shape[1], 0, -1, device=names.device), 0)
        best = known.topk(min(_NAMES, names.shape[1]), dim=1)  # the first four that are known
        names = torch.where(best.values > 0, names.gather(1, best.indices), -1)
        own = torch.where(names >= 0, 2 * names, -1)  # (B, P)
        others = torch.where(names >= 0, own + 1, -1)
        by_name = self._taken_from(torch.cat([own, others], 1), day, self.wide[0])
        roles = torch.where(names == first.unsqueeze(1), SAME, CREDITED)
        role = torch.cat([roles, torch.full_like(roles, CREDITED)], 1).unsqueeze(2).expand(by_name.shape)
        rows, role = by_name.flatten(1), role.flatten(1)
        if not self.has_albums:
            return rows, role
        of_album = torch.where(album >= 0, album + 2 * self.nobody, -1).unsqueeze(1)
        on_album = self._taken_from(of_album, day, self.wide[1]).squeeze(1)
        by_artist = (taken(self.first, on_album) == first.unsqueeze(1)) & (first != self.nobody).unsqueeze(1)
        return torch.cat([rows, on_album], 1), torch.cat([role, torch.where(by_artist, SAME, ALBUM)], 1)

    def _taken_from(self, lists: Tensor, day: Tensor, most: int) -> Tensor:
        """``(B, P, most)`` rows from lists ``(B, P)``: spread evenly, or with ``earlier`` the latest before a day."""
        begin, size = (taken_or_last(table, lists).unsqueeze(2) for table in (self.begin, self.size))
        step = torch.arange(most, device=lists.device)
        if self.earlier:
            size = self._released_before(begin, size, day.reshape(-1, 1, 1))
            place = step + (size - most).clamp_min(0)
        else:
            place = torch.where(size > most, (2 * step + 1) * size // (2 * most), step)
        # the last of the list of rows is no song
        return taken(self.listed, torch.where(place < size, begin + place, len(self.listed) - 1))

    def _released_before(self, begin: Tensor, size: Tensor, day: Tensor) -> Tensor:
        """How many songs of lists were released before a day: a search by halves."""
        low, high = begin, begin + size
        for _ in range(self.halves):
            middle = (low + high) // 2
            before = (taken(self.day, taken(self.listed, middle)) < day) & (low < high)
            low, high = torch.where(before, middle + 1, low), torch.where(before, high, torch.maximum(low, middle))
        return low - begin

    def _candidates(self, row: Tensor, role: Tensor, album: Tensor, itself: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `RelatedSongs.candidates` keeps of what is listed: row, role and the mark of the same album."""
        count = self.count + 1
        apart = torch.where((row < self.count) & ~itself, row * 8 + role, self.count * 8).sort(dim=1).values
        row, role = apart // 8, apart % 8
        here = (row < self.count) & (F.pad(row, (1, 0), value=-1)[:, :-1] != row)  # once, in its closest role
        same_album = (taken(self.albums.album, row) == album.unsqueeze(1)) & self.has_albums
        key = (role * 2 + ~same_album) * count + taken(self.rank, row)
        key, order = torch.where(here, key, 16 * count).sort(dim=1)
        begin, chosen = torch.zeros_like(album).unsqueeze(1), []
        kinds = [(kind, most) for kind, most in _ROOM.items() if kind != ALBUM or self.has_albums]
        for kind, most in kinds:
            end = begin + (here & (role == kind)).sum(1, keepdim=True)
            place = begin + torch.arange(most, device=row.device)
            chosen.append(torch.where(place < end, place, row.shape[1]))
            begin = end
        place = torch.cat(chosen, 1)  # (B, C), the width of the lists where there is none
        order = F.pad(order, (0, 1)).gather(1, place)
        kept = place < row.shape[1]
        row = torch.where(kept, row.gather(1, order), self.count)
        return row, torch.where(kept, role.gather(1, order), NO_SONG), same_album.gather(1, order) & kept

    def _is_itself(self, asking: _Asking, row: Tensor) -> Tensor:
        """``(R, C)``: a known song is the song itself, by id, by artist and title, or by its audio columns."""
        key, sound = self._song_key(asking.artist, asking.title), self._sound(asking.numbers[:, : len(AUDIO)])
        same = (taken(self.track, row) == asking.track.unsqueeze(1)) & (asking.track >= 0).unsqueeze(1)
        same = same | ((taken(self.both, row) == key.unsqueeze(1)) & asking.named.unsqueeze(1))
        return same | ((taken(self.sound, row) - sound.unsqueeze(1)).abs() < 1e-7)
