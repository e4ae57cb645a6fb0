"""A fit that is killed, at any moment, and started again ends as one that never was: weights, metrics and all.

``POPULARITY_KILLS=20 pytest -m slow tests/training/test_kills.py`` kills each run twenty times.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_fit import PLAIN, SMALL
from tests.training.test_resume import same, weights

KILLS = int(os.environ.get("POPULARITY_KILLS", "3"))
EPOCHS = 12
#: The command line, with checkpoints that take a while to check before they take the place of the old one.
SLOW_WRITES = """
import sys, time
from popularity.training import checkpoints

check = checkpoints.is_whole
checkpoints.is_whole = lambda file: time.sleep(float(sys.argv[1])) or check(file)
from popularity.__main__ import run

sys.argv = ["popularity", *sys.argv[2:]]
sys.exit(run())
"""


def start(folder: Path, songs: Path, *more: str, pause: float = 0.0, epochs: int = EPOCHS) -> subprocess.Popen[str]:
    """Begin a fit in a process of its own."""
    arguments = ["fit", "--name", "small", "--log_dir", str(folder), "--data.source", str(songs), *SMALL, *PLAIN]
    # what a shell starts in the background ignores Ctrl-C, and so would what it starts in turn
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITES, str(pause), *arguments, "--trainer.max_epochs", str(epochs), *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def written(checkpoints: Path, name: str) -> int:
    """When a file was written, 0 if there is none."""
    return max((path.stat().st_mtime_ns for path in checkpoints.glob(name)), default=0)


def wait_for_write(process: subprocess.Popen[str], checkpoints: Path, name: str) -> None:
    """Wait until a file is there that was not, or until the process ends."""
    before, deadline = written(checkpoints, name), time.monotonic() + 300
    while process.poll() is None and written(checkpoints, name) == before:
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(0.002)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, song_file: Path) -> Path:
    """A run that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    process = start(folder, song_file)
    _, error = process.communicate()
    assert process.returncode == 0, error
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
            time.sleep(chance.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
        _, error = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, error
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
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 128 + number, error
    assert "Traceback" not in error
    assert "interrupted; go on with the same command and --ckpt_path last (--name small)" in error
    found = {path.name for path in (tmp_path / "small" / "version_0" / "checkpoints").iterdir()}
    assert found == {"best.ckpt", "last.ckpt", "before_last.ckpt"}, "nothing is left half written"
