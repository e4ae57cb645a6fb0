"""Keys, modes and other small vocabularies: ``C#``, ``D♯/E♭ Minor``, ``8B``, ``Major``, ``4/4``, ``yes``."""

from __future__ import annotations

import re

_NATURAL = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_SIGN = {"": 0, "#": 1, "♯": 1, "sharp": 1, "b": -1, "♭": -1, "flat": -1}
_MODE = {"major": 1, "maj": 1, "dur": 1, "M": 1, "true": 1, "minor": 0, "min": 0, "moll": 0, "m": 0, "false": 0}
_KEY = re.compile(
    r"(?P<letter>[A-Ga-g])\s*(?P<sign>#|♯|b|♭|sharp|flat)?"
    r"(?:\s*/\s*[A-Ga-g]\s*(?:#|♯|b|♭|sharp|flat)?)?"
    r"[\s-]*(?P<mode>(?i:major|minor|maj|min|dur|moll)|m|M)?\.?"
)
_CAMELOT = re.compile(r"(1[0-2]|0?[1-9])\s*([ABab])")
# in the languages in which spreadsheets write truth values
_YES = (
    "true",
    "yes",
    "y",
    "t",
    "e",
    "explicit",
    "ja",
    "oui",
    "wahr",
    "vrai",
    "verdadero",
    "vero",
    "verdadeiro",
    "sant",
)
_NO = ("false", "no", "n", "f", "clean", "nein", "non", "falsch", "faux", "falso", "falskt", "not explicit")


def read_key(cell: str) -> tuple[int, int | None] | None:
    """Pitch class from 0 (C) to 11 (B) and mode (1 major, 0 minor, None where not said) of a key in words.

    Camelot's wheel counts in fifths: 8B is C major, 8A is A minor.

    >>> read_key("D♯/E♭ Minor"), read_key("Bb"), read_key("8B")
    ((3, 0), (10, None), (0, 1))
    """
    if match := _CAMELOT.fullmatch(cell):
        major = match[2] in "Bb"
        return ((0 if major else 9) + 7 * (int(match[1]) - 8)) % 12, int(major)
    if match := _KEY.fullmatch(cell):
        mode = match["mode"] or ""
        pitch = (_NATURAL[match["letter"].lower()] + _SIGN[match["sign"] or ""]) % 12
        return pitch, _MODE.get(mode if len(mode) == 1 else mode.lower())
    return None


def read_word(canonical: str, cell: str) -> float | None:
    """Number of a word in `mode`, `explicit` or `time_signature`, None where it says nothing."""
    word = cell.casefold()
    if canonical == "explicit":
        return 1.0 if word in _YES else 0.0 if word in _NO else None
    if canonical == "mode":
        return _MODE.get(cell if len(cell) == 1 else word)
    match = re.fullmatch(r"([1-7])\s*[/:]\s*(?:2|4|8|16)", word)
    return float(match[1]) if match else None
