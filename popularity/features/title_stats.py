"""What a title says beside its words: length, version, year, case, language, script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from popularity.data.credits import straight_quotes, titles_credits
from popularity.data.search import contains

# Each matched in the lower-cased title; 1 where it is found.
_PATTERNS = {
    "remix": "remix",
    "live": r"[-(\[].*\blive\b",
    "remaster": "remaster",
    "version": r"\b(?:mono|stereo|version|edit|mix)\b",
    "soundtrack": r"[-(\[] ?from\b|from [\"'“‘]|\btheme\b|soundtrack|motion picture",
    "dash": r" - ",
    "spanish_words": r"\b(?:el|la|de|que|mi|tu|los|por|amor|una|con)\b",
}
_YEAR = r"\b(?:19[5-9][0-9]|20[0-2][0-9])\b"
SCRIPTS = ("cyrillic", "cjk", "arabic", "hangul", "other_script")

TITLE_STATISTICS: tuple[str, ...] = (
    "length",  # characters
    "words",  # runs between blanks
    "credited_names",  # names after feat., ft., featuring, with
    *_PATTERNS,
    "has_year",
    "year",  # the last one from 1950 to 2029, NaN where there is none
    "brackets",  # opening ones
    "non_ascii",  # characters
    "punctuation",  # characters that are neither letter, digit nor blank
    "all_lower_case",  # 1 where there are lower-case letters and no upper-case ones
    "upper_share",  # of the letters
    *SCRIPTS,  # shares of the letters
)


def script_of(char: str) -> str:
    """Return the script of a letter by its Unicode name; `cjk` is Han, Hiragana and Katakana."""
    word = unicodedata.name(char, "").partition(" ")[0].partition("-")[0]
    if word in ("CJK", "HIRAGANA", "KATAKANA"):
        return "cjk"
    if word in ("LATIN", "CYRILLIC", "ARABIC", "HANGUL"):
        return word.lower()
    # Full-width Latin, ª and º have names of their own; NFKC turns them into what they stand for.
    plain = unicodedata.normalize("NFKC", char)
    return script_of(plain[0]) if plain != char else "other_script"


def _is_letter_of(script: str, char: str) -> bool:
    return char.isalpha() and script_of(char) == script


class _Characters:
    """All titles as one array of code points, so that counting by kind of character needs no loop over titles."""

    def __init__(self, titles: Sequence[str]) -> None:
        self.ends = np.cumsum([len(title) for title in titles], dtype=np.int64)
        self.starts = np.append(0, self.ends[:-1]).astype(np.int64)[: len(titles)]
        text = "".join(titles).encode("utf-32-le", errors="surrogatepass")
        self.codes = np.frombuffer(text, dtype=np.uint32)
        self.present = np.flatnonzero(np.bincount(self.codes, minlength=1))

    def where(self, test: Callable[[str], bool]) -> np.ndarray:
        """Return a mask over all characters; `test` is asked once per distinct character."""
        table = np.zeros(int(self.present.max(initial=0)) + 1, dtype=bool)
        table[self.present] = [test(chr(code)) for code in self.present]
        return table[self.codes]

    def per_title(self, mask: np.ndarray) -> np.ndarray:
        """Count the marked characters of each title."""
        total = np.append(0, np.cumsum(mask, dtype=np.int64))
        count: np.ndarray = total[self.ends] - total[self.starts]
        return count

    def count(self, test: Callable[[str], bool]) -> np.ndarray:
        """Count the characters of each title that pass the test."""
        return self.per_title(self.where(test))

    def words(self) -> np.ndarray:
        """Count the runs of characters between blanks in each title."""
        blank = self.where(str.isspace)
        before = np.append(True, blank[:-1])[: len(blank)]
        before[self.starts[self.starts < len(blank)]] = True
        return self.per_title(before & ~blank)


def title_statistics(title: pd.Series) -> np.ndarray:
    """Return what each title says beside its words.

    Args:
        title: ``(n,)`` titles as text, NaN where missing.

    Returns:
        ``(n, len(TITLE_STATISTICS))`` float32: counts, 0/1 flags, shares of the letters (0 without letters) and a year
        (NaN without one), in the order of ``TITLE_STATISTICS``. A missing title is a row of NaN.

    >>> table = title_statistics(pd.Series(["Stay (with Justin Bieber) - 2021 Remix"]))
    >>> dict(zip(TITLE_STATISTICS, table[0].tolist()))["year"]
    2021.0
    """
    codes, distinct = pd.factorize(title)
    table = np.full((len(distinct) + 1, len(TITLE_STATISTICS)), np.nan, dtype=np.float32)  # last row, code -1: missing
    for column, values in enumerate(_columns(pd.Series(distinct, dtype="str"))):
        table[:-1, column] = values
    statistics: np.ndarray = table[codes]
    return statistics


def _columns(titles: pd.Series) -> list[np.ndarray]:
    """Return the statistics of titles without missing ones, one array each, in the order of ``TITLE_STATISTICS``."""
    texts = [straight_quotes(title) for title in titles.tolist()]
    characters, lowered = _Characters(texts), [text.lower() for text in texts]
    has_year = contains(texts, _YEAR)
    year = np.full(len(texts), np.nan)
    year[has_year] = [float(re.findall(_YEAR, texts[row])[-1]) for row in np.flatnonzero(has_year)]
    letters = np.maximum(characters.count(str.isalpha), 1)
    upper = characters.count(str.isupper)
    return [
        characters.ends - characters.starts,
        characters.words(),
        np.array([len(names) for names in titles_credits(titles)]),
        *(contains(lowered, pattern) for pattern in _PATTERNS.values()),
        has_year,
        year,
        characters.count(lambda char: char in "([{"),
        characters.count(lambda char: not char.isascii()),
        characters.count(lambda char: not (char.isalnum() or char.isspace())),
        (upper == 0) & (characters.count(str.islower) > 0),
        upper / letters,
        *(characters.count(partial(_is_letter_of, script)) / letters for script in SCRIPTS),
    ]
