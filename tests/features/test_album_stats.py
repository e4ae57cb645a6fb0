"""What an album says: singles and compilations, without a look at popularity."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Lazy, make_songs

album_stats = Lazy("popularity.features.album_stats")
song_keys = Lazy("popularity.features.keys")
related = Lazy("popularity.features.related")


@pytest.fixture
def songs(tmp_path):
    from popularity.data.songs import load_songs

    path = tmp_path / "songs.csv"
    make_songs(60).to_csv(path, index=False)
    return load_songs(str(path)).songs


@pytest.mark.parametrize(
    ("title", "album", "expected"),
    [
        ("Hey You", "Hey You", (0, 1)),
        ("Hey You - Remastered 2011", "hey you (Deluxe)", (0, 1)),
        ("Hey You (feat. Ann)", "Hey You [Single]", (0, 1)),
        ("Hey You", "Greatest Hits", (0, 0)),
        ("Hey You", None, (1, 0)),
        (None, None, (1, 0)),
        ("(Live)", "[Deluxe]", (0, 0)),
    ],
)
def test_a_single_is_told_by_its_name(title, album, expected):
    songs = pd.DataFrame({"title": [title], "album": [album]}, dtype="str")
    assert tuple(album_stats.album_names(songs)[0]) == expected


def test_songs_by_others_are_counted_without_the_artist_and_the_song_itself(songs):
    names = ["Ann", "Ann", "Bob", "Cy", "Ann", "Dee"]
    albums = ["Road Songs", "Road Songs", "Road Songs", "Road Songs", "Alone", None]
    date = pd.Timestamp("2001-01-01")
    six = songs.iloc[:6].assign(artist=names, album=pd.Series(albums, dtype="str").to_numpy(), release_date=date)
    keys = song_keys.keys_of(six)
    assert album_stats.AlbumSongs(keys).by_others(keys).tolist() == [2, 2, 3, 3, 0, 0]
    known = song_keys.keys_of(six.iloc[:2])
    assert album_stats.AlbumSongs(known).by_others(keys).tolist() == [0, 0, 2, 2, 0, 0]


@pytest.mark.parametrize("split", ["album", "time"])
def test_where_new_songs_have_none_their_number_is_not_told(songs, split):
    from popularity.data.splits import inner_folds
    from popularity.features.encoder import HistoryEncoder

    shared = songs.assign(
        album=[f"Road Songs {i % 5}" for i in range(60)], release_date=songs["release_date"].dt.floor("D")
    )
    shared["release_date"] = pd.Timestamp("2000-01-01") + pd.to_timedelta(np.arange(60) % 5 * 400, unit="D")
    encoder = HistoryEncoder(hide_history=0.0)
    encoder.fit(shared, inner_folds(shared, split), earlier=split == "time")
    told = encoder._album(shared, song_keys.keys_of(shared))
    assert not told[:, 2].any()
    other = HistoryEncoder(hide_history=0.0)
    other.fit(shared, inner_folds(shared, "random"))
    assert other._album(shared, song_keys.keys_of(shared))[:, 2].all()


def test_a_file_without_albums_has_no_statistics(songs):
    from popularity.features.encoder import HistoryEncoder

    bare = songs.assign(album=pd.Series(np.nan, songs.index, dtype="str"))
    encoder = HistoryEncoder()
    encoder.fit(bare)
    assert not encoder._album(bare, song_keys.keys_of(bare)).any()
