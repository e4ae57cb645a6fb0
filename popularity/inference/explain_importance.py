"""Permutation importance: how much worse a trained model predicts when one feature is shuffled among the songs.

Columns of the song table are shuffled and the songs encoded anew, so that everything that is made of a column goes with
it: its bins, whether it is missing, how far a song lies from known songs. Texts and dates also decide which known songs
a song has. That is a feature of its own here: shuffling titles, names or dates leaves the known songs as they are, and
shuffling the known songs leaves the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from popularity.data.groups import first_artist_numbers
from popularity.inference.explain_features import COLUMNS, KNOWN_SONGS
from popularity.inference.explain_model import Model
from popularity.inference.watched import HISTORY
from popularity.metrics.intervals import clustered_half_width


def permutation_importance(
    model: Model,
    songs: pd.DataFrame,
    *,
    shuffles: int = 5,
    seed: int = 0,
    progress: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> pd.DataFrame:
    """Shuffle one feature after the other (Breiman 2001, "Random forests", section 10).

    Args:
        model: trained.
        songs: ``n`` songs that it was not trained on, with or without popularity.
        shuffles: number of times each feature is shuffled.
        seed: of the shuffles.
        progress: shows how far the loop over features is.

    Returns:
        One row per feature that the network reads, the most important first: ``feature``; ``change``, the mean absolute
        change of a prediction in points; ``mse_rise``, the rise of the mean squared error in points squared over the
        songs with popularity, NaN where there are none; ``change_low, change_high, mse_rise_low, mse_rise_high``, ends
        of their 95 % intervals over songs, in which songs by the same first artist count as one observation.
    """
    pinned = model.pinned(songs)
    encoded = pinned.encoder.encode(songs)
    before = model.mean_of(encoded)
    truth, artist = songs["popularity"].to_numpy(np.float64), first_artist_numbers(songs)
    scored = ~np.isnan(truth) if not np.isnan(truth).all() else np.ones(len(truth), bool)
    rows = []
    for feature in progress(COLUMNS):
        generator = np.random.default_rng(seed)  # the same orders for every feature
        after = []
        for _ in range(shuffles):
            shuffled = _shuffled(songs, COLUMNS[feature], generator)
            if feature == KNOWN_SONGS:
                others = model.encoder.encode(shuffled)
                mixed = {name: (others if name in HISTORY else encoded)[name] for name in encoded}
            else:
                mixed = pinned.encoder.encode(shuffled)
            if _equal(mixed, encoded):
                continue
            after.append(model.mean_of(mixed))
        if not after:
            continue
        change = np.mean([np.abs(one - before) for one in after], axis=0)
        rise = np.mean([(one - truth) ** 2 for one in after], axis=0) - (before - truth) ** 2
        told = _interval("mse_rise", rise[scored], artist[scored])
        rows.append({"feature": feature, **_interval("change", change, artist), **told})
    if not rows:
        return pd.DataFrame(columns=["feature", "change", "mse_rise"])
    order = "change" if np.isnan(truth).all() else "mse_rise"
    return pd.DataFrame(rows).sort_values(order, ascending=False, ignore_index=True)


def _shuffled(songs: pd.DataFrame, columns: Iterable[str], generator: np.random.Generator) -> pd.DataFrame:
    order = generator.permutation(len(songs))
    return songs.assign(**{name: songs[name].iloc[order].set_axis(songs.index) for name in columns})


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(torch.nan_to_num(one[name]), torch.nan_to_num(other[name])) for name in one)


def _interval(name: str, values: np.ndarray, cluster: np.ndarray) -> dict[str, float]:
    """Mean of values over songs with its 95 % interval, in which the songs of a cluster count as one."""
    mean, half = float(values.mean()), clustered_half_width(values, cluster)
    return {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}
