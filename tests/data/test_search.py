"""What Arrow and Python find together is what Python finds alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popularity.data.credits import _CANDIDATE
from popularity.data.search import contains
from popularity.features.title_stats import _PATTERNS, _YEAR

# parts of words, ends of words, letters and digits beyond ASCII on either side
PARTS = ("live", "remix", "feat", "con", "with", "w/", "el", "la", "mix", "from", "1999", "2010", "theme", "edit")
BETWEEN = (" ", "-", "(", ".", "é", "ñ", "а", "½", "٣", "_", "'", "“", "K", "\n", "")
texts = st.lists(st.sampled_from((*PARTS, *BETWEEN)) | st.characters(exclude_categories=["Cs"]), max_size=8)


@pytest.mark.parametrize("pattern", [*_PATTERNS.values(), _YEAR, _CANDIDATE])
@given(several=st.lists(texts.map("".join), max_size=20))
def test_it_is_what_python_finds(pattern: str, several: list[str]) -> None:
    """Whatever stands beside a word."""
    assert contains(several, pattern).tolist() == [re.search(pattern, text) is not None for text in several]


def test_ends_of_words_beyond_ascii() -> None:
    """Arrow takes the é for the end of a word."""
    found = contains(["live", "livé", "liveé", "élive", "a live"], r"\blive\b")
    assert found.tolist() == [True, False, False, False, True]
