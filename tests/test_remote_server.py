"""The same against a server that speaks S3, with s3fs: moto's, on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from popularity.__main__ import main
from popularity.errors import InputError
from popularity.io import check_target
from popularity.remote import fetch
from tests.conftest import make_songs
from tests.test_fit import PLAIN, SMALL

SETTINGS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """``s3://songs/`` of a server of this machine."""
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {**SETTINGS, "NO_PROXY": "127.0.0.1", "AWS_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    s3fs.S3FileSystem.clear_instance_cache()
    storage = s3fs.S3FileSystem()
    storage.makedirs("songs", exist_ok=True)  # the servers of a process have the same buckets
    yield storage
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of botocore and moto
def test_a_fit_and_its_predictions(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bucket.pipe_file("songs/train.csv", make_songs(120).to_csv(index=False).encode())
    bucket.pipe_file("songs/new.csv", make_songs(20, seed=3).to_csv(index=False).encode())
    common = ["--data.cache_dir", str(tmp_path / "cache"), "--data.source", "s3://songs/train.csv", *SMALL, *PLAIN]
    logger = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "s3://songs/runs"]
    assert main(["fit", *common, *logger, "--trainer.max_epochs", "1"]) == 0
    run = "songs/runs/lightning_logs/version_0"
    there = ["--checkpoint.dirpath", f"s3://{run}/checkpoints", "--ckpt_path", f"s3://{run}/checkpoints/last.ckpt"]
    assert main(["fit", *common, *logger, *there, "--trainer.max_epochs", "2"]) == 0
    found = {path.removeprefix(run + "/") for path in bucket.find(run)}
    assert {"checkpoints/best.ckpt", "checkpoints/last.ckpt", "metrics.csv", "config.yaml", "data.json"} <= found
    arguments = ["--ckpt_path", f"s3://{run}/checkpoints/best.ckpt", "--data.cache_dir", str(tmp_path / "cache")]
    arguments += ["--data.predict_source", "s3://songs/new.csv", "--output", "s3://songs/out.csv", *PLAIN]
    assert main(["predict", *arguments]) == 0
    bucket.invalidate_cache()
    assert len(bucket.cat_file("songs/out.csv").splitlines()) == 21
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_the_server_refuses_is_one_line(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="there is no bucket nobody"):
        check_target("s3://nobody/a.csv")
    with pytest.raises(InputError, match="no such file or bucket"):
        fetch("s3://songs/none.csv", tmp_path)
    bucket.pipe_file("songs/a.csv", b"one")
    assert fetch("s3://songs/a.csv", tmp_path).read_bytes() == b"one"
    bucket.pipe_file("songs/a.csv", b"two!")
    assert fetch("s3://songs/a.csv", tmp_path).read_bytes() == b"two!"
    type(bucket).clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"s3://songs/a.csv: cannot read: ") as refused:
        fetch("s3://songs/a.csv", tmp_path)
    assert "\n" not in str(refused.value)
