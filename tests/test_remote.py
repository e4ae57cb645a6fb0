"""Songs, checkpoints, logs and predictions in object storage: a file system in memory stands in for the server."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from popularity.__main__ import main
from popularity.errors import InputError
from popularity.io import check_folder, check_target, write_atomically
from popularity.remote import address_of, fetch
from tests.conftest import make_songs
from tests.test_fit import PLAIN, SMALL


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``s3://songs/`` for this process."""
    from fsspec.implementations.memory import MemoryFileSystem
    from fsspec.registry import _registry

    class Storage(MemoryFileSystem):
        protocol = "s3"
        store: dict[str, Any] = {}  # noqa: RUF012 - as in the class above, one for all instances
        pseudo_dirs = [""]  # noqa: RUF012
        opened = 0

        @classmethod
        def _strip_protocol(cls, path: Any) -> str:
            return "/" + str(path).removeprefix("s3://").strip("/")

        def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
            Storage.opened += mode == "rb"
            return super()._open(path, mode, **options)

        def exists(self, path: str, **options: Any) -> bool:
            return path in ("", "songs") or super().exists(path, **options)

    monkeypatch.setitem(_registry, "s3", Storage)
    storage = Storage(skip_instance_cache=True)
    storage.mkdir("/songs")
    return storage


def put(storage: Any, name: str, count: int, seed: int = 0) -> str:
    """Upload a table of songs; its address."""
    storage.pipe_file(f"/songs/{name}", make_songs(count, seed).to_csv(index=False).encode())
    return f"s3://songs/{name}"


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("s3://a/b.csv", "s3://a/b.csv"),
        (Path("gs://a/b.csv"), "gs://a/b.csv"),
        ("hf://datasets/a/b.csv", "hf://datasets/a/b.csv"),
        ("songs.csv", None),
        ("file:///etc/passwd", None),
        ("ssh://host/songs.csv", None),
        ("s3", None),
    ],
)
def test_addresses_are_those_of_object_storage(path: str | Path, address: str | None) -> None:
    assert address_of(path) == address


def test_a_file_is_copied_once_for_each_version(bucket: Any, tmp_path: Path) -> None:
    bucket.pipe_file("/songs/a.csv", b"one")
    kept = fetch("s3://songs/a.csv", tmp_path)
    opened = type(bucket).opened
    assert fetch("s3://songs/a.csv", tmp_path) == kept
    assert type(bucket).opened == opened
    for damaged in (b"o", b"onf"):  # cut off since, and a bit that flipped
        kept.write_bytes(damaged)
        assert fetch("s3://songs/a.csv", tmp_path).read_bytes() == b"one"
    bucket.pipe_file("/songs/a.csv", b"two!")
    assert fetch("s3://songs/a.csv", tmp_path).read_bytes() == b"two!"
    assert kept.name == "a.csv", "messages name the file"


def test_several_readers_at_once_copy_a_file_once(bucket: Any, tmp_path: Path) -> None:
    bucket.pipe_file("/songs/a.csv", b"x" * 1_000_000)
    readers = [threading.Thread(target=fetch, args=("s3://songs/a.csv", tmp_path)) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert type(bucket).opened == 1


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3://songs/none.csv", "no such file or bucket"),
        ("s3://songs", "got a directory"),
        ("gs://songs/a.csv", "install this project's extra [cloud]"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    address: str, told: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # not installed
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "gs", raising=False)  # nor met by an earlier test
    with pytest.raises(InputError, match=address) as refused:
        fetch(address, tmp_path)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_written_appears_whole_or_not_at_all(bucket: Any) -> None:
    with write_atomically("s3://songs/a.txt") as file:
        file.write("né")
        assert not bucket.exists("/songs/a.txt")
    assert bucket.cat_file("/songs/a.txt") == "né".encode()
    with pytest.raises(ZeroDivisionError), write_atomically(Path("s3://songs/a.txt"), binary=True) as file:
        file.write(b"half" * (1 // 0))
    assert bucket.cat_file("/songs/a.txt") == "né".encode()


def test_what_cannot_be_written_to_is_refused_before_any_work(bucket: Any) -> None:
    with pytest.raises(InputError, match="there is no bucket nobody"):
        check_target("s3://nobody/a.csv")
    with pytest.raises(InputError, match="s3://songs/runs: expected a folder of this machine"):
        check_folder(Path("s3://songs/runs"))


@pytest.mark.parametrize("address", ["gs://songs/runs", "hf://datasets/me/songs"])
def test_logs_that_lose_rows_are_refused(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning's logger appends; gcsfs overwrites instead."""
    monkeypatch.chdir(tmp_path)
    make_songs(60).to_csv("songs.csv", index=False)
    logger = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", address]
    assert main(["fit", "--data.source", "songs.csv", *SMALL, *PLAIN, *logger]) == 2
    told = capsys.readouterr().err
    assert f"expected a folder of this machine or s3://..., got {address}" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_a_fit_in_object_storage(
    bucket: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Songs, logs and checkpoints are there; the run goes on from there, and its predictions go there."""
    source = put(bucket, "train.csv", 120)
    logger = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "s3://songs/runs"]
    common = ["--data.source", source, "--data.cache_dir", str(tmp_path / "cache"), *SMALL, *PLAIN]
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *common, *logger, "--trainer.max_epochs", "1"]) == 0, capsys.readouterr().err
    run = "/songs/runs/lightning_logs/version_0"
    found = {path.removeprefix(run + "/") for path in bucket.find(run)}
    assert {"checkpoints/best.ckpt", "checkpoints/last.ckpt", "metrics.csv", "config.yaml", "data.json"} <= found
    last = f"s3:/{run}/checkpoints/last.ckpt"
    there = ["--checkpoint.dirpath", f"s3:/{run}/checkpoints"]
    before = bucket.cat_file(f"{run}/checkpoints/last.ckpt")
    assert main(["fit", *common, *logger, *there, "--trainer.max_epochs", "2", "--ckpt_path", last]) == 0
    assert bucket.cat_file(f"{run}/checkpoints/last.ckpt") != before
    best = f"s3:/{run}/checkpoints/best.ckpt"
    songs = put(bucket, "new.csv", 20, seed=3)
    output = ["--data.predict_source", songs, "--output", "s3://songs/out.csv"]
    assert main(["predict", "--ckpt_path", best, "--data.cache_dir", str(tmp_path / "cache"), *output, *PLAIN]) == 0
    assert len(bucket.cat_file("/songs/out.csv").splitlines()) == 21
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}, "no folder named s3:"
