"""The same against servers of this machine that speak the protocols of S3, of Google's storage and of the Hub."""

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
from tests.hub import REPOSITORY, Hub
from tests.test_fit import PLAIN, SMALL

AWS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
#: Where a server is looked for, by the kind of address.
ENDPOINT = {"s3": "AWS_ENDPOINT_URL", "gs": "STORAGE_EMULATOR_HOST"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of botocore and moto
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),  # of aiohttp, of what gcsfs sends
]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``s3://songs/`` of moto's server."""
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {**AWS, "AWS_CONFIG_FILE": os.devnull, ENDPOINT["s3"]: f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    storage = s3fs.S3FileSystem()
    storage.makedirs("songs", exist_ok=True)  # the servers of a process have the same buckets
    yield storage
    server.stop()


@pytest.fixture
def gs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``gs://songs/`` of an emulator."""
    gcsfs = pytest.importorskip("gcsfs")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="songs")
    server.start()
    monkeypatch.setenv(ENDPOINT["gs"], f"http://127.0.0.1:{server._api._httpd.server_port}")
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield gcsfs.GCSFileSystem()
    server.stop()


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any]]:
    """A kind of address, and its storage with the bucket ``songs``."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    storage = request.getfixturevalue(request.param)
    yield request.param, storage
    type(storage).clear_instance_cache()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """The files of ``hf://datasets/me/songs/``."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    huggingface_hub.HfFileSystem.clear_instance_cache()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Hub() as server:
        constants = huggingface_hub.constants  # made of HF_ENDPOINT when it is imported
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server.files
    huggingface_hub.HfFileSystem.clear_instance_cache()


def test_a_fit_and_its_predictions(bucket: tuple[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, storage = bucket
    monkeypatch.chdir(tmp_path)
    storage.pipe_file("songs/train.csv", make_songs(120).to_csv(index=False).encode())
    storage.pipe_file("songs/new.csv", make_songs(20, seed=3).to_csv(index=False).encode())
    common = ["--data.cache_dir", str(tmp_path / "cache"), "--data.source", f"{kind}://songs/train.csv", *SMALL, *PLAIN]
    kept, logs = f"{kind}://songs/run", {"s3": "s3://songs/runs", "gs": "logs"}[kind]
    logger = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", logs, "--checkpoint.dirpath", kept]
    assert main(["fit", *common, *logger, "--trainer.max_epochs", "1"]) == 0
    assert main(["fit", *common, *logger, "--ckpt_path", f"{kept}/last.ckpt", "--trainer.max_epochs", "2"]) == 0
    storage.invalidate_cache()
    assert {"songs/run/best.ckpt", "songs/run/last.ckpt"} <= {*storage.find("songs/run")}
    if kind == "s3":
        run = "songs/runs/lightning_logs/version_0"
        found = {path.removeprefix(run + "/") for path in storage.find(run)}
        assert {"metrics.csv", "config.yaml", "data.json"} <= found
    arguments = ["--ckpt_path", f"{kept}/best.ckpt", "--data.cache_dir", str(tmp_path / "cache")]
    arguments += ["--data.predict_source", f"{kind}://songs/new.csv", "--output", f"{kind}://songs/out.csv", *PLAIN]
    assert main(["predict", *arguments]) == 0
    storage.invalidate_cache()
    assert len(storage.cat_file("songs/out.csv").splitlines()) == 21
    assert {path.name for path in tmp_path.iterdir()} == {"cache", *([logs] if kind == "gs" else [])}


def test_what_the_server_refuses_is_one_line(
    bucket: tuple[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, storage = bucket
    with pytest.raises(InputError, match="there is no bucket nobody"):
        check_target(f"{kind}://nobody/a.csv")
    with pytest.raises(InputError, match="no such file or bucket"):
        fetch(f"{kind}://songs/none.csv", tmp_path)
    storage.pipe_file("songs/a.csv", b"one")
    assert fetch(f"{kind}://songs/a.csv", tmp_path).read_bytes() == b"one"
    storage.pipe_file("songs/a.csv", b"two!")
    assert fetch(f"{kind}://songs/a.csv", tmp_path).read_bytes() == b"two!"
    if kind == "gs":
        return  # gcsfs asks six times, for a minute
    type(storage).clear_instance_cache()
    monkeypatch.setenv(ENDPOINT[kind], "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"s3://songs/a.csv: cannot read: ") as refused:
        fetch("s3://songs/a.csv", tmp_path)
    assert "\n" not in str(refused.value)


def test_songs_from_the_hub(hub: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    there = f"hf://datasets/{REPOSITORY}"
    hub["train.csv"] = make_songs(120).to_csv(index=False).encode()
    hub["new.csv"] = make_songs(20, seed=3).to_csv(index=False).encode()
    cache = ["--data.cache_dir", str(tmp_path / "cache")]
    settings = [*cache, "--data.source", f"{there}/train.csv", *SMALL, *PLAIN, "--trainer.max_epochs", "1"]
    assert main(["fit", *settings]) == 0
    hub["best.ckpt"] = next(tmp_path.rglob("best.ckpt")).read_bytes()
    pytest.importorskip("huggingface_hub").HfFileSystem.clear_instance_cache()  # a process lists a data set once
    arguments = [*cache, "--ckpt_path", f"{there}/best.ckpt", "--data.predict_source", f"{there}/new.csv", *PLAIN]
    assert main(["predict", *arguments, "--output", f"{there}/out.csv"]) == 0
    assert len(hub["out.csv"].splitlines()) == 21
    with pytest.raises(InputError, match="no such file or bucket"):
        fetch(f"{there}/none.csv", tmp_path)
    with pytest.raises(InputError, match=r"^hf://datasets/me/others/a.csv: cannot read: [^\n]+$"):
        fetch("hf://datasets/me/others/a.csv", tmp_path)
