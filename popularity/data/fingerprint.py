"""The fingerprint of a song table: what tells two tables apart, whatever file they came from."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from popularity.data.schema import TEXT

_CHUNK = 1 << 16  # texts that are joined at once, to bound memory


def fingerprint(songs: pd.DataFrame) -> str:
    """SHA-256 of a song table's content: its column names, values and order of rows, in hexadecimal.

    Numbers enter as little-endian float64 and texts as UTF-8, so machines and library versions agree; the index does
    not enter.
    """
    digest = hashlib.sha256()
    for name in songs.columns:
        column = songs[name]
        digest.update(f"\x1d{name}\x1d".encode())
        if name in TEXT:
            for start in range(0, len(column), _CHUNK):
                texts = column.iloc[start : start + _CHUNK].fillna("\x00").tolist()
                digest.update(("\x1e" * bool(start) + "\x1e".join(texts)).encode())
        elif name == "release_date":
            digest.update(column.to_numpy("datetime64[us]").astype("<i8").tobytes())
        else:
            values = column.to_numpy("<f8") + 0.0  # no negative zero
            digest.update(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes())
    return digest.hexdigest()
