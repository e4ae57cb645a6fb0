"""Retrieval: the known songs by others that are most similar to a song, as further candidates for its history."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from popularity.features.keys import Keys
from popularity.features.related import NO_SONG, RETRIEVED, CandidateSet, RelatedSongs


def add_retrieved(
    related: RelatedSongs,
    found: CandidateSet,
    keys: Keys,
    own: np.ndarray | None,
    *,
    count: int,
    near: tuple[Tensor, Tensor],
) -> CandidateSet:
    """Add the nearest known songs by other first-named artists, in further columns.

    Args:
        related: the known songs.
        found: candidates of ``n`` songs so far.
        keys: of these songs.
        own: ``(n)`` row of each song among the known songs, if they are known songs themselves.
        count: songs to add.
        near: what distances are measured in: of the songs ``(n, F)``, and of the ``N`` known songs ``(N, F)``.
    """
    wanted = min(4 * count + 8, len(related.keys))
    neighbours = NearestNeighbors(n_neighbors=wanted).fit(near[1].numpy())
    row = neighbours.kneighbors(near[0].numpy(), return_distance=False)
    known, mine = related.keys, keys.first[:, None]
    other = (known.first[row] != mine) | (mine == 0)
    for kind in range(keys.identity.shape[1]):
        same = known.identity[row, kind] == keys.identity[:, kind : kind + 1]
        other &= ~(same & (keys.identity[:, kind : kind + 1] >= 0))
    if own is not None:  # a song may have neither names nor enough audio to be recognised by
        other &= row != own[:, None]
    if related.earlier:
        other &= known.day[row] < keys.day[:, None]
    other &= np.cumsum(other, axis=1) <= count
    order = np.argsort(~other, axis=1, kind="stable")[:, :count]
    kept = np.take_along_axis(other, order, 1)
    row = np.where(kept, np.take_along_axis(row, order, 1), 0).astype(np.int32)
    role = np.where(kept, RETRIEVED, NO_SONG).astype(np.int8)
    return CandidateSet(
        torch.cat([found.row, torch.from_numpy(row)], 1),
        torch.cat([found.role, torch.from_numpy(role)], 1),
        torch.cat([found.same_album, torch.zeros(row.shape, dtype=torch.bool)], 1),
    )
