"""Histories drawn from the candidates of `popularity.features.related`, anew for every batch.

Glossary of shapes: ``n`` songs, ``C`` candidates of a song, ``D`` draws, ``H`` songs of a drawn history.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from popularity.features.related import ALBUM, CREDITED, NOBODY, RETRIEVED, SAME


@dataclass(frozen=True)
class Thinning:
    """How much of a history training hides, so that no song leans on knowing its artist.

    Attributes:
        hide: probability that all songs of a role are hidden, by role.
        most: each remaining song is dropped with a probability drawn from 0 to this, anew for every draw.
        hide_album: probability that all songs by others on the same album are hidden, and that all by the artist are.
    """

    hide: tuple[float, ...]
    most: float
    hide_album: tuple[float, ...] = (0.0, 0.0)


def draw(
    role: Tensor,
    key: Tensor,
    mate: Tensor | None = None,
    *,
    draws: int,
    length: int,
    thinning: Thinning | None,
    generator: torch.Generator,
) -> Tensor:
    """Draw histories of at most ``length`` songs from the candidates.

    A random choice where there are more: album mates go first, then the artist's own songs to all but four places.
    Retrieved songs come on top of ``length``, all of them.

    Args:
        role: ``(n, C)``.
        key: ``(n, C)`` place in the sequence: small keys come last, next to the song itself.
        mate: ``(n, C)`` on the same album; None where no album is known.
        draws: ``D``.
        length: ``H`` without the retrieved songs.
        thinning: in training.
        generator: of all randomness.

    Returns:
        ``(n, D, H)`` columns of the candidates in the order of the sequence, -1 in front of shorter ones. ``H`` is the
        longest that came up.
    """
    n, count = role.shape
    role = role.unsqueeze(1).expand(n, draws, count)
    chance = torch.rand(n, draws, count, generator=generator)
    keep = role != NOBODY
    if thinning is not None:
        hidden = torch.rand(n, draws, 2, generator=generator) < torch.tensor(thinning.hide)
        # an artist that nobody knows: other names on the song are often unknown as well
        hidden[..., CREDITED] |= hidden[..., SAME] & (
            torch.rand(n, draws, generator=generator) < 0.5 * (thinning.hide[SAME] < 1)
        )
        rate = thinning.most * torch.rand(n, draws, 1, generator=generator)
        drop = torch.rand(n, draws, count, generator=generator) < rate
        for kind in (SAME, CREDITED):
            keep = keep & ~((role == kind) & (hidden[..., kind : kind + 1] | drop))
        if mate is not None:
            alone = torch.rand(n, draws, 2, generator=generator) < torch.tensor(thinning.hide_album)
            keep = keep & ~((role == ALBUM) & (alone[..., :1] | drop))
            keep = keep & ~((role == SAME) & mate.unsqueeze(1) & alone[..., 1:])
    priority = torch.where(role == SAME, chance + 1, chance)
    own = torch.where(keep & (role == CREDITED), chance, -1.0)
    top = own.topk(min(4, count), dim=-1)
    priority = priority.scatter_add(-1, top.indices, torch.where(top.values >= 0, 2.0, 0.0))
    if mate is not None:
        priority = torch.where(mate.unsqueeze(1), chance + 5, priority)
    priority = torch.where(keep, torch.where(role == RETRIEVED, 9.0, priority), -1.0)
    wanted = length + int((role[:, 0] == RETRIEVED).sum(-1).max()) if n else length
    best = priority.topk(min(wanted, count), dim=-1)
    chosen = best.values >= 0
    longest = int(chosen.sum(-1).max()) if n else 0
    chosen, column = chosen[..., :longest], best.indices[..., :longest]
    place = torch.where(chosen, key.unsqueeze(1).expand(n, draws, count).gather(-1, column), torch.inf)
    order = place.argsort(dim=-1, descending=True, stable=True)
    return torch.where(chosen, column, -1).gather(-1, order)
