"""Small files in the shape of public ones, each with its right value or its one line; see the README beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from popularity.data.songs import SongTable, load_songs
from popularity.errors import InputError

CASES = Path(__file__).resolve().parents[2].parent / "shared" / "cases"


def case(name: str) -> str:
    path = CASES / name
    if not path.is_file():
        pytest.skip(f"{name} is not beside this checkout (looked at {path})")
    return str(path)


def said(table: SongTable) -> str:
    return "\n".join(table.report.lines())


# file -> {(row from 1, column): value}; None is missing
READ: dict[str, dict[tuple[int, str], Any]] = {
    "M02.csv": {(1, "title"): "Paper Harbour 1"},
    "M05.csv": {(1, "key"): 3, (1, "genre"): "dance pop;pop"},
    "R01.csv": {(2, "release_date"): "2001-02-04"},
    "R01b.csv": {(2, "release_date"): "2001-02-04"},
    "R01d.csv": {(4, "release_date"): "2003-01-01", (5, "release_date"): "1999-05-01"},
    "R02.csv": {(1, "duration_ms"): 211_000, (1, "energy"): 0.76, (1, "title"): "Señal 1"},
    "R03.csv": {(1, "duration_ms"): 210_825},
    "R04.csv": {
        (1, "energy"): 0.76,
        (1, "duration_ms"): 211_000,
        (1, "loudness"): -16,
        (1, "key"): 3,
        (1, "mode"): 0,
        (1, "release_date"): "2000-01-01",
        (4, "release_date"): "2003-01-01",
    },
    "R05.csv": {
        (1, "energy"): 0.755,
        (1, "duration_ms"): 211_000,
        (1, "popularity"): 87,
        (1, "track_id"): "QDvgj241aOEUvBYJDxyVhO",
        (1, "artist"): "Nora Quill;Petra Vane",
        (2, "artist"): "The Tin Harbour",
    },
    "R06.csv": {
        (1, "duration_ms"): 210_825,
        (1, "popularity"): 87,
        (1, "explicit"): 0,
        (1, "album"): "Paper Rooms",
        (1, "genre"): "rock;soft rock",
        (1, "track_id"): "QDvgj241aOEUvBYJDxyVhO",
    },
    "R07.csv": {(1, "artist"): "Petra, The Painter;Kite Parade", (1, "energy"): 0.755, (1, "time_signature"): 4},
    "R09.csv": {(1, "energy"): 0.76, (9, "energy"): 0.96, (1, "duration_ms"): 211_000},
    "R12.csv": {(3, "tempo"): None, (6, "tempo"): None, (8, "duration_ms"): None},
    "R13.zip": {(1, "title"): "Paper Harbour 1"},
    "R17.csv": {(1, "popularity"): 87},
    "R22.csv": {(1, "energy"): 0.76, (1, "loudness"): -16.5, (1, "duration_ms"): 211_000},
    "U01.xlsx": {(1, "title"): "Paper Harbour 1", (1, "popularity"): 87},
    "U03.json": {(1, "title"): "Paper Harbour 1", (1, "popularity"): 87},
    "U03b.jsonl": {(1, "title"): "Paper Harbour 1", (1, "popularity"): 87},
    "U04.csv": {(1, "title"): "Paper Harbour 1", (1, "popularity"): 87},
    "W01.csv": {(1, "artist"): "Nora Quill;Petra Vane", (2, "artist"): "The Tin Harbour"},
    "W01c.csv": {(1, "artist"): "Nora Quill", (2, "artist"): "The Tin Harbour"},
    "W02.csv": {(1, "artist"): "Nora Quill;Petra Vane"},
    "W03.csv": {(1, "artist"): "Nora Quill;Petra Vane", (4, "artist"): "Petra Vane;Basil & Reed"},
    "W04.csv": {(1, "artist"): "Petra, The Painter"},
    "W07.csv": {(1, "track_id"): "QDvgj241aOEUvBYJDxyVhO"},
    "W08.tsv": {(3, "title"): '"Harbour in the rain'},
    "W10.csv": {(4, "duration_ms"): 194_040, (1, "tempo"): 115.535},
    "W11.csv": {(1, "instrumentalness"): 0.0046, (1, "energy"): 0.755},
    "W17.csv": {(2, "duration_ms"): 186_347, (1, "duration_ms"): 210_825},
    "W20.csv": {(2, "artist"): "The Tin Harbour", **{(row, "artist"): None for row in range(3, 12)}},
}
SONGS = dict.fromkeys(READ, 20) | {"R06.csv": 18, "R09.csv": 9}
TWICE = {"R12.csv": 20}


@pytest.mark.parametrize("name", READ)
def test_the_right_values(name: str) -> None:
    table = load_songs(case(name), deduplicate=False)
    assert len(table.songs) == SONGS[name]
    for (row, column), value in READ[name].items():
        found = table.songs[column].iloc[row - 1]
        if value is None:
            assert pd.isna(found), (row, column)
        elif column == "release_date":
            assert found == pd.Timestamp(value), (row, column)
        elif isinstance(value, str):
            assert found == value, (row, column)
        else:
            assert found == pytest.approx(value, abs=0.5 if column == "duration_ms" else 1e-9), (row, column)


def test_no_song_is_lost_as_a_duplicate() -> None:
    assert len(load_songs(case("W07.csv")).songs) == 20
    assert len(load_songs(case("W08.tsv")).songs) == 20


@pytest.mark.parametrize("name", ["R06.csv", "R10.csv"])
def test_songs_without_popularity_are_left_out_and_counted(name: str) -> None:
    table = load_songs(case(name))
    assert len(table.songs) == 18
    assert "left out: 2 without popularity" in said(table)


def test_removed_tracks_and_local_files_are_left_out() -> None:
    table = load_songs(case("W12.csv"))
    assert len(table.songs) == 17
    assert (
        "2 removed from Spotify (such as row 4 (line 5)), 1 local files or podcasts (such as row 7 (line 8))"
        in said(table)
    )


@pytest.mark.parametrize("learn", [True, False])
def test_empty_rows_are_no_songs(learn: bool) -> None:
    assert len(load_songs(case("W16.csv"), need_popularity=learn, deduplicate=False).songs) == 14


def test_a_title_is_that_of_the_song_and_not_of_its_video() -> None:
    table = load_songs(case("W06.csv"), need_popularity=False)
    assert table.songs["title"][0] == "Paper Harbour 1"


def test_predicting_does_not_need_the_popularity_nor_what_it_holds() -> None:
    assert len(load_songs(case("R11.csv"), need_popularity=False, deduplicate=False).songs) == 20


def test_one_song_in_per_cent() -> None:
    songs = load_songs(case("R18.csv"), need_popularity=False).songs
    assert songs[["danceability", "energy", "valence"]].iloc[0].tolist() == pytest.approx([0.49, 0.76, 0.91])


def test_the_artists_popularity_is_a_leak() -> None:
    assert ("artist_pop", "artist_popularity") in load_songs(case("R17.csv")).report.leaks


def test_one_cell_in_another_encoding_leaves_the_rest_alone() -> None:
    songs = load_songs(case("W09.csv")).songs
    assert songs["title"].tolist() == [f"Café Été {row}" for row in range(1, 21)]
    assert set(songs["artist"]) == {"Zoë Åse"}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("W15.csv", "no value in any row for 8 of the 9 columns"),
        ("W19.csv", r"column 'tempo': expected beats per minute, got a median of 0\.\d+"),
        ("U06.csv", "Git LFS pointer"),
    ],
)
def test_the_right_refusal(name: str, line: str) -> None:
    with pytest.raises(InputError, match=line) as caught:
        load_songs(case(name), need_popularity=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("R01.csv", "release_date from 'Release Date': month/day/year"),
        ("R01b.csv", "release_date from 'release_date': day/month/year"),
        ("W03.csv", "artist from 'artist_name': split at ','"),
        ("W04.csv", "commas taken as one name: 1, such as 'Petra, The Painter'"),
        ("W17.csv", "duration_ms from 'duration_ms': 3 cells in another unit"),
        ("U04.csv", "header in line 2"),
        ("W09.csv", "utf-8, 2 bytes of Windows-1252"),
    ],
)
def test_what_was_decided_is_said(name: str, line: str) -> None:
    assert line in said(load_songs(case(name)))


def test_first_named_artists_stay_on_one_side() -> None:
    from popularity.data.credits import artist_names
    from popularity.data.splits import make_split

    songs = load_songs(case("W03.csv")).songs
    first: Callable[[Any], set[str]] = lambda rows: {names[0] for names in artist_names(songs.iloc[rows])}  # noqa: E731
    for fold in range(5):
        split = make_split(songs, "artist", fold=fold)
        assert not first(split.train) & first(split.test)
