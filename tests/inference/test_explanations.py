"""What stands beside a prediction: known songs, warnings and reasons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Lazy

unusual = Lazy("popularity.inference.unusual")
why = Lazy("popularity.inference.reasons")
watching = Lazy("popularity.inference.watched")
outputs = Lazy("popularity.training.outputs")
song = Lazy("popularity.features.song")
TRAINED_WITH = ("track_id", "title", "genre", "danceability", "tempo")


@pytest.fixture
def songs(song_table) -> pd.DataFrame:
    return song_table[60:64].reset_index(drop=True)


def warned(encoder, songs: pd.DataFrame) -> list[str]:
    return unusual.warnings_of(encoder, TRAINED_WITH, songs, encoder.encode(songs)).tolist()


# --- warnings ---------------------------------------------------------------------------------------------------------


def test_a_training_song_has_no_warning_unless_it_is_extreme(encoder, song_table):
    """Beyond 4 standard deviations the model sees no difference, among training songs either."""
    training, features = song_table[:60].reset_index(drop=True), encoder.features
    extreme = (np.abs((song.numeric_features(training) - features.mean) / features.scale) > 4).any(1)
    assert [text != "" for text in warned(encoder, training)] == extreme.tolist()
    assert 0 < extreme.sum() < 5


def test_what_training_did_not_see_is_named_in_the_units_of_the_file(encoder, song_table, songs):
    songs = songs.assign(release_date=pd.Timestamp("1991-01-01"))
    songs.loc[0, ["tempo", "duration_ms"]] = [499.0, 7_200_000.0]
    songs.loc[1, "genre"] = "k-pop"
    songs.loc[2, ["genre", "track_id", "tempo"]] = None
    songs.loc[3, "release_date"] = pd.Timestamp("2060-05-05")
    tempo, seconds = song_table["tempo"][:60], song_table["duration_ms"][:60] / 1000
    first, second, third, fourth = warned(encoder, songs)
    assert first == (
        f"duration in seconds 7200 outside {seconds.min():.4g} to {seconds.max():.4g}; "
        f"tempo 499 outside {tempo.min():.4g} to {tempo.max():.4g}"
    )
    assert second == "unknown genre 'k-pop'"
    assert third == "missing: genre, tempo"
    assert fourth.startswith("release year 2060 outside 1990 to ")


def test_ordinary_numbers_that_never_stand_together_are_named() -> None:
    """Loud songs are energetic here: a loud one without energy is like none of them, number by number like all."""
    from popularity.data.raw import RawTable
    from popularity.data.songs import songs_of
    from popularity.features.encoder import HistoryEncoder
    from tests.conftest import make_songs

    table = songs_of(RawTable(Path("songs"), make_songs(1200), "made up")).songs
    table["loudness"] = -20 + 18 * table["energy"] + np.random.default_rng(0).normal(0, 0.5, len(table))
    made = HistoryEncoder(history=3)
    made.fit(table)
    ordinary = table[:2].assign(energy=[0.9, 0.1], loudness=[-3.8, -18.2])
    odd = ordinary.assign(loudness=[-18.2, -3.8])
    with_gap = odd.assign(energy=np.nan)
    assert not any("together" in text for text in warned(made, pd.concat([ordinary, with_gap], ignore_index=True)))
    for text, energy, loudness in zip(warned(made, odd), ("0.9", "0.1"), ("-18.2", "-3.8"), strict=True):
        assert text.startswith("unusual together: ")
        assert f"energy {energy}" in text
        assert f"loudness {loudness}" in text
    texts = warned(made, table)
    assert sum("together" in text for text in texts) <= 3, "one of a thousand"


def test_what_a_model_does_not_read_is_not_warned_of(song_table, songs):
    songs = songs.assign(genre="k-pop", title=None, release_date=pd.Timestamp("2060-05-05"))
    audio_only = song.FeatureEncoder(audio_only=True)
    audio_only.fit(song_table[:60])
    assert set(warned(audio_only, songs)) == {""}
    columns = song.ColumnEncoder()
    columns.fit(song_table[:60])
    assert set(warned(columns, songs.assign(tempo=np.nan))) == {"missing: tempo"}


# --- known songs ------------------------------------------------------------------------------------------------------


def test_known_songs_are_those_of_the_artist_and_no_more_than_are_read(encoder, song_table):
    songs = song_table[60:].reset_index(drop=True)
    counts = song_table["artist"][:60].value_counts().reindex(songs["artist"]).fillna(0).clip(upper=3)
    watched, seen = watching.watched(encoder)
    watched.encode(songs)
    assert outputs.known_songs(encoder, seen).tolist() == counts.tolist()
    assert counts.nunique() > 2


def test_watching_changes_nothing(encoder, songs):
    import torch

    watched, seen = watching.watched(encoder)
    assert isinstance(watched, type(encoder))
    encoded, expected = watched.encode(songs), encoder.encode(songs)
    for name, value in expected.items():
        torch.testing.assert_close(encoded[name], value, equal_nan=True)
        assert name in seen
    held = watching.without_known_songs(expected)
    assert (watching.watched(encoder, held)[0].encode(songs)["role"] == -1).all()
    assert (encoder.encode(songs)["role"] >= 0).any()


# --- reasons ----------------------------------------------------------------------------------------------------------


def test_the_strongest_reasons_come_first(encoder, songs):
    """Of a model whose answer is known: 30 for the energy, -20 for a title, 1 for each known song."""

    def mean(encoder, songs: pd.DataFrame) -> np.ndarray:
        role = encoder.encode(songs)["role"]
        return (
            30 * songs["energy"].notna().to_numpy()
            - 20.0 * songs["title"].notna().to_numpy()
            + 0.01 * songs["tempo"].notna().to_numpy()
            + (role == 0).sum(1).numpy()
        )

    songs.loc[3, "title"] = None
    encoded = encoder.encode(songs)
    known = (encoded["role"] == 0).sum(1).tolist()
    assert max(known) > 0
    found = why.reasons(mean, encoder, songs, encoded, mean(encoder, songs))
    for texts, count, titled in zip(found.tolist(), known, songs["title"].notna(), strict=True):
        expected = ["energy raises it by 30.0", *["title lowers it by 20.0"] * titled]
        expected += [f"popularity of known songs raises it by {count:.1f}"] * (count > 0)
        assert texts == "; ".join(expected), "and the tempo's hundredth is no reason"


def test_a_feature_is_hidden_without_another_history(encoder, songs):
    """Without its album or artist a song would have another history, whose effect is not that of the feature."""
    seen = []

    def mean(encoder, songs: pd.DataFrame) -> np.ndarray:
        seen.append(encoder.encode(songs)["row"].tolist())
        return np.zeros(len(songs))

    encoded = encoder.encode(songs)
    assert why.reasons(mean, encoder, songs, encoded, np.zeros(len(songs))).tolist() == [""] * 4
    assert len(seen) > 15
    assert all(row == encoded["row"].tolist() for row in seen)
