"""Rows that are no songs, and the report that says so."""

from __future__ import annotations

import json
from collections.abc import Callable

import pandas as pd
import pytest

from popularity.data.schema import AUDIO_UNIT
from popularity.data.songs import NoPopularity, load_songs
from popularity.errors import InputError

Write = Callable[..., str]


def test_empty_rows_are_left_out_wherever_they_stand(raw_songs: pd.DataFrame, write: Write) -> None:
    empty = "\n" + "," * (len(raw_songs.columns) - 1)
    header, *rows = raw_songs.to_csv(index=False).splitlines()
    path = write("\n".join([header, *rows[:3]]) + empty * 2 + "\n" + "\n".join(rows[3:]) + empty * 50)
    for learn in (True, False):
        table = load_songs(path, need_popularity=learn, deduplicate=False)
        assert table.songs["title"].tolist() == raw_songs["track_name"].tolist()
        assert [str(left) for left in table.report.left_out] == ["52 empty (such as row 4 (line 5))"]


def test_empty_rows_with_a_running_number(raw_songs: pd.DataFrame, write: Write) -> None:
    table = load_songs(write(raw_songs.reindex(range(45)).reset_index()))
    assert len(table.songs) == 40


def test_a_file_of_empty_rows_has_no_songs(raw_songs: pd.DataFrame, write: Write) -> None:
    with pytest.raises(InputError, match="expected songs, got none: 5 empty"):
        load_songs(write(raw_songs.reindex(range(50, 55))), need_popularity=False)


@pytest.mark.parametrize("learn", [True, False])
def test_local_files_are_learned_from_by_nobody(raw_songs: pd.DataFrame, write: Write, learn: bool) -> None:
    raw_songs.loc[[3, 8], "track_id"] = "spotify:local:Nora:Rooms:Song+3:203"
    songs = raw_songs.assign(isLocal=["local" if i == 5 else "stream" for i in range(40)])
    table = load_songs(write(songs), need_popularity=learn)
    assert len(table.songs) == (37 if learn else 40)
    assert ("3 local files or podcasts (such as row 4 (line 5))" in "".join(table.report.lines())) == learn


def test_headers_in_mid_file_are_no_songs(raw_songs: pd.DataFrame, write: Write) -> None:
    text = raw_songs.to_csv(index=False)
    header, *rows = text.splitlines()
    table = load_songs(write("\n".join([header, *rows[:5], header, *rows[5:]])))
    pd.testing.assert_frame_equal(table.songs, load_songs(write(text)).songs)
    assert [str(left) for left in table.report.left_out] == ["1 headers in mid-file (such as row 6 (line 7))"]


def test_removed_tracks_are_learned_from_by_nobody(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs.loc[3, ["track_name", "artists", "duration_ms", "popularity"]] = [None, None, 0, 0]
    raw_songs.loc[4, ["track_name", "artists"]] = [None, None]
    table = load_songs(write(raw_songs))
    assert len(table.songs) == 39
    assert "1 removed from Spotify (such as row 4 (line 5))" in "".join(table.report.lines())
    assert len(load_songs(write(raw_songs), need_popularity=False).songs) == 40


def test_row_numbers_are_those_of_the_file(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs = raw_songs.astype(object)
    raw_songs.loc[3] = None
    raw_songs.loc[8, "key"] = "X"
    table = load_songs(write(raw_songs), leaks=["row_number"])
    assert str(table.report.unread[0]) == "key: 1 cell taken as missing, such as 'X' in row 9 (line 10)"
    assert table.songs["leak_row_number"].tolist() == [row for row in range(40) if row != 3]
    raw_songs.loc[10, "energy"] = "loud"
    with pytest.raises(InputError, match=r"row 11 \(line 12\)"):
        load_songs(write(raw_songs))


def test_a_file_without_popularity_is_told_from_a_bad_one(raw_songs: pd.DataFrame, write: Write) -> None:
    for songs in (raw_songs.drop(columns="popularity"), raw_songs.assign(popularity=None)):
        with pytest.raises(NoPopularity):
            load_songs(write(songs))
    with pytest.raises(InputError) as caught:
        load_songs(write(raw_songs.drop(columns=["popularity", "energy"])))
    assert not isinstance(caught.value, NoPopularity)


def test_most_audio_columns_empty_are_refused_and_one_is_said(raw_songs: pd.DataFrame, write: Write) -> None:
    one = load_songs(write(raw_songs.assign(energy=None)), need_popularity=False)
    assert "empty in every row: energy" in one.report.lines()
    blank = dict.fromkeys(("energy", "valence", "tempo", "loudness", "liveness"))
    with pytest.raises(InputError, match="no value in any row for 5 of the 9 columns that a prediction needs: "):
        load_songs(write(raw_songs.assign(**blank)), need_popularity=False)


def test_the_short_report(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.rename(columns={"popularity": "Spotify Popularity"}).drop(columns="key")
    songs["duration_ms"] /= 1000
    songs.loc[1, "track_id"] = songs.loc[0, "track_id"]
    path = write(songs.assign(streams=1))
    assert load_songs(path).report.lines() == [
        f"{path} (CSV, utf-8): 40 rows, 39 songs",
        "columns: title from 'track_name'; artist from 'artists'; duration_ms from 'duration_ms': seconds to ms; "
        "popularity from 'Spotify Popularity'",
        "not in the file: key",
        "not used, for they leak the popularity: 'streams'",
        "duplicates removed: 1 same id; 1 of 1 has another popularity than the row kept, by 3.0 points on average",
    ]


def test_the_whole_report_is_json(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs["mode"] = raw_songs["mode"].astype(object)
    raw_songs.loc[3, "mode"] = "sad"
    report = load_songs(write(raw_songs.assign(streams=1))).report
    kept = json.loads(json.dumps(report.as_dict()))
    assert kept["path"] == str(report.path)
    assert kept["leaks"] == [["streams", "streams"]]
    assert kept["unread"] == [{"name": "mode", "count": 1, "example": "'sad'", "place": "row 4 (line 5)"}]
    assert kept["songs"] == 40


@pytest.mark.parametrize("word", ["Total", "Average:", "mean", ""])
@pytest.mark.parametrize("learn", [True, False])
def test_sums_and_means_below_the_songs_are_no_songs(
    raw_songs: pd.DataFrame, write: Write, word: str, learn: bool
) -> None:
    mean = raw_songs.mean(numeric_only=True).to_dict() | {"track_id": word}
    path = write(pd.concat([raw_songs, pd.DataFrame([mean])], ignore_index=True))
    table = load_songs(path, need_popularity=learn)
    assert table.songs["title"].tolist() == raw_songs["track_name"].tolist()
    assert "1 sums or means (such as row 41 (line 42))" in "\n".join(table.report.lines())


@pytest.mark.parametrize("word", ["sum", "mean", "std", "min", "max"])
@pytest.mark.parametrize("learn", [True, False])
@pytest.mark.parametrize("count", [3, 40])
def test_sums_and_means_are_told_by_their_numbers(
    raw_songs: pd.DataFrame, write: Write, word: str, learn: bool, count: int
) -> None:
    """In a table without a key, and under a title."""
    songs = raw_songs.drop(columns=["track_id", "key", "mode", "time_signature"]).head(count)
    row = songs.agg(word, numeric_only=True).to_dict() | {"track_name": word}
    table = load_songs(write(pd.concat([songs, pd.DataFrame([row])], ignore_index=True)), need_popularity=learn)
    assert table.songs["title"].tolist() == songs["track_name"].tolist()


@pytest.mark.parametrize("word", ["Total", "Count", "Mean", "Max"])
def test_a_song_may_be_called_so_and_lack_an_artist(raw_songs: pd.DataFrame, write: Write, word: str) -> None:
    songs = raw_songs.drop(columns="track_id")
    songs.loc[3, ["track_name", "artists"]] = [word, None]
    for learn in (True, False):
        assert load_songs(write(songs), need_popularity=learn).songs["title"][3] == word


def test_a_count_below_one_column_is_no_song(raw_songs: pd.DataFrame, write: Write) -> None:
    row = {"track_id": "Count", "popularity": 40}
    path = write(pd.concat([raw_songs, pd.DataFrame([row])], ignore_index=True))
    for learn in (True, False):
        assert len(load_songs(path, need_popularity=learn).songs) == 40


@pytest.mark.parametrize("column", ["popularity", "energy", "duration_ms"])
@pytest.mark.parametrize("learn", [True, False])
def test_a_number_far_below_the_songs_is_no_song(
    raw_songs: pd.DataFrame, write: Write, column: str, learn: bool
) -> None:
    mean = pd.DataFrame([{}, {}, {column: round(raw_songs[column].mean(), 1)}])
    table = load_songs(write(pd.concat([raw_songs, mean], ignore_index=True)), need_popularity=learn)
    assert table.songs["title"].tolist() == raw_songs["track_name"].tolist()
    assert "left out: 3 empty (such as row 41 (line 42))" in table.report.lines()


def test_a_song_of_a_name_and_nothing_else_is_a_song_to_predict(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs.loc[3, raw_songs.columns.drop("track_name")] = None
    raw_songs.loc[4, raw_songs.columns.drop(["energy", "tempo"])] = None
    assert len(load_songs(write(raw_songs), need_popularity=False, deduplicate=False).songs) == 40


@pytest.mark.parametrize("note", ["Source: Spotify", "(40 rows)", "40 rows in set (0.01 sec)", "Note: as of 2024"])
@pytest.mark.parametrize("learn", [True, False])
def test_a_note_in_a_row_of_its_own_is_no_song(raw_songs: pd.DataFrame, write: Write, note: str, learn: bool) -> None:
    notes = pd.DataFrame([{}, {"track_id": note}])
    table = load_songs(write(pd.concat([raw_songs, notes], ignore_index=True)), need_popularity=learn)
    assert len(table.songs) == 40
    assert "1 notes below the songs (such as row 42 (line 43))" in "".join(table.report.lines())


def test_a_song_without_names_and_one_called_total_are_songs(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs.loc[3, ["track_id", "track_name", "artists"]] = None
    raw_songs.loc[4, "track_name"] = "Total"
    assert len(load_songs(write(raw_songs)).songs) == 40


def test_episodes_are_told_by_their_address_or_type(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs.loc[3, "track_id"] = "https://open.spotify.com/episode/" + "a" * 22
    songs = raw_songs.assign(type=["episode" if i == 5 else "track" for i in range(40)])
    assert load_songs(write(songs)).report.left_out[0].count == 2


def test_zeros_in_all_features_are_missing_features(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs.loc[3, [*AUDIO_UNIT, "loudness", "tempo", "key", "mode", "time_signature"]] = 0
    raw_songs.loc[4, [*AUDIO_UNIT]] = 0  # silence with a tempo
    table = load_songs(write(raw_songs), deduplicate=False)
    assert table.songs.loc[3, [*AUDIO_UNIT, "loudness", "key"]].isna().all()
    assert (table.songs.loc[4, [*AUDIO_UNIT]] == 0).all()
    assert table.report.coded_missing["energy"] == 1
