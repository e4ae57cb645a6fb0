"""Duplicates: the same song in several rows, removed before splitting so that no song is on both sides of a split."""

from __future__ import annotations

import numpy as np
import pandas as pd

from popularity.data.schema import AUDIO, REQUIRED


def remove_duplicates(songs: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Keep the first row of every song; remove before splitting.

    Three rules, each on what the one before left: same id; same artist and title, whatever their case; same audio
    vector. A missing id, artist, title or required audio value equals nothing. Keeping the first row and not the most
    popular one keeps the label out of the choice.

    Args:
        songs: canonical song table.

    Returns:
        The table without duplicates, with a fresh index, and the number of rows that each rule removed.
    """
    removed: dict[str, int] = {}
    for rule, keys in (
        ("same id", lambda kept: kept[["track_id"]]),
        ("same artist and title", lambda kept: kept[["artist", "title"]].apply(lambda text: text.str.casefold())),
        ("same audio vector", lambda kept: kept[list(AUDIO)]),
    ):
        table = keys(songs)
        known = table[[name for name in table if name not in AUDIO or name in REQUIRED]].notna().all(axis=1)
        repeated = (table.duplicated() & known).to_numpy(np.bool_)
        removed[rule] = int(repeated.sum())
        songs = songs[~repeated]
    return songs.reset_index(drop=True), removed
