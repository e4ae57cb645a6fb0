"""Fixtures for all tests: the real data sets, read in place and never copied."""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import pandas as pd
    from lightning.pytorch import Callback

    from popularity.data.splits import Split
    from popularity.training.fit import Fit

# gcsfs asks Google's servers what kind of bucket it is given, unless told when it is imported that it need not
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

# machines differ and are shared: how long an example takes says nothing about the law it tests
settings.register_profile("popularity", deadline=None, max_examples=25)
settings.load_profile("popularity")

#: Modules with the longest tests, most of a minute each: begun first, they leave no tail.
LONG = ("test_export.py", "test_workers.py", "test_compare.py", "test_scan_build.py", "test_two_processes.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long modules first; within a module, and among the others, the order stays."""
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `gpu` need a CUDA device."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device here")


class Lazy:
    """A module that is imported when one of its names is first used: collecting tests must not import torch.

    It is for reading: ``monkeypatch.setattr`` takes the module's name as text.

    Args:
        name: of the module.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what pytest asks of everything it finds in a module
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{name} is not beside this checkout (looked at {path})")
    return path


@pytest.fixture(scope="session")
def spotify_4771() -> Path:
    """The 4,771 songs that this project set out from."""
    return _shared("spotify_4771.csv")


@pytest.fixture(scope="session")
def spotify_songs_32833() -> Path:
    """The TidyTuesday set of 2020-01-21, zipped."""
    return _shared("spotify_songs_32833.zip")


def make_songs(count: int, seed: int = 0) -> pd.DataFrame:
    """Made-up songs in the columns of a public file, with a popularity that the features explain in part."""
    import numpy as np
    import pandas as pd

    from popularity.data.schema import AUDIO_UNIT

    rng = np.random.default_rng(seed)
    unit = {name: rng.uniform(0.02, 0.98, count).round(4) for name in AUDIO_UNIT}
    signal = 40 + 30 * (unit["danceability"] - 0.5) - 40 * (unit["acousticness"] - 0.5) + rng.normal(0, 4, count)
    return pd.DataFrame(
        {
            "track_id": [f"{i:022d}" for i in range(count)],
            "track_name": [f"Song {i}" + (" (Live)" if i % 7 == 0 else "") for i in range(count)],
            "artist_name": [f"Artist {i}" for i in rng.integers(0, max(2, count // 4), count)],
            "album_name": [f"Album {i}" for i in rng.integers(0, max(2, count // 3), count)],
            "release_date": pd.date_range("1990-01-01", periods=count, freq="30D").strftime("%Y-%m-%d"),
            "track_genre": rng.choice(["pop", "rock", "jazz"], count),
            **unit,
            "duration_ms": rng.integers(60_000, 400_000, count),
            "loudness": rng.uniform(-30, -1, count).round(3),
            "tempo": rng.uniform(60, 200, count).round(3),
            "key": rng.integers(0, 12, count),
            "mode": rng.integers(0, 2, count),
            "time_signature": rng.choice([3, 4, 5], count),
            "popularity": signal.clip(0, 100).round().astype(int),
        }
    )


def quick_fit(
    songs: pd.DataFrame, split: Split, *, epochs: int = 1, callbacks: Sequence[Callback] = (), **settings: Any
) -> Fit:
    """A small model of the default kind, fitted to the training songs of a split in this process, without files.

    Args:
        songs: canonical song table.
        split: of these songs.
        epochs: of training.
        callbacks: further callbacks.
        settings: dotted names of the config to values.
    """
    from popularity.data.songs import SongTable
    from popularity.training.fit import build_fit, read_config

    small = {"model.warmup_steps": 5, "data.batch_size": 32}
    if "model.net" not in settings:
        small |= {"model.net.members": 1, "model.net.mlp_width": 0, "model.net.width": 8, "model.net.d_state": 4}
    small |= {"ema.decay": 0, "data.validation": 0, "trainer.max_epochs": epochs, "trainer.accelerator": "cpu"}
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    table = SongTable(songs, report=None, fingerprint="")  # type: ignore[arg-type]  # as a search hands it over
    config = read_config(settings={**small, **settings})
    fit = build_fit(config, table=table, split=split, callbacks=callbacks, trainer=silent)
    fit.run()
    fit.module.eval()
    return fit


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Permissions bind in this thread, also of root: for a while it gives up what overrides them."""
    if os.geteuid() != 0:
        yield
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of capget(2), this thread
    before, without = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, before) == 0
    without[:] = before
    without[0] &= ~0b110  # effective CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    # prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP): access(2) goes by the capabilities, not by the user
    assert libc.prctl(28, 0b100, 0, 0, 0) == libc.capset(header, without) == 0
    yield
    assert libc.capset(header, before) == libc.prctl(28, 0, 0, 0, 0) == 0


@pytest.fixture(scope="session")
def song_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of 240 made-up songs."""
    path = tmp_path_factory.mktemp("songs") / "songs.csv"
    make_songs(240).to_csv(path, index=False)
    return path
