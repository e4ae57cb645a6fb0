"""The canonical song table: its columns and their ranges."""

from __future__ import annotations

from functools import cache

import pandera.pandas as pa

AUDIO_UNIT: tuple[str, ...] = (
    "acousticness",
    "danceability",
    "energy",
    "instrumentalness",
    "liveness",
    "speechiness",
    "valence",
)
"""The seven audio features that run from 0 to 1."""

AUDIO: tuple[str, ...] = (
    "acousticness",
    "danceability",
    "duration_ms",
    "energy",
    "instrumentalness",
    "key",
    "liveness",
    "loudness",
    "mode",
    "speechiness",
    "tempo",
    "time_signature",
    "valence",
)
"""The 13 audio columns, in alphabetical order."""

OPTIONAL_AUDIO: tuple[str, ...] = ("instrumentalness", "key", "mode", "time_signature")
REQUIRED: tuple[str, ...] = tuple(name for name in AUDIO if name not in OPTIONAL_AUDIO)
"""Audio columns that a file must have; the other four are absent from some public files."""
ESTIMATED: tuple[str, ...] = ("duration_ms", "loudness", "tempo", "key", "mode")
"""Audio columns that ``features`` estimates from a recording."""
NOT_ESTIMATED: tuple[str, ...] = tuple(name for name in AUDIO if name not in ESTIMATED)
"""Audio columns that only Spotify's own models give."""

TEXT: tuple[str, ...] = ("track_id", "title", "artist", "album", "genre", "subgenre")
NUMBERS: tuple[str, ...] = (
    "explicit",
    *AUDIO_UNIT,
    "duration_ms",
    "loudness",
    "tempo",
    "key",
    "mode",
    "time_signature",
    "popularity",
)
CANONICAL: tuple[str, ...] = (*TEXT, "release_date", *NUMBERS)
"""Every column of the song table, in order: texts are `str`, the date is `datetime64[us]`, numbers are `float64`."""

OPTIONAL: tuple[str, ...] = (*TEXT, "release_date", "explicit", *OPTIONAL_AUDIO)
"""Columns in which a cell that cannot be read is missing; in the others it refuses the file."""

RANGES: dict[str, tuple[str, pa.Check]] = {
    "explicit": ("0 or 1, true or false", pa.Check.isin((0, 1))),
    **{name: ("a number from 0 to 1", pa.Check.in_range(0, 1)) for name in AUDIO_UNIT},
    "duration_ms": ("a duration above 0 and at most a day", pa.Check.in_range(0, 86_400_000, include_min=False)),
    "loudness": ("decibels from -100 to 20", pa.Check.in_range(-100, 20)),
    "tempo": ("beats per minute from 0 to 500", pa.Check.in_range(0, 500, include_min=False)),
    "key": ("a key from 0 to 11, -1, or a letter such as C#", pa.Check.isin(range(12))),
    "mode": ("0 or 1, Minor or Major", pa.Check.isin((0, 1))),
    "time_signature": ("a time signature from 0 to 7 or such as 4/4", pa.Check.isin(range(1, 8))),
    "popularity": ("a number from 0 to 100", pa.Check.in_range(0, 100)),
}


@cache
def song_schema(need_popularity: bool) -> pa.DataFrameSchema:
    """Build the schema of the song table; every value may be missing, the popularity only where it is not needed."""
    columns = {name: pa.Column(str, nullable=True) for name in TEXT}
    columns["release_date"] = pa.Column("datetime64[us]", nullable=True)
    for name, (_, check) in RANGES.items():
        columns[name] = pa.Column("float64", check, nullable=not (need_popularity and name == "popularity"))
    return pa.DataFrameSchema(columns, ordered=True)
