"""One song from text is read as a file is, and what cannot be read is refused in one line."""

from __future__ import annotations

import pandas as pd
import pytest

from popularity.data.schema import CANONICAL
from popularity.errors import InputError
from popularity.inference.one_song import song_table


def read(song: str, artist: str | None = None, title: str | None = None) -> dict[str, object]:
    table = song_table(song, artist=artist, title=title)
    assert list(table) == list(CANONICAL)
    assert len(table) == 1
    return table.iloc[0].dropna().to_dict()


def test_names_and_units_are_those_of_files():
    song = "danceability=.8, Energy=71%,bpm=120,key=C#m,duration=3:31,loudness=-5 dB,release_date=2019,explicit=true"
    assert read(song) == {
        "danceability": 0.8,
        "energy": 0.71,
        "tempo": 120.0,
        "key": 1.0,
        "mode": 0.0,
        "duration_ms": 211_000.0,
        "loudness": -5.0,
        "release_date": pd.Timestamp("2019-01-01"),
        "explicit": 1.0,
    }
    assert read("danceability=80,energy=70") == {"danceability": 0.8, "energy": 0.7}
    assert read("energy=0,7,tempo=99,5") == {"energy": 0.7, "tempo": 99.5}


def test_texts_may_hold_commas():
    song = read("genre=pop, rock,energy=.7", artist="Tyler, The Creator", title="See You = Again")
    assert song == {"genre": "pop;rock", "energy": 0.7, "artist": "Tyler, The Creator", "title": "See You = Again"}


def test_an_artist_alone_is_enough():
    assert read("", artist="A;B") == {"artist": "A;B"}


def test_what_spotify_writes_for_nothing_heard():
    assert read("key=-1,time_signature=0,mode=,tempo=100") == {"tempo": 100.0}


@pytest.mark.parametrize(
    ("song", "error"),
    [
        ("", "--song: expected something to predict from, such as danceability=.8,energy=.7, got nothing"),
        ("energy", "--song: expected name=value pairs such as danceability=.8,energy=.7, got 'energy'"),
        ("dancability=.8", "--song: expected columns of a song, got 'dancability'; did you mean danceability?"),
        ("energy=.7,energy=.8", "--song: expected each name once, got 'energy' twice"),
        ("tempo=99,bpm=99", "--song: expected each column once, got 'bpm' and 'tempo' for tempo"),
        ("energy=1.8,valence=.2", "--song: energy: expected a number from 0 to 1, got '1.8'"),
        ("energy=-.1", "--song: energy: expected a number from 0 to 1, got '-.1'"),
        ("tempo=fast", "--song: tempo: expected beats per minute from 0 to 500, got 'fast'"),
        ("key=12", "--song: key: expected a key from 0 to 11, -1, or a letter such as C#, got '12'"),
        ("release_date=x", "--song: release_date: expected a date such as 2019, 2019-06 or 2019-06-14, got 'x'"),
        ("popularity=50", "--song: expected what is known of the song, got its popularity, which is predicted"),
    ],
)
def test_what_is_refused(song, error):
    with pytest.raises(InputError) as caught:
        song_table(song, artist=None, title=None)
    assert str(caught.value) == error


def test_an_unknown_name_with_nothing_like_it_lists_the_known_ones():
    with pytest.raises(InputError, match=r"got 'xyzzy'; known are track_id, title, .*, time_signature$"):
        song_table("xyzzy=1", artist=None, title=None)


def test_an_artist_is_given_once():
    with pytest.raises(InputError, match=r"^--artist: given in --song too, as 'singer'$"):
        song_table("singer=A,energy=.7", artist="B", title=None)
