"""Which songs are on one album, and songs without an artist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popularity.data.albums import album_keys, albums, first_artists
from popularity.data.schema import CANONICAL, TEXT
from popularity.data.songs import load_songs

Row = tuple[str | None, str | None, str | None]


def table(rows: list[Row]) -> pd.DataFrame:
    """Songs from (artist, album, release date)."""
    songs = pd.DataFrame({name: pd.Series(dtype="str" if name in TEXT else "float64") for name in CANONICAL})
    songs = songs.reindex(range(len(rows)))
    for position, name in enumerate(("artist", "album")):
        songs[name] = pd.Series([row[position] for row in rows], dtype="str")
    songs["release_date"] = pd.to_datetime(pd.Series([row[2] for row in rows], dtype="str")).astype("datetime64[us]")
    return songs


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (("Weezer", "Weezer", "1994-05-10"), ("Weezer", "Weezer", "2001-05-15"), False),  # self-titled
        (("Queen", "Greatest Hits", "1981-10-26"), ("ABBA", "Greatest Hits", "1975-11-17"), False),
        (("Queen", "Greatest Hits", None), ("ABBA", "Greatest Hits", None), False),
        (("Queen", "GREATEST HITS", None), ("Queen;David Bowie", "Greatest Hits ", None), True),
        ((None, "The Best of", None), (None, "The Best of", None), False),  # neither date nor artist
        (("Queen", "Vol. 2", None), ("ABBA", "Vol. 2", None), False),
        (("Coolio", "Dangerous Minds", "1995-07-30"), ("Aaron Hall", "Dangerous Minds", "1995-07-30"), True),
        (("Coolio", "Dangerous Minds", None), ("Aaron Hall", "Dangerous Minds", None), True),
        ((None, "Dangerous Minds", "1995-07-30"), ("Coolio", "Dangerous Minds", "1995-07-30"), True),
        (("Bing Crosby", "Country Greatest Hits", None), ("Dolly", "Country Greatest Hits", None), True),
        (("Queen", None, "1981-10-26"), ("Queen", None, "1981-10-26"), False),
    ],
)  # fmt: skip
def test_two_songs_on_one_album_or_two(one: Row, other: Row, together: bool) -> None:
    found = albums(table([one, other]))
    assert bool(found[0] == found[1]) == together


@pytest.mark.slow
def test_names_of_many_albums_in_tidytuesday(spotify_songs_32833: Path) -> None:
    """Of songs by two artists on albums of one generic name, nearly all have two dates; of others many have one."""
    songs = load_songs(str(spotify_songs_32833)).songs
    undated = albums(songs.assign(release_date=pd.Series(np.full(len(songs), np.datetime64("NaT", "us")))))
    name, first = album_keys(songs)["name"], first_artists(songs)
    generic = name.notna() & (undated != name)
    pairs = pd.DataFrame({"name": name, "first": first, "date": songs["release_date"], "generic": generic}).dropna()
    pairs = pairs.merge(pairs, on=["name", "generic"])
    pairs = pairs[pairs["first_x"] < pairs["first_y"]]
    two_dates = (pairs["date_x"] != pairs["date_y"]).groupby(pairs["generic"]).mean()
    assert two_dates[True] == pytest.approx(0.97, abs=0.005)
    assert two_dates[False] < 0.85
    assert generic.mean() < 0.03


ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.sampled_from(["A", "B", "A;B"])),
        st.one_of(st.none(), st.sampled_from(["K", "k ", "L", "Gold"])),
        st.one_of(st.none(), st.sampled_from(["2001-01-01", "2002-02-02"])),
    ),
    min_size=2,
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_songs_that_models_relate_by_album_are_on_one_side(rows: list[Row]) -> None:
    """What a history or a feature takes for the same album is one group of the split."""
    from popularity.data.groups import group_numbers
    from popularity.features.keys import keys_of

    songs = table([*rows, ("Z", "Other", None)])
    keys, groups = keys_of(songs).album, group_numbers(songs, "album")
    by_artist = album_keys(songs)["by_artist"]
    related = (keys[:, None] == keys) & (keys >= 0)
    related |= (by_artist.to_numpy()[:, None] == by_artist.to_numpy()) & by_artist.notna().to_numpy()
    assert (groups[:, None] == groups)[related].all()


def test_songs_without_an_artist_are_counted(raw_songs: pd.DataFrame, write: Callable[..., str]) -> None:
    raw_songs["album_name"] = [f"Album {i // 4}" if i % 10 else None for i in range(40)]
    raw_songs.loc[:12, "artists"] = None
    report = load_songs(write(raw_songs)).report
    line = "songs without an artist: 13 (splits artist and credits group 11 by album, 2 stay alone)"
    assert line in report.lines()
    assert report.as_dict()["nameless"] == {"songs": 13, "by_album": 11}
    for other in (raw_songs.assign(artists=None), raw_songs.assign(artists="A")):
        assert "without an artist" not in "\n".join(load_songs(write(other)).report.lines())
