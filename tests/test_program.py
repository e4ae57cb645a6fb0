"""Worker processes of a command."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from popularity.errors import InputError
from popularity.program import in_processes


def _first_is_killed(folder: Path) -> None:
    try:
        (folder / "first").mkdir()
    except FileExistsError:
        (folder / str(os.getpid())).touch()
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def _refuse() -> None:
    raise InputError("songs.csv: no such column")


@pytest.mark.slow
def test_a_killed_process_leaves_the_others_alone(tmp_path: Path) -> None:
    killed = in_processes(3, partial(_first_is_killed, tmp_path), preload="popularity.program")
    assert len(killed) == 1
    assert set(killed) < {1, 2, 3}
    assert len(list(tmp_path.iterdir())) == 1 + 2


@pytest.mark.slow
def test_what_a_process_refuses_is_refused_by_the_command() -> None:
    with pytest.raises(InputError, match=r"songs\.csv: no such column"):
        in_processes(2, _refuse, preload="popularity.program")
