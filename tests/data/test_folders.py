"""A folder of Parquet files is one table, and a Parquet file of many rows is learned from in parts."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from popularity.data import parts
from popularity.data.songs import load_songs, songs_in_parts
from popularity.errors import InputError
from tests.conftest import make_songs

ROWS = 300


@pytest.fixture
def frame() -> pd.DataFrame:
    """Songs of which one comes twice, and one has no popularity."""
    table = make_songs(ROWS, seed=4)
    table["popularity"] = table["popularity"].astype("float64")
    table.loc[200] = table.loc[20]
    table.loc[250, "popularity"] = None
    return table


@pytest.fixture
def folder(frame: pd.DataFrame, tmp_path: Path) -> Path:
    """The songs in three files."""
    made = tmp_path / "songs"
    made.mkdir()
    for number, start in enumerate(range(0, ROWS, 100)):
        frame.iloc[start : start + 100].to_parquet(made / f"part-{number}.parquet", index=False)
    (made / "notes.txt").write_text("not songs")
    return made


def test_the_files_of_a_folder_are_one_table(frame, folder, tmp_path):
    frame.to_parquet(tmp_path / "whole.parquet", index=False)
    whole, found = load_songs(str(tmp_path / "whole.parquet")), load_songs(str(folder))
    pd.testing.assert_frame_equal(found.songs, whole.songs)
    assert found.fingerprint == whole.fingerprint
    assert found.report.form == "Parquet, 3 files"
    assert (found.report.path, found.report.rows) == (folder, ROWS)
    assert found.report.duplicates == whole.report.duplicates
    assert sum(found.report.duplicates.values()) == 1
    assert [left.count for left in found.report.left_out] == [1]
    assert found.report.missing == whole.report.missing
    assert sum(len(table.songs) for table in songs_in_parts(str(folder))) == ROWS


def test_an_error_names_the_file_of_its_row(frame, folder):
    frame.loc[142, "energy"] = 7.5
    frame.iloc[100:200].to_parquet(folder / "part-1.parquet", index=False)
    with pytest.raises(InputError, match=re.escape(f"{folder}: column 'energy', row 43 of part-1.parquet: expected")):
        load_songs(str(folder))


def test_a_file_with_other_columns_is_refused(frame, folder):
    frame.iloc[100:200].drop(columns="energy").to_parquet(folder / "part-1.parquet", index=False)
    with pytest.raises(InputError, match=re.escape("part-1.parquet: expected the columns of part-0.parquet, got none")):
        load_songs(str(folder))


def test_one_value_over_and_over_does_not_fill_the_memory(folder):
    rows = 40_000_000  # 320 MB as numbers
    with pq.ParquetWriter(folder / "part-3.parquet", pa.schema({"energy": pa.int8()})) as writer:
        for _ in range(4):
            writer.write_table(pa.table({"energy": pa.repeat(pa.scalar(1, pa.int8()), rows // 4)}))
    with pytest.raises(InputError, match="times the"):
        load_songs(str(folder))


def test_a_large_file_is_learned_from_in_parts(frame, tmp_path, monkeypatch):
    path = tmp_path / "whole.parquet"
    frame.to_parquet(path, index=False)
    whole = load_songs(str(path))
    monkeypatch.setattr(parts, "LARGE_ROWS", 200)
    monkeypatch.setattr(parts, "PART_ROWS", 60)
    found = load_songs(str(path))
    assert found.report.form == "Parquet, in parts"
    pd.testing.assert_frame_equal(found.songs, whole.songs)
    assert (found.fingerprint, found.report.songs) == (whole.fingerprint, whole.report.songs)


def test_a_fingerprint_does_not_depend_on_how_many_texts_are_joined(frame, monkeypatch, tmp_path):
    frame.to_csv(tmp_path / "songs.csv", index=False)
    whole = load_songs(str(tmp_path / "songs.csv")).fingerprint
    monkeypatch.setattr("popularity.data.fingerprint._CHUNK", 7)
    assert load_songs(str(tmp_path / "songs.csv")).fingerprint == whole
