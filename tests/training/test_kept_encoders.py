"""What an encoder learned from many songs is kept, and read only where nothing has changed that it depends on."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from popularity.__main__ import main
from tests.conftest import Lazy
from tests.test_fit import PLAIN, SMALL

torch = Lazy("torch")
kept = Lazy("popularity.training.kept_encoders")


@pytest.fixture
def fit(tmp_path: Path, song_file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, object]]:
    """Fit a small model; the last checkpoint's weights and encoder."""
    monkeypatch.setattr("popularity.training.datamodule.LEAST", 10)
    number = iter(range(100))

    def run(*more: str) -> dict[str, object]:
        name = f"run{next(number)}"
        where = ["--name", name, "--log_dir", str(tmp_path), "--data.source", str(song_file)]
        cache = ["--data.cache_dir", str(tmp_path / "cache"), "--trainer.max_epochs", "1"]
        assert main(["fit", *where, *cache, *SMALL, *PLAIN, *more]) == 0
        found = torch.load(tmp_path / name / "version_0" / "checkpoints" / "last.ckpt", weights_only=True)
        data = next(value for value in found.values() if isinstance(value, dict) and "encoder" in value)
        return {"weights": found["current_model_state"], "encoder": data["encoder"]}

    return run


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "encoders").glob("*"))


def same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(torch.nan_to_num(one), torch.nan_to_num(other)) if hasattr(one, "dtype") else one == other


@pytest.mark.slow
def test_the_second_fit_reads_what_the_first_learned(fit, tmp_path, monkeypatch, caplog):
    """And ends with the same bits as a fit that learns."""
    learned = fit("--data.keep_encoder", "false")
    assert not files(tmp_path)
    first = fit()
    assert len(files(tmp_path)) == 1
    monkeypatch.setattr("popularity.features.encoder.HistoryEncoder.fit", lambda *of, **options: pytest.fail("fitted"))
    with caplog.at_level(logging.INFO, logger="popularity"):
        second = fit()
    assert same(first, learned)
    assert same(second, learned)
    assert any("learned by an earlier fit" in line for line in caplog.messages)
    fit("--model.learning_rate", "0.01")  # of the network

    def refuse(path: Path) -> None:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)  # a cache that is only read
    fit()


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [("--data.fold", "1"), ("--data.split", "artist"), ("--data.encoder.history", "3")],
    ids=lambda more: more[0],
)
def test_what_an_encoder_depends_on_makes_another_file(more, fit, tmp_path):
    fit()
    fit(*more)
    assert len(files(tmp_path)) == 2


def test_code_and_songs_make_another_file(tmp_path, monkeypatch):
    rows = np.arange(5)
    paths = {kept.place_of(tmp_path, {"history": 3}, "abc", "random", rows)}
    paths.add(kept.place_of(tmp_path, {"history": 3}, "abd", "random", rows))
    paths.add(kept.place_of(tmp_path, {"history": 3}, "abc", "random", rows[::-1]))
    monkeypatch.setattr("popularity.training.kept_encoders._code", lambda: "changed")
    paths.add(kept.place_of(tmp_path, {"history": 3}, "abc", "random", rows))
    monkeypatch.setattr("popularity.training.kept_encoders.version", lambda name: "0")
    paths.add(kept.place_of(tmp_path, {"history": 3}, "abc", "random", rows))
    assert len(paths) == 5


class Counted:
    """What `learn_or_read` needs of an encoder; learning takes a while."""

    def __init__(self, learned: list[int]) -> None:
        self.learned, self.value = learned, torch.zeros(1)

    def learn(self) -> None:
        time.sleep(0.3)
        self.learned.append(1)
        self.value = torch.ones(1)

    def state(self) -> dict[str, object]:
        return {"value": self.value}

    def load_state(self, state: dict[str, object]) -> None:
        self.value = state["value"]


@pytest.mark.parametrize("cache", ["writable", "read-only"])
def test_of_processes_at_once_one_learns(cache, tmp_path, unprivileged):
    """As those of `ddp`, or the workers of a search; where nothing can be kept each learns."""
    folder, learned = tmp_path / "cache", list[int]()
    folder.mkdir(mode=0o700 if cache == "writable" else 0o500)
    encoders = [Counted(learned) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for encoder in encoders:
            pool.submit(kept.learn_or_read, encoder, encoder.learn, folder / "encoders" / f"{tmp_path.name}.pt")
    assert len(learned) == (1 if cache == "writable" else 4)
    assert all(encoder.value == 1 for encoder in encoders)


def test_without_locks_each_learns(tmp_path, monkeypatch):
    def refuse(name: str) -> None:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr("popularity.training.kept_encoders.machine_lock", refuse)
    encoder = Counted([])
    kept.learn_or_read(encoder, encoder.learn, tmp_path / "one.pt")
    assert encoder.learned == [1]
    assert (tmp_path / "one.pt").is_file()


@pytest.mark.slow
def test_a_damaged_file_is_made_again(fit, tmp_path, caplog):
    first = fit()
    path = files(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert same(fit(), first)
    assert any("damaged, learned again" in line for line in caplog.messages)
    assert path.read_bytes() != bytes(content)


def test_a_cache_that_cannot_be_written_does_not_end_a_fit(fit, tmp_path, unprivileged, caplog):
    (tmp_path / "cache").mkdir(mode=0o500)
    fit()
    assert any("not kept" in line for line in caplog.messages)


def test_the_latest_files_stay(fit, tmp_path):
    folder = tmp_path / "cache" / "encoders"
    folder.mkdir(parents=True)
    for number in range(6):
        (folder / f"{number}.pt").write_bytes(b"")
        os.utime(folder / f"{number}.pt", (number, number))
    fit()
    assert len(files(tmp_path)) == kept.KEPT
    assert {"3.pt", "4.pt", "5.pt"} < {path.name for path in files(tmp_path)}
