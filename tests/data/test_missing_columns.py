"""With ``optional_audio`` a file needs no audio column, but something that a model reads."""

from __future__ import annotations

import pytest

from popularity.data.schema import NOT_ESTIMATED
from popularity.errors import InputError
from tests.conftest import Lazy, make_songs

songs_module = Lazy("popularity.data.songs")
HINT = r"; a model does without them after fit --data.optional_audio true$"


@pytest.fixture
def load(tmp_path):
    def load(frame, **options):
        frame.to_csv(tmp_path / "songs.csv", index=False)
        return songs_module.load_songs(str(tmp_path / "songs.csv"), deduplicate=False, **options).songs

    return load


@pytest.mark.parametrize("learn", [True, False])
def test_columns_may_be_missing(learn, load):
    few = make_songs(30).drop(columns=list(NOT_ESTIMATED))
    read = load(few, need_popularity=learn, optional_audio=True)
    assert read["tempo"].tolist() == few["tempo"].tolist()
    assert read[list(NOT_ESTIMATED)].isna().all(axis=None)
    with pytest.raises(InputError, match="no column for acousticness, danceability, .*; the file has .*" + HINT):
        load(few, need_popularity=learn)


@pytest.mark.parametrize("learn", [True, False])
def test_columns_may_be_empty(learn, load):
    few = make_songs(30).assign(**dict.fromkeys(NOT_ESTIMATED, ""))
    assert load(few, need_popularity=learn, optional_audio=True)["key"].notna().all()
    with pytest.raises(InputError, match="got no value in any row" + ("" if learn else ".*" + HINT)):
        load(few, need_popularity=learn)


def test_the_popularity_is_still_needed(load):
    with pytest.raises(InputError, match=r"no column for popularity; the file has [^;]*$"):
        load(make_songs(30).drop(columns="popularity"), optional_audio=True)


def test_some_column_must_differ_between_songs_to_learn_from(load):
    alike = make_songs(30)[["track_id", "tempo", "popularity"]].assign(tempo=120)
    with pytest.raises(InputError, match="expected a column that differs between songs, got none to learn from"):
        load(alike, optional_audio=True)
    load(alike.assign(tempo=range(100, 130)), optional_audio=True)


def test_songs_to_predict_must_hold_something(load):
    empty = make_songs(30)[["track_id", "tempo"]].assign(tempo="")
    with pytest.raises(InputError, match="expected songs, got no value in any column that a model reads"):
        load(empty, need_popularity=False, optional_audio=True)


def test_a_file_in_parts_may_lack_columns(tmp_path):
    make_songs(30).drop(columns=list(NOT_ESTIMATED)).to_csv(tmp_path / "songs.csv", index=False)
    parts = list(songs_module.songs_in_parts(str(tmp_path / "songs.csv"), optional_audio=True))
    assert sum(len(part.songs) for part in parts) == 30
    with pytest.raises(InputError, match=HINT):
        list(songs_module.songs_in_parts(str(tmp_path / "songs.csv")))
