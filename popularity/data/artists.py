"""Cells that hold several names: artists and genres, brought to names joined by ``;``.

Names come joined by ``;``, as a list written by Python, R, JSON or numpy, as dicts of Spotify's interface, or joined by
commas, which may be part of a name too. What commas mean, the file decides, see `decide_names`.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_DTYPE = r"(?:,\s*dtype=(?:\w+|'[^']*'))?"  # numpy's
_LIST = re.compile(  # [u'A'] is Python 2's, [np.str_('A')] numpy's
    rf"(?:list|c|array|tuple|set|frozenset)?\(?[\[({{]?\s*"
    rf"(?:(?:(?:[ub]|np\.str_\()?(?:{_QUOTED.pattern})\)?|None|nan|null)[\s,;]*)*[\])}}]?{_DTYPE}\)?"
)
# A list that was put together by hand: ['Guns N' Roses', 'Ada North']
_LOOSE_LIST = re.compile(
    rf"(?:list|c|array|tuple|set|frozenset)?\(?[\[({{]\s*[ub]?(?P<quote>['\"])(?P<names>.*)(?P=quote)[\s,]*[\])}}]{_DTYPE}\)?",
    re.DOTALL,
)
_OPENS = re.compile(r"(?:list|c|array|tuple|set|frozenset)\(|[\[({]")
_DICTS = re.compile(r"""\s*\[?\s*\{\s*(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*:|\s*\[?\s*\{\s*\}""")
_NESTED = re.compile(r"""\s*(?:\[\s*\[|"\s*[\[{])""")
_NAME_KEYS = ("name", "artist_name", "artist")
_NAME = re.compile(rf"""['"](?:{"|".join(_NAME_KEYS)})['"]\s*:\s*({_QUOTED.pattern})""", re.IGNORECASE)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))")
_FEATURED = re.compile(r"\s+[(\[]?(?:feat|ft|featuring)\b\.?\s+", re.IGNORECASE)
_MARKS = ("|", "\n", " / ", "•", "·", "、", "，", "；")  # and not &, x or +, which stand in names of duos
_COMMA = re.compile(r"(?<!\\),")
_BARE_COMMA = re.compile(r"(?<![\\\d]),(?=\S)|(?<=\d),(?=[^\s\d])")  # and not the one of 10,000 Maniacs


def holds_dicts(cell: str) -> bool:
    """Whether a cell holds dicts as Spotify's interface gives artists, ``[{'name': 'A', ...}]``."""
    return _DICTS.match(cell) is not None


def name_in_dict(cell: str) -> str:
    """The name in the dict that Spotify's interface gives for an album; "" for a dict that cannot be read."""
    found = _parsed(cell)
    return str(found.get("name") or "") if isinstance(found, dict) else ""


def _from_list(cell: str) -> list[str] | None:
    """Names in a written list or in dicts, none in dicts without names; None for a plain text, such as [spunge]."""
    if _NESTED.match(cell):
        return _from_parsed(_parsed(cell))
    if holds_dicts(cell):
        if cell.count("[") < 2:  # a dict may hold lists of its own, of images or genres
            return [_unquote(name) for name in _NAME.findall(cell)]
        found = _parsed(cell)
        return [_unquote(name) for name in _NAME.findall(cell)[:1]] if found is None else _from_parsed(found)
    if (_OPENS.match(cell) or cell.startswith('"')) and _LIST.fullmatch(cell):
        names = [_unquote(name) for name in _QUOTED.findall(re.sub(rf"\]{_DTYPE}\)$", "]", cell))]
        return names if cell[0] != '"' or len(names) > 1 else None  # one name in quotes may be called so
    if loose := _LOOSE_LIST.fullmatch(cell):
        return _split_quoted(loose["names"], loose["quote"])
    return None


def _in_quotes(cell: str) -> bool:
    return cell[0] + cell[-1] in ('""', "''")


def _split_quoted(names: str, quote: str) -> list[str]:
    """The names between quotes, the first and the last one taken off already; a quote may stand in a name."""
    return [_unquote(f"{quote}{name}{quote}") for name in re.split(rf"{quote}[\s,;]+[ub]?{quote}", names)]


def _parsed(cell: str) -> Any:
    """What JSON or Python reads in a cell; None where neither can."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def _from_parsed(found: Any) -> list[str] | None:
    """The names in lists of texts or dicts, lists within lists included; None for a plain text."""
    if isinstance(found, str):  # JSON in JSON
        return _from_list(found)
    if isinstance(found, dict):
        names = [value for key, value in found.items() if str(key).lower() in _NAME_KEYS and isinstance(value, str)]
        return names[:1]
    if isinstance(found, list | tuple):
        return [name for item in found for name in ([item] if isinstance(item, str) else _from_parsed(item) or [])]
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
class NameRule:
    """How the plain cells of an artist column are read.

    Attributes:
        form: ``""`` a comma is part of a name; ``"any"`` every comma parts names, but one written ``\\,``; ``"bare"``
            a comma parts names where no blank follows; ``"known"`` commas part names in cells of which a piece stands
            alone in other cells; ``"list"`` brackets hold names parted by commas; ``"quoted"`` every name is in quotes.
        marks: what parts names like ``;`` does, such as ``|``.
        featured: whether ``feat.`` parts names.
        note: the decision in words, "" where there is nothing to decide.
        whole: cells with commas that are one name, for ``known``.
        joined: cells with commas that are several names, for ``known``.
    """

    form: str = ""
    marks: tuple[str, ...] = ()
    featured: bool = False
    note: str = ""
    whole: frozenset[str] = field(default=frozenset(), repr=False)
    joined: frozenset[str] = field(default=frozenset(), repr=False)

    def split(self, cell: str) -> list[str]:
        """Names in one plain cell."""
        if self.form == "list":
            return [name.strip(' "') for name in cell[1:-1].split(",")]
        if self.form == "quoted":
            return _split_quoted(cell[1:-1], cell[0]) if _in_quotes(cell) else [cell]
        cell = _part(cell, self.marks)
        names = self._at_commas(cell) if ";" not in cell else cell.split(";")
        return [part for name in names for part in _guests(name)] if self.featured else names

    def _at_commas(self, cell: str) -> list[str]:
        if self.form == "any":
            return [name.replace("\\,", ",") for name in _COMMA.split(cell)]
        if self.form == "bare":
            return _BARE_COMMA.split(cell)
        if self.form == "known" and cell in self.joined:
            return _keep_whole(_pieces(cell), self.whole)
        return [cell]


_PLAIN = NameRule()
_ALL = 0.9  # of the cells, for brackets to be lists: a band may have them in its name


def decide_names(cells: Sequence[str], *, exportify: bool, quoted_header: bool) -> NameRule:
    """Decide how the plain cells of a column of artists are read.

    Exportify has had three forms: names joined by ``, `` with ``\\,`` inside a name (and its header in quotes), by a
    comma alone, and today by ``;`` with commas inside names. Elsewhere the file tells: where at least a third of the
    cells with commas have a piece that is the artist of other songs, commas join names; the same for ``|``, `` / ``
    and the like. ``feat.`` parts names where it is a habit of the file, as in charts, and not a slip in one cell of a
    hundred.

    Args:
        cells: the distinct cells of the column.
        exportify: whether the header is Exportify's.
        quoted_header: whether the names in the header stand in quotes.
    """
    most = max(2, _ALL * len(cells))
    plain = [cell for cell in cells if _from_list(cell) is None]
    if plain and sum(cell[0] + cell[-1] in ("[]", "{}") for cell in cells) >= most:
        return NameRule("list", note="split at ',' in brackets")
    if plain and sum(_in_quotes(cell) for cell in cells) >= most:
        return NameRule("quoted", note="quotes taken off the names")
    marks = _decide_marks(plain)
    cells = [_part(cell, marks) for cell in plain]
    commas = [cell for cell in cells if "," in cell]
    featured = 100 * sum(_FEATURED.search(cell) is not None for cell in cells) >= max(1, len(cells))
    rule = _decide_commas(commas, cells, exportify, quoted_header) if commas else NameRule()
    notes = [f"split at {mark!r}" for mark in marks] + ["split at 'feat.'"] * featured + [rule.note]
    return replace(rule, marks=marks, featured=featured, note=", ".join(filter(None, notes)))


def _part(cell: str, marks: Sequence[str]) -> str:
    for mark in marks:
        cell = cell.replace(mark, ";")
    return cell


def _decide_marks(cells: Sequence[str]) -> tuple[str, ...]:
    """What else parts names: a third of the cells with it have a piece that is the artist of other songs."""
    found = []
    for mark in _MARKS:
        several = [[piece.strip() for piece in cell.split(mark)] for cell in cells if mark in cell]
        if several:
            alone = {cell for cell in cells if mark not in cell}
            if 3 * sum(any(piece in alone for piece in pieces) for pieces in several) >= len(several):
                found.append(mark)
    return tuple(found)


def _decide_commas(commas: Sequence[str], cells: Sequence[str], exportify: bool, quoted_header: bool) -> NameRule:
    if any("\\," in cell for cell in commas) or (
        exportify and quoted_header and not any(";" in cell for cell in cells)
    ):
        return NameRule("any", note="split at ','")
    if any(";" in cell for cell in cells):
        return NameRule(note="a comma is part of a name, for ';' parts names here")
    if exportify and any(_BARE_COMMA.search(cell) for cell in commas):
        return NameRule("bare", note="split at ',' where no blank follows")
    joined = _joined(commas, cells)
    if 3 * len(joined) < len(commas):
        return NameRule(note=f"cells with commas taken as one name: {len(commas):,}, such as {commas[0][:60]!r}")
    note = f"split at ',' where a part is the artist of other songs, such as {min(joined)[:60]!r}"
    return NameRule("known", note=note, whole=frozenset(commas) - joined, joined=joined)


def _joined(commas: Sequence[str], cells: Sequence[str]) -> frozenset[str]:
    """The cells with commas that are several names: a piece of them stands alone, or begins several cells."""
    alone = {cell for cell in cells if "," not in cell}
    first = Counter(first for first, _ in {tuple(_pieces(cell)[:2]) for cell in commas})
    return frozenset(
        cell for cell in commas if first[_pieces(cell)[0]] > 1 or any(piece in alone for piece in _pieces(cell))
    )


def rule_for(rule: NameRule, cells: Sequence[str]) -> NameRule:
    """A rule that an earlier part of the file decided, for further cells: which of them are several names."""
    if rule.form != "known":
        return rule
    cells = [_part(cell, rule.marks) for cell in cells if _from_list(cell) is None]
    commas = [cell for cell in cells if "," in cell and cell not in rule.whole]
    joined = rule.joined | _joined(commas, cells)
    return replace(rule, whole=rule.whole | (frozenset(commas) - joined), joined=joined)


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


def join_artists(cell: str, rule: NameRule = _PLAIN) -> str:
    """Bring the artists in one cell to names joined by ";", in their order.

    Args:
        cell: ``A;B``, ``['A', 'B']``, ``[{'name': 'A'}]``, ``A feat. B`` or one name.
        rule: what commas and ``feat.`` mean in this file.

    >>> join_artists("['Dan + Shay', \\"Destiny's Child\\"]")
    "Dan + Shay;Destiny's Child"
    >>> join_artists("Tyler, The Creator")
    'Tyler, The Creator'
    """
    listed = _from_list(cell)
    names = rule.split(cell) if listed is None else [part for name in listed for part in name.split(";")]
    return ";".join(filter(None, (name.strip() for name in names)))


def _guests(name: str) -> list[str]:
    """The name and those that it features, the bracket around them taken off."""
    main, *guests = _FEATURED.split(name)
    return [main, *(guest.rstrip(")]") if "(" in name or "[" in name else guest for guest in guests)]


def join_genres(cell: str) -> str:
    """Bring a list of genres to names joined by ";"; unlike an artist, no genre has a comma in its name."""
    names = _from_list(cell)
    if names is None:
        names = re.split(r"[;,|]", cell)
    return ";".join(filter(None, (name.strip() for name in names)))
