"""Song tables of millions of rows, whose columns lie in files that are mapped into memory.

Where memory gets short, the system drops their pages and reads them again. The files have no names: they are gone with
the table.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from popularity.data.schema import TEXT
from popularity.errors import NO_SPACE, InputError

#: Tables of more songs are mapped: 150 MB.
HELD = 600_000
#: Songs that are copied at once.
CHUNK = 1 << 16


@contextmanager
def temporary_files(count: int) -> Iterator[list[Any]]:
    """So many open files with names, which are deleted on leaving; what is mapped of them stays.

    Raises:
        InputError: there is no space for them.
    """
    try:
        with ExitStack() as stack:
            yield [stack.enter_context(tempfile.NamedTemporaryFile()) for _ in range(count)]
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        folder = tempfile.gettempdir()
        raise InputError(
            f"{folder}: no space left for the songs, which lie in temporary files: TMPDIR names another folder"
        ) from error


def in_chunks(songs: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The rows of a table, part by part; an empty table is one part."""
    for start in range(0, max(len(songs), 1), CHUNK):
        yield songs.iloc[start : start + CHUNK]


def joined(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Tables of the same columns as one, mapped where it is large.

    Args:
        parts: at least one.

    Returns:
        Their rows with a new index.

    Raises:
        InputError: there is no space in the folder for temporary files.
    """
    held, rows, rest = list[pd.DataFrame](), 0, iter(parts)
    for part in rest:
        held.append(part)
        rows += len(part)
        if rows > HELD:
            return _mapped(itertools.chain(held, rest))
    return held[0].reset_index(drop=True) if len(held) == 1 else pd.concat(held, ignore_index=True)


def part_of(songs: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """Some rows of a table, as :func:`taken`, numbered from 0 on."""
    return taken(songs, rows).reset_index(drop=True)


def taken(songs: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """Some rows of a table with their index, mapped where they are many.

    Args:
        songs: the table.
        rows: ``(n,)`` their places, in rising order.

    Raises:
        InputError: as :func:`joined`.
    """
    if len(rows) <= HELD:
        return songs.iloc[rows]
    places = np.searchsorted(rows, np.arange(0, len(songs) + CHUNK, CHUNK))
    cuts = zip(in_chunks(songs), itertools.pairwise(places.tolist()), strict=True)
    found = joined(part.iloc[rows[begin:end] - CHUNK * number] for number, (part, (begin, end)) in enumerate(cuts))
    return found.set_axis(songs.index[rows])


def _mapped(parts: Iterator[pd.DataFrame]) -> pd.DataFrame:
    first = next(parts)
    dtypes = {name: column.to_numpy().dtype for name, column in first.items() if name not in TEXT}
    with temporary_files(1 + len(dtypes)) as (file_of_texts, *rest):
        files = dict(zip(dtypes, rest, strict=True))
        with pa.ipc.new_file(file_of_texts.name, _texts(first).schema) as texts:
            for part in itertools.chain([first], parts):
                texts.write_table(_texts(part))
                for name, file in files.items():
                    file.write(part[name].to_numpy(dtypes[name]).tobytes())
        read = pa.ipc.open_file(pa.memory_map(file_of_texts.name)).read_all()
        columns: dict[Any, Any] = {
            name: pd.array(column, dtype="str") for name, column in zip(read.column_names, read.columns, strict=True)
        }
        for name, file in files.items():
            file.flush()
            columns[name] = np.memmap(file.name, dtypes[name], mode="c")  # a write changes the copy in memory alone
    return pd.DataFrame({name: columns[name] for name in first}, copy=False)


def _texts(songs: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(songs[[name for name in songs if name in TEXT]], preserve_index=False)
