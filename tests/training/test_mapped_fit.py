"""A fit whose songs and tensors lie in mapped files, in many parts, is the same to the bit as one in memory."""

from __future__ import annotations

import pandas as pd
import pytest

from popularity.__main__ import main
from tests.test_fit import PLAIN, SMALL


@pytest.mark.slow
@pytest.mark.parametrize("split", ["random", "time"])
def test_a_fit_from_mapped_files_is_the_same(split, song_file, tmp_path, monkeypatch):
    songs, folder = pd.read_csv(song_file), tmp_path / "songs"
    folder.mkdir()
    for number, start in enumerate(range(0, len(songs), 40)):
        songs.iloc[start : start + 40].to_parquet(folder / f"{number:02d}.parquet")
    mapped = []

    def fit(name: str) -> tuple[bytes, bytes]:
        where = ["--name", name, "--log_dir", str(tmp_path), "--data.source", str(folder), "--data.split", split]
        assert main(["fit", *where, "--trainer.max_epochs", "1", *SMALL, *PLAIN]) == 0
        run = tmp_path / name / "version_0"
        new = tmp_path / f"{name}.csv"
        files = ["--files", str(song_file), "--output", str(new)]
        assert main(["predict", "--ckpt_path", str(run / "checkpoints" / "best.ckpt"), *files]) == 0
        return (run / "metrics.csv").read_bytes(), new.read_bytes()

    held = fit("held")
    for name, value in {"HELD": 30, "CHUNK": 16}.items():
        monkeypatch.setattr(f"popularity.data.mapped.{name}", value)
    for name, value in {"MAPPED": 100, "CHUNK": 16}.items():
        monkeypatch.setattr(f"popularity.features.mapped.{name}", value)
    for module in ("inference.checkpoint", "training.checkpoints"):
        monkeypatch.setattr(f"popularity.{module}.MAPPED", 1000)
    from popularity.data import mapped as tables

    original = tables._mapped
    monkeypatch.setattr(tables, "_mapped", lambda parts: mapped.append(1) or original(parts))
    assert fit("mapped") == held
    assert mapped
