"""Worker processes that die: what is lost, and what is told."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import pytest

from popularity.errors import InputError


def serve(protocol, songs, folder, log, connection):
    """A worker of few words; the protocol says how often it dies, and where: ``{"start": 2, "job": 1, "idle": 1}``."""

    def die(where):
        for number in range(protocol.get(where, 0)):
            with suppress(FileExistsError):
                (folder / f"{where}-{number}").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)

    die("start")
    connection.send(None)
    while True:
        if "idle" in protocol and not connection.poll(1):
            die("idle")
        try:
            job = connection.recv()
        except EOFError:
            return
        die("job")
        if "idle" in protocol and (job.repeat, job.fold) == (1, 2):
            time.sleep(4)  # the last job goes on while the other worker has nothing left to do
        connection.send({"error": None, "job": job})


@pytest.fixture
def run(songs, protocol, tmp_path, monkeypatch):
    from popularity.evaluation import workers

    monkeypatch.setattr(workers, "_serve", serve)
    monkeypatch.setattr(workers, "read_result", lambda *_: None)
    monkeypatch.setattr(workers, "header", lambda *_: {})
    jobs = protocol({"mean": {"kind": "mean"}}).jobs()

    def run(plan, number=1):
        told = {}
        workers.run_jobs(plan, songs, jobs, tmp_path, number, lambda job, result: told.update({job: result["error"]}))
        assert len(told) == len(jobs)
        return [error for error in told.values() if error]

    return run


@pytest.mark.parametrize("number", [1, 2])
def test_one_that_dies_at_its_start_loses_nothing(run, number):
    assert run({"start": 2}, number) == []


def test_one_that_dies_at_a_job_loses_it_alone(run):
    assert run({"job": 2}) == ["its process was killed by signal 9"] * 2


def test_one_that_dies_with_nothing_to_do_stops_nobody(run, tmp_path):
    assert run({"idle": 1}, 2) == []
    assert (tmp_path / "idle-0").exists()


def test_none_can_start(run):
    with pytest.raises(InputError, match=r"worker 3 could not start; .*worker-3.log says why"):
        run({"start": 3})
