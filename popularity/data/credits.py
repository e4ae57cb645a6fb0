"""Who is on a song: names in the artist column and names credited in the title.

Names are keys for matching, not for display: see :func:`normalise_name`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from popularity.data.mapped import in_chunks
from popularity.data.search import contains

# Curly quotes to straight ones.
_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"'})
# Direction marks and zero-width blanks, which come with copied names, to nothing.
_SPELLING = _QUOTES | dict.fromkeys(map(ord, "\u200b\u200e\u200f\u202a\u202c\ufeff"))

#: What `str.split` takes for blanks, in ASCII.
_BLANKS = r"[\t-\r\x1c-\x20]"

# "feat" and "ft" may open a bracket or stand free, but not at the start, inside a word or after a number ("Six 10 ft").
_MARK = r"(?:feat(?:uring\b|\b)|ft\b)\.?"
_FEATURED = rf"(?<!^)(?<!\w)(?<!\d\s){_MARK}(?:\s*[-:])?"
_TOGETHER = r"(?:(?<!^)[(\[]|\s[-–—]\s)\s*(?:(?:in\s+)?(?:an?\s+)?duett?o?\s+)?(?:with|w/|con)(?=\s)"
# A credit runs to the next bracket, spaced dash or slash, or to the end.
_CREDIT = re.compile(
    rf"(?:{_FEATURED}|{_TOGETHER})\s*(?P<names>[^\s()\[\]][^()\[\]]*?)(?=\s+[-–—/]\s|\s*[()\[\]]|\s*$)", re.IGNORECASE
)
# A cheap necessary condition, so that most titles are never looked at twice.
_CANDIDATE = r"(?i)\b(?:(?:feat|ft|featuring|with|con)\b|w/)"
# " x " joins names, but not the X that ends "Lil Nas X & Jack Harlow".
_SEPARATOR = re.compile(
    rf"(\s*[,;]\s*(?:(?:and|&)\s+)?(?:{_MARK}\s*)?|\s*&\s*|\s+and\s+|\s+x\s+(?![&,;]|and\b)|\s+{_MARK}\s*)"
)

# "Crosby, Stills, Nash & Young" has four parts. Without a limit, a title of 1,000 names would take a million looks.
_MOST_PARTS = 16

# What stands in such a bracket without being a name: "feat. JeyJeySax Remix", "feat. X; Live at Y", "With My Heart".
_VERSION_TAIL = re.compile(
    r"(?:\s+(?:radio|original|extended|club|album|explicit|clean|single))?\s+(?:remix|mix|edit|version|remaster(?:ed)?)$"
)
_NOT_A_NAME = re.compile(
    r"(?:live|recorded|prod\.?|produced|remix(?:ed)?)\s.*|.*\b(?:remix|remaster(?:ed)?|version|edit|mix|explicit)"
    r"|(?:my|your)\s\w+|me|you|u|us|him|her|them|it|love|friends|rap|lyrics|vocals|intro|outro"
    r"|(?:the\s)?(?:orchestra|choir|strings|piano|band)|\W*"
)


def straight_quotes(text: str) -> str:
    """A text with straight quotes, as most files write it: Can’t is Can't."""
    return text if text.isascii() else text.translate(_QUOTES)


def straight_quoted(texts: pd.Series) -> list[str]:
    """Return :func:`straight_quotes` of each text, an empty one where it is missing."""
    return [text if text.isascii() else text.translate(_QUOTES) for text in texts.fillna("").tolist()]


def normalise_name(name: str) -> str:
    """Return the key under which a name is matched.

    Unicode NFKC, straight quotes, no invisible marks, case folded, blanks collapsed and stripped, closing full stops
    dropped (``"LOVE. FEAT. ZACARI."`` credits Zacari; ``"fun."`` and ``"fun"`` are one band).
    """
    if not name.isascii():  # of ASCII both are the text itself
        name = unicodedata.normalize("NFKC", name).translate(_SPELLING)
    text = " ".join(name.casefold().split())
    return text.rstrip(". ") or text


def normalise_names(names: Sequence[str]) -> list[str]:
    """Return :func:`normalise_name` of each name; those in ASCII at the pace of Arrow."""
    array = pa.array(names, pa.large_string())
    text = pc.ascii_lower(array)
    if pc.any(pc.match_substring_regex(text, rf"{_BLANKS}{{2}}|[^\x20-\x7f]")).as_py():
        text = pc.replace_substring_regex(text, f"{_BLANKS}+", " ")
    text = pc.ascii_trim_whitespace(text)
    bare = pc.ascii_rtrim(text, ". ")
    found: list[str] = pc.if_else(pc.equal(bare, ""), text, bare).to_pylist()
    for row in np.flatnonzero(~pc.string_is_ascii(array).to_numpy(zero_copy_only=False)).tolist():
        found[row] = normalise_name(names[row])
    return found


def _unique(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, names)))


def artist_names(songs: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the normalised names in the artist column of each song.

    Args:
        songs: Song table; `artist` joins names with ``;``. Nothing else splits a name ("Simon & Garfunkel" is one).

    Returns:
        One tuple per song, the primary artist first, without repeats; ``()`` where the artist is missing.
    """
    codes, distinct = pd.factorize(songs["artist"])
    artists = distinct.tolist()
    names: list[tuple[str, ...]] = [(name,) if name else () for name in normalise_names(artists)]
    for row, artist in enumerate(artists):
        if ";" in artist:
            names[row] = _unique([normalise_name(part) for part in artist.split(";")])
    names.append(())  # code -1: missing
    return [names[code] for code in codes.tolist()]


def _split_names(text: str, known: Container[str]) -> list[str]:
    """Split at the separators, but keep a run of pieces that spells a known name together ("tyler, the creator")."""
    pieces = _SEPARATOR.split(normalise_name(text))  # name, separator, name, ..., name
    names: list[str] = []
    start = 0
    while start < len(pieces):
        end = min(len(pieces), start + 2 * _MOST_PARTS - 1)
        while end > start + 1 and "".join(pieces[start:end]) not in known:
            end -= 2
        names.append(normalise_name("".join(pieces[start:end]).strip(" *-–—:")))
        start = end + 1
    return names


def _title_credits(title: str, known: Container[str]) -> tuple[str, ...]:
    names: list[str] = []
    for match in _CREDIT.finditer(title):
        for name in _split_names(match["names"], known):
            bare = _VERSION_TAIL.sub("", name)
            if not _NOT_A_NAME.fullmatch(bare) or bare in known:
                names.append(bare)
    return _unique(names)


def title_credits(title: str) -> tuple[str, ...]:
    """Return the normalised names that a title credits.

    Counted are names after ``feat.``, ``ft.`` and ``featuring`` anywhere but at the start, and after ``with`` or
    ``con`` where they open a bracket or follow a spaced dash, up to the end of that bracket or part. The names are
    split at ``,``, ``;``, ``&``, ``and``, a spaced ``x`` and a further ``feat.``. Remixers are not credited.

    >>> title_credits("Stay (with Justin Bieber)")
    ('justin bieber',)
    >>> title_credits("Bad Idea - feat. Lil Nas X & Anitta (Club Mix)")
    ('lil nas x', 'anitta')
    >>> title_credits("Dancing With Myself - Remastered")
    ()
    """
    return _title_credits(title, frozenset())


def titles_credits(titles: pd.Series, known: Container[str] = frozenset()) -> list[tuple[str, ...]]:
    """Return :func:`title_credits` of each title, ``()`` for a missing one; a title that repeats is read once.

    Args:
        titles: Titles as text.
        known: Normalised names that are not split and never doubted ("tyler, the creator").

    Returns:
        One tuple of normalised names per title.
    """
    codes, distinct = pd.factorize(titles)
    texts = distinct.tolist()
    found: list[tuple[str, ...]] = [()] * (len(texts) + 1)  # the last is for code -1: missing
    for code in contains(texts, _CANDIDATE).nonzero()[0]:
        found[code] = _title_credits(texts[code], known)
    return [found[code] for code in codes.tolist()]


def known_names(songs: pd.DataFrame) -> frozenset[str]:
    """The names in the artist column of songs, normalised."""
    return frozenset(name for part in in_chunks(songs) for names in set(artist_names(part)) for name in names)


def credits(songs: pd.DataFrame, known: Container[str] | None = None) -> list[tuple[str, ...]]:
    """Return every name credited on each song: the artist column's first, then the title's, without repeats.

    A known name that holds a separator ("Tyler, The Creator") stays whole in titles too.

    Args:
        songs: Song table with `artist` and `title`.
        known: Normalised names; those in the artist column of these songs by default.

    Returns:
        One tuple of normalised names per song, ``()`` where nobody is named.
    """
    in_column = artist_names(songs)
    in_title = titles_credits(songs["title"], known_names(songs) if known is None else known)
    return [_unique([*column, *title]) if title else column for column, title in zip(in_column, in_title, strict=True)]
