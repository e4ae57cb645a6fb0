"""Predictions as a file: CSV, Parquet or JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from popularity.errors import InputError
from popularity.io import check_target, write_atomically

#: Endings of other table formats: CSV under such a name would be unreadable to whatever opens it.
_OTHER_FORMATS = (".xlsx", ".xls", ".ods", ".json", ".tsv", ".feather", ".arrow", ".gz", ".zip")

#: A cell that begins so is a formula to a spreadsheet (OWASP, CSV injection).
_FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")


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


def write_predictions(path: str | Path, tables: Iterable[pd.DataFrame]) -> int:
    """Write tables of predictions below each other into one file, each as soon as it is there.

    The format follows from the ending: ``.parquet``, ``.jsonl`` (one JSON object per line), otherwise CSV. In CSV, text
    that a spreadsheet would run as a formula gets an apostrophe in front: ``=1+1`` is written as ``'=1+1``. Nothing
    takes it away when such a file is read again; use Parquet or JSON lines where texts must stay as they are.

    Args:
        path: the file appears whole or not at all; ``-`` is standard output.
        tables: all with the same columns.

    Returns:
        Number of rows written.

    Raises:
        InputError: the file cannot be written.
    """
    kind = {".parquet": _Parquet, ".jsonl": _JsonLines}.get(Path(path).suffix.lower(), _CSV)
    rows = 0
    with write_atomically(path, binary=kind is _Parquet) as file, closing(kind(file)) as writer:
        for table in tables:
            writer.write(table)
            rows += len(table)
    return rows


class _CSV:
    def __init__(self, file: IO[Any]) -> None:
        self.file, self.header = file, True

    def write(self, table: pd.DataFrame) -> None:
        # by Arrow, six times as fast as by pandas; it quotes every text
        rows, buffer = pa.Table.from_pandas(for_spreadsheets(table), preserve_index=False), pa.BufferOutputStream()
        pa_csv.write_csv(rows, buffer, pa_csv.WriteOptions(include_header=self.header))
        self.file.write(buffer.getvalue().to_pybytes().decode())
        self.header = False

    def close(self) -> None:
        """Nothing is left to be written."""


class _JsonLines(_CSV):
    def write(self, table: pd.DataFrame) -> None:
        if len(table):
            table.to_json(self.file, orient="records", lines=True, force_ascii=False)


class _Parquet(_CSV):
    """Written in groups of rows; the types are those of the first table."""

    writer: pa_parquet.ParquetWriter | None = None

    def write(self, table: pd.DataFrame) -> None:
        rows = pa.Table.from_pandas(table, preserve_index=False)
        if self.writer is None:
            self.writer = pa_parquet.ParquetWriter(self.file, rows.schema)
        self.writer.write_table(rows.cast(self.writer.schema))

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """Text without formulas, and without carriage returns, which pandas does not quote: they would end the row."""
    texts = {str(name): column.astype("str") for name, column in table.select_dtypes(exclude="number").items()}
    safe = {name: text.mask(text.str.startswith(_FORMULAS), "'" + text) for name, text in texts.items()}
    return table.assign(**{name: text.str.replace("\r", " ") for name, text in safe.items()})
