"""Names of columns that hold durations: a word for it and a unit in any notation, such as ``Length (mm:ss)``.

The values tell which unit a column is in; its name decides where they do not, see `popularity.data.units`.
"""

from __future__ import annotations

import re
import unicodedata

from popularity.data.numbers import plain_letters

_WORDS = (  # without accents
    *("duration", "dur", "length", "time", "play(?:ing)? ?time", "run(?:ning)? ?time"),
    *("dauer", "(?:track|song|spiel) ?dauer", "spiel ?zeit", "lauf ?zeit", "lange"),
    *("duree", "duracion", "duracao", "durata", "sure(?:si)?", "sarki suresi", "duur", "speelduur", "lengte"),
    *("dlugosc", "czas trwania", "длительность", "продолжительность"),
    *("재생 ?시간", "길이", "再生時間", "時間", "时长", "時長"),
)
_UNITS = {  # group -> how the unit is written, and its milliseconds; a letter alone stands apart
    "ms": (r"ms|msecs?|mill?i\w+|毫秒|ミリ秒|밀리초", 1),
    "clock": ("(?:hh? )?mm? ss?|(?:hh)?mmss|mins? secs?|minutes seconds", 60_000),
    "s": (r"(?<= )[sс]|se[cgk](?:s|[ou]nd\w*)?|sn|saniye|сек\w*|秒|초", 1000),
    "min": (r"(?<= )m|min(?:s|ut\w*)?|dk|dakika|мин\w*|分|분", 60_000),
}
_UNIT = "|".join(f"(?P<{name}>{pattern})" for name, (pattern, _) in _UNITS.items())
_DURATION = re.compile(
    rf"(?:(?:spotify|track|song) ?)*(?:{'|'.join(_WORDS)})(?: of (?:track|song))?(?: ?(?:in|en|em))? ?(?:{_UNIT})?"
)
_UNIT_AT_END = re.compile(rf"(?:{_UNIT}|(?P<seconds>\bdur|length duration))$")


def names_duration(column: str) -> bool:
    """Whether a name means a duration."""
    return _DURATION.fullmatch(_spaced(column)) is not None


def named_unit(column: str) -> int:
    """Milliseconds in the unit that the name of a column ends with; 1 where it names none.

    >>> named_unit("Länge (Sek.)"), named_unit("duration_min"), named_unit("Duration")
    (1000, 60000, 1)
    """
    match = _UNIT_AT_END.search(_spaced(column))
    if match is None:
        return 1
    return 1000 if match["seconds"] else _UNITS[match.lastgroup or "ms"][1]


def names_clock(column: str) -> bool:
    """Whether a name says that a sign stands between minutes and seconds, as ``Duration (mm.ss)`` does."""
    match = _UNIT_AT_END.search(_spaced(column))
    return match is not None and match["clock"] is not None


def _spaced(column: str) -> str:
    """The words of a name in small letters, without accents, a blank between them."""
    words = plain_letters(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column))
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", words)).strip()
