"""What a title says beside its words: length, version, year, case, language, script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from popularity.data.credits import straight_quoted, titles_credits
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


#: What is asked of each character of a title.
_CHARACTERS: dict[str, Callable[[str], bool]] = {
    "letter": str.isalpha,
    "upper": str.isupper,
    "lower": str.islower,
    "blank": str.isspace,
    "bracket": lambda char: char in "([{",
    "non_ascii": lambda char: not char.isascii(),
    "punctuation": lambda char: not (char.isalnum() or char.isspace()),
    **{script: partial(_is_letter_of, script) for script in SCRIPTS},
}


class _Characters:
    """All titles as one array of code points, so that counting by kind of character needs no loop over titles.

    Characters that pass the same tests are of one class: titles are gone through once, and not once for each test.

    Args:
        titles: ``n`` texts.
        tests: by name, each asked once per distinct character.
    """

    def __init__(self, titles: Sequence[str], tests: Mapping[str, Callable[[str], bool]]) -> None:
        self.length = np.array([len(title) for title in titles], dtype=np.int64)
        text = "".join(titles).encode("utf-32-le", errors="surrogatepass")
        codes = np.frombuffer(text, dtype=np.uint32)
        present = np.flatnonzero(np.bincount(codes, minlength=1))
        passed = np.array([[test(chr(code)) for test in tests.values()] for code in present], dtype=bool)
        kinds, kind = np.unique(passed.reshape(len(present), len(tests)), axis=0, return_inverse=True)
        table = np.zeros(int(present.max(initial=0)) + 1, dtype=np.int64)
        table[present] = kind.ravel()
        self._kinds, self._of_character = dict(zip(tests, kinds.T, strict=True)), table[codes]
        self._title = np.repeat(np.arange(len(titles)), self.length)
        size = len(titles) * len(kinds)
        found = np.bincount(self._title * len(kinds) + self._of_character, minlength=size)
        self._found = found.reshape(len(titles), len(kinds))

    def count(self, name: str) -> np.ndarray:
        """Count the characters of each title that pass a test."""
        count: np.ndarray = self._found @ self._kinds[name]
        return count

    def runs(self, name: str) -> np.ndarray:
        """Count the runs of characters in each title that fail a test."""
        fails = ~self._kinds[name][self._of_character]
        same_run = fails[:-1] & fails[1:] & (self._title[:-1] == self._title[1:])
        begins = fails & ~np.append(False, same_run)[: len(fails)]
        count: np.ndarray = np.bincount(self._title[begins], minlength=len(self.length))
        return count


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
    texts = straight_quoted(titles)
    characters, lowered = _Characters(texts, _CHARACTERS), [text.lower() for text in texts]
    has_year = contains(texts, _YEAR)
    year = np.full(len(texts), np.nan)
    year[has_year] = [float(re.findall(_YEAR, texts[row])[-1]) for row in np.flatnonzero(has_year)]
    letters = np.maximum(characters.count("letter"), 1)
    upper = characters.count("upper")
    return [
        characters.length,
        characters.runs("blank"),
        np.array([len(names) for names in titles_credits(titles)]),
        *(contains(lowered, pattern) for pattern in _PATTERNS.values()),
        has_year,
        year,
        characters.count("bracket"),
        characters.count("non_ascii"),
        characters.count("punctuation"),
        (upper == 0) & (characters.count("lower") > 0),
        upper / letters,
        *(characters.count(script) / letters for script in SCRIPTS),
    ]
