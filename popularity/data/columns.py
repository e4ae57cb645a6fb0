"""Which column of a public file holds what: names, aliases and leaks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from popularity.data.schema import CANONICAL

# Aliases by rank: where a file has two of them, the one further left is taken. Spelled as `normalise` leaves them.
_ALIASES: dict[str, str] = {
    "track_id": "trackid id trackuri uri spotifytrackid spotifyuri spotifyid songid",
    "title": "title trackname songname name song track",
    "artist": "artist artists artistname artistnames trackartist trackartists artistsname performer",
    "album": "album albumname trackalbumname",
    "genre": "genre trackgenre playlistgenre topgenre",
    "subgenre": "subgenre playlistsubgenre tracksubgenre",
    "release_date": "releasedate trackalbumreleasedate albumreleasedate trackreleasedate releaseyear year",
    "explicit": "explicit trackexplicit isexplicit",
    "acousticness": "acousticness acous",
    "danceability": "danceability dance dnce",
    "energy": "energy nrgy",
    "instrumentalness": "instrumentalness instr",
    "liveness": "liveness liveliness live",
    "speechiness": "speechiness speech spch",
    "valence": "valence audiovalence val",
    "duration_ms": "durationms songdurationms trackdurationms trackduration duration ms durationsec dur lengthduration "
    "durationmin",
    "loudness": "loudness loudnessdb loud db",
    "tempo": "tempo bpm beatsperminute beatsperminutebpm",
    "key": "key",
    "mode": "mode audiomode",
    "time_signature": "timesignature",
    "popularity": "popularity trackpopularity songpopularity spotifypopularity pop",
}
ALIASES: dict[str, tuple[str, ...]] = {canonical: tuple(names.split()) for canonical, names in _ALIASES.items()}

# Functions of the target, or of the day on which it was measured, or of the order in which the file was written.
_LEAKS: dict[str, str] = {
    "popular_or_not": "popularornot target hit ishit",
    "artist_popularity": "artistpopularity artistpop artistspopularity",
    "album_popularity": "albumpopularity",
    "artist_followers": "artistfollowers artistsfollowers followers totalartistfollowers",
    "streams": "streams stream spotifystreams streamcount playcount plays totalstreams",
    "views": "views youtubeviews",
    "likes": "likes youtubelikes",
    "comments": "comments",
    "chart_rank": "rank chartrank chart position chartposition peak peakrank peakposition weeksonchart dailyrank "
    "alltimerank",
    "row_number": "rownumber index row rowname rownames unnamed0 unnamed00 x x1 number no sn indexlevel0",
}
LEAKS: dict[str, tuple[str, ...]] = {
    leak: ("",) * (leak == "row_number") + tuple(n.split()) for leak, n in _LEAKS.items()
}


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


def normalise(name: str) -> str:
    """Column name without case, byte-order mark, punctuation and blanks.

    >>> normalise("Track Name") == normalise("track_name") == normalise("\\ufefftrackname")
    True
    """
    return "".join(character for character in name.casefold() if character.isalnum())


def match_columns(header: Sequence[str]) -> ColumnMatch:
    """Find the canonical columns in a header; of two candidates the exact name wins, then the rank of the alias.

    Args:
        header: column names as written in the file.
    """
    canonical_of = {alias: canonical for canonical, names in ALIASES.items() for alias in names}
    leak_of = {alias: leak for leak, names in LEAKS.items() for alias in names}
    candidates: dict[str, list[tuple[int, int, str]]] = {}
    leaks: dict[str, str] = {}
    ignored: list[tuple[str, str]] = []
    for position, column in enumerate(header):
        name = normalise(column)
        if canonical := canonical_of.get(name):
            rank = -1 if column == canonical else ALIASES[canonical].index(name)
            candidates.setdefault(canonical, []).append((rank, position, column))
        elif name in leak_of:
            leaks[column] = leak_of[name]
        else:
            ignored.append((column, "not a column that the model knows"))
    mapped = {}
    for canonical in CANONICAL:
        if ranked := sorted(candidates.get(canonical, [])):
            mapped[canonical] = ranked[0][2]
            ignored += [(column, f"{canonical} is read from {ranked[0][2]!r}") for _, _, column in ranked[1:]]
    return ColumnMatch(mapped, leaks, tuple(ignored))


def is_exportify(header: Sequence[str]) -> bool:
    """Whether a header is Exportify's, the one kind of file whose artists are split at commas."""
    names = {normalise(column) for column in header}
    uris = {"trackuri", "spotifyuri", "spotifyid"}
    return any(re.fullmatch(r"artist name\(s\)", column.strip("\ufeff "), re.I) for column in header) and bool(
        names & uris
    )
