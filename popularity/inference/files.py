"""From files of songs to a file of predictions, in parts: neither has to fit in memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from glob import glob, has_magic
from pathlib import Path

import pandas as pd

from popularity.data.report import LoadReport
from popularity.data.songs import SongTable, songs_in_parts
from popularity.data.sources import NAMES
from popularity.errors import InputError
from popularity.inference.table import Wanted, prediction_table
from popularity.remote import address_of
from popularity.training.datamodule import PopularityDataModule
from popularity.training.module import PopularityModule

#: Songs that are predicted at once.
SONGS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Model:
    """A trained model and what is told of each song.

    Attributes:
        module: trained.
        data: of the same checkpoint.
        wanted: what is told.
    """

    module: PopularityModule
    data: PopularityDataModule
    wanted: Wanted

    def tables(self, songs: pd.DataFrame) -> Iterator[pd.DataFrame]:
        """Predictions of ``n`` songs, group by group."""
        for start in range(0, len(songs), SONGS_AT_ONCE):
            some = songs.iloc[start : start + SONGS_AT_ONCE].reset_index(drop=True)
            yield prediction_table(self.module, self.data, some, self.wanted)


def sources(names: Sequence[str]) -> list[str]:
    """The files that are meant, in the order given; the matches of a pattern such as ``lists/*.csv`` by name.

    Raises:
        InputError: a pattern without a match, a file that is not there, or standard input twice.
    """
    found = []
    for name in names:
        if name in (*NAMES, "-") or address_of(name) is not None or Path(name).exists():
            found.append(name)
            continue
        matches = sorted(path for path in glob(name, recursive=True) if not Path(path).is_dir())
        if not matches and has_magic(name):
            raise InputError(f"{name}: expected a file or a pattern of files, got a pattern that no file matches")
        found += matches or [name]  # what cannot be found says so when it is read
    if found.count("-") > 1:
        raise InputError("-: expected standard input once, got it twice")
    return found


def predicted_files(
    model: Model, names: Sequence[str], tell: Callable[[int], None] = lambda songs: None
) -> Iterator[pd.DataFrame]:
    """Predict the songs of files; says on standard error what was read.

    Args:
        model: predicts.
        names: from :func:`sources`.
        tell: called with the number of songs of each group that was predicted.

    Returns:
        Tables for `popularity.inference.predictions.write_predictions`; of several files with a column ``file``, last.

    Raises:
        InputError: as `popularity.data.songs.songs_in_parts`.
    """
    for name in names:
        reports: list[LoadReport] = []
        for part in songs_in_parts(name, **model.data.reading):
            if not reports:
                _describe(model.data, part)
            reports.append(part.report)
            for table in model.tables(part.songs):
                tell(len(table))
                yield table.assign(file="standard input" if name == "-" else name) if len(names) > 1 else table
        if len(reports) > 1:
            _say(
                [
                    "all parts: " + line
                    for line in reduce(LoadReport.with_more, reports).lines()
                    if not line.startswith("columns: ")
                ]
            )


def _describe(data: PopularityDataModule, part: SongTable) -> None:
    data.predict_table = part
    lines = data.describe_songs_to_predict()
    data.predict_table = None
    _say([f"first part: {line}" for line in lines] if part.report.form.endswith("in parts") else lines)


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)  # standard output may be the file
