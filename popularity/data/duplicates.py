"""Duplicates: the same song in several rows, removed before splitting so that no song is on both sides of a split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from popularity.data.mapped import in_chunks, taken
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
    for rule in RULES:
        rows = np.unique(kept_for)
        first = _first_of_each(songs, rows, rule)
        removed[rule] = int((first != rows).sum())
        kept_for = first[np.searchsorted(rows, kept_for)]
    popularity = songs["popularity"].to_numpy(np.float64)
    difference = np.abs(popularity - popularity[kept_for])
    differing = difference[difference > 0]
    conflicts = Conflicts(len(differing), float(differing.mean()) if len(differing) else 0.0)
    rows = np.unique(kept_for)
    return (songs if len(rows) == len(songs) else taken(songs, rows)).reset_index(drop=True), removed, conflicts


def _first_of_each(songs: pd.DataFrame, rows: np.ndarray, rule: str) -> np.ndarray:
    """The first row that is the same song by one rule: ``(n,)``, its own for a song that repeats none.

    Args:
        songs: the table.
        rows: ``(n,)`` of it that are looked at, in rising order.
        rule: its name.
    """
    found = [_hashed(_keys(part, rule), rule) for part in in_chunks(songs)]
    hashed, known = (np.concatenate(parts)[rows] for parts in zip(*found, strict=True))
    alike = np.flatnonzero(known)[pd.Series(hashed[known]).duplicated(keep=False).to_numpy()]
    first = rows.copy()
    keys = _keys(songs.iloc[rows[alike]], rule)
    first[alike] = keys.assign(row=rows[alike]).groupby(list(keys), dropna=False)["row"].transform("min")
    return first


def _keys(songs: pd.DataFrame, rule: str) -> pd.DataFrame:
    keys = songs[list(RULES[rule])]
    return keys.apply(lambda text: text.str.casefold()) if rule == "same artist and title" else keys


def _hashed(keys: pd.DataFrame, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Of each song a hash, the same for the same keys, and whether it can be the same as another."""
    known = keys[[name for name in keys if name not in AUDIO or name in REQUIRED]].notna().all(axis=1)
    numbers = keys.select_dtypes("number")
    keys = keys.assign(**{name: numbers[name] + 0.0 for name in numbers})  # minus zero is zero
    return pd.util.hash_pandas_object(keys, index=False).to_numpy(), known.to_numpy()
