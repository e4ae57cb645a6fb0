from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from popularity.data.schema import AUDIO, AUDIO_UNIT, CANONICAL, REQUIRED, song_schema
from popularity.data.songs import load_songs
from popularity.errors import InputError

Write = Callable[..., str]


def test_names() -> None:
    assert len(AUDIO) == 13
    assert list(AUDIO) == sorted(AUDIO)
    assert set(AUDIO_UNIT) < set(AUDIO) < set(CANONICAL)
    assert set(AUDIO) - set(REQUIRED) == {"instrumentalness", "key", "mode", "time_signature"}


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("energy", "loud", "a number from 0 to 1, came 'loud'"),
        ("energy", 1.5, "a number from 0 to 1, came '1.5'"),
        ("energy", -0.1, "a number from 0 to 1, came '-0.1'"),
        ("energy", "inf", "a number from 0 to 1, came 'inf'"),
        ("loudness", 70, "decibels from -100 to 20, came '70'"),
        ("tempo", -4, "beats per minute from 0 to 500, came '-4'"),
        ("duration_ms", -1, "a duration above 0 and at most a day, came '-1'"),
        ("key", 12, "a key from 0 to 11, -1, or a letter such as C#, came '12'"),
        ("key", 4.5, "a key from 0 to 11, -1, or a letter such as C#, came '4.5'"),
        ("key", "H", "a key from 0 to 11, -1, or a letter such as C#, came 'H'"),
        ("mode", 2, "0 or 1, Minor or Major, came '2'"),
        ("time_signature", 9, "a time signature from 0 to 7 or such as 4/4, came '9'"),
        ("explicit", "maybe", "0 or 1, true or false, came 'maybe'"),
        ("popularity", 140, "a number from 0 to 100, came '140'"),
        ("popularity", -1, "a number from 0 to 100, came '-1'"),
        ("popularity", None, "a number from 0 to 100, came an empty cell"),
        ("release_date", "14/06/2019", "a date such as 2019, 2019-06 or 2019-06-14, came '14/06/2019'"),
        ("release_date", "2019-02-30", "a date such as 2019, 2019-06 or 2019-06-14, came '2019-02-30'"),
    ],
)
def test_an_impossible_value_names_file_column_row_and_both_values(
    raw_songs: pd.DataFrame, write: Write, column: str, value: Any, expected: str
) -> None:
    good: Any = {"release_date": "2019", "explicit": "1"}.get(column)
    cells = raw_songs[column].astype(object) if column in raw_songs else pd.Series([good] * 40, dtype=object)
    cells[[6, 30]] = value
    path = write(raw_songs.assign(**{column: cells}))
    with pytest.raises(InputError) as caught:
        load_songs(path)
    message = f"{path}: column {column!r}, row 7 (line 8): expected {expected} (1 further row is wrong)"
    assert str(caught.value) == message


def test_the_earliest_row_is_named_and_all_wrong_rows_are_counted(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs.loc[[9, 11], "energy"] = 3.0
    raw_songs.loc[[2, 9], "danceability"] = -1
    with pytest.raises(InputError, match=r"column 'danceability', row 3 .*\(2 further rows are wrong\)"):
        load_songs(write(raw_songs))


def test_the_files_own_name_for_a_column_comes_first(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs.loc[0, "popularity"] = 101
    with pytest.raises(InputError, match=r"column 'Track Popularity' \(popularity\), row 1"):
        load_songs(write(raw_songs.rename(columns={"popularity": "Track Popularity"})))


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_column_is_named(raw_songs: pd.DataFrame, write: Write, name: str) -> None:
    with pytest.raises(InputError, match=f"no column for {name}; the file has track_id, "):
        load_songs(write(raw_songs.drop(columns=name)), need_popularity=False)
    with pytest.raises(InputError, match=f"column '{name}': expected numbers, came no value in any row"):
        load_songs(write(raw_songs.assign(**{name: np.nan})))


@pytest.mark.parametrize("leak", ["streams", "popular_or_not", "Likes", "target", "chart_rank"])
def test_a_leak_does_not_stand_in_for_popularity(raw_songs: pd.DataFrame, write: Write, leak: str) -> None:
    with pytest.raises(InputError, match=rf"no column for popularity \('{leak}' cannot stand in for it\)"):
        load_songs(write(raw_songs.rename(columns={"popularity": leak})))


@pytest.mark.parametrize(
    ("column", "change", "came"),
    [
        ("loudness", lambda x: (x - x.mean()) / x.std(), "standardised or rescaled"),
        ("loudness", lambda x: (x - x.min()) / (x.max() - x.min()), "standardised or rescaled"),
        ("duration_ms", lambda x: x / 1000, "a median of 0.00"),
        ("popularity", lambda x: x * 10_000, "a play count"),
        ("popularity", lambda x: x > 50, "hit-or-not"),
        ("popularity", lambda x: x / 100, "hit-or-not"),
    ],
)
def test_a_column_on_another_scale_is_refused(
    raw_songs: pd.DataFrame, write: Write, column: str, change: Callable[[pd.Series], pd.Series], came: str
) -> None:
    changed = change(raw_songs[column])
    with pytest.raises(InputError, match=f"column '{column}': expected .*{came}") as caught:
        load_songs(write(raw_songs.assign(**{column: changed * 1})))
    assert "\n" not in str(caught.value)


def test_two_loud_songs_and_two_zero_popularities_are_no_foreign_scale(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.head(2).assign(loudness=[0.5, 1.0], popularity=[0, 1])
    assert len(load_songs(write(songs), need_popularity=False, deduplicate=False).songs) == 2


def test_a_loaded_table_keeps_to_the_schema(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = load_songs(write(raw_songs)).songs
    assert list(songs.columns) == list(CANONICAL)
    song_schema(True).validate(songs)
