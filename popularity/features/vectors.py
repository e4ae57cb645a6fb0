"""Song vectors, and the short form in which a checkpoint keeps those of known songs.

Glossary of shapes: ``n`` songs, ``F`` numeric features, ``K`` bins of each, ``T`` numbers that come from texts,
``S = F (K + 2) + T`` numbers of a song vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from popularity.errors import InputError
from popularity.features.checked import checked, checked_codes
from popularity.features.mapped import in_chunks, read_ahead
from popularity.features.song import CODES, NUMERIC_FEATURES, piecewise_linear
from popularity.features.title_stats import TITLE_STATISTICS

#: Title statistics that count towards the distance between two songs, beside the numeric features.
NEAR = [TITLE_STATISTICS.index(name) for name in ("remaster", "credited_names", "year")]
#: How songs are encoded (means, quantiles, frequent n-grams and their components) is learned from so many of them.
LEARNED_FROM = 200_000


def some_rows(songs: int) -> np.ndarray | None:
    """Rows of so many songs to learn from, chosen at random: in the order of a file neighbours are alike.

    Returns:
        `LEARNED_FROM` rows in rising order; None where there are no more songs than that: all of them.
    """
    if songs <= LEARNED_FROM:
        return None
    return np.sort(np.random.default_rng(0).choice(songs, LEARNED_FROM, replace=False))


def song_vectors(numeric: Tensor, edges: np.ndarray, texts: Tensor) -> dict[str, Tensor]:
    """What is read of a song, and what its distance to another is measured in.

    Args:
        numeric: ``(n, F)`` float32, NaN where missing.
        edges: ``(F, K + 1)`` of the bins.
        texts: ``(n, T)`` float32, title statistics first.

    Returns:
        ``song`` ``(n, S)`` and ``near`` ``(n, F + 3)``, ``(n, F)`` without texts.
    """
    values = torch.nan_to_num(numeric)
    bins = piecewise_linear(numeric, torch.from_numpy(edges).float()).flatten(1)
    near = torch.cat([values, texts[:, NEAR]], dim=1) if texts.shape[1] else values
    return {"song": torch.cat([values, numeric.isnan().float(), bins, texts], dim=1), "near": near}


def shortened(known: Mapping[str, Tensor], bins: int) -> dict[str, Tensor]:
    """Vectors of known songs without what follows from the rest of them: a quarter of their size.

    Args:
        known: what :func:`song_vectors` gave of ``n`` songs; ``category`` ``(n, C)`` codes and anything else.
        bins: ``K``.
    """
    count = len(NUMERIC_FEATURES)

    def short(part: slice) -> dict[str, Tensor]:
        read_ahead(known["song"], part)
        song = known["song"][part]
        numeric = song[:, :count].masked_fill(song[:, count : 2 * count] == 1, torch.nan)
        texts = song[:, count * (bins + 2) :].clone()
        return {"numeric": numeric, "texts": texts, "category": known["category"][part].to(torch.int16)}

    rest = {name: value for name, value in known.items() if name not in ("song", "near", "category")}
    return {**rest, **in_chunks(short, len(known["song"]), scattered=False)}


def restored(short: Mapping[str, Tensor], edges: np.ndarray, size: tuple[int, int]) -> dict[str, Tensor]:
    """What :func:`shortened` was given, on the CPU, to the bit.

    Args:
        short: what it gave.
        edges: ``(F, K + 1)`` of the bins.
        size: ``n`` and ``S``.

    Raises:
        InputError: numbers that are none, codes of no category, or vectors of another size.
    """
    songs, numbers = size[0], len(NUMERIC_FEATURES)
    width = {"numeric": numbers, "texts": size[1] - numbers * (edges.shape[1] + 1), "category": len(CODES)}
    for name in width:
        if tuple(short[name].shape) != (songs, width[name]):
            raise InputError(f"expected shape {(songs, width[name])} of known {name}, got {tuple(short[name].shape)}")

    def whole(part: slice) -> dict[str, Tensor]:
        # checked part by part, as they are read: all of them may be larger than memory
        numeric = checked("known numeric", short["numeric"][part], gaps=True)
        vectors = song_vectors(numeric, edges, checked("known texts", short["texts"][part]))
        return {**vectors, "category": checked_codes("known category", short["category"][part], CODES).long()}

    rest = {
        "popularity": checked("known popularity", short["popularity"], (songs,)),
        "month": checked("known month", short["month"], (songs,), gaps=True),
    }
    return {**rest, **in_chunks(whole, songs)}


def side_by_side(scores: list[np.ndarray], songs: int) -> np.ndarray:
    """Scores ``(n, scores)`` of several texts in one array; ``(n, 0)`` of none."""
    return np.concatenate([np.zeros((songs, 0)), *scores], axis=1)
