"""A fit that is killed, at any moment, and started again ends as one that never was: weights, metrics and all.

``POPULARITY_KILLS=20 pytest -m slow tests/training/test_kills.py`` kills each run twenty times.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from tests.test_fit import PLAIN, SMALL
from tests.training.test_resume import same, weights

KILLS = int(os.environ.get("POPULARITY_KILLS", "3"))
EPOCHS = 2 * KILLS + 2
#: Processes of a server that has imported the package: a fit begins at once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["popularity.cli"])


def command(arguments: list[str], log: Path, pause: float) -> None:
    """The command line in a process of its own; checkpoints are checked for a while before they replace the old one."""
    from popularity import __main__
    from popularity.training import checkpoints

    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    # what a shell starts in the background ignores Ctrl-C, under nohup SIGHUP too, and so would what it starts in turn
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    check = checkpoints.is_whole
    checkpoints.is_whole = lambda file: bool(time.sleep(pause)) or check(file)
    sys.argv = ["popularity", *arguments]
    os._exit(__main__.run())


def start(folder: Path, songs: Path, *more: str, pause: float = 0.0, epochs: int = EPOCHS) -> ForkServerProcess:
    """Begin a fit."""
    arguments = ["fit", "--name", "small", "--log_dir", str(folder), "--data.source", str(songs), *SMALL, *PLAIN]
    # on a busy machine many epochs may pass before a test looks again
    arguments += ["--trainer.max_epochs", str(epochs), "--early_stopping.patience", "1000000", *more]
    process = PROCESSES.Process(target=command, args=(arguments, folder / "log", pause))
    process.start()
    return process


def log_of(folder: Path) -> str:
    return (folder / "log").read_text()


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    for process in multiprocessing.active_children():
        process.kill()
        process.join()


def written(checkpoints: Path, name: str) -> int:
    """When a file was written, 0 if there is none."""
    return max((path.stat().st_mtime_ns for path in checkpoints.glob(name)), default=0)


def wait_for_write(process: ForkServerProcess, checkpoints: Path, name: str) -> None:
    """Wait until a file is there that was not, or until the process ends."""
    before, deadline = written(checkpoints, name), time.monotonic() + 300
    while process.is_alive() and written(checkpoints, name) == before:
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(0.002)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, song_file: Path) -> Path:
    """A run that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    process = start(folder, song_file)
    process.join()
    assert process.exitcode == 0, log_of(folder)
    return folder / "small" / "version_0"


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["mid-epoch", "while a checkpoint is written"])
def test_killed_runs_end_as_if_nothing_had_happened(moment: str, whole: Path, song_file: Path, tmp_path: Path) -> None:
    writing = moment != "mid-epoch"
    chance, more, kills, version = random.Random(0), list[str](), 0, 0
    while True:
        run = tmp_path / "small" / f"version_{version}"
        checkpoints = run / "checkpoints"
        process = start(tmp_path, song_file, *more, pause=0.2 if writing else 0.0)
        if kills < KILLS:
            wait_for_write(process, checkpoints, ".last.ckpt.*.part" if writing else "last.ckpt")
            time.sleep(chance.uniform(0, 0.2))
            process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, log_of(tmp_path)
        kills += 1
        more = ["--ckpt_path", "last"]
        if not (checkpoints / "last.ckpt").exists():  # killed before its first checkpoint was whole: a new run
            more, version = [], version + 1
    assert kills
    assert len(list(run.parent.iterdir())) == version + 1, "a run that goes on stays in its folder"
    assert (run / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert same(weights(run), weights(whole))
    assert same(weights(run, "best"), weights(whole, "best"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_stop_says_how_to_go_on(number: int, song_file: Path, tmp_path: Path) -> None:
    """Its exit code says why it ended; a scheduler must not take it for a finished one."""
    process = start(tmp_path, song_file, epochs=10_000)
    wait_for_write(process, tmp_path / "small" / "version_0" / "checkpoints", "before_last.ckpt")
    os.kill(process.pid or 0, number)
    process.join(300)
    error = log_of(tmp_path)
    assert process.exitcode == 128 + number, error
    assert "Traceback" not in error
    assert "interrupted; go on with the same command and --ckpt_path last (--name small)" in error
    found = {path.name for path in (tmp_path / "small" / "version_0" / "checkpoints").iterdir()}
    assert found == {"best.ckpt", "last.ckpt", "before_last.ckpt"}, "nothing is left half written"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "told", "strategy"),
    [
        *((number, "first", "ddp") for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)),
        (signal.SIGINT, "all", "ddp"),
        (signal.SIGTERM, "first", "ddp_spawn"),
    ],
)
def test_several_processes_of_a_run_that_is_told_to_stop(
    number: int, told: str, strategy: str, song_file: Path, tmp_path: Path
) -> None:
    """All of them end, whether the first one is told or, by a terminal, each; one line says how to go on."""

    def heed() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    arguments = ["fit", "--name", "small", "--log_dir", str(tmp_path), "--data.source", str(song_file), *SMALL, *PLAIN]
    arguments += ["--trainer.max_epochs", "10000", "--early_stopping.patience", "1000000"]
    arguments += ["--trainer.devices", "2", "--trainer.strategy", strategy, "--data.batch_size", "16"]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "popularity", *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=heed,
        )
    checkpoints = tmp_path / "small" / "version_0" / "checkpoints"
    try:
        deadline = time.monotonic() + 300
        while not (checkpoints / "before_last.ckpt").exists():
            assert process.poll() is None, log_of(tmp_path)
            assert time.monotonic() < deadline, log_of(tmp_path)
            time.sleep(0.1)
        (os.kill if told == "first" else os.killpg)(process.pid, number)
        code = process.wait(90)  # a busy machine needs most of a minute
        deadline = time.monotonic() + 10
        while session_of(process.pid) and time.monotonic() < deadline:  # Python's own helper ends a moment later
            time.sleep(0.1)
        left = session_of(process.pid)
    finally:
        for pid in {process.pid, *session_of(process.pid)}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
    error = log_of(tmp_path)
    assert code == 128 + number, error
    assert not left
    assert "Traceback" not in error
    assert "terminated with" not in error, "Lightning or PyTorch looked after the processes"
    assert error.count("interrupted; go on with the same command and --ckpt_path last (--name small)") == 1
    assert (checkpoints / "last.ckpt").exists()


def session_of(leader: int) -> set[int]:
    """Processes of a session that run."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid, _, rest = stat.read_text().partition(" (")
            state, _, _, session = rest.rpartition(") ")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.add(int(pid))
    return found
