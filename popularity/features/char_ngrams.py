"""Counts the n-grams of characters of a known vocabulary: scikit-learn's ``char_wb``, many times as fast.

All texts are one array of letters, and an n-gram is the whole number that its letters spell in base ``letters + 2``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse


class CharacterNgrams:
    """Counts n-grams within words, which have a blank on either side.

    Args:
        terms: ``V`` n-grams of 2 to 4 characters, each once, as ``CountVectorizer(analyzer="char_wb")`` lists them.
    """

    _SIZES = (2, 3, 4)

    def __init__(self, terms: Sequence[str]) -> None:
        letters = np.unique(_code_points("".join(terms)))
        # places from 1 on, so that no n-gram spells the number of a shorter one; the last is that of any other letter
        self.base = len(letters) + 2
        self.place = np.full(int(letters.max(initial=0)) + 2, self.base - 1, dtype=np.int64)
        self.place[letters] = np.arange(1, len(letters) + 1)
        size = np.array([len(term) for term in terms], dtype=np.int64)
        spelled = self._spelled("".join(terms))
        begin = np.cumsum(size) - size
        numbers = np.select([size == n for n in self._SIZES], [spelled[n][begin] for n in self._SIZES], default=-1)
        self.find = pd.Index(numbers)

    def _spelled(self, text: str) -> dict[int, np.ndarray]:
        """The n-gram that begins at each character of a text, by its size; at the end they are shorter ones."""
        letters = self.place[np.minimum(_code_points(text), len(self.place) - 1)]
        spelled = {1: letters}
        for size in range(2, max(self._SIZES) + 1):
            following = np.append(letters[size - 1 :], np.zeros(min(size - 1, len(letters)), dtype=np.int64))
            spelled[size] = spelled[size - 1] * self.base + following
        return spelled

    def count(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """How often each n-gram occurs in ``n`` texts, in lower case: ``(n, V)`` float64."""
        # two words meet in two blanks, and no n-gram of the vocabulary has two blanks next to each other
        padded = ["".join([f" {word} " for word in text.lower().split()]) for text in texts]
        spelled = self._spelled("".join(padded))
        of_text = np.repeat(np.arange(len(texts)), [len(text) for text in padded])
        found = [self.find.get_indexer(spelled[size]) for size in self._SIZES]
        here = [np.flatnonzero(place >= 0) for place in found]
        rows = np.concatenate([of_text[places] for places in here])
        columns = np.concatenate([place[places] for place, places in zip(found, here, strict=True)])
        cells = np.sort(rows * len(self.find) + columns)
        first = np.flatnonzero(np.diff(cells, prepend=-1))
        row, column = np.divmod(cells[first], max(len(self.find), 1))
        count = np.diff(first, append=len(cells)).astype(np.float64)
        begin = np.searchsorted(row, np.arange(len(texts) + 1))
        return sparse.csr_matrix((count, column, begin), shape=(len(texts), len(self.find)))


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
