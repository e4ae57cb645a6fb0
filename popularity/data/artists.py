"""Cells that hold several names: artists and genres, brought to names joined by ``;``.

Names come joined by ``;``, as a list written by Python, R, JSON or numpy, as dicts of Spotify's interface, or joined by
commas, which may be part of a name too. Whether commas part names is decided by the file, see `CommaRule`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_LIST = re.compile(
    rf"(?:list|c|array|tuple|set|frozenset)?\(?[\[({{]?\s*(?:(?:{_QUOTED.pattern}|None|nan|null)[\s,;]*)*[\])}}]?"
    rf"(?:,\s*dtype=\w+)?\)?"
)
_OPENS = re.compile(r"(?:list|c|array|tuple|set|frozenset)\(|[\[({]")
_DICTS = re.compile(r"\s*\[?\s*\{\s*['\"]")
_NAME = re.compile(rf"""['"](?:name|artist_name|artist)['"]\s*:\s*({_QUOTED.pattern})""")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))")
_FEATURED = re.compile(r"\s+[(\[]?(?:feat|ft|featuring)\b\.?\s+", re.IGNORECASE)
_COMMA = re.compile(r"(?<!\\),")
_BARE_COMMA = re.compile(r"(?<![\\\d]),(?=\S)|(?<=\d),(?=[^\s\d])")  # and not the one of 10,000 Maniacs


def holds_dicts(cell: str) -> bool:
    """Whether a cell holds dicts as Spotify's interface gives artists, ``[{'name': 'A', ...}]``."""
    return _DICTS.match(cell) is not None


def _from_list(cell: str) -> list[str] | None:
    """Names in a written list or in dicts; None for a plain text, such as the band [spunge]."""
    if holds_dicts(cell) and (names := _NAME.findall(cell)):
        return [_unquote(name) for name in names]
    if _OPENS.match(cell) and _LIST.fullmatch(cell):
        return [_unquote(name) for name in _QUOTED.findall(cell)]
    return None


def _unquote(quoted: str) -> str:
    """Take the quotes off and undo the escapes of Python and JSON."""
    text = quoted[1:-1]
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(lambda m: chr(int(m[1] or m[2], 16)) if m[1] or m[2] else m[3], text)
    # JSON writes a character beyond the first 65,536 as two
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass(frozen=True)
class CommaRule:
    """How the commas of an artist column are read.

    Attributes:
        form: ``""`` a comma is part of a name; ``"any"`` every comma parts names, but one written ``\\,``; ``"bare"``
            a comma parts names where no blank follows; ``"known"`` commas part names in cells of which a piece stands
            alone in other cells.
        note: the decision in words, "" where there is nothing to decide.
        whole: cells with commas that are one name, for ``known``.
        joined: cells with commas that are several names, for ``known``.
    """

    form: str = ""
    note: str = ""
    whole: frozenset[str] = field(default=frozenset(), repr=False)
    joined: frozenset[str] = field(default=frozenset(), repr=False)

    def split(self, cell: str) -> list[str]:
        """Names in one plain cell."""
        if self.form == "any":
            return [name.replace("\\,", ",") for name in _COMMA.split(cell)]
        if self.form == "bare":
            return _BARE_COMMA.split(cell)
        if self.form == "known" and cell in self.joined:
            return _keep_whole(_pieces(cell), self.whole)
        return [cell]


def decide_commas(cells: Sequence[str], *, exportify: bool, quoted_header: bool) -> CommaRule:
    """Decide what the commas of a column of artists mean.

    Exportify has had three forms: names joined by ``, `` with ``\\,`` inside a name (and its header in quotes), by a
    comma alone, and today by ``;`` with commas inside names. Elsewhere the file tells: where at least a third of the
    cells with commas have a piece that is the artist of other songs, commas join names.

    Args:
        cells: the distinct plain cells of the column.
        exportify: whether the header is Exportify's.
        quoted_header: whether the names in the header stand in quotes.
    """
    commas = [cell for cell in cells if "," in cell]
    if not commas:
        return CommaRule()
    if any("\\," in cell for cell in commas):
        return CommaRule("any", "split at ','")
    if any(";" in cell for cell in cells):
        return CommaRule("", "a comma is part of a name, for ';' parts names here")
    if exportify and quoted_header:
        return CommaRule("any", "split at ','")
    if exportify and any(_BARE_COMMA.search(cell) for cell in commas):
        return CommaRule("bare", "split at ',' where no blank follows")
    alone = {cell for cell in cells if "," not in cell}
    first = Counter(first for first, _ in {tuple(_pieces(cell)[:2]) for cell in commas})
    joined = frozenset(
        cell for cell in commas if first[_pieces(cell)[0]] > 1 or any(piece in alone for piece in _pieces(cell))
    )
    if 3 * len(joined) < len(commas):
        return CommaRule("", f"{len(commas):,} cells with commas are taken as one name, such as {commas[0][:60]!r}")
    whole = frozenset(cell for cell in commas if cell not in joined)
    note = f"split at ',' in cells of which a part is the artist of other songs, such as {min(joined)[:60]!r}"
    return CommaRule("known", note, whole, joined)


def _pieces(cell: str) -> list[str]:
    pieces = [piece.strip() for piece in cell.split(",")]
    return pieces if len(pieces) > 1 else [*pieces, ""]


def _keep_whole(pieces: list[str], whole: frozenset[str]) -> list[str]:
    """Join the pieces again that spell a name with commas: "Tyler", "The Creator"."""
    names = []
    while pieces:
        end = next((n for n in range(len(pieces), 1, -1) if ", ".join(pieces[:n]) in whole), 1)
        names.append(", ".join(pieces[:end]))
        pieces = pieces[end:]
    return names


def join_artists(cell: str, commas: CommaRule = CommaRule()) -> str:
    """Bring the artists in one cell to names joined by ";", in their order and without repeats.

    Args:
        cell: ``A;B``, ``['A', 'B']``, ``[{'name': 'A'}]``, ``A feat. B`` or one name.
        commas: what commas mean in this file.

    >>> join_artists("['Dan + Shay', \\"Destiny's Child\\"]")
    "Dan + Shay;Destiny's Child"
    >>> join_artists("Tyler, The Creator")
    'Tyler, The Creator'
    """
    names = _from_list(cell)
    if names is None:
        parts = cell.split(";")
        names = [name for part in parts for name in commas.split(part)] if len(parts) == 1 else parts
        names = [part.rstrip(")]") if mark else part for name in names for mark, part in _featured(name)]
    else:
        names = [part for name in names for part in name.split(";")]
    return ";".join(dict.fromkeys(name for name in (name.strip() for name in names) if name))


def _featured(name: str) -> list[tuple[bool, str]]:
    """The name and those featured; True for a part in a bracket."""
    parts = _FEATURED.split(name)
    opened = len(parts) > 1 and ("(" in name or "[" in name)
    return [(opened and position > 0, part) for position, part in enumerate(parts)]


def join_genres(cell: str) -> str:
    """Bring a list of genres to names joined by ";"; unlike an artist, no genre has a comma in its name."""
    names = _from_list(cell)
    if names is None:
        names = re.split(r"[;,|]", cell)
    return ";".join(dict.fromkeys(name for name in (name.strip() for name in names) if name))
