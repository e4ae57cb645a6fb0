"""Release dates in every common order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from popularity.data.dates import convert_date
from popularity.data.decisions import Decisions


def read(*cells: str | None) -> list[str | None]:
    values = convert_date(pd.Series(cells, dtype="str")).values
    return [None if pd.isna(value) else str(value.date()) for value in values]


@pytest.mark.parametrize(
    ("cell", "date"),
    [
        ("2001", "2001-01-01"),
        ("2001年2月4日", "2001-02-04"),
        ("2001年2月", "2001-02-01"),
        ("2001년", "2001-01-01"),
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
        ("Wed Feb 04 12:00:00 +0000 2015", "2015-02-04"),
        ("Wed, 04 Feb 2015 12:00:00.25 -0500", "2015-02-04"),
        ("04 Feb 04", "2004-02-04"),
        ("12-Dec-12", "2012-12-12"),
        ("mardi 4 février 2001", "2001-02-04"),
        ("martes 4 de febrero de 2001", "2001-02-04"),
        ("martedì 4 marzo 2001", "2001-03-04"),
        ("mar 4 giu 2019", "2019-06-04"),
        ("mar. 4 déc. 2018", "2018-12-04"),
        ("mar., 4. déc. 2018", "2018-12-04"),
        ("mar, 04 jun 2019", "2019-06-04"),
        ("mar, 4 de jun de 2019", "2019-06-04"),
        ("mar 5 mar 2019", "2019-03-05"),
        ("Paz 9 Haz 2019", "2019-06-09"),
        ("marți, 4 iunie 2019", "2019-06-04"),
        ("Mar 4 2019", "2019-03-04"),
        ("Mar/Apr 2019", "2019-03-01"),
        ("2019 Jun 4", "2019-06-04"),
        ("2019 4 juin", "2019-06-04"),
        ("2019 May", "2019-05-01"),
        ("2019 de mayo", "2019-05-01"),
        ("2019 06 04", "2019-06-04"),
        ("2019 06", "2019-06-01"),
        ("2019 10:00", "2019-01-01"),
        ("2019 2 discs", "2019-01-01"),
        ("2019 (remaster)", "2019-01-01"),
        ("2019-06-04 (May edition)", "2019-06-04"),
        ("04JUN2019", "2019-06-04"),
        ("2012. 3. 20.", "2012-03-20"),
        ("2012.03.20.", "2012-03-20"),
        ("2012.03.20. 10:00", "2012-03-20"),
        ("20. 3. 2012.", "2012-03-20"),
        ("20.03.2012\N{NARROW NO-BREAK SPACE}г.", "2012-03-20"),
        ("2012-03-20Z", "2012-03-20"),
        ("2012-03-20+00:00", "2012-03-20"),
        ("2011,0", "2011-01-01"),
        ("2,012", "2012-01-01"),
        ("2 012", "2012-01-01"),
        ("40988.5", "2012-03-20"),
        ("40988,5", "2012-03-20"),
        ("Q2 2019", "2019-04-01"),
        ("2019-Q2", "2019-04-01"),
        ("4Q/2019", "2019-10-01"),
        ("19730512000000", "1973-05-12"),
        ("20190512T101500Z", "2019-05-12"),
        ("981244800", "2001-02-04"),
        ("981244800000", "2001-02-04"),
        ("-315619200000", "1960-01-01"),
        ("36926", "2001-02-04"),
        ("0000-00-00", None),
        ("0000", None),
        ("0", None),
        ("0001-01-01T00:00:00Z", None),
        ("01/01/0001 00:00:00", None),
        ("9999-12-31", None),
        ("1900-01-00", None),
        ("1/0/1900", None),
        ("1899-12-30", None),
        ("Jan 1 1900 00:00:00", "1900-01-01"),
        ("?", None),
        ("-1", None),
        ("", None),
        (None, None),
    ],
)
def test_one_date(cell: str | None, date: str | None) -> None:
    assert read(cell) == [date]
    assert not convert_date(pd.Series([cell], dtype="str")).unreadable.any()


@pytest.mark.parametrize(
    "cell",
    [
        *("soon", "2001-02-30", "31/02/2001", "31.02.2001", "2001-13", "2001-0204", "12345678901234567890", "123"),
        *("0019-05-12", "0001", "1859", "2101-01-01", "12 Jun 1750", "25950101", "1e99", "Jun " + "9" * 5000),
    ],
)
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


@pytest.mark.parametrize("per_second", [1, 10**3, 10**6, 10**9])
def test_numbers_near_1970_are_read_in_the_unit_of_the_column(per_second: int) -> None:
    days = ["1969-09-26", "1970-01-26", "1970-01-01", "1970-03-02", "1970-05-08", "2015-10-23", None]
    cells = [str(int(np.datetime64(day, "s").astype(int)) * per_second) for day in days if day]
    assert read(*cells, None) == days
    assert read(*(f"{cell}.0" for cell in cells), "?") == days
    units = {1: "seconds", 10**3: "milliseconds", 10**6: "microseconds", 10**9: "nanoseconds"}
    assert convert_date(pd.Series(cells)).notes == (f"{units[per_second]} since 1970",)


def test_large_numbers_with_gaps_between_them_are_floats_in_a_parquet_file() -> None:
    values = convert_date(pd.Series([1_502_755_200_000_000_000, np.nan, 4_579_200_000_000_000])).values
    np.testing.assert_array_equal(values, np.array(["2017-08-15", "NaT", "1970-02-23"], "datetime64[us]"))


def test_zero_is_no_date_beside_dates_of_another_form_or_of_later_years() -> None:
    assert read("0", "2001-02-04", "1999") == [None, "2001-02-04", "1999-01-01"]
    assert read("0", "981244800000", "1445558400000") == [None, "2001-02-04", "2015-10-23"]


def test_a_number_beside_other_dates_is_one_if_it_is_large() -> None:
    assert read("2001-02-04", "981244800", "123") == ["2001-02-04", "2001-02-04", None]


def test_parts_of_a_file_have_one_unit() -> None:
    decisions = Decisions()
    convert_date(pd.Series(["1445558400000", "-8380800000"]), decisions)
    later = convert_date(pd.Series(["2160000000", "0"]), decisions).values
    np.testing.assert_array_equal(later, np.array(["1970-01-26", "1970-01-01"], "datetime64[us]"))


def test_a_number_above_12_tells_the_order_of_dates_with_dots() -> None:
    assert read("5.12.2019", "5.31.2019") == ["2019-05-12", "2019-05-31"]
    assert read("5.12.2019", "31.5.2019") == ["2019-12-05", "2019-05-31"]
    assert read("5.12.2019", "31.5.2019", "5.31.2019") == ["2019-12-05", "2019-05-31", "2019-05-31"]
    assert convert_date(pd.Series(["5.31.2019"])).notes == ("month.day.year",)


def test_dots_and_slashes_in_one_column_have_each_their_order() -> None:
    assert read("5.12.2019", "5/12/2019", "5/31/2019") == ["2019-12-05", "2019-05-12", "2019-05-31"]
    decisions = Decisions()
    convert_date(pd.Series(["5.31.2019"]), decisions)
    assert str(convert_date(pd.Series(["5.12.2019"]), decisions).values[0].date()) == "2019-05-12"


MONTHS = {
    "Turkish": "Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık",
    "Turkish in capitals": "OCAK ŞUBAT MART NİSAN MAYIS HAZİRAN TEMMUZ AĞUSTOS EYLÜL EKİM KASIM ARALIK",
    "Turkish, short": "Oca Şub Mar Nis May Haz Tem Ağu Eyl Eki Kas Ara",
    "Polish": "styczeń luty marzec kwiecień maj czerwiec lipiec sierpień wrzesień październik listopad grudzień",
    "Polish dates": "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada "
    "grudnia",
    "Polish, short": "sty lut mar kwi maj cze lip sie wrz paź lis gru",
    "Dutch": "januari februari maart april mei juni juli augustus september oktober november december",
    "Dutch, short": "jan. feb. mrt. apr. mei jun. jul. aug. sep. okt. nov. dec.",
    "Swedish": "januari februari mars april maj juni juli augusti september oktober november december",
    "Norwegian": "januar februar mars april mai juni juli august september oktober november desember",
    "Danish, short": "jan feb mar apr maj jun jul aug sep okt nov dec",
    "Romanian": "ianuarie februarie martie aprilie mai iunie iulie august septembrie octombrie noiembrie decembrie",
    "Romanian, short": "ian feb mar apr mai iun iul aug sep oct noi dec",
    "Czech": "leden únor březen duben květen červen červenec srpen září říjen listopad prosinec",
    "Czech dates": "ledna února března dubna května června července srpna září října listopadu prosince",
    "Finnish": "tammikuu helmikuu maaliskuu huhtikuu toukokuu kesäkuu heinäkuu elokuu syyskuu lokakuu marraskuu "
    "joulukuu",
    "Finnish, short": "tammi helmi maalis huhti touko kesä heinä elo syys loka marras joulu",
    "Russian": "январь февраль март апрель май июнь июль август сентябрь октябрь ноябрь декабрь",
    "Russian dates": "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
    "Russian, short": "янв фев мар апр май июн июл авг сен окт ноя дек",
    "Ukrainian": "січня лютого березня квітня травня червня липня серпня вересня жовтня листопада грудня",
    "Hungarian": "január február március április május június július augusztus szeptember október november december",
    "Spanish": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "Italian, short": "gen feb mar apr mag giu lug ago set ott nov dic",
}


@pytest.mark.parametrize("language", MONTHS)
def test_months_of_a_language(language: str) -> None:
    months = MONTHS[language].split()
    days = [f"2019-{month:02}-05" for month in range(1, 13)]
    assert read(*(f"5 {month} 2019" for month in months)) == days
    assert read(*(f"{month} 5, 2019" for month in months)) == days
    assert read(*(f"2019 {month} 5" for month in months)) == days


def test_a_month_in_the_partitive() -> None:
    assert read("5. marraskuuta 2019", "5 de abril de 2019") == ["2019-11-05", "2019-04-05"]
