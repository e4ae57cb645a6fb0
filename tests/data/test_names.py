"""Names of columns: public tools, other languages, which of two candidates wins, and what a user says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from popularity.data.aliases import SPOKEN, TRANSLATED
from popularity.data.columns import is_exportify, match_columns
from popularity.data.songs import load_songs
from popularity.errors import InputError

Write = Callable[..., str]


@pytest.mark.parametrize(("canonical", "name"), [(c, n) for c, names in TRANSLATED.items() for n in names.split("|")])
def test_every_name_of_a_translated_exportify(canonical: str, name: str) -> None:
    assert match_columns([name]).mapped == {canonical: name}


@pytest.mark.parametrize(("canonical", "name"), [(c, n) for c, names in SPOKEN.items() for n in names.split("|")])
def test_every_name_in_other_languages(canonical: str, name: str) -> None:
    assert match_columns([name]).mapped == {canonical: name}
    assert not is_exportify(["Track URI", name])


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("Titulo", "title"),
        ("CANCIÓN", "title"),
        ("ŞARKI", "title"),
        ("Gênero", "genre"),
        ("Álbum", "album"),
        ("Duree (s)", "duration_ms"),
        ("Lautstärke (dB)", "loudness"),
        ("Explicit Track", "explicit"),
        ("Happy", "valence"),
    ],
)
def test_accents_case_and_units_are_no_part_of_a_name(name: str, canonical: str) -> None:
    assert match_columns([name]).mapped == {canonical: name}


@pytest.mark.parametrize("number", range(11))
def test_every_language_is_told_to_be_exportify(number: int) -> None:
    # the first eleven languages have a name of their own for every one of these columns
    header = [TRANSLATED[column].split("|")[number] for column in ("track_id", "artist", "title")]
    assert is_exportify(header)


@pytest.mark.parametrize(
    ("header", "exportify"),
    [
        (["Track URI", "Artist Name(s)"], True),
        (["Track ID", "Artist Name(s)"], True),
        (["Track-URI", "Künstlername(n)"], True),
        (["Artist Name(s)"], False),
        (["track_id", "artist_name"], False),
        (["track_id", "artist_names"], False),
    ],
)
def test_exportify(header: list[str], exportify: bool) -> None:
    assert is_exportify(header) == exportify


SKILEY = {
    "trackFeatureEnergy": "energy",
    "trackFeatureTimeSignature": "time_signature",
    "trackDuration": "duration_ms",
    "albumReleaseDate": "release_date",
    "trackUrl": "track_id",
    "trackPopularity": "popularity",
}
OTHERS = {
    "spotify_track_album": "album",
    "spotify_genre": "genre",
    "track.name": "title",
    "track.album.release_date": "release_date",
    "audio_features.key": "key",
    "Loud (Db)": "loudness",
    "Album Date": "release_date",
    "Acoustic": "acousticness",
    "popularity_track": "popularity",
    "artist_genre": "genre",
    "song_title": "title",
    "album_names": "album",
    "Chord": "key",
    "energy_x": "energy",
}


@pytest.mark.parametrize(("name", "canonical"), [*SKILEY.items(), *OTHERS.items()])
def test_names_of_other_tools(name: str, canonical: str) -> None:
    assert match_columns([name]).mapped == {canonical: name}


@pytest.mark.parametrize(
    "leak", ["popularity_artist", "artistPopularity", "albumPopularity", "artist_pop", "Stream", "artistFollowers"]
)
def test_names_that_leak(leak: str) -> None:
    match = match_columns([leak])
    assert not match.mapped
    assert list(match.leaks) == [leak]


@pytest.mark.parametrize(
    "name",
    ["track_number", "disc_number", "Added At", "artist_id", "Url_spotify", "ms_played", "release time", "times"],
)
def test_names_that_say_nothing(name: str) -> None:
    assert not match_columns([name]).mapped


def test_of_two_sides_of_a_join_the_popularity_must_be_said(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.rename(columns={"popularity": "popularity_x"})
    assert load_songs(write(songs)).songs["popularity"][0] == raw_songs["popularity"][0]
    both = songs.assign(popularity_y=50, energy_x=songs["energy"], energy_y=0).drop(columns="energy")
    path = write(both)
    with pytest.raises(InputError, match="which of 'popularity_x' and 'popularity_y' is the song's") as caught:
        load_songs(path)
    assert "\n" not in str(caught.value)
    songs = load_songs(path, columns={"popularity": "popularity_x"}).songs
    np.testing.assert_array_equal(songs["popularity"], raw_songs["popularity"])
    np.testing.assert_array_equal(songs["energy"], raw_songs["energy"])


def test_what_the_user_says_wins_even_over_the_exact_name(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.assign(My_Score=raw_songs["popularity"] / 2, streams=raw_songs["popularity"] / 4)
    path = write(songs)
    table = load_songs(path, columns={"popularity": "my score"})
    np.testing.assert_array_equal(table.songs["popularity"], songs["My_Score"])
    assert ("popularity", "popularity is read from 'My_Score'") in table.report.ignored
    table = load_songs(path, columns={"popularity": "streams"})
    assert table.report.leaks == ()
    assert table.songs["popularity"].max() < 26


def test_a_prediction_does_without_the_column_of_the_popularity(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.drop(columns="popularity").rename(columns={"energy": "power"})
    columns = {"popularity": "my score", "energy": "power"}
    table = load_songs(write(songs), need_popularity=False, columns=columns)
    np.testing.assert_array_equal(table.songs["energy"], raw_songs["energy"])
    with pytest.raises(InputError, match="columns: popularity: expected a column of the file, got 'my score'"):
        load_songs(write(songs), columns=columns)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"popularty": "energy"}, "columns: expected one of track_id, .* got 'popularty', did you mean popularity?"),
        (
            {"popularity": "energi"},
            "columns: popularity: expected .* got 'energi', did you mean 'energy'",
        ),
        (
            {"popularity": "energy", "tempo": "energy"},
            "columns: expected .* once, got 'energy' twice",
        ),
    ],
)
def test_what_the_user_says_is_checked(
    raw_songs: pd.DataFrame, write: Write, columns: dict[str, str], message: str
) -> None:
    path = write(raw_songs)
    with pytest.raises(InputError, match=message) as caught:
        load_songs(path, columns=columns)
    assert str(caught.value).startswith(path)


def test_the_cells_decide_which_candidate_is_the_id(raw_songs: pd.DataFrame, write: Write) -> None:
    uri = "spotify:track:" + raw_songs["track_id"]
    lists = ["4ListListListListList1" + str(i % 2) for i in range(40)]
    songs = raw_songs.drop(columns="track_id").assign(id=lists, track_uri=uri)
    table = load_songs(write(songs))
    assert table.songs["track_id"].tolist() == raw_songs["track_id"].tolist()
    assert ("id", "not track_id: 2 values for 40 titles") in table.report.ignored
    assert load_songs(write(songs.drop(columns="track_uri"))).songs["track_id"].isna().all()
    numbered = songs.assign(id=range(40))
    assert load_songs(write(numbered)).songs["track_id"].tolist() == raw_songs["track_id"].tolist()
    pages = songs.assign(id=None, track_uri=None, url=[f"https://open.spotify.com/artist/{i:022}" for i in range(40)])
    assert load_songs(write(pages)).songs["track_id"].isna().all()


def test_charts_may_name_a_song_many_times(raw_songs: pd.DataFrame, write: Write) -> None:
    days = pd.concat([raw_songs] * 5)
    table = load_songs(write(days))
    assert table.report.duplicates["same id"] == 160


def test_a_track_number_is_no_title(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.rename(columns={"track_name": "Title"}).assign(Track=range(1, 41))
    assert load_songs(write(songs)).songs["title"][0] == "Song 0"
    video = raw_songs.rename(columns={"track_name": "Track"}).assign(Title="Official Video")
    assert load_songs(write(video)).songs["title"][0] == "Song 0"


def test_an_empty_column_gives_way(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.rename(columns={"track_name": "title"}).assign(track_name="")
    assert load_songs(write(songs)).songs["title"][0] == "Song 0"


@pytest.mark.parametrize("name", ["Popularity (0-100)", "popularity [0 to 100]", "Popularity (in %)"])
def test_a_scale_in_brackets_is_no_part_of_the_name(name: str) -> None:
    assert match_columns([name, "energy (0-1)"]).mapped == {"popularity": name, "energy": "energy (0-1)"}


def test_brackets_with_words_are_part_of_the_name() -> None:
    assert "popularity" not in match_columns(["Popularity (artist)"]).mapped


def test_of_two_columns_with_one_name_the_one_with_values_is_read(raw_songs: pd.DataFrame, write: Write) -> None:
    text = raw_songs.assign(blank="")[["blank", *raw_songs]].to_csv(index=False).replace("blank,", "energy,", 1)
    assert load_songs(write(text)).songs["energy"].tolist() == raw_songs["energy"].tolist()


def test_the_popularity_of_the_track_wins_over_one_that_may_be_the_artists(
    raw_songs: pd.DataFrame, write: Write
) -> None:
    songs = raw_songs.assign(track_popularity=raw_songs["popularity"], popularity=80 + np.arange(40) % 8)
    table = load_songs(write(songs))
    assert table.songs["popularity"].tolist() == raw_songs["popularity"].tolist()
    assert "not used: 'popularity' (popularity is read from 'track_popularity')" in table.report.lines()


@pytest.mark.parametrize("second", ["popularity.1", "popularity"])
def test_of_two_popularities_of_one_name_the_songs_must_be_said(
    raw_songs: pd.DataFrame, write: Write, second: str
) -> None:
    artists = raw_songs.index % 8
    join = pd.DataFrame(
        {"id": [f"{i:022}" for i in 9000 + artists], "name": raw_songs["artists"], "popularity": artists}
    )
    songs = raw_songs.rename(columns={"track_id": "id", "track_name": "name"})
    both = pd.concat([join, songs], axis=1)
    if second == "popularity.1":
        both.columns = [*join, *(f"{name}.1" if name in join else name for name in songs)]
    name = {"popularity": "popularity (2)"}.get(second, second)
    question = f"which of 'popularity' and '{name}' is the song's? Say so with --columns '{{popularity: ...}}'"
    with pytest.raises(InputError) as caught:
        load_songs(write(both))
    assert str(caught.value).count(question) == 1
    table = load_songs(write(both), columns={"popularity": name})
    for column, own in {"track_id": "track_id", "title": "track_name", "popularity": "popularity"}.items():
        assert table.songs[column].tolist() == raw_songs[own].tolist()


@pytest.mark.parametrize("second", ["popularity.1", "popularity (2)", "popularity_left"])
def test_copies_of_one_popularity_need_no_word(raw_songs: pd.DataFrame, write: Write, second: str) -> None:
    songs = raw_songs.assign(**{second: raw_songs["popularity"].astype(float)})
    assert load_songs(write(songs)).songs["popularity"].tolist() == raw_songs["popularity"].tolist()


def test_a_column_that_cannot_be_read_gives_way(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.assign(
        track_popularity=np.where(raw_songs["popularity"] > 50, "High", "Low"),
        bpm=raw_songs["tempo"],
        tempo="fast",
        musical_key=raw_songs["key"],
        key=range(100, 140),
        year=2019,
        released="yes",
    )
    found = load_songs(write(songs)).songs
    for name in ("popularity", "tempo", "key"):
        assert found[name].tolist() == raw_songs[name].tolist()
    assert found["release_date"].notna().all()


def test_flags_of_genres_are_no_features(raw_songs: pd.DataFrame, write: Write) -> None:
    flags = dict.fromkeys(("pop", "live", "acoustic", "instrumental", "dance"), raw_songs.index % 2)
    names = {"popularity": "Spotify Track Popularity Score", "liveness": "Liveness [0-1]", "energy": "Energy (0-1)"}
    songs = raw_songs.rename(columns=names)
    found = load_songs(write(pd.concat([pd.DataFrame(flags), songs], axis=1))).songs
    for name in ("popularity", "liveness", "energy", "acousticness", "instrumentalness", "danceability"):
        assert found[name].tolist() == raw_songs[name].tolist()
    scaled = raw_songs.rename(columns={"popularity": "Popularity (0-100)"}).assign(pop=flags["pop"])
    assert load_songs(write(scaled)).songs["popularity"].tolist() == raw_songs["popularity"].tolist()


def test_the_duration_of_the_track_wins_over_that_of_the_album(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.rename(columns={"duration_ms": "track_duration"}).assign(duration=2_700_000)
    assert load_songs(write(songs)).songs["duration_ms"].tolist() == raw_songs["duration_ms"].tolist()


@pytest.mark.parametrize("song", ["song", "song_name", "track", "track_title", "titles"])
def test_the_names_of_a_few_playlists_are_no_titles(raw_songs: pd.DataFrame, write: Write, song: str) -> None:
    songs = raw_songs.rename(columns={"track_name": song}).assign(title=[f"Playlist {i % 5}" for i in range(40)])
    assert load_songs(write(songs)).songs["title"].tolist() == raw_songs["track_name"].tolist()


def test_titles_of_half_the_songs_win_over_playlists_of_the_other_half(raw_songs: pd.DataFrame, write: Write) -> None:
    half = raw_songs.index < 20
    songs = raw_songs.rename(columns={"track_name": "song_name"}).assign(title=np.where(half, "", "Hard Techno"))
    songs["song_name"] = songs["song_name"].where(half, "")
    found = load_songs(write(songs)).songs["title"]
    assert found[half].tolist() == raw_songs["track_name"][half].tolist()
    assert found[~half].isna().all()


def test_a_place_on_a_record_is_no_title(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.rename(columns={"track_name": "title"}).assign(track=[f"A{i % 5}" for i in range(40)])
    assert load_songs(write(songs)).songs["title"].tolist() == raw_songs["track_name"].tolist()


@pytest.mark.parametrize("form", ["{}", "['{}']", "{0};{0}"])
def test_names_win_over_ids(raw_songs: pd.DataFrame, write: Write, form: str) -> None:
    ids = [form.format(f"4Artist{i % 8:015}") for i in range(40)]
    songs = raw_songs.rename(columns={"artists": "artist_name"}).assign(artists=ids, album=ids, album_name="Rooms")
    found = load_songs(write(songs)).songs
    assert found["artist"].tolist() == raw_songs["artists"].tolist()
    assert set(found["album"]) == {"Rooms"}


@pytest.mark.parametrize("form", ["{}", "spotify:track:{}", "https://open.spotify.com/track/{}"])
def test_ids_under_the_name_of_a_title_are_ids(raw_songs: pd.DataFrame, write: Write, form: str) -> None:
    songs = raw_songs.assign(track=[form.format(own) for own in raw_songs["track_id"]]).drop(columns="track_id")
    for table in (songs, songs.drop(columns="track_name")):
        assert load_songs(write(table)).songs["track_id"].tolist() == raw_songs["track_id"].tolist()


def test_a_release_is_an_album_where_it_is_no_date(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.assign(release=[f"Album {i % 9}" for i in range(40)])
    for table in (songs, songs.assign(year=2019)):
        assert load_songs(write(table)).songs["album"][0] == "Album 0"
    dated = load_songs(write(raw_songs.assign(release="2019-05-01"))).songs
    assert dated["release_date"].notna().all()
    assert dated["album"].isna().all()
