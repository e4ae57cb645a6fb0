"""Duplicates: the same song in several rows, removed before splitting so that no song is on both sides of a split."""

from __future__ import annotations

import numpy as np
import pandas as pd

from popularity.data.schema import AUDIO, REQUIRED

RULES: dict[str, tuple[str, ...]] = {
    "same id": ("track_id",),
    "same artist and title": ("artist", "title"),
    "same audio vector": AUDIO,
}


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
    for rule, columns in RULES.items():
        keys = songs[list(columns)]
        if rule == "same artist and title":
            keys = keys.apply(lambda text: text.str.casefold())
        known = keys[[name for name in columns if name not in AUDIO or name in REQUIRED]].notna().all(axis=1)
        repeated = (keys.duplicated() & known).to_numpy(np.bool_)
        removed[rule] = int(repeated.sum())
        songs = songs[~repeated]
    return songs.reset_index(drop=True), removed
