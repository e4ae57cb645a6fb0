"""Finds patterns in many texts: what Python's ``re`` finds, at the pace of Arrow's."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def contains(texts: Sequence[str], pattern: str) -> np.ndarray:
    r"""``(n,)`` bool: whether Python's ``re`` finds a pattern in each of ``n`` texts.

    Arrow is asked first. Its ``\b`` knows no letters beyond ASCII, so that it finds more words, of which Python is
    asked.

    Args:
        texts: none of them missing.
        pattern: in the grammar that both read, with ``\b`` only beside a letter or digit of ASCII.
    """
    array = pa.array(texts, pa.large_string())
    found: np.ndarray = pc.match_substring_regex(array, pattern).to_numpy(zero_copy_only=False).astype(bool)
    if r"\b" in pattern:
        search = re.compile(pattern).search
        rows = np.flatnonzero(found & ~pc.string_is_ascii(array).to_numpy(zero_copy_only=False))
        found[rows] = [search(texts[row]) is not None for row in rows.tolist()]
    return found
