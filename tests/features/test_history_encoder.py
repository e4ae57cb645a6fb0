"""The memory of known songs: what the network is shown of them, and of whom it never is."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from tests.conftest import make_songs


@pytest.fixture(scope="module", autouse=True)
def _imports() -> None:
    """What is slow to import: with the first of these tests, not while tests are collected."""
    global torch, HistoryEncoder, ALBUM, NOBODY, CREDITED, RETRIEVED, SAME, CODES, inner_folds, load_songs, artist_names
    import torch

    from popularity.data.credits import artist_names
    from popularity.data.songs import load_songs
    from popularity.data.splits import inner_folds
    from popularity.features.encoder import HistoryEncoder
    from popularity.features.related import ALBUM, CREDITED, NOBODY, RETRIEVED, SAME
    from popularity.features.song import CODES


@pytest.fixture(scope="module")
def songs(tmp_path_factory) -> pd.DataFrame:
    """120 songs by some 15 artists; every fifth features another."""
    frame = make_songs(120)
    rng = np.random.default_rng(1)
    frame["artist_name"] = [f"Artist {i}" for i in rng.integers(0, 15, 120)]
    guests = rng.integers(0, 15, 120)
    frame["track_name"] = [f"Song {i}" + (f" (feat. Artist {guests[i]})" if i % 5 == 0 else "") for i in range(120)]
    path = tmp_path_factory.mktemp("memory") / "songs.csv"
    frame.to_csv(path, index=False)
    return load_songs(str(path)).songs


def fitted(songs: pd.DataFrame, kind: str = "random", **options) -> HistoryEncoder:
    return HistoryEncoder(**options).fit(songs, inner_folds(songs, kind), earlier=kind == "time")


def drawn(encoder: HistoryEncoder, songs: pd.DataFrame, *, training: bool, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    return encoder.draw(encoder.encode(songs, training=training), generator, training=training)


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k].nan_to_num(), other[k].nan_to_num()) for k in one)


@pytest.mark.parametrize("titles", [True, False])
def test_shapes(titles, songs):
    train, new = songs.iloc[:100], songs.iloc[100:]
    encoder = fitted(train, titles=titles, scores=True, retrieved=3, draws=2, repeats=3, length=5)
    sizes = encoder.sizes
    assert encoder.known["song"].shape == (100, sizes["song"])
    assert encoder.known["popularity"].tolist() == train["popularity"].tolist()
    encoded = encoder.encode(new)
    assert encoded["song"].shape == (20, sizes["song"])
    assert encoded["category"].shape == (20, len(CODES))
    assert encoded["extras"].shape == (20, sizes["extras"])
    assert sizes["extras"] == (2 if titles else 0)
    assert encoded["month"].shape == (20,)
    assert encoded["row"].shape == encoded["role"].shape == encoded["key"].shape
    assert all(torch.isfinite(encoded[name]).all() for name in ("song", "extras", "key"))
    for training, draws in ((True, 2), (False, 6)):
        rows = drawn(encoder, train if training else new, training=training)
        n, histories, longest = rows["known"].shape
        assert (n, histories) == (100 if training else 20, draws)
        assert longest <= 5 + 3  # retrieved songs come on top
        assert rows["kind"].shape == rows["known"].shape
        assert rows["length"].tolist() == (rows["kind"] != NOBODY).sum(-1).amax(-1).tolist()
        assert not {"row", "role", "key"} & rows.keys()


@pytest.mark.parametrize("kind", ["random", "time"])
def test_state_survives_a_weights_only_file(kind, songs):
    train, new = songs.iloc[:100], songs.iloc[100:]
    encoder = fitted(train, kind, retrieved=2)
    file = io.BytesIO()
    torch.save(encoder.state(), file)
    file.seek(0)
    loaded = HistoryEncoder(retrieved=2)
    loaded.load_state(torch.load(file, weights_only=True))
    assert equal(encoder.known, loaded.known)
    assert (encoder.hide, encoder.earlier) == (loaded.hide, loaded.earlier)
    assert equal(encoder.encode(new), loaded.encode(new))
    assert equal(encoder.encode(train, training=True), loaded.encode(train, training=True))
    assert equal(drawn(encoder, new, training=False), drawn(loaded, new, training=False))


def test_an_encoder_that_was_never_fitted(songs):
    empty = HistoryEncoder()
    empty.load_state(HistoryEncoder().state())
    with pytest.raises(RuntimeError, match="fit the encoder"):
        empty.encode(songs)


@pytest.mark.parametrize("kind", ["artist", "credits"])
def test_training_hides_what_the_split_will_hide(kind, songs):
    """Where no held-out song has known songs of its artist, no training song may lean on them."""
    encoder = fitted(songs, kind, hide=0.15)
    assert encoder.hide[0] == 1.0
    if kind == "credits":
        assert encoder.hide[1] == 1.0
    rows = drawn(encoder, songs, training=True)
    assert not (rows["kind"] == SAME).any()


def test_a_random_split_hides_the_least_asked_for_or_a_bit_more(songs):
    for asked in (0.0, 0.15, 0.5):
        same, credited, *album = fitted(songs, "random", hide=asked).hide
        assert album == [0.0, 0.0], "no two of these songs are on one album"
        assert asked <= same < asked + 0.1
        assert 0 <= credited < 0.3
    assert HistoryEncoder().fit(songs, []).hide == (0.15, 0.0, 0.0, 0.0), "no folds, nothing known of the split"


@pytest.mark.parametrize("kind", ["random", "time"])
def test_a_training_song_is_never_in_its_own_history(kind, songs):
    train = pd.concat([songs, songs.iloc[[3, 3, 50]]], ignore_index=True)  # nor is a copy of it
    encoder = fitted(train, kind, retrieved=4, hide=0.0, thin=0.0)
    original = np.arange(len(train))
    original[120:] = [3, 3, 50]
    rows = drawn(encoder, train, training=True)
    here = rows["kind"] != NOBODY
    known = torch.from_numpy(original)[rows["known"]]
    assert here.any()
    assert not (here & (known == torch.from_numpy(original)[:, None, None])).any()


def test_a_known_song_that_is_asked_for_again_is_not_shown_its_own_popularity(songs):
    encoder = fitted(songs, retrieved=4)
    rows = drawn(encoder, songs, training=False)
    own = rows["known"] == torch.arange(len(songs))[:, None, None]
    assert not (own & (rows["kind"] != NOBODY)).any()


def test_roles_are_what_they_say(songs):
    encoder = fitted(songs.iloc[:100], hide=0.0, retrieved=3)
    first = [names[0] for names in artist_names(songs)]
    rows = encoder.encode(songs.iloc[100:])
    seen = set()
    for i in range(20):
        for row, role in zip(rows["row"][i].tolist(), rows["role"][i].tolist(), strict=True):
            seen.add(role)
            if role != NOBODY:
                assert (first[row] == first[100 + i]) == (role == SAME)
    assert seen == {SAME, CREDITED, RETRIEVED, NOBODY}


@pytest.fixture
def compilations(songs) -> pd.DataFrame:
    """Four albums of thirty songs by everybody, each released on one day."""
    number = pd.Series(np.arange(len(songs)) % 4, songs.index)
    return songs.assign(album="Hits " + number.astype("str"), release_date=pd.Timestamp("2001-01-01"))


def test_album_mates_come_first_and_are_told_apart(compilations):
    encoder = fitted(compilations.iloc[:100], hide=0.0, thin=0.0, length=6)
    rows = drawn(encoder, compilations.iloc[100:], training=False)
    here = rows["kind"] != NOBODY
    known, asked = np.arange(100) % 4, np.arange(100, 120) % 4
    assert torch.equal(
        rows["mate"], here & (torch.from_numpy(known)[rows["known"]] == torch.from_numpy(asked)[:, None, None])
    )
    assert (rows["mate"].sum(-1) == 6).all(), "there are enough of them to fill the history"
    first = np.array([names[0] for names in artist_names(compilations)])
    by_others = first[rows["known"].numpy()] != first[100:, None, None]
    assert (rows["kind"][torch.from_numpy(by_others) & here] != SAME).all()
    assert (rows["kind"] == ALBUM).any()


def test_under_album_training_hides_the_albums(compilations):
    """No held-out song has the artist's own songs of its album: no training song may lean on one."""
    encoder = fitted(compilations.assign(artist="Ann"), "album", hide=0.0)
    assert encoder.hide[3] == 1.0
    rows = drawn(encoder, compilations.assign(artist="Ann"), training=True)
    assert not (rows["mate"] & (rows["kind"] == SAME)).any()


def test_under_artist_training_shows_what_others_have_on_the_album(compilations):
    encoder = fitted(compilations, "artist", hide=0.0)
    assert encoder.hide[0] == 1.0
    assert encoder.hide[2] < 0.1
    assert (drawn(encoder, compilations, training=True)["kind"] == ALBUM).any()


def test_without_albums_there_are_no_mates(songs):
    encoder = fitted(songs.assign(album=pd.Series(np.nan, songs.index, dtype="str")))
    assert "mate" not in encoder.encode(songs)


def test_a_day_on_which_all_known_songs_came_out_says_nothing(songs):
    encoder = fitted(songs.iloc[:100].assign(release_date=pd.Timestamp("2001-01-01")))
    assert encoder.known["month"].isnan().all()
    assert encoder.encode(songs.iloc[100:])["month"].isnan().all()
    assert not fitted(songs.iloc[:100]).encode(songs.iloc[100:])["month"].isnan().any()


def test_retrieved_songs_are_the_nearest_by_others(songs):
    train, new = songs.iloc[:100], songs.iloc[100:]
    encoder = fitted(train, retrieved=3)
    rows, near = encoder.encode(new), encoder._vectors(new)["near"].double()
    first = np.array([names[0] for names in artist_names(songs)])
    distance = torch.cdist(near, encoder.known["near"].double())
    for i in range(20):
        others = np.flatnonzero(first[:100] != first[100 + i])
        nearest = others[np.argsort(distance[i].numpy()[others], kind="stable")[:3]]
        retrieved = rows["role"][i] == RETRIEVED
        assert sorted(rows["row"][i][retrieved].tolist()) == sorted(nearest.tolist())
        np.testing.assert_allclose(
            rows["key"][i][retrieved], distance[i][rows["row"][i][retrieved].long()] ** 2, rtol=1e-3
        )


def test_earlier_songs_alone(songs):
    encoder = fitted(songs, "time", retrieved=3, hide=0.0)
    assert encoder.earlier
    released = songs["release_date"].to_numpy()
    rows = encoder.encode(songs, training=True)
    here = (rows["role"] != NOBODY).numpy()
    assert here.any()
    shown = released[rows["row"].numpy()]
    assert (shown < released[:, None])[here].all()
    # the key is the gap: the latest comes last
    gap = (released[:, None] - shown) / np.timedelta64(1, "D") / 30.4375
    np.testing.assert_allclose(rows["key"].numpy()[here], gap[here], atol=0.01)
    first = released == released.min()
    assert not here[first].any(), "nothing came before the first"


def test_songs_without_a_date_are_nobody_s_past(songs):
    """Under ``time`` they may know everybody, but stand in no history."""
    undated = songs.assign(release_date=songs["release_date"].where(songs.index % 3 > 0))
    encoder = HistoryEncoder(hide=0.0, retrieved=2).fit(undated, [], earlier=True)
    rows = encoder.encode(undated, training=True)
    here = rows["role"] != NOBODY
    assert not (rows["row"][here] % 3 == 0).any()
    assert rows["month"].isnan().tolist() == (undated.index % 3 == 0).tolist()
    assert torch.isfinite(rows["key"]).all()


def test_labels_enter_through_the_memory_alone(songs):
    """What is encoded of a new song is the same whatever the known songs' popularities, but for the texts' scores."""
    one = fitted(songs.iloc[:100], titles=False, retrieved=2)
    other = fitted(songs.iloc[:100].assign(popularity=7.0), titles=False, retrieved=2)
    assert equal(one.encode(songs.iloc[100:]), other.encode(songs.iloc[100:].assign(popularity=0.0)))


def test_a_song_that_nothing_tells_apart_is_not_retrieved_for_itself(songs):
    """No names, no id, and hardly any audio: it is known by its row alone."""
    nothing = pd.Series(np.nan, songs.index, dtype="str")
    bare = songs.assign(artist=nothing, title=nothing, track_id=nothing)
    bare.loc[:, ["danceability", "duration_ms", "instrumentalness", "key", "mode", "tempo", "valence"]] = np.nan
    rows = HistoryEncoder(retrieved=3).fit(bare, []).encode(bare, training=True)
    assert ((rows["role"] == RETRIEVED).sum(1) == 3).all()
    assert not ((rows["row"] == torch.arange(len(bare))[:, None]) & (rows["role"] == RETRIEVED)).any()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_hardly_any_song(count, songs):
    few = songs.head(count)
    encoder = fitted(few, "artist", retrieved=5)
    rows = drawn(encoder, songs.tail(4), training=False)
    assert rows["known"].shape[:2] == (4, 4)


def test_songs_without_names_have_no_history(songs):
    nothing = pd.Series(np.nan, songs.index, dtype="str")
    nameless = songs.assign(artist=nothing, title=nothing, track_id=nothing)
    encoder = fitted(nameless, "random")
    assert not (encoder.encode(nameless, training=True)["role"] != NOBODY).any()
    assert drawn(encoder, songs, training=False)["known"].shape[-1] == 0
