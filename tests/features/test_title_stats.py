"""Title statistics against plain Python, one title at a time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popularity.data.credits import title_credits
from popularity.features.title_stats import TITLE_STATISTICS, title_statistics


def statistics_of(title: str) -> dict[str, float]:
    return dict(zip(TITLE_STATISTICS, title_statistics(pd.Series([title], dtype="str"))[0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Stay (feat. A & B)", {"credited_names": 2, "brackets": 1, "words": 5, "length": 18, "punctuation": 4}),
        ("Easy - Bazzi Remix", {"remix": 1, "dash": 1, "version": 0, "live": 0}),
        ("Alive", {"live": 0, "dash": 0, "has_year": 0}),
        ("Alive - Live at Wembley", {"live": 1, "dash": 1}),
        ("Alive (Live)", {"live": 1}),
        ("Help! - 2009 Remastered", {"remaster": 1, "has_year": 1, "year": 2009}),
        ("1989 (2014 Mix)", {"version": 1, "year": 2014}),
        ("Monologue", {"version": 0}),
        ("Layla - Mono / Single Version", {"version": 1}),
        ("19999 or 1812", {"has_year": 0, "year": np.nan}),
        ('Shallow (From "A Star Is Born")', {"soundtrack": 1}),
        ("Far From Home", {"soundtrack": 0}),
        ("Jaws - Theme", {"soundtrack": 1}),
        ("el amor", {"spanish_words": 1, "all_lower_case": 1, "upper_share": 0}),
        ("Delay", {"spanish_words": 0, "all_lower_case": 0, "upper_share": 0.2}),
        ("HUMBLE.", {"upper_share": 1, "all_lower_case": 0}),
        ("1234", {"all_lower_case": 0, "upper_share": 0, "other_script": 0}),
        ("Свобода", {"cyrillic": 1, "non_ascii": 7}),
        ("夜に駆ける", {"cjk": 1, "hangul": 0}),
        ("ラブー", {"cjk": 1}),
        ("봄날 ab", {"hangul": 0.5, "cyrillic": 0}),
        ("حبيبي", {"arabic": 1}),
        ("Ελλάδα", {"other_script": 1}),
        ("Beyoncé Ａº", {"other_script": 0, "non_ascii": 3}),
        ("", {"length": 0, "words": 0, "upper_share": 0, "year": np.nan}),
    ],
)
def test_known_titles(title: str, expected: dict[str, float]) -> None:
    found = statistics_of(title)
    assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def test_shape_order_and_missing_titles() -> None:
    table = title_statistics(pd.Series(["B", None, "A - Remix", "B"], index=[5, 5, 2, 0], dtype="str"))
    assert table.shape == (4, len(TITLE_STATISTICS))
    assert table.dtype == np.float32
    assert len(set(TITLE_STATISTICS)) == len(TITLE_STATISTICS)
    assert np.isnan(table[1]).all()
    np.testing.assert_array_equal(table[0], table[3])
    assert table[:, TITLE_STATISTICS.index("remix")].tolist() == pytest.approx([0, np.nan, 1, 0], nan_ok=True)


@pytest.mark.parametrize("titles", [[], [None, None]])
def test_no_titles_at_all(titles: list[None]) -> None:
    table = title_statistics(pd.Series(titles, dtype="str"))
    assert table.shape == (len(titles), len(TITLE_STATISTICS))
    assert np.isnan(table).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=25), min_size=1, max_size=12))
def test_counts_agree_with_plain_python(titles: list[str]) -> None:
    found = title_statistics(pd.Series(titles, dtype="str"))
    for title, row in zip(titles, found, strict=True):
        letters = sum(char.isalpha() for char in title)
        upper = sum(char.isupper() for char in title)
        expected = {
            "length": len(title),
            "words": len(title.split()),
            "credited_names": len(title_credits(title)),
            "brackets": sum(char in "([{" for char in title),
            "non_ascii": sum(ord(char) > 127 for char in title),
            "punctuation": sum(not char.isalnum() and not char.isspace() for char in title),
            "all_lower_case": float(upper == 0 and any(char.islower() for char in title)),
            "upper_share": upper / max(letters, 1),
        }
        got = {name: row[TITLE_STATISTICS.index(name)] for name in expected}
        assert got == pytest.approx(expected, rel=1e-6)
        flags = [name for name in TITLE_STATISTICS if name in ("remix", "live", "dash", "has_year", "soundtrack")]
        assert all(row[TITLE_STATISTICS.index(name)] in (0, 1) for name in flags)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=10)), min_size=1, max_size=5))
def test_a_row_depends_on_its_own_title_only(titles: list[str | None]) -> None:
    together = title_statistics(pd.Series(titles, dtype="str"))
    for title, row in zip(titles, together, strict=True):
        np.testing.assert_array_equal(title_statistics(pd.Series([title], dtype="str"))[0], row)
