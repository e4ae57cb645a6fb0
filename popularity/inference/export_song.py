"""`popularity.features.song` as a graph: numbers and texts of songs to numeric features, categories, title statistics.

Glossary of shapes: ``B`` songs, ``L`` characters of a text, ``P`` names, ``F`` numeric features, ``C`` categories.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from popularity.data.schema import AUDIO
from popularity.features.song import (
    CATEGORIES,
    CLIP,
    CLOSED,
    NUMERIC_FEATURES,
    SKEWED,
    ColumnEncoder,
    FeatureEncoder,
    piecewise_linear,
)
from popularity.inference.export_characters import Alphabet, Letters, without_repeats
from popularity.inference.export_lookup import Tables, taken
from popularity.inference.export_text import TitleStatistics

#: Columns of ``Songs.numbers``.
NUMBERS: tuple[str, ...] = (*AUDIO, "explicit")
#: Columns that are texts to a graph; those of `CODED` are places in a list.
TEXTS: tuple[str, ...] = ("artist", "title", "album", "release_date")
CODED: tuple[str, ...] = ("genre", "subgenre", "track_id")
#: Names in the artist column that are read; of more, the first ones.
ARTIST_NAMES = 24
#: Days of a year before each month, in a year of 365 days.
_PASSED = (0.0, 31.0, 59.0, 90.0, 120.0, 151.0, 181.0, 212.0, 243.0, 273.0, 304.0, 334.0)


class Songs(NamedTuple):
    """Songs as a graph takes them.

    Attributes:
        numbers: ``(B, 14)`` float64 in the order of `NUMBERS`, NaN where missing.
        artist, title, album: ``(B, L)`` int64 code points, 0 behind the end.
        release_date: likewise, as 1999-12-31, 1999-12 or 1999.
        genre, subgenre: ``(B,)`` int64 place in the vocabulary of the checkpoint, -1 for any other.
        track_id: ``(B,)`` int64 number of the known song with the same track id, -1 where there is none.
    """

    numbers: Tensor
    artist: Tensor
    title: Tensor
    album: Tensor
    release_date: Tensor
    genre: Tensor
    subgenre: Tensor
    track_id: Tensor


class Read(NamedTuple):
    """What was read of songs, beside their features.

    Attributes:
        day: ``(B,)`` float64 of release, NaN where unknown.
        artist, title, album: letters.
        artists, credited: ``(B, P)`` hashes of the names in the artist column and in the title, 0 for none.
    """

    day: Tensor
    artist: Letters
    title: Letters
    album: Letters
    artists: Tensor
    credited: Tensor


class SongFeatures(Tables):
    """What `FeatureEncoder.encode` gives.

    Args:
        encoder: fitted.
        alphabet: of hashes.
        shown: names of texts and dates that are read; the others count as missing.
    """

    def __init__(self, encoder: FeatureEncoder, alphabet: Alphabet, shown: frozenset[str]) -> None:
        super().__init__()
        self.alphabet, self.shown, self.audio_only = alphabet, shown, encoder.audio_only
        self.statistics = TitleStatistics(alphabet)
        for name in ("mean", "scale", "edges", "title_mean", "title_scale", "present", "met"):
            self.register_buffer(name, torch.from_numpy(np.array(getattr(encoder, name))))
        self.levels = [min(CLOSED[name]) if name in CLOSED else 0 for name in CATEGORIES]
        self.sizes = [len(CLOSED[name]) if name in CLOSED else len(encoder.vocabulary[name]) for name in CATEGORIES]
        self.register_buffer("single", torch.from_numpy((encoder.edges == encoder.edges[:, :1]).all(1)))

    def read(self, songs: Songs) -> Read:
        """Letters, names and the date."""
        artist, title, album = (
            Letters(getattr(songs, name) * (name in self.shown), self.alphabet) for name in ("artist", "title", "album")
        )
        artists = self.alphabet.names(artist, ~artist.any_of(";"), artist.blank | artist.any_of("."), ARTIST_NAMES)
        day = _day(songs.release_date)
        if "release_date" not in self.shown:
            day = day * torch.nan
        return Read(day, artist, title, album, without_repeats(artists), artists[:, :0])

    def forward(self, songs: Songs) -> tuple[dict[str, Tensor], Read]:
        """Tensors as `FeatureEncoder.encode` names them, and what was read."""
        read = self.read(songs)
        statistics, credited = self.statistics(read.title)
        numeric = (self._numeric(songs, read) - self.mean) / self.scale
        numeric = torch.where(self.single & ~numeric.isnan(), 0.0, numeric.clamp(-CLIP, CLIP))
        count = len(NUMERIC_FEATURES)
        numeric = torch.where(self.present[:count], numeric, torch.nan).float()
        title = torch.nan_to_num((statistics.double() - self.title_mean) / self.title_scale).clamp(-CLIP, CLIP)
        features = {
            "numeric": numeric,
            "bins": piecewise_linear(numeric, self.edges.float()),
            "category": self._category(songs) * self.present[count:-1],
            "title": torch.cat([title, read.title.empty.unsqueeze(1)], 1).float(),
        }
        return features, read._replace(credited=credited)

    def _numeric(self, songs: Songs, read: Read) -> Tensor:
        column = {name: songs.numbers[:, place] for place, name in enumerate(NUMBERS)}
        count = (read.artists != 0).sum(1).double()
        features = {
            **column,
            **{f"log_{name.removesuffix('_ms')}": (column[name] + least).log() for name, least in SKEWED.items()},
            "release_year": _year(read.day),
            "artists": torch.where(read.artist.empty, torch.nan, count),
        }
        return torch.stack([features[name] for name in NUMERIC_FEATURES], 1)

    def _category(self, songs: Songs) -> Tensor:
        codes = []
        for place, name in enumerate(CATEGORIES):
            value = songs.numbers[:, NUMBERS.index(name)] if name in CLOSED else getattr(songs, name).double()
            if self.audio_only and name not in AUDIO:
                value = value * torch.nan
            code = value - self.levels[place] + 1
            known = (code >= 1) & (code <= self.sizes[place]) & (code == code.floor())  # not where it is NaN
            code = torch.nan_to_num(code).clamp(0, self.sizes[place]).long() * known
            codes.append(code * taken(self.met[place], code))
        return torch.stack(codes, 1)


class Columns(Tables):
    """What `ColumnEncoder.encode` gives.

    Args:
        encoder: fitted.
    """

    def __init__(self, encoder: ColumnEncoder) -> None:
        super().__init__()
        for name in ("shift", "scale", "fill"):
            self.register_buffer(name, torch.from_numpy(np.array(getattr(encoder, name))))

    def forward(self, songs: Songs) -> dict[str, Tensor]:
        """Tensors as `ColumnEncoder.encode` names them."""
        values = songs.numbers[:, : len(AUDIO)]
        return {"columns": ((torch.where(values.isnan(), self.fill, values) - self.shift) / self.scale).float()}


def _day(text: Tensor) -> Tensor:
    """Days since 1970-01-01 of a date as text, ``(B,)`` float64, NaN where there is none."""
    digit = (F.pad(text, (0, 10))[:, :10] - ord("0")).double()
    digit = torch.where((digit >= 0) & (digit <= 9), digit, torch.nan)
    year = 1000 * digit[:, 0] + 100 * digit[:, 1] + 10 * digit[:, 2] + digit[:, 3]
    month, day = (torch.nan_to_num(10 * digit[:, place] + digit[:, place + 1], 1.0) for place in (5, 8))
    month = month.clamp(1, 12).long()
    leap = _first_day(year + 1) - _first_day(year) == 366
    passed = taken(torch.tensor(_PASSED, dtype=digit.dtype), month - 1) + (leap & (month > 2)).double()
    return _first_day(year) + passed + day - 1


def _year(day: Tensor) -> Tensor:
    """Year of a date with its fraction, as `numeric_features` has it; NaN where unknown."""
    year = torch.floor((day + 719162) / 365.2425) + 1
    year = torch.where(_first_day(year) > day, year - 1, year)
    year = torch.where(_first_day(year + 1) <= day, year + 1, year)
    return year + (day - _first_day(year)) / 366


def _first_day(year: Tensor) -> Tensor:
    """Days from 1970-01-01 to the first of January of a year."""
    before = year - 1
    return 365 * before + (before / 4).floor() - (before / 100).floor() + (before / 400).floor() - 719162
