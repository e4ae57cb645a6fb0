"""The history encoder: which known songs the network is shown, and which it never is."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Lazy, make_songs

if TYPE_CHECKING:
    from torch import Tensor

    from popularity.features.encoder import HistoryEncoder


torch = Lazy("torch")
names_of = Lazy("popularity.data.credits")
songs_module = Lazy("popularity.data.songs")
splits = Lazy("popularity.data.splits")
encoders = Lazy("popularity.features.encoder")
song_keys = Lazy("popularity.features.keys")
related = Lazy("popularity.features.related")
sampling = Lazy("popularity.features.sampling")
album_stats = Lazy("popularity.features.album_stats")


@pytest.fixture(scope="module")
def songs(tmp_path_factory) -> pd.DataFrame:
    """120 songs by some 15 artists; every fifth features another."""
    frame = make_songs(120)
    rng = np.random.default_rng(1)
    frame["artist_name"] = [f"Artist {i}" for i in rng.integers(0, 15, 120)]
    guests = rng.integers(0, 15, 120)
    frame["track_name"] = [f"Song {i}" + (f" (feat. Artist {guests[i]})" if i % 5 == 0 else "") for i in range(120)]
    path = tmp_path_factory.mktemp("known") / "songs.csv"
    frame.to_csv(path, index=False)
    return songs_module.load_songs(str(path)).songs


def fitted(songs: pd.DataFrame, kind: str = "random", **options) -> HistoryEncoder:
    encoder = encoders.HistoryEncoder(**options)
    encoder.fit(songs, splits.inner_folds(songs, kind), earlier=kind == "time")
    return encoder


def sampled(
    encoder: HistoryEncoder, songs: pd.DataFrame, *, training: bool, samples: int = 2, seed: int = 0
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return encoder.sample(encoder.encode(songs, training=training), generator, training=training, samples=samples)


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k].nan_to_num(), other[k].nan_to_num()) for k in one)


@pytest.mark.parametrize("titles", [True, False])
def test_shapes(titles, songs):
    from popularity.features.song import CODES

    train, new = songs.iloc[:100], songs.iloc[100:]
    encoder = fitted(train, titles=titles, text_scores=True, retrieved=3, eval_samples=3, history=5)
    inputs = encoder.inputs
    assert inputs == encoders.HistoryEncoder(titles=titles, text_scores=True).inputs, "known before the fit"
    assert encoder.known["song"].shape == (100, inputs.song)
    assert encoder.known["popularity"].tolist() == train["popularity"].tolist()
    encoded = encoder.encode(new)
    assert encoded["song"].shape == (20, inputs.song)
    assert encoded["category"].shape == (20, len(inputs.codes))
    assert inputs.codes == CODES
    assert encoded["extras"].shape == (20, inputs.extras)
    assert inputs.extras == (3 if titles else 0)
    assert encoded["month"].shape == (20,)
    assert encoded["row"].shape == encoded["role"].shape == encoded["key"].shape
    assert all(torch.isfinite(encoded[name]).all() for name in ("song", "extras", "key"))
    for training, samples in ((True, 2), (False, 6)):
        rows = sampled(encoder, train if training else new, training=training)
        n, histories, longest = rows["known"].shape
        assert (n, histories) == (100 if training else 20, samples)
        assert longest <= 5 + 3  # retrieved songs are added on top
        assert rows["role"].shape == rows["known"].shape
        assert rows["length"].tolist() == (rows["role"] != related.NO_SONG).sum(-1).amax(-1).tolist()
        assert not {"row", "key"} & rows.keys()
        batch = encoder.attach(rows)
        assert "known" not in batch
        shape = (samples, n, longest)
        assert batch["role"].shape == batch["history_label"].shape == batch["history_month"].shape == shape
        assert batch["history_song"].shape == (*shape, inputs.song)
        assert batch["history_category"].shape == (*shape, len(CODES))


def test_a_song_vector_is_made_of_its_features_and_texts(songs):
    """Numbers, marks of missing ones, their bins, statistics and components of the characters of title and album."""
    holes = songs.assign(energy=songs["energy"].where(songs.index % 3 > 0))
    encoder = fitted(holes.iloc[:100])
    new = holes.iloc[100:]
    encoded, own = encoder.encode(new)["song"], encoder.features.encode(new)
    numeric, bins = own["numeric"], own["bins"].flatten(1)
    components = [torch.from_numpy(text.encode(new)[0]).float().clamp(-4, 4) for text in encoder.texts]
    marks = numeric.isnan().float()
    assert marks.any(0).sum() == 1 + marks.all(0).sum()
    names = torch.from_numpy(album_stats.album_names(new)).float()
    others = encoder.related.on_albums.by_others(song_keys.keys_of(new))
    others = torch.from_numpy(others).float().log1p()[:, None]
    parts = [numeric.nan_to_num(), marks, bins, own["title"], names, others, *components]
    torch.testing.assert_close(encoded, torch.cat(parts, 1))
    assert all(part.std() > 0 for part in (*parts[:4], *components))


def test_songs_are_near_by_sound_year_and_title(songs):
    """The distance counts the numeric features, and of the title whether it is a remaster, names and a year."""
    from popularity.features.title_stats import TITLE_STATISTICS

    encoder = fitted(songs)
    own = encoder.features.encode(songs)
    chosen = [TITLE_STATISTICS.index(name) for name in ("remaster", "credited_names", "year")]
    expected = torch.cat([own["numeric"].nan_to_num(), own["title"][:, chosen]], 1)
    assert torch.equal(encoder.known["near"], expected)
    rows = encoder.encode(songs, training=True)
    here = rows["role"] != related.NO_SONG
    distance = (expected[rows["row"].long()] - expected[:, None]).square().sum(-1)
    torch.testing.assert_close(rows["key"][here], distance[here])


def test_without_texts_there_are_no_extras(songs):
    encoder = fitted(songs, titles=False)
    assert encoder.inputs.extras == 0
    assert encoder.encode(songs, training=True)["extras"].shape == (120, 0)
    with_scores = fitted(songs, text_scores=True)
    extras = with_scores.encode(songs, training=True)["extras"]
    assert torch.equal(extras, torch.from_numpy(with_scores._scores).float()), "out of fold in training"
    assert not torch.equal(extras, with_scores.encode(songs)["extras"])


def test_a_batch_shows_the_known_songs_that_were_sampled(compilations):
    encoder = fitted(compilations.iloc[:100])
    rows = sampled(encoder, compilations.iloc[100:], training=False)
    batch = encoder.attach(rows)
    label = encoder.known["popularity"]
    label = (label - label.mean()) / label.std(correction=0)
    assert rows["known"].unique().numel() > 20
    for sample in range(rows["known"].shape[1]):
        known = rows["known"][:, sample]
        for name in ("song", "category", "month"):
            found = batch[f"history_{name}"][sample]
            assert torch.equal(found.nan_to_num(), encoder.known[name][known].nan_to_num())
        torch.testing.assert_close(batch["history_label"][sample], label[known])
        assert torch.equal(batch["role"][sample], rows["role"][:, sample])
        assert torch.equal(batch["same_album"][sample], rows["same_album"][:, sample])
    assert torch.equal(batch["song"], rows["song"])


@pytest.mark.parametrize("popularity", [40.0, [40.0]], ids=["equal", "one song"])
def test_labels_that_do_not_differ_are_0(popularity, songs):
    few = songs.iloc[: 1 if isinstance(popularity, list) else 30]
    encoder = fitted(few.assign(popularity=popularity))
    assert encoder.label.tolist() == [0.0] * len(few)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"history": -1}, "data.encoder.history: expected at least 0, got -1"),
        ({"retrieved": -1}, "data.encoder.retrieved: expected at least 0, got -1"),
        ({"eval_samples": 0}, "data.encoder.eval_samples: expected at least 1, got 0"),
        ({"bins": 0}, "data.encoder.bins: expected at least 1, got 0"),
        ({"hide_history": 1.5}, "data.encoder.hide_history: expected a number from 0 to 1, got 1.5"),
        ({"thin_history": -0.5}, "data.encoder.thin_history: expected a number from 0 to 1, got -0.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    from popularity.errors import InputError

    with pytest.raises(InputError, match=message):
        encoders.HistoryEncoder(**settings)


def test_audio_alone_reads_nothing_else(songs):
    """Neither texts nor dates, genres or known songs: only the 13 audio columns of the song itself."""
    encoder = fitted(songs.iloc[:100], audio_only=True, text_scores=True, retrieved=2)
    new = songs.iloc[100:]
    nothing = pd.Series(np.nan, new.index, dtype="str")
    bare = new.assign(artist=nothing, title=nothing, genre=nothing, album=nothing, release_date=pd.NaT)
    one, other = sampled(encoder, new, training=False), sampled(encoder, bare, training=False)
    assert one["known"].shape == (20, 1, 0)
    assert one["extras"].shape == (20, 0)
    assert all(torch.equal(one[name], other[name]) for name in ("song", "category"))


@pytest.mark.parametrize("kind", ["random", "time"])
def test_state_survives_a_weights_only_file(kind, songs):
    train, new = songs.iloc[:100], songs.iloc[100:]
    encoder = fitted(train, kind, retrieved=2)
    file = io.BytesIO()
    torch.save(encoder.state(), file)
    file.seek(0)
    loaded = encoders.HistoryEncoder(retrieved=2)
    loaded.load_state(torch.load(file, weights_only=True))
    assert equal(encoder.known, loaded.known)
    assert (encoder.hidden, encoder.earlier) == (loaded.hidden, loaded.earlier)
    assert equal(encoder.encode(new), loaded.encode(new))
    assert equal(encoder.encode(train, training=True), loaded.encode(train, training=True))
    assert equal(sampled(encoder, new, training=False), sampled(loaded, new, training=False))


def test_an_encoder_that_was_never_fitted(songs):
    assert encoders.HistoryEncoder().state() == {}
    with pytest.raises(RuntimeError, match="fit the encoder"):
        encoders.HistoryEncoder().encode(songs)


@pytest.mark.parametrize("kind", ["artist", "credits"])
def test_training_hides_what_the_split_will_hide(kind, songs):
    """Where no held-out song has known songs of its artist, no training song may depend on them."""
    encoder = fitted(songs, kind, hide_history=0.15)
    assert encoder.hidden[0] == 1.0
    if kind == "credits":
        assert encoder.hidden[1] == 1.0
    rows = sampled(encoder, songs, training=True)
    assert not (rows["role"] == related.SAME).any()


def test_outside_training_nothing_is_hidden(songs):
    encoder = fitted(songs.iloc[:100], hide_history=1.0, thin_history=1.0, history=40)
    new = songs.iloc[100:]
    there = (encoder.encode(new)["role"] != related.NO_SONG).sum(1)
    shown = (sampled(encoder, new, training=False)["role"] != related.NO_SONG).sum(-1)
    assert there.max() > 4
    assert (shown == there[:, None]).all()


def test_a_random_split_hides_what_was_asked_for_or_a_bit_more(songs):
    for asked in (0.0, 0.15, 0.5):
        same, credited, *album = fitted(songs, "random", hide_history=asked).hidden
        assert album == [0.0, 0.0], "no two of these songs are on one album"
        assert asked <= same < asked + 0.1
        assert 0 <= credited < 0.3
    encoder = encoders.HistoryEncoder(hide_history=0.15)
    encoder.fit(songs)
    assert encoder.hidden == (0.15, 0.0, 0.0, 0.0), "without folds nothing is known of the split"


@pytest.mark.parametrize("kind", ["random", "time"])
def test_a_training_song_is_never_in_its_own_history(kind, songs):
    train = pd.concat([songs, songs.iloc[[3, 3, 50]]], ignore_index=True)  # nor is a copy of it
    encoder = fitted(train, kind, retrieved=4, hide_history=0.0, thin_history=0.0)
    original = np.arange(len(train))
    original[120:] = [3, 3, 50]
    rows = sampled(encoder, train, training=True)
    here = rows["role"] != related.NO_SONG
    known = torch.from_numpy(original)[rows["known"]]
    assert here.any()
    assert not (here & (known == torch.from_numpy(original)[:, None, None])).any()


def test_a_known_song_that_is_predicted_is_not_shown_its_own_popularity(songs):
    encoder = fitted(songs, retrieved=4)
    rows = sampled(encoder, songs, training=False)
    own = rows["known"] == torch.arange(len(songs))[:, None, None]
    assert not (own & (rows["role"] != related.NO_SONG)).any()


def test_roles_are_what_they_say(songs):
    encoder = fitted(songs.iloc[:100], hide_history=0.0, retrieved=3)
    first = [names[0] for names in names_of.artist_names(songs)]
    rows = encoder.encode(songs.iloc[100:])
    seen = set()
    for i in range(20):
        for row, role in zip(rows["row"][i].tolist(), rows["role"][i].tolist(), strict=True):
            seen.add(role)
            if role != related.NO_SONG:
                assert (first[row] == first[100 + i]) == (role == related.SAME)
    assert seen == {related.SAME, related.CREDITED, related.RETRIEVED, related.NO_SONG}


@pytest.fixture
def compilations(songs) -> pd.DataFrame:
    """Four albums of thirty songs by everybody, each released on one day."""
    number = pd.Series(np.arange(len(songs)) % 4, songs.index)
    return songs.assign(album="Road Songs " + number.astype("str"), release_date=pd.Timestamp("2001-01-01"))


def test_songs_on_the_same_album_come_first_and_are_marked(compilations):
    encoder = fitted(compilations.iloc[:100], hide_history=0.0, thin_history=0.0, history=6)
    rows = sampled(encoder, compilations.iloc[100:], training=False)
    here = rows["role"] != related.NO_SONG
    known, asked = np.arange(100) % 4, np.arange(100, 120) % 4
    assert torch.equal(
        rows["same_album"], here & (torch.from_numpy(known)[rows["known"]] == torch.from_numpy(asked)[:, None, None])
    )
    assert (rows["same_album"].sum(-1) == 6).all(), "there are enough of them to fill the history"
    first = np.array([names[0] for names in names_of.artist_names(compilations)])
    by_others = first[rows["known"].numpy()] != first[100:, None, None]
    assert (rows["role"][torch.from_numpy(by_others) & here] != related.SAME).all()
    assert (rows["role"] == related.ALBUM).any()


def test_under_album_training_hides_the_albums(compilations):
    """No held-out song has the artist's own songs of its album: no training song may depend on one."""
    encoder = fitted(compilations.assign(artist="Ann"), "album", hide_history=0.0)
    assert encoder.hidden[3] == 1.0
    rows = sampled(encoder, compilations.assign(artist="Ann"), training=True)
    assert not (rows["same_album"] & (rows["role"] == related.SAME)).any()


def test_under_artist_training_shows_what_others_have_on_the_album(compilations):
    encoder = fitted(compilations, "artist", hide_history=0.0)
    assert encoder.hidden[0] == 1.0
    assert encoder.hidden[2] < 0.1
    assert (sampled(encoder, compilations, training=True)["role"] == related.ALBUM).any()


def test_without_albums_no_song_is_marked(songs):
    encoder = fitted(songs.assign(album=pd.Series(np.nan, songs.index, dtype="str")))
    assert "same_album" not in encoder.encode(songs)


def test_a_day_on_which_all_known_songs_were_released_is_no_date(songs):
    encoder = fitted(songs.iloc[:100].assign(release_date=pd.Timestamp("2001-01-01")))
    assert encoder.known["month"].isnan().all()
    assert encoder.encode(songs.iloc[100:])["month"].isnan().all()
    assert not fitted(songs.iloc[:100]).encode(songs.iloc[100:])["month"].isnan().any()


def test_retrieved_songs_are_the_nearest_by_others(songs):
    train, new = songs.iloc[:100], songs.iloc[100:]
    encoder = fitted(train, retrieved=3)
    rows, near = encoder.encode(new), encoder._vectors(new, song_keys.keys_of(new))["near"].double()
    first = np.array([names[0] for names in names_of.artist_names(songs)])
    distance = torch.cdist(near, encoder.known["near"].double())
    for i in range(20):
        others = np.flatnonzero(first[:100] != first[100 + i])
        nearest = others[np.argsort(distance[i].numpy()[others], kind="stable")[:3]]
        retrieved = rows["role"][i] == related.RETRIEVED
        assert sorted(rows["row"][i][retrieved].tolist()) == sorted(nearest.tolist())
        np.testing.assert_allclose(
            rows["key"][i][retrieved], distance[i][rows["row"][i][retrieved].long()] ** 2, rtol=1e-3
        )


def test_earlier_songs_alone(songs):
    encoder = fitted(songs, "time", retrieved=3, hide_history=0.0)
    assert encoder.earlier
    released = songs["release_date"].to_numpy()
    rows = encoder.encode(songs, training=True)
    here = (rows["role"] != related.NO_SONG).numpy()
    assert here.any()
    shown = released[rows["row"].numpy()]
    assert (shown < released[:, None])[here].all()
    # the key is the time since release: the latest comes last
    gap = (released[:, None] - shown) / np.timedelta64(1, "D") / 30.4375
    np.testing.assert_allclose(rows["key"].numpy()[here], gap[here], atol=0.02)
    first = released == released.min()
    assert not here[first].any(), "nothing came before the first"


def test_songs_of_one_release_have_one_order_wherever_they_are_read(songs):
    """A crowded song makes its whole batch read several samples: the histories of the others must not move."""
    artist = np.where(songs.index < 10, "few", "many")
    released = pd.to_datetime(np.where(songs.index < 10, "2001-01-01", "2002-01-01"))
    encoder = fitted(songs.assign(artist=artist, release_date=released), "time", thin_history=0.0)
    new = songs.iloc[[100, 50]].assign(
        artist=["few", "many"], track_id=["new 0", "new 1"], title=["A", "B"], release_date=pd.Timestamp("2003-01-01")
    )
    alone, beside = (sampled(encoder, some, training=False)["known"][0] for some in (new[:1], new))
    assert (len(alone), len(beside)) == (1, 8)
    assert (beside[:, -10:] == alone).all()
    assert sorted(alone[0].tolist()) == list(range(10)) != alone[0].tolist(), "by chance: the order of rows leaks"


def test_places_in_time_keep_the_order_of_days():
    day = torch.tensor([12_000, 12_001]).repeat(500)
    place = sampling.placed(day / 30.4375)
    assert place[::2].max() < place[1::2].min()
    assert torch.isfinite(sampling.placed(torch.tensor([torch.nan]))).all()


def test_songs_without_a_date_stand_in_no_history(songs):
    """Under ``time`` any dated song may stand in their history, but they stand in none."""
    undated = songs.assign(release_date=songs["release_date"].where(songs.index % 3 > 0))
    encoder = encoders.HistoryEncoder(hide_history=0.0, retrieved=2)
    encoder.fit(undated, earlier=True)
    rows = encoder.encode(undated, training=True)
    here = rows["role"] != related.NO_SONG
    assert not (rows["row"][here] % 3 == 0).any()
    assert rows["month"].isnan().tolist() == (undated.index % 3 == 0).tolist()
    assert torch.isfinite(rows["key"]).all()


def test_labels_enter_through_known_songs_alone(songs):
    """The encoding of a new song does not depend on popularities, but for the text scores."""
    one = fitted(songs.iloc[:100], titles=False, retrieved=2)
    other = fitted(songs.iloc[:100].assign(popularity=7.0), titles=False, retrieved=2)
    assert equal(one.encode(songs.iloc[100:]), other.encode(songs.iloc[100:].assign(popularity=0.0)))


def test_a_song_that_cannot_be_recognised_is_not_retrieved_for_itself(songs):
    """No names, no id and hardly any audio: only its row tells which one it is."""
    nothing = pd.Series(np.nan, songs.index, dtype="str")
    bare = songs.assign(artist=nothing, title=nothing, track_id=nothing)
    bare.loc[:, ["danceability", "duration_ms", "instrumentalness", "key", "mode", "tempo", "valence"]] = np.nan
    encoder = encoders.HistoryEncoder(retrieved=3)
    encoder.fit(bare)
    rows = encoder.encode(bare, training=True)
    assert ((rows["role"] == related.RETRIEVED).sum(1) == 3).all()
    assert not ((rows["row"] == torch.arange(len(bare))[:, None]) & (rows["role"] == related.RETRIEVED)).any()


def test_an_encoder_gets_to_know_more_songs(songs):
    """It reads the same histories as one that was fitted to all of them, and the first encoder knows no more."""
    first, rest = songs.iloc[:80].reset_index(drop=True), songs.iloc[80:100].reset_index(drop=True)
    new, few = songs.iloc[100:].reset_index(drop=True), fitted(first)
    before, more, every = few.encode(new), few.knowing(rest), fitted(songs.iloc[:100].reset_index(drop=True))
    found, wanted = more.encode(new), every.encode(new)
    for name in ("row", "role"):
        assert torch.equal(found[name], wanted[name]), name
    assert torch.equal(more.known["popularity"], every.known["popularity"])
    torch.testing.assert_close(more.label, every.label)
    assert (found["row"] >= 80).any()
    assert equal(few.encode(new), before)
    assert len(few.label) == 80
    assert torch.equal(found["song"], before["song"]), "how songs are encoded is not learned anew"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_hardly_any_song(count, songs):
    few = songs.head(count)
    encoder = fitted(few, "artist", retrieved=5)
    rows = sampled(encoder, songs.tail(4), training=False)
    assert rows["known"].shape[:2] == (4, 1), "all samples would be alike"


def test_songs_without_names_have_no_history(songs):
    nothing = pd.Series(np.nan, songs.index, dtype="str")
    nameless = songs.assign(artist=nothing, title=nothing, track_id=nothing)
    encoder = fitted(nameless, "random")
    assert not (encoder.encode(nameless, training=True)["role"] != related.NO_SONG).any()
    assert sampled(encoder, songs, training=False)["known"].shape[-1] == 0


@pytest.mark.parametrize("mapped", [0, 1 << 30])
def test_songs_encoded_in_parts_are_the_same_to_the_bit(mapped, songs, monkeypatch):
    train, new = songs.iloc[:100], songs.iloc[100:]
    whole = fitted(train, text_scores=True)
    encoded = whole.encode(new)
    monkeypatch.setattr("popularity.features.mapped.CHUNK", 7)
    monkeypatch.setattr("popularity.features.mapped.MAPPED", mapped)
    from popularity.features import mapped as files

    made, original = [], files._mapped
    monkeypatch.setattr(files, "_mapped", lambda *given: made.append(given) or original(*given))
    parts = fitted(train, text_scores=True)
    assert equal(parts.known, whole.known)
    assert equal(parts.encode(new), encoded)
    assert bool(made) == (mapped == 0)


@pytest.mark.parametrize("titles", [True, False])
def test_a_checkpoint_keeps_known_songs_in_short_and_gives_them_back(titles, songs):
    encoder = fitted(songs, titles=titles)
    assert encoder.known["song"].isnan().sum() == 0
    kept = encoder.state()["known"]
    size = sum(value.nbytes for value in kept.values())
    assert size < 0.45 * sum(value.nbytes for value in encoder.known.values())
    again = encoders.HistoryEncoder(titles=titles)
    again.load_state(encoder.state())
    assert equal(again.known, encoder.known)
    assert {name: value.dtype for name, value in again.known.items()} == {
        name: value.dtype for name, value in encoder.known.items()
    }


def test_many_songs_are_encoded_as_some_of_them_tell(songs, monkeypatch):
    whole = fitted(songs)
    monkeypatch.setattr("popularity.features.vectors.LEARNED_FROM", 60)
    monkeypatch.setattr("popularity.features.ngrams.CHUNK", 7)
    some = fitted(songs, text_scores=True)
    assert len(some.known["song"]) == len(songs), "all are known"
    assert not np.array_equal(some.features.mean, whole.features.mean)
    assert some.texts[0].vocabulary != whole.texts[0].vocabulary
    assert some._scores.shape == (len(songs), 3), "out of fold, so each needs one"
    assert (np.abs(some._scores[:, 0]) > 1e-9).all()


def test_a_typographic_apostrophe_is_an_apostrophe(songs):
    straight = songs.assign(title='Can\'t "Stop" - ' + songs["title"], album="Can't Stop")
    curly = straight.assign(
        **{name: straight[name].str.replace("'", "’").str.replace('"', "“") for name in ("title", "album")}
    )
    for known, other in ((straight, curly), (curly, straight)):
        encoder = fitted(known.iloc[:100])
        assert equal(encoder.encode(known.iloc[100:]), encoder.encode(other.iloc[100:]))
