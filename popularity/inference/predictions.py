"""Predictions as a file: CSV, Parquet or JSON lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from popularity.errors import InputError
from popularity.io import check_target, write_atomically

#: Endings of other table formats: CSV under such a name would be unreadable to whatever opens it.
_OTHER_FORMATS = (".xlsx", ".xls", ".ods", ".json", ".tsv", ".feather", ".arrow", ".gz", ".zip")

#: A cell that begins so is a formula to a spreadsheet (OWASP, CSV injection).
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")


def check_output(path: str | Path, inputs: Sequence[str | Path | None] = ()) -> None:
    """Check, before any song is predicted, that the predictions can be written.

    Args:
        path: of the file to write, or ``-`` for standard output.
        inputs: files that the command reads.

    Raises:
        InputError: the ending is that of another table format, or as `popularity.io.check_target`.
    """
    if Path(path).suffix.lower() in _OTHER_FORMATS:
        raise InputError(f"{path}: expected a name ending in .csv, .parquet or .jsonl, got {Path(path).suffix}")
    check_target(path, inputs)


def write_predictions(path: str | Path, songs: pd.DataFrame, prediction: np.ndarray) -> None:
    """Write one row per song, in the order given: ``track_id, artist, title, predicted_popularity``.

    The format follows from the ending: ``.parquet``, ``.jsonl`` (one JSON object per line), otherwise CSV. In CSV, text
    that a spreadsheet would run as a formula gets an apostrophe in front: ``=1+1`` is written as ``'=1+1``. Nothing
    takes it away when such a file is read again; use Parquet or JSON lines where texts must stay as they are.

    Args:
        path: the file appears whole or not at all; ``-`` is standard output.
        songs: a song table of ``n`` rows.
        prediction: ``(n,)`` popularity in points, written with two decimals.

    Raises:
        InputError: the file cannot be written.
    """
    if len(songs) != len(prediction):
        raise ValueError(f"expected {len(songs)} predictions, one per song, got {len(prediction)}")
    table = songs[["track_id", "artist", "title"]].assign(predicted_popularity=np.round(prediction, 2))
    ending = Path(path).suffix.lower()
    with write_atomically(path, binary=ending == ".parquet") as file:
        if ending == ".parquet":
            table.to_parquet(file, index=False)
        elif ending == ".jsonl":
            table.to_json(file, orient="records", lines=True, force_ascii=False)
        else:
            for_spreadsheets(table).to_csv(file, index=False, lineterminator="\n")


def for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """Text without formulas, and without carriage returns, which pandas does not quote: they would end the row."""
    texts = {str(name): column.astype("str") for name, column in table.select_dtypes(exclude="number").items()}
    safe = {name: text.mask(text.str.startswith(_FORMULAS), "'" + text) for name, text in texts.items()}
    return table.assign(**{name: text.str.replace("\r", " ") for name, text in safe.items()})
