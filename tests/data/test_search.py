"""What Arrow and Python find together is what Python finds alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Lazy

search = Lazy("popularity.data.search")

# parts of words, ends of words, letters and digits beyond ASCII on either side
PARTS = ("live", "remix", "feat", "con", "with", "w/", "el", "la", "mix", "from", "1999", "2010", "theme", "edit")
BETWEEN = (" ", "-", "(", ".", "é", "ñ", "а", "½", "٣", "_", "'", "“", "K", "\n", "")
texts = st.lists(st.sampled_from((*PARTS, *BETWEEN)) | st.characters(exclude_categories=["Cs"]), max_size=8)


def patterns() -> list[str]:
    from popularity.data.credits import _CANDIDATE
    from popularity.features.title_stats import _PATTERNS, _YEAR

    return [*_PATTERNS.values(), _YEAR, _CANDIDATE]


@given(several=st.lists(texts.map("".join), max_size=20))
def test_it_is_what_python_finds(several: list[str]) -> None:
    """Whatever stands beside a word."""
    for pattern in patterns():
        found = search.contains(several, pattern).tolist()
        assert found == [re.search(pattern, text) is not None for text in several]


@pytest.mark.parametrize(
    ("text", "there"), [("live", True), ("livé", False), ("liveé", False), ("élive", False), ("a live", True)]
)
def test_ends_of_words_beyond_ascii(text: str, there: bool) -> None:
    """Arrow takes the é for the end of a word."""
    assert search.contains([text], r"\blive\b").tolist() == [there]
