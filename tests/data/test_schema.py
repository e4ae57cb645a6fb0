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


def _with_two_cells(songs: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    """The songs with a value in rows 7 and 31 of a column."""
    good: Any = {"release_date": "2019", "explicit": "1"}.get(column)
    cells = songs[column].astype(object) if column in songs else pd.Series([good] * 40, dtype=object)
    cells[[6, 30]] = value
    return songs.assign(**{column: cells})


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("energy", "loud", "a number from 0 to 1, got 'loud'"),
        ("energy", 1.5, "a number from 0 to 1, got '1.5'"),
        ("energy", -0.1, "a number from 0 to 1, got '-0.1'"),
        ("energy", "inf", "a number from 0 to 1, got 'inf'"),
        ("loudness", 70, "decibels from -100 to 20, got '70'"),
        ("tempo", -4, "beats per minute from 0 to 500, got '-4'"),
        ("duration_ms", 90_000_000, "a duration above 0 and at most a day, got '90000000'"),
        ("duration_ms", "long", "a duration above 0 and at most a day, got 'long'"),
        ("popularity", 140, "a number from 0 to 100, got '140'"),
        ("popularity", "high", "a number from 0 to 100, got 'high'"),
    ],
)
def test_an_impossible_value_names_file_column_row_and_both_values(
    raw_songs: pd.DataFrame, write: Write, column: str, value: Any, expected: str
) -> None:
    path = write(_with_two_cells(raw_songs, column, value))
    with pytest.raises(InputError) as caught:
        load_songs(path)
    message = f"{path}: column {column!r}, row 7 (line 8): expected {expected} (1 more row has this problem)"
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("key", 12),
        ("key", 4.5),
        ("key", "X"),
        ("mode", 2),
        ("time_signature", 9),
        ("instrumentalness", "much"),
        ("explicit", "maybe"),
        ("release_date", "soon"),
        ("release_date", "2019-02-30"),
    ],
)
def test_an_impossible_value_in_an_optional_column_is_missing_and_said(
    raw_songs: pd.DataFrame, write: Write, column: str, value: Any
) -> None:
    table = load_songs(write(_with_two_cells(raw_songs, column, value)))
    assert table.songs[column].isna().to_numpy().nonzero()[0].tolist() == [6, 30]
    assert f"{column}: 2 cells taken as missing, such as '{value}' in row 7 (line 8)" in table.report.lines()


@pytest.mark.parametrize("value", ["?", "n/a", "NULL", -1, "-999", "--", "unknown", "#N/A"])
@pytest.mark.parametrize("column", ["tempo", "duration_ms", "energy", "key"])
def test_codes_for_a_missing_value(raw_songs: pd.DataFrame, write: Write, column: str, value: Any) -> None:
    table = load_songs(write(_with_two_cells(raw_songs, column, value)))
    assert table.songs[column].isna().to_numpy().nonzero()[0].tolist() == [6, 30]
    assert table.report.unread == ()


@pytest.mark.parametrize("value", [None, "?", -1])
def test_songs_without_popularity(raw_songs: pd.DataFrame, write: Write, value: Any) -> None:
    raw_songs["popularity"] = raw_songs["popularity"].astype(object)
    raw_songs.loc[:19, "popularity"] = value
    report = load_songs(write(raw_songs)).report
    assert [str(left) for left in report.left_out] == ["20 without popularity (such as row 1 (line 2))"]
    raw_songs.loc[:20, "popularity"] = value
    with pytest.raises(InputError, match="column 'popularity': expected numbers, got none in 21 of 40 songs"):
        load_songs(write(raw_songs))


def test_the_earliest_row_is_named_and_all_wrong_rows_are_counted(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs.loc[[9, 11], "energy"] = 3.0
    raw_songs.loc[[2, 9], "danceability"] = -2
    with pytest.raises(InputError, match=r"column 'danceability', row 3 .*\(2 more rows have this problem\)"):
        load_songs(write(raw_songs))


def test_the_files_own_name_for_a_column_comes_first(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs.loc[0, "popularity"] = 101
    with pytest.raises(InputError, match=r"column 'Track Popularity' \(popularity\), row 1"):
        load_songs(write(raw_songs.rename(columns={"popularity": "Track Popularity"})))


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_column_is_named(raw_songs: pd.DataFrame, write: Write, name: str) -> None:
    with pytest.raises(InputError, match=f"no column for {name}; the file has track_id, "):
        load_songs(write(raw_songs.drop(columns=name)), need_popularity=False)
    with pytest.raises(InputError, match=f"column '{name}': expected numbers, got no value in any row"):
        load_songs(write(raw_songs.assign(**{name: np.nan})))


@pytest.mark.parametrize("leak", ["streams", "popular_or_not", "Likes", "target", "chart_rank"])
def test_a_leak_does_not_stand_in_for_popularity(raw_songs: pd.DataFrame, write: Write, leak: str) -> None:
    with pytest.raises(InputError, match=rf"no column for popularity \('{leak}' cannot stand in for it\)"):
        load_songs(write(raw_songs.rename(columns={"popularity": leak})))


@pytest.mark.parametrize(
    ("column", "change", "found"),
    [
        ("loudness", lambda x: (x - x.mean()) / x.std(), "standardised or rescaled"),
        ("loudness", lambda x: (x - x.min()) / (x.max() - x.min()), "standardised or rescaled"),
        ("tempo", lambda x: x / 250, "standardised or rescaled"),
        ("tempo", lambda x: (x - x.mean()) / x.std(), "standardised or rescaled"),
        ("duration_ms", lambda x: x / x.max(), "a median of"),
        ("popularity", lambda x: x * 10_000, "a play count"),
        ("popularity", lambda x: x > 50, "hit-or-not"),
        ("popularity", lambda x: x / 100, "hit-or-not"),
    ],
)
def test_a_column_on_another_scale_is_refused(
    raw_songs: pd.DataFrame, write: Write, column: str, change: Callable[[pd.Series], pd.Series], found: str
) -> None:
    changed = change(raw_songs[column])
    with pytest.raises(InputError, match=f"column '{column}': expected .*{found}") as caught:
        load_songs(write(raw_songs.assign(**{column: changed * 1})))
    assert "\n" not in str(caught.value)


def test_a_few_songs_all_louder_than_can_be_are_refused(raw_songs: pd.DataFrame, write: Write) -> None:
    with pytest.raises(InputError, match="column 'loudness': expected decibels, mostly below 0"):
        load_songs(write(raw_songs.head(6).assign(loudness=[1.5, 2, 3, 4, 5, 6])))


def test_two_loud_songs_and_two_zero_popularities_are_no_foreign_scale(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.head(2).assign(loudness=[0.5, 1.0], popularity=[0, 1])
    assert len(load_songs(write(songs), need_popularity=False, deduplicate=False).songs) == 2


def test_a_loaded_table_keeps_to_the_schema(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = load_songs(write(raw_songs)).songs
    assert list(songs.columns) == list(CANONICAL)
    song_schema(True).validate(songs)
