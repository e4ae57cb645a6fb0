"""Text columns: blanks and placeholders to missing, ids to one spelling, several names to one form."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from popularity.data.artists import decide_names, holds_dicts, join_artists, join_genres, name_in_dict, rule_for
from popularity.data.decisions import Decisions
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

_OF_GENRES = ["lists joined with ';'", ""]  # notes, as `_joiner` gives them
_ENTITY = r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,6}|#x[0-9a-fA-F]{2,6});"
URI = r"(?:spotify[:/]|open\.spotify\.com/|spotify\.link/)"
_ID = r"([0-9A-Za-z]{22})(?:[?#].*)?$"


@dataclass(frozen=True)
class Written:
    """What the header tells about the cells.

    Attributes:
        exportify: the header is Exportify's, which tells what a comma in its artists means.
        quoted_header: its names stand in quotes, which tells Exportify's versions apart.
    """

    exportify: bool = False
    quoted_header: bool = False


def convert_text(canonical: str, cells: pd.Series, written: Written, decisions: Decisions, column: str) -> Converted:
    """Convert a text column: blanks off the ends, missing where nothing is left, ids and names to one spelling.

    Args:
        canonical: name in the song table.
        cells: (n,) as read.
        written: what the header tells.
        decisions: about this file.
        column: of the file, by whose name decisions are kept.
    """
    cells = cells.astype("str")
    if canonical == "album" and cells.str.startswith("{").fillna(False).any():
        cells = pd.Series([name_in_dict(cell) if holds_dicts(str(cell)) else cell for cell in cells], dtype="str")
    entity = pc.match_substring_regex(pa.array(cells, pa.large_string(), from_pandas=True), _ENTITY)
    if pc.any(entity).as_py():  # a web page's &amp;, whose ; would part names
        cells = cells.map(html.unescape, na_action="ignore").astype("str")
        found = _convert_text(canonical, cells, written, decisions, column)
        return replace(found, notes=(*found.notes, "HTML entities to characters"))
    return _convert_text(canonical, cells, written, decisions, column)


def _convert_text(canonical: str, cells: pd.Series, written: Written, decisions: Decisions, column: str) -> Converted:
    if canonical in ("artist", "genre", "subgenre"):
        return _names(canonical, cells, written, decisions, column)
    text = pc.utf8_trim_whitespace(pa.array(cells, pa.large_string(), from_pandas=True))
    nothing = _is_one_of(text, _NO_TEXT | _PLACEHOLDER)
    coded = sum(word in _PLACEHOLDER for word in text.filter(nothing).to_pylist())
    text = pc.if_else(nothing, None, text)
    values, notes = _series(text), tuple[str, ...]()
    if canonical == "track_id":
        address = pc.fill_null(pc.match_substring_regex(text, URI), False)
        if pc.any(address).as_py():
            is_address = pd.Series(address.to_numpy(zero_copy_only=False))
            values = values.mask(is_address, values.str.extract(_ID, expand=False)).astype("str")
            notes = ("last 22 characters of the URI",)
    return Converted(values, np.zeros(len(values), bool), notes, coded)


def _is_one_of(text: pa.Array, words: frozenset[str]) -> pa.Array:
    return pc.fill_null(pc.is_in(text, pa.array(sorted(words), pa.large_string())), False)


def _series(text: pa.Array) -> pd.Series:
    return pa.table({"text": text}).to_pandas()["text"].astype("str")


def _names(canonical: str, cells: pd.Series, written: Written, decisions: Decisions, column: str) -> Converted:
    """Convert a column whose cells may hold several names; each distinct cell is read once."""
    codes, distinct = pd.factorize(cells)
    plain = [str(cell).strip() for cell in distinct]
    counts = np.bincount(codes[codes >= 0], minlength=len(plain))
    nobody = np.array([cell in _PLACEHOLDER or cell.lower() in _NOBODY for cell in plain], bool)
    perhaps = np.array([cell.lower() in _PERHAPS for cell in plain], bool)
    often = counts[perhaps].sum() > max(1, _OFTEN * len(cells))
    if bool(perhaps.any()) and decisions.once(f"nobody in {column}", lambda: bool(often)):
        nobody |= perhaps
    known = [None if none or cell in _NO_TEXT else cell for cell, none in zip(plain, nobody, strict=True)]
    some = [cell for cell in known if cell is not None]
    join, notes = _joiner(some, written, decisions, column) if canonical == "artist" else (join_genres, _OF_GENRES)
    new = [cell if cell is None else join(cell) or None for cell in known]
    if new == known:
        notes = notes[1:]
    values = pd.array(new, dtype="str").take(codes, allow_fill=True)
    coded = int(counts[nobody].sum())
    nameless = [name is None and holds_dicts(cell) for name, cell in zip(new, plain, strict=True)]
    unreadable = np.array([*nameless, False])[codes]  # code -1, missing, takes the last
    return Converted(pd.Series(values), unreadable, tuple(filter(None, notes)), coded)


def _joiner(
    cells: list[str], written: Written, decisions: Decisions, column: str
) -> tuple[Callable[[str], str], list[str]]:
    """How a cell is read, and two notes: on what changed, and on what was decided whether or not anything changed."""
    rule = rule_for(decisions.once(f"names in {column}", lambda: decide_names(cells, **asdict(written))), cells)
    note = "split at ';' or as a list"
    if any(holds_dicts(cell) for cell in cells):
        note = "the names in the dicts"
    elif rule.form or rule.featured or rule.marks:
        note = ""  # the rule says more
    return lambda cell: join_artists(cell, rule), [note, rule.note]


def add_names(artists: pd.Series, others: pd.Series) -> pd.Series:
    """Put further names, such as Skiley's secondary artists, behind the artist of each song."""
    both = [
        ";".join(dict.fromkeys([*artist.split(";"), *other.split(";")]))
        if isinstance(artist, str) and isinstance(other, str)
        else artist
        for artist, other in zip(artists, others, strict=True)
    ]
    return pd.Series(both, dtype="str")
