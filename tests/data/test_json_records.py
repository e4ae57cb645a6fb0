"""JSON wraps songs in many ways; each of them gives the same songs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from popularity.data.schema import AUDIO
from popularity.data.songs import load_songs
from popularity.errors import InputError

Write = Callable[..., str]
Records = list[dict[str, Any]]


@pytest.fixture
def records(raw_songs: pd.DataFrame) -> Records:
    found: Records = json.loads(raw_songs.head(6).to_json(orient="records"))
    return found


def tracks(records: Records) -> Records:
    """As Spotify's interface gives songs, without their features."""
    return [
        {
            "id": record["track_id"],
            "name": record["track_name"],
            "artists": [{"name": record["artists"], "id": "x", "type": "artist"}],
            "album": {"name": "Rooms", "release_date": "2001-02-03", "artists": [{"name": "Someone else"}]},
            "duration_ms": record["duration_ms"],
            "popularity": record["popularity"],
            "available_markets": ["DE", "FR"],
        }
        for record in records
    ]


def features(records: Records) -> Records:
    """As it gives features alone."""
    return [
        {"id": record["track_id"], "type": "audio_features"} | {name: record[name] for name in AUDIO}
        for record in records
    ]


def pairs(records: Records, track: str, audio: str, wrap: Callable[[Any], Any] = lambda value: value) -> Records:
    return [{track: one, audio: wrap(other)} for one, other in zip(tracks(records), features(records), strict=True)]


def by_key(records: Records) -> dict[str, Any]:
    return {record["track_id"]: {n: v for n, v in record.items() if n != "track_id"} for record in records}


def mongo(record: dict[str, Any]) -> dict[str, Any]:
    kinds = {int: "$numberInt", float: "$numberDouble"}
    return {name: {kinds[type(v)]: str(v)} if type(v) in kinds else v for name, v in record.items()}


WRAPPED: dict[str, Callable[[Records], Any]] = {
    "by key": by_key,
    "by key, each with a track and features": lambda r: dict(zip("abcdef", pairs(r, "track", "features"), strict=True)),
    "by key, in an envelope": lambda r: {"count": 6, "songs": by_key(r)},
    "lists by playlist": lambda r: {"Rock": r[:2], "Pop": r[2:5], "Jazz": r[5:], "made": "today"},
    "lists in a list": lambda r: [r[:4], r[4:]],
    "pages": lambda r: [{"items": r[:4], "total": 6}, {"items": r[4:], "total": 6}, {"items": [], "total": 6}],
    "playlists, one of a single song": lambda r: [{"name": "A", "tracks": r[:1]}, {"name": "B", "tracks": r[1:]}],
    "playlists, the first without a song": lambda r: [{"name": "A", "tracks": []}, {"name": "B", "tracks": r}],
    "a track and its features": lambda r: pairs(r, "track", "features"),
    "a song and its features": lambda r: pairs(r, "song", "features"),
    "features in a list of one": lambda r: [
        {**track, "audio_features": [audio]} for track, audio in zip(tracks(r), features(r), strict=True)
    ],
    "in an object each": lambda r: [{"song": record} for record in r],
    "GraphQL": lambda r: {"data": {"tracks": {"edges": [{"node": record, "cursor": "x"} for record in r]}}},
    "Elasticsearch": lambda r: {
        "took": 3,
        "hits": {"total": {"value": 6}, "hits": [{"_index": "songs", "_id": "1", "_source": record} for record in r]},
    },
    "Hugging Face": lambda r: {
        "features": [{"name": "energy"}],
        "rows": [{"row_idx": i, "row": record, "truncated_cells": []} for i, record in enumerate(r)],
    },
    "MongoDB": lambda r: [{"_id": {"$oid": "5" * 24}, **mongo(record)} for record in r],
    "R's jsonlite": lambda r: [{name: [value] for name, value in record.items()} for record in r],
    "R's jsonlite, numbers alone": lambda r: [
        {name: [v] if isinstance(v, float) else v for name, v in record.items()} for record in r
    ],
    "rows below a header": lambda r: [list(r[0]), *(list(record.values()) for record in r)],
    "phpMyAdmin": lambda r: [{"type": "header"}, {"type": "table", "name": "songs", "data": r}],
}


@pytest.mark.parametrize("form", WRAPPED)
def test_every_way_to_wrap_songs_gives_the_same(form: str, records: Records, write: Write) -> None:
    expected = load_songs(write(pd.DataFrame(records)), need_popularity=False).songs
    found = load_songs(write(json.dumps(WRAPPED[form](records)), "songs.json"), need_popularity=False).songs
    same = [name for name in expected if name not in ("track_id", "album", "release_date")]
    pd.testing.assert_frame_equal(found[same], expected[same])
    if form != "by key, each with a track and features":  # which has keys of its own
        assert found["track_id"].tolist() == expected["track_id"].tolist()


TEXTS: dict[str, Callable[[Records], str]] = {
    "over several lines each": lambda r: "\n".join(json.dumps(record, indent=1) for record in r),
    "in one line": lambda r: " ".join(map(json.dumps, r)),
    "lines with commas": lambda r: "".join(json.dumps(record) + ",\n" for record in r),
    "lists one after the other": lambda r: json.dumps(r[:2]) + "\n" + json.dumps(r[2:]),
}


@pytest.mark.parametrize("form", TEXTS)
def test_several_values_are_one_table(form: str, records: Records, write: Write) -> None:
    table = load_songs(write(TEXTS[form](records), "songs.json"), need_popularity=False)
    assert table.songs["title"].tolist() == [record["track_name"] for record in records]
    assert table.report.form == "JSON lines"


@pytest.mark.parametrize("count", [2, 3, 5, 6])
@pytest.mark.parametrize("orient", ["index", "columns", "records", "split", "table"])
def test_what_pandas_writes(orient: Any, count: int, raw_songs: pd.DataFrame, write: Write) -> None:
    text = raw_songs.head(count).to_json(orient=orient)
    songs = load_songs(write(text, "songs.json"), need_popularity=False).songs
    assert songs["title"].tolist() == raw_songs["track_name"][:count].tolist()


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("lacking", [False, True])
def test_the_key_is_the_id(count: int, lacking: bool, records: Records, write: Write) -> None:
    songs = by_key(records[:count])
    if lacking:
        del list(songs.values())[1]["key"]
    found = load_songs(write(json.dumps(songs), "songs.json"), need_popularity=False).songs
    assert found["track_id"].tolist() == list(songs)
    assert found["key"].isna().sum() == lacking


def test_what_has_no_song_under_its_key_is_an_empty_song(records: Records, write: Write) -> None:
    songs = {**by_key(records), "gone": None, "wrong": {"error": "not found"}}
    found = load_songs(write(json.dumps(songs), "songs.json"), need_popularity=False).songs
    assert found["track_id"].tolist() == list(songs)
    assert found["energy"].isna().tolist() == [False] * 6 + [True] * 2


@pytest.mark.parametrize("wrap", [lambda r: r, lambda r: {"audio_features": r}, lambda r: {"tracks": {"items": r}}])
@pytest.mark.parametrize("first", [True, False])
def test_nulls_are_left_out_and_counted(wrap: Any, first: bool, records: Records, write: Write) -> None:
    nulls = [None, *records, None] if first else [*records, None, None]
    table = load_songs(write(json.dumps(wrap(nulls)), "songs.json"), need_popularity=False)
    assert len(table.songs) == 6
    assert f"left out: 2 empty (such as row {1 if first else 7})" in table.report.lines()


def test_lines_with_null(records: Records, write: Write) -> None:
    text = "null\n".join(json.dumps(record) + "\n" for record in records)
    assert len(load_songs(write(text, "songs.jsonl"), need_popularity=False).songs) == 6


def album(records: Records, name: str = "Rooms", date: str = "2001-02-03") -> dict[str, Any]:
    fields = ("id", "name", "artists", "duration_ms")
    items = [{field: track[field] for field in fields} | {"track_number": 1} for track in tracks(records)]
    return {
        "id": "a" * 22,
        "name": name,
        "artists": [{"name": "Someone else", "id": "y"}],
        "release_date": date,
        "popularity": 60,
        "genres": ["rock"],
        "images": [{"url": "x", "width": 64}] * 9,
        "tracks": {"href": "x", "items": items, "total": len(items)},
    }


@pytest.mark.parametrize("form", ["object", "list", "envelope", "lines"])
def test_an_album_is_its_tracks(form: str, records: Records, write: Write) -> None:
    albums = [album(records[:4]), album(records[4:], "Roofs", "2011")]
    text = {
        "object": json.dumps(album(records)),
        "list": json.dumps(albums),
        "envelope": json.dumps({"albums": [*albums, None]}),
        "lines": "\n".join(map(json.dumps, albums)),
    }[form]
    songs = load_songs(write(text, "songs.json"), need_popularity=False, optional_audio=True).songs
    assert songs["title"].tolist() == [record["track_name"] for record in records]
    assert songs["artist"].tolist() == [record["artists"] for record in records]
    others = form != "object"
    assert songs["album"].tolist() == ["Rooms"] * 4 + ["Roofs" if others else "Rooms"] * 2
    assert songs["release_date"].dt.year.tolist() == [2001] * 4 + [2011 if others else 2001] * 2
    assert songs["popularity"].isna().all(), "of the album, and not of its tracks"


def test_a_search_gives_its_tracks(records: Records, write: Write) -> None:
    artist = {"id": "x", "name": "A", "popularity": 80, "genres": ["pop"], "uri": "spotify:artist:x"}
    episode = {"id": "e", "name": "E", "duration_ms": 1, "explicit": False, "release_date": "2020-01-01"}
    items = {
        "artists": [artist] * 50,
        "albums": [album([])] * 50,
        "tracks": tracks(records),
        "playlists": [{"id": "p", "name": "P", "owner": {"id": "o"}, "tracks": {"total": 3}}] * 50,
        "episodes": [episode] * 50,
        "shows": [],
    }
    found = {name: {"href": "x", "items": values, "total": len(values)} for name, values in items.items()}
    for kinds in (["tracks", "artists"], list(found)):
        text = json.dumps({kind: found[kind] for kind in kinds})
        songs = load_songs(write(text, "songs.json"), need_popularity=False, optional_audio=True).songs
        assert songs["title"].tolist() == [record["track_name"] for record in records]


@pytest.mark.parametrize("audio", ["features", "audio_features"])
def test_one_song_of_two_objects_is_one(audio: str, records: Records, write: Write) -> None:
    song = pairs(records[:1], "track", audio)[0]
    found = load_songs(write(json.dumps(song), "songs.json"), need_popularity=False).songs
    assert found["title"].tolist() == ["Song 0"]
    assert found["energy"].tolist() == [records[0]["energy"]]


def test_what_a_song_holds_besides_is_not_the_song(records: Records, write: Write) -> None:
    """Similar songs, how sure the features are, and a playlist with a name and a length."""
    song = {
        **records[0],
        "similar": records[1:],
        "confidence": {"key": 0.5, "mode": 0.25},
        "playlist": {"name": "P", "duration_ms": 1, "id": "p"},
    }
    for text in (json.dumps(song), json.dumps([song])):
        found = load_songs(write(text, "songs.json"), need_popularity=False).songs
        assert found["title"].tolist() == ["Song 0"]
        assert found["key"].tolist() == [records[0]["key"]]


def test_features_that_some_songs_lack(records: Records, write: Write) -> None:
    songs = pairs(records, "track", "features")
    songs[0]["features"] = songs[3]["features"] = None
    found = load_songs(write(json.dumps(songs), "songs.json"), need_popularity=False).songs
    assert found["energy"].isna().tolist() == [True, False, False, True, False, False]
    assert found["title"].notna().all()


def test_lists_without_names_are_refused_in_one_line(raw_songs: pd.DataFrame, write: Write) -> None:
    with pytest.raises(InputError, match=r"expected JSON records such as .*, got lists without column names$"):
        load_songs(write(raw_songs.to_json(orient="values"), "songs.json"))


@pytest.mark.parametrize(
    ("content", "line"),
    [('{"a": 1}\n\n{"b": \n', 3), ('{\n"a": 1\n}\n{\n"b": oops\n}', 4), ('[{"a": 1}] and more', 1)],
)
def test_the_line_of_a_damaged_record(content: str, line: int, write: Write) -> None:
    with pytest.raises(InputError, match=f"line {line}: expected a JSON record, got "):
        load_songs(write(content, "songs.json"))


def test_deep_lists_take_no_time(records: Records, write: Write) -> None:
    """Each level is read once; twice at each of 100 levels would never end."""
    found: Any = records
    for _ in range(50):
        found = [{"x": {"y": found}}]
    assert len(load_songs(write(json.dumps(found), "songs.json"), need_popularity=False).songs) == 6
