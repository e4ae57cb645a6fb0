"""Which column of a public file holds what: names, aliases, leaks, and what a user says."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from popularity.data.aliases import LEAK_NAMES, NAMES, SPOKEN, TRANSLATED
from popularity.data.duration_names import names_duration
from popularity.data.numbers import plain_letters
from popularity.data.schema import CANONICAL
from popularity.errors import InputError

# What public tools put before a name: Skiley's "trackFeatureEnergy", an API answer's "track.name", "audio_features.key"
_PREFIXES = ("spotifytrack", "trackfeature", "audiofeatures", "audiofeature", "trackaudiofeatures", "spotify", "track")
# "Energy (0-1)", "Popularity [out of 100]", "Lautstärke (dB)"
_SCALE = re.compile(r"(?P<name>.*\S)\s*[(\[](?:[^)\]]*[\d%][^)\]]*|dB|dBFS|LUFS|BPM)[)\]]", re.IGNORECASE)
# After a join: "id_x" and "id_y", "id_left" and "id_right"; a second "id" is "id.1" to pandas and "id (2)" to us
_COPY = re.compile(
    r"(?P<name>.+?)(?:(?P<xy>[_. ][xy])|(?P<sides>[_. ](?:left|right))|(?P<number>\.[1-9]| \([2-9]\)))", re.IGNORECASE
)
_BEHIND_PREFIX, _AS_DURATION, _COPIED, _OTHER_WORD = 100, 500, 1000, 2000  # ranks of what is no alias

NEVER = 2  # level of an `Objection`: better no column than this one


@dataclass(frozen=True)
class Objection:
    """What speaks against the cells of a column whose name fits.

    Attributes:
        level: 0 nothing, 1 any other column is better, `NEVER`.
        why: in words.
        instead: the canonical name that the cells fit, "" where it is the one that the name means.
    """

    level: int = 0
    why: str = ""
    instead: str = ""


def normalise(name: str) -> str:
    """Column name without case, byte-order mark, punctuation, accents and blanks.

    >>> normalise("Track Name") == normalise("track_name") == normalise("\\ufefftrackname")
    True
    """
    letters = plain_letters(unicodedata.normalize("NFKC", name))
    return unicodedata.normalize("NFC", "".join(character for character in letters if character.isalnum()))


def copied_name(column: str) -> tuple[str, str]:
    """The name of which a column is a copy after a join, and what tells the copies apart: sides, or a number.

    >>> copied_name("id_x"), copied_name("id (2)"), copied_name("id")
    (('id', 'xy'), ('id', 'number'), ('id', ''))
    """
    match = _COPY.fullmatch(column)
    return (match["name"], match.lastgroup or "") if match else (column, "")


def _with_translations() -> dict[str, tuple[str, ...]]:
    aliases = {}
    for canonical, names in NAMES.items():
        spoken = f"{TRANSLATED.get(canonical, '')}|{SPOKEN.get(canonical, '')}".split("|")
        aliases[canonical] = tuple(dict.fromkeys((*names.split(), *(normalise(name) for name in spoken if name))))
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


@dataclass(frozen=True, order=True)
class _Candidate:
    """A column whose name fits, the best one first: its cells, its name and its place decide."""

    level: int
    rank: int
    form: int
    position: int
    column: str
    why: str


def match_columns(
    header: Sequence[str],
    columns: Mapping[str, str] | None = None,
    objection: Callable[[str, str], Objection] | None = None,
) -> ColumnMatch:
    """Find the canonical columns in a header.

    What the user says wins. Of the other candidates, one whose cells fit wins over one whose cells do not; then the
    rank of the alias; then the name as we write it over other spellings.

    Args:
        header: column names as written in the file.
        columns: canonical name -> column of the file, as the user says.
        objection: (canonical name, column of the file) -> what speaks against its cells; asked where the name fits.

    Raises:
        InputError: ``columns`` names something that is neither a canonical column nor one of the file.
    """
    asked = _check_asked(header, columns or {})
    candidates: dict[str, list[_Candidate]] = {canonical: [] for canonical in CANONICAL}
    leaks: dict[str, str] = {}
    ignored: list[tuple[str, str]] = []
    for position, column in enumerate(header):
        if column in asked.values():
            continue
        if name := named(column):
            canonical, rank, form = name
            against = objection(canonical, column) if objection else Objection()
            if objection and against.instead:
                canonical, rank = against.instead, _OTHER_WORD
                against = objection(canonical, column)
            candidates[canonical].append(_Candidate(against.level, rank, form, position, column, against.why))
        elif (leak := _LEAK_OF.get(normalise(column))) is not None:
            leaks[column] = leak
        else:
            ignored.append((column, "not a column that the model uses"))
    mapped: dict[str, str] = {}
    for canonical in CANONICAL:
        ranked = sorted(candidates[canonical])
        if canonical in asked:
            mapped[canonical] = asked[canonical]
        else:
            ignored += [(c.column, f"not {canonical}: {c.why}") for c in ranked if c.level == NEVER]
            ranked = [candidate for candidate in ranked if candidate.level < NEVER]
            if ranked:
                mapped[canonical] = ranked.pop(0).column
        ignored += [(c.column, f"{canonical} is read from {mapped[canonical]!r}") for c in ranked]
    return ColumnMatch(mapped, leaks, tuple(ignored))


def named(column: str) -> tuple[str, int, int] | None:
    """What the name of a column means, None where it says nothing.

    Returns:
        Canonical name, rank of its alias, and form: 0 as we write it, 1 in another spelling, 2 with a scale or a unit.
    """
    name = normalise(column)
    if name in _CANONICAL_OF:
        return *_CANONICAL_OF[name], int(column not in ALIASES)
    if name in _LEAK_OF:
        return None
    copied, kind = copied_name(column)
    if kind and (found := named(copied)):
        return found[0], _COPIED, 0
    if (scaled := _SCALE.fullmatch(column)) and (found := named(scaled["name"])):
        return found[0], found[1], 2
    if names_duration(column):
        return "duration_ms", _AS_DURATION, 1
    for prefix in _PREFIXES:
        rest = name.removeprefix(prefix)
        if rest != name and rest in _CANONICAL_OF:
            canonical, rank = _CANONICAL_OF[rest]
            return canonical, _BEHIND_PREFIX + rank, 1
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
