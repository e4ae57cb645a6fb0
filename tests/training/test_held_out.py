"""Held-out songs are predicted as songs will be when the network is used: with the others known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Lazy, make_songs

torch = Lazy("torch")
held_out = Lazy("popularity.training.held_out")


@pytest.fixture(scope="module")
def songs(tmp_path_factory) -> pd.DataFrame:
    from popularity.data.songs import load_songs

    frame = make_songs(150)
    frame["artist_name"] = [f"Artist {number}" for number in np.random.default_rng(1).integers(0, 12, 150)]
    path = tmp_path_factory.mktemp("songs") / "songs.csv"
    frame.to_csv(path, index=False)
    return load_songs(str(path)).songs


@pytest.mark.parametrize(("kind", "others"), [("random", True), ("artist", False), ("time", False)])
def test_held_out_songs_know_each_other_as_far_as_the_split_lets_them(songs, kind, others, monkeypatch):
    from popularity.features.encoder import HistoryEncoder

    encoder, seen = HistoryEncoder(), []
    encoder.fit(songs.iloc[:90].reset_index(drop=True), earlier=kind == "time")
    rows = songs.iloc[90:].reset_index(drop=True)

    def outputs(module, encoder, part, *, samples):
        seen.append((encoder, part))
        return torch.tensor(part["popularity"].to_numpy(np.float32)).view(1, -1, 1), torch.arange(len(part)), None

    monkeypatch.setattr("popularity.training.held_out.member_outputs", outputs)
    tried = held_out.try_held_out(type("Module", (), {"head": "head"}), encoder, rows, kind, samples=2, seed=0)
    assert tried.raw.flatten().tolist() == rows["popularity"].tolist(), "in the order of the songs"
    assert sorted(name for _, part in seen for name in part["track_id"]) == sorted(rows["track_id"])
    for one, part in seen:
        known = one.encode(part)
        of_others = known["row"][known["role"] >= 0] >= 90
        assert bool(of_others.any()) is others
        assert (len(one.label) > 90) is (kind != "time")
    assert len(encoder.label) == 90
