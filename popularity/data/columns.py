"""Which column of a public file holds what: names, aliases, leaks, and what a user says."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from popularity.data.aliases import LEAK_NAMES, NAMES, TRANSLATED
from popularity.data.schema import CANONICAL
from popularity.errors import InputError

# What public tools put before a name: Skiley's "trackFeatureEnergy", an API answer's "track.name", "audio_features.key"
_PREFIXES = ("spotifytrack", "trackfeature", "audiofeatures", "audiofeature", "trackaudiofeatures", "spotify", "track")
_SCALE = re.compile(r"(?P<name>.*[^\s])\s*[(\[][^)\]]*[\d%][^)\]]*[)\]]")  # "Energy (0-1)", "Popularity [out of 100]"
_MERGED = re.compile(r"(?P<name>.+)[_. ](?P<side>[xy])", re.IGNORECASE)  # pandas and R after a join


NEVER = 2  # level of an `Objection`: better no column than this one


@dataclass(frozen=True)
class Objection:
    """What speaks against the cells of a column whose name fits.

    Attributes:
        level: 0 nothing, 1 any other column is better, `NEVER`.
        why: in words.
    """

    level: int = 0
    why: str = ""


def normalise(name: str) -> str:
    """Column name without case, byte-order mark, punctuation, accents written apart, and blanks.

    >>> normalise("Track Name") == normalise("track_name") == normalise("\\ufefftrackname")
    True
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    return "".join(character for character in text if character.isalnum())


def _with_translations() -> dict[str, tuple[str, ...]]:
    aliases = {}
    for canonical, names in NAMES.items():
        translated = (normalise(name) for name in TRANSLATED.get(canonical, "").split("|") if name)
        aliases[canonical] = tuple(dict.fromkeys((*names.split(), *translated)))
    return aliases


ALIASES: dict[str, tuple[str, ...]] = _with_translations()
LEAKS: dict[str, tuple[str, ...]] = {
    leak: ("",) * (leak == "row_number") + tuple(names.split()) for leak, names in LEAK_NAMES.items()
}
_CANONICAL_OF = {alias: (canonical, rank) for canonical, names in ALIASES.items() for rank, alias in enumerate(names)}
_LEAK_OF = {alias: leak for leak, names in LEAKS.items() for alias in names}


@dataclass(frozen=True)
class ColumnMatch:
    """What each column of a file was taken for.

    Attributes:
        mapped: canonical name -> column of the file.
        leaks: column of the file -> the kind of leak it is.
        ignored: (column of the file, why it is not used).
    """

    mapped: dict[str, str]
    leaks: dict[str, str]
    ignored: tuple[tuple[str, str], ...]


def match_columns(
    header: Sequence[str],
    columns: Mapping[str, str] | None = None,
    objection: Callable[[str, str], Objection] | None = None,
) -> ColumnMatch:
    """Find the canonical columns in a header.

    What the user says wins. Of the other candidates, one whose cells fit wins over one whose cells do not; then the
    exact name; then the rank of the alias.

    Args:
        header: column names as written in the file.
        columns: canonical name -> column of the file, as the user says.
        objection: (canonical name, column of the file) -> what speaks against its cells; asked where the name fits.

    Raises:
        InputError: ``columns`` names something that is neither a canonical column nor one of the file.
    """
    asked = _check_asked(header, columns or {})
    candidates: dict[str, list[tuple[int, int, str]]] = {}
    leaks: dict[str, str] = {}
    ignored: list[tuple[str, str]] = []
    for position, column in enumerate(header):
        if column in asked.values():
            continue
        found = _named(column)
        if found:
            candidates.setdefault(found[0], []).append((found[1], position, column))
        elif (name := normalise(column)) in _LEAK_OF:
            leaks[column] = _LEAK_OF[name]
        else:
            ignored.append((column, "not a column that the model uses"))
    mapped: dict[str, str] = {}
    for canonical in CANONICAL:
        ranked = sorted(candidates.get(canonical, []))
        if canonical in asked:
            mapped[canonical] = asked[canonical]
        else:
            against = {c: objection(canonical, c) if objection else Objection() for _, _, c in ranked}
            ranked.sort(key=lambda rank: against[rank[2]].level)
            unfit = [column for _, _, column in ranked if against[column].level == NEVER]
            ignored += [(column, f"not {canonical}: {against[column].why}") for column in unfit]
            ranked = [rank for rank in ranked if rank[2] not in unfit]
            if ranked:
                mapped[canonical] = ranked.pop(0)[2]
        ignored += [(column, f"{canonical} is read from {mapped[canonical]!r}") for _, _, column in ranked]
    return ColumnMatch(mapped, leaks, tuple(ignored))


def _named(column: str) -> tuple[str, int] | None:
    """Canonical name of a column and the rank of its name (-1 for the exact one), None where the name says nothing."""
    if column in ALIASES:
        return column, -1
    name = normalise(column)
    if name in _CANONICAL_OF:
        return _CANONICAL_OF[name]
    if name in _LEAK_OF:
        return None
    if (merged := _MERGED.fullmatch(column)) and (found := _named(merged["name"])):
        return found[0], 1000 + (merged["side"].casefold() == "y")
    if (scaled := _SCALE.fullmatch(column)) and (found := _named(scaled["name"])):
        return found[0], 2000 + max(found[1], 0)
    for prefix in _PREFIXES:
        rest = name.removeprefix(prefix)
        if rest != name and rest in _CANONICAL_OF:
            canonical, rank = _CANONICAL_OF[rest]
            return canonical, 100 + rank
    return None


def _check_asked(header: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """What the user says, with the file's own spelling of each column."""
    asked: dict[str, str] = {}
    for canonical, column in columns.items():
        if canonical not in CANONICAL:
            near = get_close_matches(canonical, CANONICAL, 1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise InputError(f"columns: expected one of {', '.join(CANONICAL)}, got {canonical!r}{hint}")
        alike = [name for name in header if name == column] or [
            name for name in header if normalise(name) == normalise(column)
        ]
        if not alike:
            near = get_close_matches(column, header, 1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise InputError(f"columns: {canonical}: expected a column of the file, got {column!r}{hint}")
        if alike[0] in asked.values():
            raise InputError(f"columns: expected each column of the file once, got {alike[0]!r} twice")
        asked[canonical] = alike[0]
    return asked


def is_exportify(header: Sequence[str]) -> bool:
    """Whether a header is one that Exportify writes, in any of its languages."""
    names = {normalise(column) for column in header}
    written = {normalise(name) for name in ("Artist Name(s)", *TRANSLATED["artist"].split("|"))}
    ids = {"trackid", "trackuri", "spotifyuri", "spotifyid"}
    ids |= {normalise(name) for name in TRANSLATED["track_id"].split("|")}
    english = any(re.fullmatch(r"artist name\(s\)", column.strip("\ufeff "), re.I) for column in header)
    return bool(names & ids) and (english or bool(names & (written - {"artistnames"})))
