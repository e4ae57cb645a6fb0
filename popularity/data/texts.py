"""Text columns: blanks and placeholders to missing, ids to one spelling, several names to one form."""

from __future__ import annotations

import numpy as np
import pandas as pd

from popularity.data.artists import decide_names, holds_dicts, join_artists, join_genres
from popularity.data.numbers import by_distinct
from popularity.data.units import Converted

_NO_TEXT = frozenset(("", "NA", "NaN", "nan"))  # songs and artists are called None and Null
_PLACEHOLDER = frozenset(
    ("n/a", "N/A", "#N/A", "<NA>", "\\N", "undefined", "empty_field", "null", "(null)", "[null]", "n.a.", "missing")
)
# Not for titles and albums: some are called "?" or "-".
_NOBODY = frozenset(
    ("?", "-", "--", "–", "—", ".", "nil", "nat", "<na>", "[unknown]", "<unknown>", "(unknown)", "[no artist]")
)
# Artists have these names too: they mean nobody where one row in a hundred has one.
_PERHAPS = frozenset(("unknown", "unknown artist", "artist unknown", "none", "no artist", "not available", "empty"))
_OFTEN = 0.01

URI = r"(?:spotify[:/]|open\.spotify\.com/|spotify\.link/)"
_ID = r"([0-9A-Za-z]{22})(?:[?#].*)?$"


def convert_text(canonical: str, cells: pd.Series, *, exportify: bool, quoted_header: bool) -> Converted:
    """Convert a text column: blanks off the ends, missing where nothing is left, ids and names to one spelling.

    Args:
        canonical: name in the song table.
        cells: (n,) as read.
        exportify: whether the header is Exportify's, which tells what a comma in its artists means.
        quoted_header: whether the names in the header stand in quotes, which tells Exportify's versions apart.
    """
    text = cells.astype("str").str.strip()
    text = text.mask(text.isin(_NO_TEXT))
    coded = text.isin(_PLACEHOLDER)
    if canonical not in ("title", "album"):
        lower = text.str.lower()
        coded |= lower.isin(_NOBODY)
        perhaps = lower.isin(_PERHAPS)
        if perhaps.sum() > max(1, _OFTEN * len(text)):
            coded |= perhaps
    text = text.mask(coded.fillna(False).astype(bool))
    notes: list[str] = []
    if canonical == "track_id":
        text, notes = _ids(text)
    elif canonical == "artist":
        text, notes = _artists(text, exportify, quoted_header)
    elif canonical in ("genre", "subgenre"):
        text, notes = _rewritten(text, by_distinct(text, join_genres), "lists joined with ';'")
    return Converted(text.astype("str"), np.zeros(len(text), bool), tuple(notes), int(coded.sum()))


def _ids(text: pd.Series) -> tuple[pd.Series, list[str]]:
    address = text.str.contains(URI).fillna(False).astype(bool)
    if not address.any():
        return text, []
    return text.mask(address, text.str.extract(_ID, expand=False)), ["last 22 characters of the URI"]


def _artists(text: pd.Series, exportify: bool, quoted_header: bool) -> tuple[pd.Series, list[str]]:
    distinct = [str(cell) for cell in text.dropna().unique()]
    rule = decide_names(
        [cell for cell in distinct if not cell.startswith(("[", "{", "c("))],
        exportify=exportify,
        quoted_header=quoted_header,
    )
    if any(holds_dicts(cell) for cell in distinct):
        note = "the names in the dicts"
    elif rule.form or rule.featured:
        note = ""  # the rule says more
    else:
        note = "split at ';' or as a list"
    names, notes = _rewritten(text, by_distinct(text, lambda cell: join_artists(cell, rule)), note)
    return names, [part for part in (*notes, rule.note) if part]


def _rewritten(text: pd.Series, cells: list[str | None], note: str) -> tuple[pd.Series, list[str]]:
    """The new cells, missing where they are empty, and the note if they differ from the old ones."""
    new = pd.Series(cells, dtype="str").mask(lambda values: values == "")
    return new, [note] if note and not new.equals(text) else []


def add_names(artists: pd.Series, others: pd.Series) -> pd.Series:
    """Put further names, such as Skiley's secondary artists, behind the artist of each song."""
    both = [
        ";".join(dict.fromkeys([*artist.split(";"), *other.split(";")]))
        if isinstance(artist, str) and isinstance(other, str)
        else artist
        for artist, other in zip(artists, others, strict=True)
    ]
    return pd.Series(both, dtype="str")
