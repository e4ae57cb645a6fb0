"""Known songs that are embedded once give the predictions of known songs that are embedded each time."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import Lazy, make_songs, quick_fit

torch = Lazy("torch")
songs_module = Lazy("popularity.data.songs")
splits = Lazy("popularity.data.splits")
known_songs = Lazy("popularity.models.known_songs")
outputs = Lazy("popularity.training.outputs")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    path = tmp_path_factory.mktemp("known") / "songs.csv"
    make_songs(120).assign(artist_name=[f"Artist {i % 6}" for i in range(120)]).to_csv(path, index=False)
    songs = songs_module.load_songs(str(path)).songs
    split = splits.Split(np.arange(90), np.arange(0), np.arange(90, 120))
    return quick_fit(songs, split, **{"model.net.members": 2}), songs.iloc[90:].reset_index(drop=True)


def test_embedded_once_or_each_time_predictions_agree(fitted, monkeypatch):
    fit, songs = fitted
    encoder, net = fit.datamodule.encoder, fit.module.net
    with known_songs.embedded_once(net, encoder, 1) as same:
        assert same is encoder, "for one song it is more work"
    seen = []
    embed = known_songs.embed_known_songs
    monkeypatch.setattr(
        "popularity.models.known_songs.embed_known_songs", lambda *both: seen.append(both) or embed(*both)
    )

    def raw(songs):
        return outputs.outputs_and_known(fit.module, encoder, encoder.encode(songs), samples=2)[0]

    once = raw(songs)
    assert seen, "30 songs read more than the 90 known songs"
    each = torch.cat([raw(songs.iloc[[row]]) for row in range(len(songs))])
    assert len(seen) == 1
    torch.testing.assert_close(once, each, atol=1e-5, rtol=1e-5)
    assert not any("embedded" in vars(member) for member in net.members), "a network is left as it was"
