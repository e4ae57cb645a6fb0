"""Several processes on one storage, one of them killed in the middle of a trial."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import Lazy, make_songs
from tests.tuning.conftest import arguments

optuna = Lazy("optuna")
optuna_trial = Lazy("optuna.trial")
storage_module = Lazy("popularity.tuning.storage")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "workers", "asked"), [("postgres", 4, 24), ("journal", 4, 24), ("sqlite", 2, 6)])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_killed_worker_loses_nothing(kind, workers, asked, tmp_path, space_file, request):
    songs = tmp_path / "songs.csv"
    make_songs(120).to_csv(songs, index=False)
    storage = {"journal": str(tmp_path / "journal.log"), "sqlite": f"sqlite:///{tmp_path}/study.db"}.get(kind)
    storage = storage or request.getfixturevalue("postgres")
    more = ["--trials", str(asked), "--workers", str(workers), "--storage", storage, "--heartbeat", "1"]
    output = tmp_path / "output.txt"
    process = _start(arguments(tmp_path, songs, space_file, *more, "--data.batch_size", "128", epochs=3), output)
    try:
        victim = _kill_a_worker_in_mid_trial(storage, process)
        assert process.wait(timeout=180) == 0, output.read_text()
    finally:
        process.kill()
        process.wait()
    assert "was killed; its trial was tried again" in output.read_text()
    trials = _trials(storage)
    done = [
        trial for trial in trials if trial.state in (optuna_trial.TrialState.COMPLETE, optuna_trial.TrialState.PRUNED)
    ]
    assert len(done) == asked, output.read_text()
    states = Counter(trial.state for trial in trials)
    assert states[optuna_trial.TrialState.RUNNING] == states[optuna_trial.TrialState.WAITING] == 0
    assert len({tuple(sorted(trial.params.items())) for trial in done}) == asked
    assert trials[victim].state == optuna_trial.TrialState.FAIL
    assert [trial for trial in done if trial.params == trials[victim].params], "the lost trial is tried again"
    assert len({trial.user_attrs["worker"] for trial in done}) >= workers - 1
    assert (tmp_path / "tune" / "best.yaml").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_stopping_the_first_process_stops_its_workers_cleanly(number, tmp_path, song_file, space_file):
    storage, output = str(tmp_path / "journal.log"), tmp_path / "output.txt"
    more = ["--trials", "99", "--workers", "2", "--storage", storage]
    process = _start(arguments(tmp_path, song_file, space_file, *more), output)
    try:
        while "trial 1:" not in output.read_text():
            assert process.poll() is None, output.read_text()
            time.sleep(0.1)
        if number == signal.SIGTERM:
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)  # as a terminal does
        assert process.wait(timeout=60) == 128 + number, output.read_text()
    finally:
        process.kill()
        process.wait()
    assert "nothing is lost" in output.read_text()
    assert "Traceback" not in output.read_text()
    trials = _trials(storage)
    assert not [trial for trial in trials if trial.state == optuna_trial.TrialState.RUNNING]
    # a worker may take up what the other has just put back, before the word to stop reaches it
    failed = {str(trial.params) for trial in trials if trial.state == optuna_trial.TrialState.FAIL}
    waiting = [str(trial.params) for trial in trials if trial.state == optuna_trial.TrialState.WAITING]
    assert failed == set(waiting)
    assert len(waiting) == len(failed)
    for worker in {trial.user_attrs["worker"] for trial in trials if "worker" in trial.user_attrs}:
        assert not Path(f"/proc/{worker.split(':')[1]}").exists()


def _start(command: list[str], output: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with open(output, "wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "popularity", *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=_heed_signals,
        )


def _heed_signals() -> None:
    """What a shell starts in the background ignores Ctrl-C, under nohup SIGHUP too, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _trials(url: str) -> list[optuna_trial.FrozenTrial]:
    with storage_module.open_storage(url, 1) as storage:
        return optuna.load_study(study_name="tune", storage=storage.optuna).get_trials()


def _kill_a_worker_in_mid_trial(url: str, process: subprocess.Popen[bytes]) -> int:
    """SIGKILL the worker of the first trial that has reported an epoch and still runs; the trial's number."""
    file = Path(url.removeprefix("sqlite:///"))
    while url.startswith("sqlite") and not file.exists():
        assert process.poll() is None, "ended before it had a study"
        time.sleep(0.1)
    with storage_module.open_storage(url, 1) as storage:
        while process.poll() is None:
            time.sleep(0.1)
            try:
                study = optuna.load_study(study_name="tune", storage=storage.optuna)
            except KeyError:
                continue
            for trial in study.get_trials(deepcopy=False)[2:]:
                if trial.state != optuna_trial.TrialState.RUNNING or "worker" not in trial.user_attrs:
                    continue
                if not trial.intermediate_values:
                    continue
                # it may end between the look and the kill: it is held, looked at again, and then killed or let go
                worker = int(trial.user_attrs["worker"].split(":")[1])
                os.kill(worker, signal.SIGSTOP)
                if study.get_trials(deepcopy=False)[trial.number].state == optuna_trial.TrialState.RUNNING:
                    os.kill(worker, signal.SIGKILL)
                    return trial.number
                os.kill(worker, signal.SIGCONT)
    pytest.fail("ended before a worker could be killed")
