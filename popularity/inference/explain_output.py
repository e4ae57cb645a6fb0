"""Tables and pictures of one command, written together at its end."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from popularity.inference.predictions import for_spreadsheets
from popularity.io import check_folder, write_atomically

T = TypeVar("T")


class Results:
    """What goes to a folder: nothing before everything is there.

    Args:
        folder: created where it does not exist.

    Raises:
        InputError: the folder cannot be written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        check_folder(self.folder)
        self._tables: dict[str, pd.DataFrame] = {}
        self._figures: dict[str, tuple[str, Figure]] = {}

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Add ``NAME.csv``; numbers have four decimals."""
        self._tables[name] = table

    def figure(self, name: str, figure: Figure, tag: str | None = None) -> None:
        """Add ``NAME.png``; TensorBoard shows it under ``tag``."""
        self._figures[name] = (tag or name, figure)

    def write(self, *, tensorboard: bool = False) -> list[str]:
        """Write all files; their names.

        Args:
            tensorboard: write an event file with the pictures as well.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, table in self._tables.items():
            with write_atomically(self.folder / f"{name}.csv") as file:
                for_spreadsheets(table).to_csv(file, index=False, float_format="%.4f", lineterminator="\n")
        for name, (_, figure) in self._figures.items():
            with write_atomically(self.folder / f"{name}.png", binary=True) as file:
                figure.savefig(file, format="png", dpi=144)
        if tensorboard and self._figures:
            from torch.utils.tensorboard import SummaryWriter

            with SummaryWriter(str(self.folder)) as writer:
                for tag, figure in self._figures.values():
                    writer.add_figure(tag, figure, close=False)
        return [f"{name}.csv" for name in self._tables] + [f"{name}.png" for name in self._figures]


def shown(items: Iterable[T], what: str) -> Iterable[T]:
    """Iterate with a progress bar on standard error, if that is a terminal."""
    console = Console(stderr=True)
    return track(items, what, console=console, transient=True, disable=not sys.stderr.isatty())
