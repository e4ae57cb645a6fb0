"""One song from text: ``danceability=.8,energy=.7,genre=pop``, read by the rules that files are read by."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from popularity.data.columns import ALIASES, match_columns, named, normalise
from popularity.data.convert import canonical_table, convert
from popularity.data.numbers import BLANK, CODES
from popularity.data.raw import RawTable
from popularity.data.schema import AUDIO_UNIT, CANONICAL, RANGES
from popularity.errors import InputError

_FLAG = "--song"
_NAME = re.compile(r"(?:^|,)\s*([^=,]+?)\s*=")  # a comma inside a value, as in genre=pop, rock, does not begin a pair
_MAY_BE_NONE = ("key", "time_signature")  # Spotify writes -1 and 0 where it heard none


def song_table(song: str, *, artist: str | None, title: str | None) -> pd.DataFrame:
    """Read one song as a canonical song table.

    Names may be any that a file may use (``bpm``, ``Track Name``), and values may have any unit that a file may have
    (``3:31``, ``71%``, ``C#``). Columns that are not given are missing.

    Args:
        song: ``name=value`` pairs separated by commas; may be empty if there is an artist or a title.
        artist: names, separated by ``;``.
        title: of the song.

    Returns:
        One row with the columns `popularity.data.schema.CANONICAL`.

    Raises:
        InputError: an unknown name, with a similar one that is known; a name given twice; an impossible value; nothing.
    """
    cells = _pairs(song)
    header = list(cells)
    mapped = match_columns(header).mapped
    for name in header:
        if name not in mapped.values():
            raise InputError(_unknown(name, mapped))
    if "popularity" in mapped:
        raise InputError(f"{_FLAG}: expected what is known of the song, got its popularity, which is predicted")
    for canonical, value in (("artist", artist), ("title", title)):
        if value is not None:
            if canonical in mapped:
                raise InputError(f"--{canonical}: given in {_FLAG} too, as {mapped[canonical]!r}")
            cells[canonical] = value
    if not any(map(str.strip, cells.values())):
        raise InputError(f"{_FLAG}: expected something to predict from, such as danceability=.8,energy=.7, got nothing")
    frame = pd.DataFrame({name: [value] for name, value in cells.items()}, dtype="str")
    match = match_columns(list(frame))
    converted = convert(RawTable(Path(_FLAG), frame, "text"), match)
    table = canonical_table(converted, 1)
    for canonical, name in match.mapped.items():
        _check(canonical, cells[name], table[canonical].iloc[0])
    _refuse_mixed_shares(cells, match.mapped)
    return table


def _pairs(song: str) -> dict[str, str]:
    """The values by the names they are given under."""
    found = list(_NAME.finditer(song))
    outside = song[: found[0].start()] if found else song
    if outside.strip(" ,"):
        raise InputError(f"{_FLAG}: expected name=value pairs such as danceability=.8,energy=.7, got {outside[:60]!r}")
    pairs: dict[str, str] = {}
    for pair, following in zip(found, [*found, None][1:], strict=True):
        if pair[1] in pairs:
            raise InputError(f"{_FLAG}: expected each name once, got {pair[1]!r} twice")
        pairs[pair[1]] = song[pair.end() : following.start() if following else None].strip(" ,")
    return pairs


def _unknown(name: str, mapped: dict[str, str]) -> str:
    """The message on a name that is no column, or a second name of one."""
    if found := named(name):
        return f"{_FLAG}: expected each column once, got {name!r} and {mapped[found[0]]!r} for {found[0]}"
    words = {alias: canonical for canonical, aliases in ALIASES.items() for alias in aliases}
    near = next(iter(get_close_matches(normalise(name), words, 1)), None)
    hint = f"; did you mean {words[near]}?" if near else f"; known are {', '.join(CANONICAL[:-1])}"
    return f"{_FLAG}: expected columns of a song, got {name!r}{hint}"


def _check(canonical: str, cell: str, value: object) -> None:
    """Refuse a cell that holds something and was read as nothing, or as something impossible."""
    if canonical not in RANGES and canonical != "release_date":
        return
    expected, check = RANGES.get(canonical, ("a date such as 2019, 2019-06 or 2019-06-14", None))
    if pd.isna(value):
        possible = cell.lower() in (*BLANK, *CODES) or (canonical in _MAY_BE_NONE and cell in ("-1", "0"))
    elif canonical == "key" and cell == "12":  # of a whole column that begins with 1 it would be a B
        possible = False
    else:
        possible = check is None or bool(check(pd.DataFrame({canonical: [value]}), canonical).check_passed)
    if not possible:
        raise InputError(f"{_FLAG}: {canonical}: expected {expected}, got {cell!r}")


def _refuse_mixed_shares(cells: dict[str, str], mapped: dict[str, str]) -> None:
    """Refuse 1.8 beside .7: alone it would be 1.8 per cent, beside a share it is a slip."""
    given = {name: pd.to_numeric(cells[mapped[name]], errors="coerce") for name in AUDIO_UNIT if name in mapped}
    beyond = [name for name, value in given.items() if value > 1 and "%" not in mapped[name]]
    if beyond and any(0 < value < 1 for value in given.values()):
        raise InputError(f"{_FLAG}: {beyond[0]}: expected a number from 0 to 1, got {cells[mapped[beyond[0]]]!r}")
