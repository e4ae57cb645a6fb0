"""Keys, modes and other small vocabularies: ``C#``, ``D♯/E♭ Minor``, ``8B``, ``Major``, ``4/4``, ``yes``."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from popularity.data.decisions import Decisions
from popularity.data.numbers import by_distinct, plain_letters

# Words in pairs, for one without the other would leave only songs of one kind with a value
_MODES = (
    "major/minor maj/min dur/moll dur/mol duuri/molli mayor/menor maior/menor majeur/mineur maggiore/minore мажор/минор"
)
_EXPLICIT = (
    "true/false yes/no y/n t/f on/off explicit/clean explicit/cleaned explicit/notexplicit e/clean "
    "ja/nein ja/nee ja/nej ja/nei j/n oui/non o/n sí/no s/n sim/não evet/hayır tak/nie ano/ne igen/nem kyllä/ei "
    "да/нет ναι/όχι 是/否 はい/いいえ 예/아니오 예/아니요 "
    "wahr/falsch vrai/faux v/f verdadero/falso verdadeiro/falso vero/falso waar/onwaar sant/falskt sand/falsk "
    "sann/usann tosi/epätosi doğru/yanlış prawda/fałsz pravda/nepravda igaz/hamis adevărat/fals истина/ложь "
    "真/假 참/거짓"
)


def _numbers(pairs: str) -> dict[str, int]:
    """1 for the first word of each pair and 0 for the second."""
    return {plain_letters(word): 1 - place for pair in pairs.split() for place, word in enumerate(pair.split("/"))}


_MODE = {**_numbers(f"{_MODES} true/false"), "M": 1, "m": 0}
_IS_EXPLICIT = {**_numbers(_EXPLICIT), "not explicit": 0}

_NATURAL = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11, "h": 11}
_SIGN = {"": 0, "#": 1, "♯": 1, "sharp": 1, "is": 1, "b": -1, "♭": -1, "flat": -1, "es": -1, "s": -1}
_ACCIDENTAL = r"(?:\s*(?:#|♯|b|♭)|[\s-]*(?i:sharp|flat)|(?i:is|es)|(?<=[AEae])s)"
_OTHER_NAME = rf"[A-Ga-g]{_ACCIDENTAL}?"
_MODE_WORD = rf"(?i:{'|'.join(sorted(_numbers(_MODES), reverse=True))})|m|M"
_KEY = re.compile(
    rf"(?:(?P<letter>[A-Ga-g])(?P<sign>{_ACCIDENTAL})?(?:\s*/\s*{_OTHER_NAME}|\s*\(\s*{_OTHER_NAME}\s*\))?|(?P<h>[Hh]))"
    rf"[\s-]*\(?(?P<mode>{_MODE_WORD})?\)?\.?"
)
_WHEEL = re.compile(r"(1[0-2]|0?[1-9])\s*([ABabdm])")
_B_FLAT = re.compile(r"\b[Bb][\s-]*(?:b|♭|flat)")


def read_keys(cells: pd.Series, decisions: Decisions) -> tuple[np.ndarray, np.ndarray]:
    """Read a column of keys in words.

    Args:
        cells: (n,) as read.
        decisions: about this file.

    Returns:
        Pitch classes and modes as `read_key` gives them, both (n,) float64, NaN where a cell does not tell.
    """
    german = bool(decisions.once("German keys", lambda: _are_german(cells)))
    pitches = by_distinct(cells, lambda cell: (read_key(cell, german=german) or (None, None))[0])
    modes = by_distinct(cells, lambda cell: (read_key(cell, german=german) or (None, None))[1])
    return pitches, modes


def _are_german(cells: pd.Series) -> bool | None:
    """Whether B is the key between A and H; None where the column has neither an H nor a B with a flat sign."""
    texts = [str(cell).strip() for cell in cells.dropna().unique()]
    has_h = any(match["h"] for match in map(_KEY.fullmatch, texts) if match)
    has_b_flat = any(map(_B_FLAT.search, texts))
    return has_h and not has_b_flat if has_h or has_b_flat else None


def read_key(cell: str, *, german: bool = False) -> tuple[int, int | None] | None:
    """Pitch class from 0 (C) to 11 (B) and mode (1 major, 0 minor, None where not said) of a key in words.

    Camelot's wheel counts in fifths: 8B is C major, 8A is A minor. Open Key's does from 1d and 1m.

    Args:
        cell: without blanks at its ends.
        german: B is B flat, as where H is B.

    >>> read_key("D♯/E♭ Minor"), read_key("Bb"), read_key("8B"), read_key("B", german=True)
    ((3, 0), (10, None), (0, 1), (10, None))
    """
    if match := _WHEEL.fullmatch(cell):
        major, first = match[2] in "Bbd", 1 if match[2] in "dm" else 8
        return ((0 if major else 9) + 7 * (int(match[1]) - first)) % 12, int(major)
    if match := _KEY.fullmatch(cell):
        mode = match["mode"] or ""
        name, sign = (match["letter"] or "h").lower(), (match["sign"] or "").strip(" \t-").lower()
        pitch = 10 if german and name == "b" and not sign else (_NATURAL[name] + _SIGN[sign]) % 12
        return pitch, _MODE.get(mode if len(mode) == 1 else mode.lower())
    return None


def read_word(canonical: str, cell: str) -> float | None:
    """Number of a word in `mode`, `explicit` or `time_signature`, None where it says nothing."""
    word = plain_letters(cell)
    if canonical == "explicit":
        return _IS_EXPLICIT.get(word)
    if canonical == "mode":
        return _MODE.get(cell if len(cell) == 1 else word)
    match = re.fullmatch(r"([1-7])\s*[/:]\s*(?:2|4|8|16)", word)
    return float(match[1]) if match else None
