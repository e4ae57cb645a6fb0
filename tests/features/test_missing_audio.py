"""Encoded songs whose audio columns are hidden are what the encoder makes of songs without these columns."""

from __future__ import annotations

import numpy as np
import pytest

from popularity.data.schema import ESTIMATED, NOT_ESTIMATED
from popularity.errors import InputError
from tests.conftest import Lazy

torch = Lazy("torch")
missing_audio = Lazy("popularity.features.missing_audio")
song_module = Lazy("popularity.features.song")
encoder_module = Lazy("popularity.features.encoder")
songs_module = Lazy("popularity.data.songs")


@pytest.fixture(scope="module")
def songs(song_file):
    return songs_module.load_songs(str(song_file)).songs


def encoder_of(name):
    if name == "history":
        return encoder_module.HistoryEncoder(history=3, text_scores=True)
    return song_module.FeatureEncoder() if name == "features" else song_module.ColumnEncoder()


@pytest.mark.parametrize("name", ["history", "features", "columns"])
def test_hidden_songs_look_as_if_the_file_lacked_the_columns(name, songs):
    encoder = encoder_of(name)
    encoder.fit(songs[:200])
    rest = songs[200:].reset_index(drop=True)
    hidden = torch.arange(len(rest)) % 3 == 0
    rows = encoder.encode(rest)
    before = {key: tensor.clone() for key, tensor in rows.items()}
    found = missing_audio.hide_audio(encoder, rows, hidden)
    expected = encoder.encode(rest.assign(**dict.fromkeys(NOT_ESTIMATED, np.nan)))
    changed = set()
    for key, tensor in found.items():
        torch.testing.assert_close(rows[key], before[key], rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(tensor[~hidden], rows[key][~hidden], rtol=0, atol=0, equal_nan=True)
        if key in ("row", "role", "key", "same_album"):  # the history stays
            continue
        torch.testing.assert_close(tensor[hidden], expected[key][hidden], rtol=0, atol=1e-6, equal_nan=True)
        changed |= {key} if not torch.equal(tensor[hidden].nan_to_num(9), rows[key][hidden].nan_to_num(9)) else set()
    assert (
        changed
        == {
            "history": {"song", "category"},
            "features": {"numeric", "bins", "category"},
            "columns": {"columns"},
        }[name]
    )


def test_other_encoders_are_refused():
    class Own:
        pass

    with pytest.raises(InputError, match="expected an encoder of this package, got Own"):
        missing_audio.hide_audio(Own(), {}, torch.ones(1, dtype=torch.bool))


def test_every_audio_column_is_estimated_or_not():
    assert set(ESTIMATED) == {"duration_ms", "loudness", "tempo", "key", "mode"}
    assert not set(ESTIMATED) & set(NOT_ESTIMATED)
    assert len(ESTIMATED) + len(NOT_ESTIMATED) == 13
