"""Duplicates: the same song in several rows, removed before splitting so that no song is on both sides of a split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from popularity.data.schema import AUDIO, REQUIRED

RULES: dict[str, tuple[str, ...]] = {
    "same id": ("track_id",),
    "same artist and title": ("artist", "title"),
    "same audio vector": AUDIO,
}


@dataclass(frozen=True)
class Conflicts:
    """Removed rows whose popularity is not that of the row that was kept: the error that no model can avoid.

    Attributes:
        rows: how many.
        mean_difference: their mean absolute difference in points of popularity, 0 if there are none.
    """

    rows: int = 0
    mean_difference: float = 0.0


def remove_duplicates(songs: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int], Conflicts]:
    """Keep the first row of every song; remove before splitting.

    Three rules, each on what the one before left: same id; same artist and title, whatever their case; same audio
    vector. A missing id, artist, title or required audio value equals nothing. Keeping the first row and not the most
    popular one keeps the label out of the choice.

    Args:
        songs: canonical song table.

    Returns:
        The table without duplicates, with a fresh index, the number of rows that each rule removed, and how many of
        them have another popularity than the row that was kept.
    """
    kept_for = np.arange(len(songs))  # the row that each row is a repeat of, or itself
    removed: dict[str, int] = {}
    for rule, columns in RULES.items():
        rows = np.unique(kept_for)
        keys = songs[list(columns)]
        first = rows[_first_of_each(keys if len(rows) == len(keys) else keys.iloc[rows], rule)]
        removed[rule] = int((first != rows).sum())
        kept_for = first[np.searchsorted(rows, kept_for)]
    popularity = songs["popularity"].to_numpy(np.float64)
    difference = np.abs(popularity - popularity[kept_for])
    differing = difference[difference > 0]
    conflicts = Conflicts(len(differing), float(differing.mean()) if len(differing) else 0.0)
    rows = np.unique(kept_for)
    return (songs if len(rows) == len(songs) else songs.iloc[rows]).reset_index(drop=True), removed, conflicts


def _first_of_each(keys: pd.DataFrame, rule: str) -> np.ndarray:
    """Position of the first row that is the same song by one rule: ``(n,)``, its own for a song that repeats none.

    Args:
        keys: the columns of the rule.
        rule: its name.
    """
    columns, keys = list(keys), keys.reset_index(drop=True)
    if rule == "same artist and title":
        keys = keys.apply(lambda text: text.str.casefold())
    known = keys[[name for name in columns if name not in AUDIO or name in REQUIRED]].notna().all(axis=1)
    first = np.arange(len(keys))
    several = keys[keys.duplicated(keep=False) & known]
    first[several.index] = several.assign(row=several.index).groupby(columns, dropna=False)["row"].transform("min")
    return first
