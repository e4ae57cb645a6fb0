"""Why a song was predicted as it was: what changes when one thing is not known about it.

Occlusion: each feature, or group of features, is made missing in turn, the histories staying as they were, and the song
is predicted again; at last the known songs are taken away. Training hides features at random, so the network knows what
to make of a missing one. This costs one more prediction for each of about 20 groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd
from torch import Tensor

from popularity.data.schema import AUDIO
from popularity.features.base import Encoder
from popularity.inference.watched import HISTORY, watched, without_known_songs

#: What is made missing together: in words -> columns.
GROUPS: dict[str, tuple[str, ...]] = {
    **{"duration" if name == "duration_ms" else name.replace("_", " "): (name,) for name in AUDIO},
    "the mark for explicit lyrics": ("explicit",),
    "genre": ("genre", "subgenre"),
    "release date": ("release_date",),
    "title": ("title",),
    "artist's name": ("artist",),
}
KNOWN = "popularity of known songs"
#: Reasons for each song.
COUNT = 3
#: Changes below this many points are no reasons.
LEAST = 0.05


def reasons(
    mean: Callable[[Encoder, pd.DataFrame], np.ndarray],
    encoder: Encoder,
    songs: pd.DataFrame,
    encoded: Mapping[str, Tensor],
    predicted: np.ndarray,
) -> np.ndarray:
    """The strongest reasons for some predictions, in words.

    Args:
        mean: from an encoder and ``n`` songs to ``(n,)`` predicted popularity.
        encoder: of the model.
        songs: ``n`` songs.
        encoded: what the encoder made of them.
        predicted: ``(n,)`` predicted popularity.

    Returns:
        ``(n,)`` texts such as ``genre raises it by 4.1; tempo lowers it by 0.7``, the strongest reason first: by how
        many points the prediction is higher or lower than it would be without.
    """
    names, effects = [], []
    for name, without in _effects(mean, encoder, songs, encoded):
        names.append(name)
        effects.append(predicted - without)
    if not names:
        return np.full(len(songs), "", dtype=object)
    effect = np.stack(effects, axis=1)
    order = np.argsort(-np.abs(effect), axis=1, kind="stable")[:, :COUNT]
    strongest = np.take_along_axis(effect, order, 1)
    return np.array(
        [
            "; ".join(_in_words(names[i], e) for i, e in zip(row, values, strict=True) if abs(e) >= LEAST)
            for row, values in zip(order.tolist(), strongest.tolist(), strict=True)
        ],
        dtype=object,
    )


def _in_words(name: str, effect: float) -> str:
    return f"{name} {'raises' if effect > 0 else 'lowers'} it by {abs(effect):.1f}"


def _effects(
    mean: Callable[[Encoder, pd.DataFrame], np.ndarray],
    encoder: Encoder,
    songs: pd.DataFrame,
    encoded: Mapping[str, Tensor],
) -> Iterator[tuple[str, np.ndarray]]:
    """What was made missing, and the ``(n,)`` predictions without it."""
    history = {name: encoded[name] for name in HISTORY if name in encoded}
    held, _ = watched(encoder, history)
    for name, columns in GROUPS.items():
        if songs[list(columns)].notna().any(axis=None):
            blank = {column: songs[column].mask(np.ones(len(songs), bool)) for column in columns}
            yield name, mean(held, songs.assign(**blank))
    if history:
        alone, _ = watched(encoder, {**history, **without_known_songs(encoded)})
        yield KNOWN, mean(alone, songs)
