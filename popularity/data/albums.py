"""Which album a song is on: many albums are called "Greatest Hits", so that a name alone does not say."""

from __future__ import annotations

import numpy as np
import pandas as pd

from popularity.data.credits import artist_names, normalise_name


def album_keys(songs: pd.DataFrame) -> pd.DataFrame:
    """Texts that songs on the same album have in common.

    A name and a date are one album, whoever is on it (a compilation). A name and a first-named artist are one album and
    its reissues. A date that is only a year tells less: two albums called "Gold" of one year are taken for one.

    Args:
        songs: song table with `album`, `artist` and `release_date`.

    Returns:
        The columns ``name``, ``by_date`` and ``by_artist``, ``(n,)`` with the index of `songs`, missing where a part is.
    """
    codes, names = pd.factorize(songs["album"])
    keys = pd.Series([*(normalise_name(name) or None for name in names), None], dtype="str")
    name = keys.take(codes).set_axis(songs.index)  # code -1 takes the last: missing
    date = songs["release_date"].to_numpy("datetime64[D]")
    by_date = (name + "\n" + date.astype("str")).mask(np.isnat(date))
    return pd.DataFrame({"name": name, "by_date": by_date, "by_artist": name + "\n" + first_artists(songs)})


def albums(songs: pd.DataFrame) -> pd.Series:
    """The album of each song: by its date, or without one by its first-named artist; missing where neither is known.

    So self-titled albums of several years are several, and the "Greatest Hits" of two artists are two.
    """
    keys = album_keys(songs)
    return keys["by_date"].fillna(keys["by_artist"])


def first_artists(songs: pd.DataFrame) -> pd.Series:
    """The first-named artist of each song, normalised; missing where nobody is named."""
    return pd.Series([names[0] if names else None for names in artist_names(songs)], songs.index, dtype="str")


def nameless_artists(songs: pd.DataFrame) -> pd.Series:
    """What stands for the artist of songs that name nobody, so that songs of one album are not told apart by it.

    It is the artist of their album if all others there name the same one first, and otherwise the album. An album
    without a date is known by its name here: rather two albums are taken for one than one for two.

    Returns:
        Texts ``(n,)`` with the index of `songs`; missing for songs that name somebody, and for those without an album.
    """
    first, keys = first_artists(songs), album_keys(songs)
    album = keys["by_date"].fillna(keys["name"])
    on_album = first.groupby(album)
    artist = on_album.transform("first").where(on_album.transform("nunique") == 1)
    return artist.fillna("\n" + album).where(first.isna())  # no name begins with a new line
