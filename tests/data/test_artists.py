"""Artist cells in all the forms that public files have."""

from __future__ import annotations

import json
from collections.abc import Callable

import pandas as pd
import pytest

from popularity.data.artists import decide_names, join_artists, join_genres
from popularity.data.songs import load_songs

Write = Callable[..., str]


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("A; B;", "A;B"),
        ("['A', \"B's\"]", "A;B's"),
        ('["A", "B \\u00e9"]', "A;B é"),
        ("['A' 'B']", "A;B"),
        ("array(['A', 'B'], dtype=object)", "A;B"),
        ("('A', 'B')", "A;B"),
        ("{'A', 'B'}", "A;B"),
        ('c("A", "B")', "A;B"),
        ("[u'A', u\"B's\"]", "A;B's"),
        ("[np.str_('A'), np.str_('B')]", "A;B"),
        ("array(['A', 'B'], dtype='<U1')", "A;B"),
        ("['Guns N' Roses']", "Guns N' Roses"),
        ("['A', 'Rock 'n' Roll', 'B']", "A;Rock 'n' Roll;B"),
        ("array(['Guns N' Roses'], dtype=object)", "Guns N' Roses"),
        ("('Guns N' Roses',)", "Guns N' Roses"),
        ("[]", ""),
        ("[None, 'A']", "A"),
        ("[{'name': 'A', 'id': 'x'}, {'id': 'y', 'name': \"B's\"}]", "A;B's"),
        ('{"external_urls": {"spotify": "x"}, "name": "A"}', "A"),
        ('[{"name": "A \\"B\\" C"}]', 'A "B" C'),
        ("[spunge]", "[spunge]"),
        ("(hed) p.e.", "(hed) p.e."),
        ("Tyler, The Creator", "Tyler, The Creator"),
        ("M|O|O|N", "M|O|O|N"),
        ("AC/DC", "AC/DC"),
        ("Earth, Wind & Fire", "Earth, Wind & Fire"),
    ],
)
def test_one_cell(cell: str, names: str) -> None:
    assert join_artists(cell) == names


def split(cells: list[str], *, exportify: bool = False, quoted: bool = False) -> list[str]:
    rule = decide_names(cells, exportify=exportify, quoted_header=quoted)
    return [join_artists(cell, rule) for cell in cells]


def test_exportify_with_its_header_in_quotes_escapes_the_commas_of_a_name() -> None:
    cells = ["Tyler\\, The Creator, Kali Uchis", "A, B"]
    assert split(cells, exportify=True, quoted=True) == ["Tyler, The Creator;Kali Uchis", "A;B"]
    assert split(["A, B"], exportify=True, quoted=True) == ["A;B"]
    assert split(["A, B"], exportify=True) == ["A, B"]


def test_exportify_with_a_comma_alone_keeps_a_comma_and_a_blank() -> None:
    cells = ["Tyler, The Creator,Kali Uchis", "10,000 Maniacs", "A,B"]
    assert split(cells, exportify=True) == ["Tyler, The Creator;Kali Uchis", "10,000 Maniacs", "A;B"]


def test_semicolons_anywhere_make_commas_part_of_names() -> None:
    cells = ["Petra, The Painter", "A;B", "Petra", "A, B"]
    assert split(cells, exportify=True) == cells
    assert split(cells) == cells


def test_pieces_that_stand_alone_part_names_and_names_with_commas_stay() -> None:
    cells = ["Tyler, The Creator", "Tyler, The Creator, Kali Uchis", "Kali Uchis", "SZA", "Kali Uchis, SZA"]
    assert split(cells) == [
        "Tyler, The Creator",
        "Tyler, The Creator;Kali Uchis",
        "Kali Uchis",
        "SZA",
        "Kali Uchis;SZA",
    ]


def test_a_first_artist_of_two_pairs_is_one_artist() -> None:
    assert split(["A, B", "A, C", "X, The Y"]) == ["A;B", "A;C", "X, The Y"]


def test_a_chance_meeting_does_not_part_the_names_of_a_file() -> None:
    cells = ["Tyler, The Creator", "Tyler", "Earth, Wind & Fire", "Crosby, Stills & Nash", "Peter, Paul and Mary"]
    rule = decide_names(cells, exportify=False, quoted_header=False)
    assert [join_artists(cell, rule) for cell in cells] == cells
    assert "cells with commas taken as one name: 4, such as 'Tyler, The Creator'" in rule.note


def test_lists_without_quotes_where_every_cell_is_one() -> None:
    assert split(["[A, B]", "[C]", "[D]"]) == ["A;B", "C", "D"]
    assert split(["[spunge]", "A", "B"]) == ["[spunge]", "A", "B"]


def test_names_in_quotes_may_hold_one() -> None:
    assert split(["'Guns N' Roses'", "'A'", "'B'; 'Rock 'n' Roll'"]) == ["Guns N' Roses", "A", "B;Rock 'n' Roll"]
    assert split([f'"{name}"' for name in "ABCDEFGHI"] + ["abba"])[-1] == "abba"


def test_guests_are_names_of_their_own_where_the_file_does_so() -> None:
    cells = ["Drake Featuring Rihanna", "A (feat. B)", "C ft. D & E", "Little Feat", "Ft. Worth"]
    assert split(cells) == ["Drake;Rihanna", "A;B", "C;D & E", "Little Feat", "Ft. Worth"]
    assert split([*(f"Artist {i}" for i in range(200)), "A feat. B"])[-1] == "A feat. B"


@pytest.mark.parametrize(
    ("cell", "genres"),
    [
        ("dance pop,pop", "dance pop;pop"),
        ("['rock', 'soft rock']", "rock;soft rock"),
        ("[]", ""),
        ("r&b", "r&b"),
        ("pop; rock", "pop;rock"),
        ('[{"name": "pop"}]', "pop"),
    ],
)
def test_genres(cell: str, genres: str) -> None:
    assert join_genres(cell) == genres


@pytest.mark.parametrize("form", ["python", "json", "parquet", "jsonl", "json file"])
def test_dicts_of_the_interface_in_every_kind_of_file(raw_songs: pd.DataFrame, write: Write, form: str) -> None:
    dicts = [[{"id": f"x{i}", "name": f"Artist {i % 8}"}, {"id": "y", "name": "B's"}] for i in range(len(raw_songs))]
    if form in ("python", "json"):
        dump = repr if form == "python" else json.dumps
        path = write(raw_songs.assign(artists=[dump(names) for names in dicts]))
    else:
        songs = raw_songs.assign(artists=dicts)
        path = {
            "parquet": lambda: write(songs, "songs.parquet"),
            "jsonl": lambda: write(songs.to_json(orient="records", lines=True), "songs.jsonl"),
            "json file": lambda: write(songs.to_json(orient="records"), "songs.json"),
        }[form]()
    songs = load_songs(path).songs
    assert songs["artist"].tolist() == [f"Artist {i % 8};B's" for i in range(40)]


def test_the_album_of_the_interface_gives_its_name(raw_songs: pd.DataFrame, write: Write) -> None:
    album = {"album_type": "album", "artists": [{"name": "Nobody"}], "name": "Été's", "release_date": None}
    for dump in (repr, json.dumps):
        assert load_songs(write(raw_songs.assign(album=dump(album)))).songs["album"].unique().tolist() == ["Été's"]
    assert load_songs(write(raw_songs.assign(album="{'name': 'cut off"))).songs["album"].isna().all()


@pytest.mark.parametrize("word", ["empty_field", "<NA>", "N/A", "[unknown]", "[]", "?", "\\N"])
def test_words_for_nobody(raw_songs: pd.DataFrame, write: Write, word: str) -> None:
    raw_songs.loc[3, "artists"] = word
    assert load_songs(write(raw_songs)).songs["artist"].isna().to_numpy().nonzero()[0].tolist() == [3]


def test_unknown_is_nobody_only_where_it_is_said_often(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs.loc[3, "artists"] = "Unknown"
    assert load_songs(write(raw_songs)).songs["artist"][3] == "Unknown"
    raw_songs.loc[4, "artists"] = "Unknown"
    assert load_songs(write(raw_songs)).songs["artist"].isna().sum() == 2


def test_plain_names_win_over_dicts_and_over_ids(raw_songs: pd.DataFrame, write: Write) -> None:
    dicts = [repr([{"name": "X"}])] * 40
    songs = raw_songs.rename(columns={"artists": "artist_names"}).assign(artists=dicts)
    assert load_songs(write(songs)).songs["artist"][0] == "Artist 0"


SEVERAL = ["Nora Quill", "Nora Quill;Zoë Åse", "Zoë Åse", "Basil & Reed", "Zoë Åse;Basil & Reed"]


@pytest.mark.parametrize(
    "form",
    [
        lambda names: json.dumps([{"name": name, "images": [{"name": "cover"}]} for name in names]),
        lambda names: repr([{"genres": [{"name": "pop"}], "name": name} for name in names]),
        lambda names: json.dumps([{"Id": 7, "Name": name} for name in names]),
        lambda names: json.dumps(json.dumps(names)),
        lambda names: repr([names]),
        lambda names: ";".join(f'"{name}"' for name in names),
        lambda names: ",".join(f'"{name}"' for name in names),
        lambda names: "{" + ",".join(names) + "}",
        lambda names: "|".join(names),
        lambda names: " / ".join(names),
        lambda names: " • ".join(names),
        lambda names: "\n".join(names),
        lambda names: "、".join(names),
        lambda names: "，".join(names),
        lambda names: ", ".join(f"'{name}'" for name in names),
        lambda names: ";".join(names).replace("&", "&amp;"),
    ],
)
def test_several_names_in_further_forms(
    raw_songs: pd.DataFrame, write: Write, form: Callable[[list[str]], str]
) -> None:
    songs = raw_songs.head(5).assign(artists=[form(cell.split(";")) for cell in SEVERAL])
    assert load_songs(write(songs)).songs["artist"].tolist() == SEVERAL


def test_a_bar_or_slash_whose_parts_never_stand_alone_is_part_of_a_name(raw_songs: pd.DataFrame, write: Write) -> None:
    names = ["AC / DC", "Either|Or", "Zoë Åse", "Basil & Reed", '"Weird" Al']
    assert load_songs(write(raw_songs.head(5).assign(artists=names))).songs["artist"].tolist() == names


@pytest.mark.parametrize("cell", ['[{"id": 1, "label": "Nora"}]', '{"0Xa1": "Nora", "0Xa2": "Zoë"}', "[{}]"])
def test_dicts_without_names_are_missing_and_said(raw_songs: pd.DataFrame, write: Write, cell: str) -> None:
    table = load_songs(write(raw_songs.assign(artists=[cell, *raw_songs["artists"][1:]])))
    assert pd.isna(table.songs["artist"][0])
    assert f"artist: 1 cell taken as missing, such as {cell!r} in row 1" in "\n".join(table.report.lines())


def test_html_entities_are_characters_in_titles_too(raw_songs: pd.DataFrame, write: Write) -> None:
    table = load_songs(write(raw_songs.assign(track_name=["Rock &amp; Don&#39;t", *raw_songs["track_name"][1:]])))
    assert table.songs["title"][0] == "Rock & Don't"
    assert "HTML entities" in "\n".join(table.report.lines())


def test_one_column_for_each_artist(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.head(2).drop(columns="artists")
    songs = songs.assign(artist_1=["Nora", "Zoë"], artist_2=["Zoë", ""], artist_3=["Basil", ""])
    table = load_songs(write(songs))
    assert table.songs["artist"].tolist() == ["Nora;Zoë;Basil", "Zoë"]
    assert "and 'artist_2', and 'artist_3'" in "\n".join(table.report.lines())
