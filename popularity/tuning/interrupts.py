"""Ctrl-C and SIGTERM, kept out of the moments in which a study is written."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self


class Interrupts:
    """Turns the first SIGINT or SIGTERM into a KeyboardInterrupt, raised only where it does no harm."""

    def __init__(self) -> None:
        self._told = self._allowed = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        first, self._told = not self._told, True
        if first and self._allowed:
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Within this block an interruption is raised at once, and one that happened before at its start."""
        self._allowed = True
        try:
            if self._told:
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False
