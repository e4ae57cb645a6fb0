"""Release dates in every common order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from popularity.data.dates import convert_date


def read(*cells: str | None) -> list[str | None]:
    values = convert_date(pd.Series(cells, dtype="str")).values
    return [None if pd.isna(value) else str(value.date()) for value in values]


@pytest.mark.parametrize(
    ("cell", "date"),
    [
        ("2001", "2001-01-01"),
        ("2001年2月4日", "2001-02-04"),
        ("4 février 2001", "2001-02-04"),
        ("15 août 2017", "2017-08-15"),
        ("1 juil. 2017", "2017-07-01"),
        ("1 juin 2017", "2017-06-01"),
        ("29. Dezember 2007", "2007-12-29"),
        ("1. März 2007", "2007-03-01"),
        ("15 de agosto de 2017", "2017-08-15"),
        ("1 out 2017", "2017-10-01"),
        ("3 luglio 1999", "1999-07-03"),
        ("1502755200000000000", "2017-08-15"),
        ("2001.0", "2001-01-01"),
        ("2001-02", "2001-02-01"),
        ("2001-2-4", "2001-02-04"),
        ("2001/02/04", "2001-02-04"),
        ("2001.02.04", "2001-02-04"),
        ("2001-02-04T10:00:00Z", "2001-02-04"),
        ("2001-02-04 00:00:00", "2001-02-04"),
        ("2003-00-00", "2003-01-01"),
        ("1999-05-00", "1999-05-01"),
        ("20010204", "2001-02-04"),
        ("04.02.2001", "2001-02-04"),
        ("4. 2. 2001", "2001-02-04"),
        ("25/02/2001", "2001-02-25"),
        ("2/25/01", "2001-02-25"),
        ("25-2-87", "1987-02-25"),
        ("3/3/2001 0:00", "2001-03-03"),
        ("02/2001", "2001-02-01"),
        ("4 Feb 2001", "2001-02-04"),
        ("Feb 4, 2001", "2001-02-04"),
        ("February 2001", "2001-02-01"),
        ("04-Feb-01", "2001-02-04"),
        ("Sun Feb 04 2001 00:00:00 GMT+0100", "2001-02-04"),
        ("981244800", "2001-02-04"),
        ("981244800000", "2001-02-04"),
        ("-315619200000", "1960-01-01"),
        ("36926", "2001-02-04"),
        ("0000-00-00", None),
        ("0000", None),
        ("0", None),
        ("?", None),
        ("-1", None),
        ("", None),
        (None, None),
    ],
)
def test_one_date(cell: str | None, date: str | None) -> None:
    assert read(cell) == [date]
    assert not convert_date(pd.Series([cell], dtype="str")).unreadable.any()


@pytest.mark.parametrize("cell", ["soon", "2001-02-30", "31/02/2001", "2001-13", "12345678901234567890"])
def test_what_is_no_date_is_unreadable(cell: str) -> None:
    assert convert_date(pd.Series([cell], dtype="str")).unreadable.tolist() == [True]


def test_a_day_above_12_tells_the_order_of_the_column() -> None:
    assert read("2/4/2001", "12/25/1999") == ["2001-02-04", "1999-12-25"]
    assert read("2/4/2001", "25/12/1999") == ["2001-04-02", "1999-12-25"]


def test_where_nothing_tells_the_order_only_the_year_is_kept() -> None:
    converted = convert_date(pd.Series(["2/4/2001", "3/3/1999"], dtype="str"))
    assert converted.values.dt.strftime("%Y-%m-%d").tolist() == ["2001-01-01", "1999-03-03"]
    assert converted.notes == ("day and month may stand in either order: only the year is kept",)
    assert read("2/4/2001", "25/12/1999", "12/25/1999") == ["2001-01-01", "1999-12-25", "1999-12-25"]


def test_numbers_of_a_parquet_file() -> None:
    values = convert_date(pd.Series([2001, 1999])).values
    np.testing.assert_array_equal(values, np.array(["2001-01-01", "1999-01-01"], "datetime64[us]"))


def test_a_day_above_twelve_in_second_place_tells_the_order_of_the_column() -> None:
    assert read("2017-15-08", "2017-05-08", "2001") == ["2017-08-15", "2017-08-05", "2001-01-01"]
    assert "year-day-month" in convert_date(pd.Series(["2017-15-08"])).notes


def test_where_both_places_hold_days_the_usual_order_stays() -> None:
    assert read("2017-15-08", "2017-05-18", "2017-05-08") == [None, "2017-05-18", "2017-05-08"]
