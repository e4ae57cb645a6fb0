"""Several processes of one command: the first answers a signal for all, and none is left when it has ended."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Trainer

from popularity.program import ANSWERS


@contextmanager
def together(trainer: Trainer) -> Iterator[None]:
    """Let the processes that the Trainer starts in this block end with this one, whatever it ends by.

    They leave signals to this one: then it never waits for one that has gone.
    """
    launcher: Any = trainer.strategy.launcher
    if launcher is None:  # one process, no other
        yield
        return
    # private, no setting turns it off: on SIGTERM Lightning's handler talks to the other processes, which may be in the
    # middle of other talk, before it lets ours have its turn
    trainer._signal_connector._sigterm_notifier_fn = _leave_to_ours  # type: ignore[method-assign, assignment]
    os.environ[ANSWERS] = str(os.getpid())
    try:
        yield
    except BaseException:
        children = launcher.procs[:]
        launcher.procs.clear()  # or a thread of Lightning's may see that they were killed and kill this process
        for child in children:
            child.kill()
            # from Lightning's two kinds of launchers
            child.wait() if isinstance(child, subprocess.Popen) else child.join()
        raise
    finally:
        del os.environ[ANSWERS]


def _leave_to_ours(*_: object) -> None:
    pass
