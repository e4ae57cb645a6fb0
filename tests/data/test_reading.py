from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popularity.data.raw import distinct_names
from popularity.data.reading import read_table
from popularity.errors import InputError

Write = Callable[..., str]
TEXT = "name,energy\nBjörk,0.5\nB,0.25\n"


def _zip(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            # a ZipInfo of our own has no clock time in it: test names hold these bytes, and must be the same everywhere
            archive.writestr(zipfile.ZipInfo(name.replace("__", ".")), content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.csv", TEXT.encode(), "CSV, utf-8"),
        ("a.csv", b"\xef\xbb\xbf" + TEXT.encode(), "CSV, utf-8"),
        ("a.csv", TEXT.encode("latin-1"), "CSV, Windows-1252"),
        ("a.csv", TEXT.replace("\n", "\r\n").encode(), "CSV, utf-8"),
        ("a.csv", TEXT.replace("\n", "\n\n").encode(), "CSV, utf-8"),
        ("a.csv", TEXT.rstrip().encode(), "CSV, utf-8"),
        ("a.csv", TEXT.replace(",", ";").encode(), "CSV with semicolons, utf-8"),
        ("a.tsv", TEXT.replace(",", "\t").encode(), "TSV, utf-8"),
        ("a.csv", TEXT.replace("name,", '"name",').encode(), "CSV, utf-8"),
        ("a.csv.gz", gzip.compress(TEXT.encode(), mtime=0), "CSV, utf-8, gzipped"),
        ("no_suffix", gzip.compress(TEXT.encode(), mtime=0), "CSV, utf-8, gzipped"),
        ("a.zip", _zip(a__csv=TEXT, readme__md="see the table"), "CSV, utf-8, zipped"),
    ],
)
def test_every_form_gives_the_same_table(write: Write, name: str, content: bytes, form: str) -> None:
    table = read_table(Path(write(content, name)))
    assert table.frame.to_dict("list") == {"name": ["Björk", "B"], "energy": ["0.5", "0.25"]}
    assert table.form == form


@pytest.mark.parametrize("content", [b"\rid,popularity\n007,1\n", b'"i\\"d",popularity\n007,1\n'])
def test_cells_stay_text_where_arrow_and_python_read_another_header(write: Write, content: bytes) -> None:
    """After a lone carriage return, or with an escaped quote in a name."""
    assert read_table(Path(write(content))).frame.iloc[0].tolist() == ["007", "1"]


def test_a_header_with_the_other_delimiter_in_quotes(write: Write) -> None:
    table = read_table(Path(write('"a,b,c";d\n1;2\n')))
    assert list(table.frame.columns) == ["a,b,c", "d"]


def test_parquet_keeps_numbers_and_joins_lists(write: Write, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {
        "artists": pa.array([["A", "B"], None]),
        "released": pa.array([18000, None], pa.date32()),
        "genre": pa.array(["pop", "rock"]).dictionary_encode(),
        "energy": pa.array([0.5, None]),
        "more": pa.array([{"a": 1}, None]),
    }
    pa_parquet.write_table(pa.table(columns), path)
    frame = read_table(path).frame
    assert frame.iloc[0].to_dict() == {
        "artists": "A;B",
        "released": "2019-04-14",
        "genre": "pop",
        "energy": 0.5,
        "more.a": 1,
    }
    assert frame.iloc[1].isna().tolist() == [True, True, False, True, True]


def test_a_null_in_a_list_of_parquet_is_no_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    lists = [["A", None, "Guest"], [None], [], None, ["B"]]
    kinds = {"small": pa.list_(pa.string()), "large": pa.large_list(pa.string())}
    columns = {name: pa.array(lists, kind) for name, kind in kinds.items()}
    pa_parquet.write_table(pa.table(columns), path)
    frame = read_table(path).frame
    for name in frame:
        assert frame[name].fillna("").tolist() == ["A;Guest", "", "", "", "B"], name


def test_a_truth_value_of_parquet_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"explicit": pa.array([True, False, None]), "loved": pa.array([True, False, True])}
    pa_parquet.write_table(pa.table(columns), path)
    frame = read_table(path).frame
    assert frame["loved"].tolist() == [True, False, True]
    assert frame["explicit"].dtype == float
    assert frame["explicit"].tolist()[:2] == [1, 0]
    assert frame["explicit"].isna().tolist() == [False, False, True]


@given(st.lists(st.sampled_from(["a", "a (2)", "a (3)", "a (2) (2)", "b", ""]) | st.text(max_size=3), max_size=12))
def test_names_of_columns_are_distinct(names: list[str]) -> None:
    found = distinct_names(names)
    assert len(set(found)) == len(found) == len(names)
    firsts = {name: position for position, name in reversed(list(enumerate(names)))}
    assert all(found[position] == name for name, position in firsts.items())


@pytest.mark.parametrize(
    ("names", "distinct"),
    [
        ("a,a,a", "a,a (2),a (3)"),
        ("a,a,a (2)", "a,a (3),a (2)"),
        ("a (2),a,a,a", "a (2),a,a (3),a (4)"),
    ],
)
def test_the_numbers_of_repeated_names(names: str, distinct: str) -> None:
    assert distinct_names(names.split(",")) == distinct.split(",")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b" \n\n", "is empty"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("a.csv", b"name,energy\n", "has a header and no rows"),
        ("a.csv", b"name,energy", "has a header and no rows"),
        (
            "a.csv",
            b"a,b\n1,2\n3\n4,5,6\n",
            r"row 2: expected 2 fields as in the header, got 1 \(1 more row has this problem\)",
        ),
        ("a.csv", bytes(range(256)), "got a binary file"),
        ("a.csv.gz", gzip.compress(TEXT.encode() * 99, mtime=0)[:-20], "gzip file is cut off"),
        ("a.csv.gz", gzip.compress(TEXT.encode(), mtime=0)[:6], "gzip file is cut off"),
        ("a.zip", _zip(a__csv=TEXT)[:-30], "zip file is damaged"),
        ("a.zip", _zip(a__csv=TEXT).replace(b"0.25", b"0.26"), "zip file is damaged"),
        ("a.zip", _zip(), "expected one table in the zip file, got 0"),
        ("a.zip", _zip(a__csv=TEXT, b__csv=TEXT), "got 2: a.csv, b.csv"),
        ("a.parquet", b"PAR1" + b"x" * 50, "Parquet file is cut off"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(write: Write, name: str, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_table(Path(write(content, name)))
    assert str(caught.value).startswith(str(write(content, name)))
    assert "\n" not in str(caught.value)


def test_a_directory_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got a directory"):
        read_table(tmp_path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_table(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("a\n1\n2\n", "row 2 (line 3)"),
        ("\ufeffa\r\n1\r\n2\r\n", "row 2 (line 3)"),
        ("\na\n1\n2\n", "row 2 (line 4)"),
        ("a\n1\n\n2\n", "row 2"),
        ('a\n"1\n1"\n2\n', "row 2"),
    ],
)
def test_the_line_is_named_only_where_it_is_sure(write: Write, content: str, place: str) -> None:
    assert read_table(Path(write(content))).place(1) == place


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n")), st.sampled_from(["", "1", "x;\ty"])
        ),
        min_size=1,
        max_size=5,
    ),
    delimiter=st.sampled_from(",;\t"),
)
def test_what_pandas_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    frame = pd.DataFrame(rows, columns=["name", "energy"], dtype="str")
    path = tmp_path_factory.mktemp("table") / "a.csv"
    frame.to_csv(path, index=False, sep=delimiter)
    pd.testing.assert_frame_equal(read_table(path).frame, frame)
