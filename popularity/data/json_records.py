"""The songs in JSON: one record each, however the file wraps them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from popularity.data.columns import match_columns
from popularity.data.schema import AUDIO
from popularity.errors import InputError, one_line

Record = dict[str, Any]

FEWEST_COLUMNS = 5  # keys that are columns; fewer are an envelope
_LOOKED_AT = 500  # names in a record; a whole file may be one record
_EXAMPLES = 1000  # records that tell what all of them hold
_TRIED = 20  # objects in a record that may be part of the song
_AUDIO = frozenset(AUDIO)
_OF_A_SONG = _AUDIO | {"album"}  # neither an album nor a playlist has them
_LINE_BREAK = re.compile(r"\r\n|[\r\n]")  # `splitlines` also splits at what may stand in a title
_BETWEEN = re.compile(r"[\s,]*")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def json_values(path: Path, text: bytes, first_line: int = 1) -> list[Any]:
    """Read one JSON value or several: JSON lines, or values over several lines, with commas between them or not.

    Args:
        path: for messages.
        text: UTF-8.
        first_line: of the text in the file.

    Raises:
        InputError: the JSON is cut off or damaged.
        RecursionError: the first value is nested too deeply.
    """
    words = text.decode("utf-8")
    decoder = json.JSONDecoder(object_hook=_plain_value if '"$' in words else None)
    found: list[Any] = []
    start = _after_blanks(words, 0)
    while start < len(words):
        try:
            value, end = decoder.raw_decode(words, start)
        except (ValueError, RecursionError) as error:  # no JSON, or a number of more than 4,300 digits
            if found:
                line = first_line + len(_LINE_BREAK.findall(words, 0, start))
                begin = _LINE_BREAK.split(words[start : start + 40])[0]
                raise InputError(f"{path}: line {line}: expected a JSON record, got {begin!r}") from error
            if isinstance(error, RecursionError):
                raise
            raise InputError(f"{path}: the JSON is cut off or damaged ({one_line(str(error), 200)})") from error
        found.append(value)
        start = _after_blanks(words, end)
    if _SURROGATE.search(text):  # half of a character, such as of an emoji that was cut in two, is a question mark
        found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    return found


def _after_blanks(words: str, start: int) -> int:
    found = _BETWEEN.match(words, start)
    return found.end() if found else start


def _plain_value(value: Record) -> Any:
    """Take a number, date or id out of the object in which MongoDB writes it, such as ``{"$numberDouble": "0.5"}``."""
    if len(value) == 1 and next(iter(value)).startswith("$"):
        return next(iter(value.values()))
    return value


def find_records(found: Any) -> list[Record]:
    """Find the songs in parsed JSON: a list of records, of lists or of pages, columns, songs by key, or a single song.

    A null in a list of records is an empty record, so that rows keep their numbers.

    Returns:
        The records, which may have records within them; empty if there are none.
    """
    if isinstance(found, list):
        return _in_list(found)
    return _in_object(found) if isinstance(found, dict) else []


def _in_list(found: list[Any]) -> list[Record]:
    values = [value for value in found if value is not None]
    if values and all(isinstance(value, list) for value in values):
        return _below_header(values) or [song for value in values for song in find_records(value)]
    if not any(values) or not all(isinstance(value, dict) for value in values):
        return []
    records = _opened([value or {} for value in found])
    example = _example(records)
    if _is_table(example):
        return [song for record in records for song in _in_object(record)]
    outer = _columns_in(example)
    if len(outer) >= FEWEST_COLUMNS and outer & _OF_A_SONG:
        return records
    songs = _inside(records)
    inner = _columns_of(songs)
    return songs if len(outer) < FEWEST_COLUMNS <= len(inner) or _is_collection(outer, inner) else records


def _in_object(found: Record) -> list[Record]:
    if {"columns", "data"} <= found.keys() and isinstance(found["data"], list):  # pandas, orient="split"
        names, rows = found["columns"], found["data"]
        if not all(isinstance(row, list) and isinstance(names, list) and len(row) == len(names) for row in rows):
            return []
        return [dict(zip(map(str, names), row, strict=True)) for row in rows]
    if _is_by_key(found):
        return _opened([{"id": key, **(record or {})} for key, record in found.items()])
    columns, names = list(found.values()), _columns(tuple(islice(found, _LOOKED_AT)))
    by_column = len(columns) >= FEWEST_COLUMNS and all(isinstance(c, dict) and [*c] == [*columns[0]] for c in columns)
    if _is_table(found):
        return [dict(zip(found, row, strict=True)) for row in zip(*columns, strict=True)]
    songs = [] if by_column and len(names) >= FEWEST_COLUMNS else _inside([found])
    inner = _columns_of(songs)
    if by_column and len(names) >= len(inner):  # pandas' default
        return [{name: found[name][row] for name in found} for row in columns[0]]
    opened = _opened([found])
    return songs if songs and _is_around(found, _columns_of(opened), inner) else opened


def _is_around(found: Record, outer: frozenset[str], inner: frozenset[str]) -> bool:
    """Whether an object is an envelope of songs, and not a song that has a list of artists or of similar songs."""
    own = _columns_in({name: value for name, value in found.items() if not isinstance(value, list | dict)})
    more = len(inner) - len(outer)
    return more > 0 or (more == 0 and not own & _AUDIO) or _is_collection(outer, inner)


def _below_header(rows: list[list[Any]]) -> list[Record]:
    """Rows as records where the first one has the names; nothing where it has not."""
    names = rows[0]
    if not all(isinstance(name, str) for name in names) or any(len(row) != len(names) for row in rows):
        return []
    enough = len(_columns(tuple(names[:_LOOKED_AT]))) >= FEWEST_COLUMNS
    return [dict(zip(names, row, strict=True)) for row in rows[1:]] if enough else []


def _is_table(found: Record) -> bool:
    """Whether an object holds a list of cells for each column."""
    columns = list(found.values())
    return len(columns) >= FEWEST_COLUMNS and all(
        isinstance(c, list) and len(c) == len(columns[0]) and not (c and isinstance(c[0], dict)) for c in columns
    )


def _is_by_key(found: Record) -> bool:
    """Whether an object holds a song under each key: most are alike, and their own keys are columns of songs."""
    records = [record for record in found.values() if record is not None]
    if len(records) < 2 or not all(isinstance(record, dict) for record in records):
        return False
    fields = records[0].keys()
    alike = sum(2 * len(fields & record.keys()) > len(fields | record.keys()) for record in records)
    if 2 * alike <= len(records):
        return False
    inner, outer = len(_columns_of(_opened(records))), len(_columns_in(found) | _columns_in(dict.fromkeys(found)))
    return inner > outer and max(inner, len(records)) >= FEWEST_COLUMNS


def _inside(records: list[Record]) -> list[Record]:
    """The songs in the lists and objects within records: in those that hold most columns of songs, or the same."""
    parts = [
        {key: find_records(value) for key, value in record.items() if isinstance(value, list | dict)}
        for record in records
    ]
    together: dict[str, list[Record]] = {}
    for part in parts:
        for key, songs in part.items():
            together.setdefault(key, []).extend(songs)
    columns = {key: _columns_of(songs) for key, songs in together.items() if songs}
    if not columns:
        return []
    best = max(columns, key=lambda key: (len(columns[key]), len(together[key])))
    chosen = {key for key in columns if key == best or _alike(columns[key], columns[best])}
    return [
        song
        for record, part in zip(records, parts, strict=True)
        for key, songs in part.items()
        if key in chosen and (len(records) == 1 or _columns_of(songs))  # an empty page holds no song
        for song in _of_album(record, songs)
    ]


def _alike(columns: frozenset[str], others: frozenset[str]) -> bool:
    return len(columns) >= FEWEST_COLUMNS and 5 * len(columns & others) >= 4 * len(columns | others)


def _of_album(album: Record, songs: list[Record]) -> list[Record]:
    """Give tracks the name and the date of the album in which they stand; Spotify does not repeat them."""
    if not {"name", "release_date"} <= album.keys():
        return songs
    about = {"name": album["name"], "release_date": album["release_date"]}
    return [song if "album" in song else {**song, "album": about} for song in songs]


def _is_collection(outer: frozenset[str], inner: frozenset[str]) -> bool:
    """Whether a record is an album or a playlist, by its own columns and by those of what it holds."""
    return not outer & _OF_A_SONG and "title" in inner and bool(inner & _AUDIO)


def _opened(records: list[Record]) -> list[Record]:
    """Put the fields of an object in a song, such as ``features``, into the song itself where its name hides them."""
    example = _example(records)
    known = _columns_in(example)
    inner = {key: part for key, value in example.items() if (part := _part(value))}
    for key in islice(inner, _TRIED):
        columns = _columns_in(inner[key])
        is_song, audio = "title" in columns, columns & _AUDIO
        if is_song and isinstance(example[key], list):
            continue  # a list of one song is a list of songs; a list of its features is not
        if not audio or (2 * len(audio - known) <= len(audio) and not {"title", "artist"} <= columns):
            continue  # of a playlist, or how sure the features are
        if len(_columns_in(_with_fields_of(example, key, is_song))) > len(known):
            return _opened([_with_fields_of(record, key, is_song) for record in records])
    return records


def _part(value: Any) -> Record:
    """An object in a record, or in a list of one; empty for anything else."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, dict) else {}


def _with_fields_of(record: Record, key: str, is_song: bool) -> Record:
    """A record with the fields of an object in it as its own; of two of one name, the song's own is kept."""
    part, rest = _part(record.get(key)), {name: value for name, value in record.items() if name != key}
    if not part and record.get(key):
        return record
    return {**rest, **part} if is_song else {**part, **rest}


def _example(records: list[Record]) -> Record:
    """What records hold between them: of each field a value that says something, if there is one."""
    example: Record = {}
    for record in records[:_EXAMPLES]:
        for key, value in record.items():
            if not example.get(key):
                example[key] = value
    return example


def _columns_of(records: list[Record]) -> frozenset[str]:
    """The columns of songs that records hold."""
    return _columns_in(_example(records))


def _columns_in(record: Record) -> frozenset[str]:
    return _columns(tuple(islice(_names(record), _LOOKED_AT)))


@lru_cache(maxsize=256)
def _columns(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(match_columns(names).mapped)


def _names(record: Record, above: str = "") -> Iterator[str]:
    """Names of the fields of a record, as `pandas.json_normalize` writes them."""
    for key, value in record.items():
        if isinstance(value, dict) and value:
            yield from _names(value, f"{above}{key}.")
        else:
            yield above + key
