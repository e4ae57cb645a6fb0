"""Which album a song is on: a name says it together with a date, and alone if it is not one like "Greatest Hits"."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from popularity.data.credits import artist_names, normalise_names
from popularity.data.mapped import in_chunks

_GENERIC_WORDS = (
    *("the", "my", "of", "and", "&", r"vol(?:ume)?\.?", r"\d+", "[ivx]+", "all", "very", "super", "greatest", "best"),
    *("biggest", "hits?", "essentials?", "definitive", "ultimate", "complete", "collections?", "anthology", "gold"),
    *("platinum", "icon", "singles?", "ep", "live", "unplugged", "acoustic", "spotify", "sessions?"),
    *("grandes?", "[ée]xitos", "lo", "los", "mejor", "mejores"),
)
#: Names made of such words alone. In tidytuesday-2020, 97 in 100 pairs of songs by two artists on albums of such a name
#: have two dates.
_GENERIC = re.compile(rf"(?:(?:{'|'.join(_GENERIC_WORDS)})(?:\W+|$))+")


def album_keys(songs: pd.DataFrame) -> pd.DataFrame:
    """Texts that songs on the same album have in common.

    A name and a date are one album, whoever is on it (a compilation). A name and a first-named artist are one album and
    its reissues. A date that is only a year tells less: two albums called "Gold" of one year are taken for one.

    Args:
        songs: song table with `album`, `artist` and `release_date`.

    Returns:
        The columns ``name``, ``by_date`` and ``by_artist``, each ``(n,)``, missing where a part of them is.
    """
    codes, names = pd.factorize(songs["album"])
    keys = pd.Series([*(name or None for name in normalise_names(names.tolist())), None], dtype="str")
    name = keys.take(codes).set_axis(songs.index)  # code -1 takes the last: missing
    days, dates = pd.factorize(songs["release_date"].to_numpy("datetime64[D]"))
    date = pd.Series([*np.asarray(dates, "datetime64[D]").astype("str"), None], dtype="str").take(days)
    by_date = name + "\n" + date.set_axis(songs.index)
    return pd.DataFrame({"name": name, "by_date": by_date, "by_artist": name + "\n" + first_artists(songs)})


def albums(songs: pd.DataFrame) -> pd.Series:
    """The album of each song ``(n,)``; missing where it is not known.

    With a date it is known by name and date: compilations are one album, self-titled albums of several years several.
    Without a date the name is enough, as for compilations it has to be, unless many albums have it ("Greatest Hits"):
    these are known by their first-named artist.
    """
    keys = album_keys(songs)
    codes, names = pd.factorize(keys["name"])
    generic = [_GENERIC.fullmatch(name) is not None for name in names.tolist()]
    name = keys["name"].mask(np.array([*generic, False])[codes])  # code -1: missing
    return keys["by_date"].fillna(name).fillna(keys["by_artist"])


def first_artists(songs: pd.DataFrame) -> pd.Series:
    """The first-named artist of each song, normalised; missing where nobody is named."""
    found = [
        pd.Series([names[0] if names else None for names in artist_names(part)], part.index, dtype="str")
        for part in in_chunks(songs)
    ]
    return pd.concat(found)


def nameless_artists(songs: pd.DataFrame) -> pd.Series:
    """What stands for the artist of songs that name nobody, so that songs of one album are not told apart by it.

    It is the artist of their album if all others there name the same one first, and otherwise the album. An album
    without a date is known by its name here: rather two albums are taken for one than one for two.

    Returns:
        Texts ``(n,)`` with the index of `songs`; missing for songs that name somebody, and for those without an album.
    """
    first = first_artists(songs)
    if first.notna().all():
        return first.where(first.isna())
    keys = album_keys(songs)
    album = keys["by_date"].fillna(keys["name"])
    on_album = first.groupby(album)
    artist = on_album.transform("first").where(on_album.transform("nunique") == 1)
    return artist.fillna("\n" + album).where(first.isna())  # no name begins with a new line


@dataclass(frozen=True)
class Nameless:
    """Songs without an artist.

    Attributes:
        songs: how many.
        by_album: how many of them are on an album, by which the splits ``artist`` and ``credits`` group them.
    """

    songs: int
    by_album: int

    def __str__(self) -> str:
        alone = self.songs - self.by_album
        return f"{self.songs:,} (splits artist and credits group {self.by_album:,} by album, {alone:,} stay alone)"


def count_nameless(songs: pd.DataFrame) -> Nameless | None:
    """The songs without an artist; None if there are none, or no others, so that nothing can be split by artist."""
    without = int(songs["artist"].isna().sum())
    return Nameless(without, int(nameless_artists(songs).notna().sum())) if 0 < without < len(songs) else None
