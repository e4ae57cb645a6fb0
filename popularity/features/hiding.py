"""How often training has to hide a history so that training songs lack one as often as held-out songs do."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from popularity.features.base import Folds
from popularity.features.keys import Keys
from popularity.features.related import ALBUM, CREDITED, SAME, CandidateSet, RelatedSongs

_COUNTED = 50_000  # songs of a fold, at most, by which shares are estimated


def shares_to_hide(related: RelatedSongs, folds: Folds, *, at_least: float) -> tuple[float, ...]:
    """Shares of training songs whose history training hides, estimated on inner folds.

    A held-out song has no known song of a role more often than a training song would: with the share :math:`h` of
    held-out songs and :math:`t` of training songs that have one, training hides :math:`1 - h / t`. Under the split
    ``artist`` this gives 1 for songs by the same artist.

    Args:
        related: index of the training songs.
        folds: inner folds of them by the rule of the split.
        at_least: lower bound for the artist's own songs.

    Returns:
        For the roles ``SAME``, ``CREDITED`` and ``ALBUM``, and for the artist's own songs on the same album.
    """
    keys = related.keys
    held_out_share, training_share = [], []
    for fitted, held_out in folds:
        rows = held_out[:: math.ceil(len(held_out) / _COUNTED)]
        some = keys.take(rows)
        if len(rows) < len(held_out):
            fitted = fitted[_may_be_read(keys, some)[fitted]]
        fewer = RelatedSongs(keys.take(fitted), earlier=related.earlier)
        held_out_share.append(_has_history(fewer.candidates(some)).double().mean(1))
        training_share.append(_has_history(related.candidates(some, rows)).double().mean(1))
    shares = [0.0, 0.0, 0.0, 0.0]
    if held_out_share:
        lacking, present = torch.stack(held_out_share).mean(0), torch.stack(training_share).mean(0)
        shares = [float(1 - one / all_) if all_ > 0 else 0.0 for one, all_ in zip(lacking, present, strict=True)]
    return tuple(min(max(share, least), 1.0) for share, least in zip(shares, (at_least, 0.0, 0.0, 0.0), strict=True))


def _may_be_read(keys: Keys, some: Keys) -> np.ndarray:
    """``(n,)`` bool: songs that share a name or an album with some others; only they can be candidates of these."""
    before = np.concatenate([[0], np.isin(keys.name, some.name).cumsum()])
    named: np.ndarray = before[keys.start[1:]] > before[keys.start[:-1]]
    return named | np.isin(keys.album, some.album[some.album >= 0])


def _has_history(found: CandidateSet) -> Tensor:
    """``(4, n)`` bool: whether a song has candidates of each role, and own songs of the artist on the same album."""
    roles = [(found.role == role).any(1) for role in (SAME, CREDITED, ALBUM)]
    return torch.stack([*roles, (found.same_album & (found.role == SAME)).any(1)])
