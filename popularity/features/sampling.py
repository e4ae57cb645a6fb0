"""Samples histories from the candidates of `popularity.features.related`.

Training samples anew for every batch. Elsewhere the chance of a known song is a number of its own, the same for every
song that may read it: a prediction depends neither on the order of songs nor on those beside it.

Glossary of shapes: ``n`` songs, ``C`` candidates of a song, ``D`` samples, ``H`` songs of a history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from popularity.features.keys import DAYS_PER_MONTH, Keys
from popularity.features.mapped import in_chunks
from popularity.features.related import ALBUM, CREDITED, NO_SONG, RETRIEVED, SAME, CandidateSet

_TOGETHER = 4096  # songs whose distances are measured at once, to bound memory
#: Places of a history that the artist's own songs leave to songs of other credited names.
CREDITED_PLACES = 4


def sort_keys(keys: Keys, near: Tensor, found: CandidateSet, known: Mapping[str, Tensor], *, earlier: bool) -> Tensor:
    """Numbers ``(n, C)`` by which a history is put in order, the largest first: distances, or months since a release.

    Args:
        keys: of ``n`` songs.
        near: ``(n, F)`` places of the songs, between which distances are measured.
        found: their candidates.
        known: of the known songs ``near`` and ``month``.
        earlier: by release, as under ``time``.
    """
    row = found.row
    if earlier:
        month, known_month = torch.from_numpy(keys.day).float().unsqueeze(1) / DAYS_PER_MONTH, placed(known["month"])
        return in_chunks(lambda part: {"key": month[part] - known_month[row[part].long()]}, len(keys))["key"]

    def distances(part: slice) -> dict[str, Tensor]:
        there = found.role[part] != NO_SONG  # of songs by artists nobody knows, most are not
        away = known["near"][row[part][there].long()] - near[part][there.nonzero()[:, 0]]
        key = torch.zeros(there.shape)
        key[there] = away.square().sum(-1)
        return {"key": key}

    return in_chunks(distances, len(keys), _TOGETHER)["key"]


def placed(month: Tensor) -> Tensor:
    """Places ``(N,)`` of known songs in time: their months ``(N,)``, and those of one release in a random order.

    The order is the same wherever they are read: it depends neither on other songs nor on the order of a file's rows,
    which can tell popularities.
    """
    within = torch.rand(len(month), generator=torch.Generator().manual_seed(0))
    return torch.nan_to_num(month) + 0.5 / DAYS_PER_MONTH * within


@dataclass(frozen=True)
class Thinning:
    """How much of a history training hides, so that no song depends on a known artist.

    Attributes:
        hide: probability that all songs of a role are hidden, for the roles ``SAME`` and ``CREDITED``.
        most: each remaining song is dropped with a probability sampled from 0 to this, anew for every sample.
        hide_album: probability that all songs by others on the same album are hidden, and that all songs by the artist
            on the same album are.
    """

    hide: tuple[float, ...]
    most: float
    hide_album: tuple[float, ...] = (0.0, 0.0)


@dataclass(frozen=True)
class Candidates:
    """Candidates of ``n`` songs, for :func:`sample_histories`.

    Attributes:
        role: ``(n, C)``.
        key: ``(n, C)`` place in the sequence: small keys come last, next to the song itself.
        same_album: ``(n, C)`` on the same album; None where no album is known.
    """

    role: Tensor
    key: Tensor
    same_album: Tensor | None = None


@lru_cache(maxsize=2)  # for one sample, and for all
def fixed_chances(known: int, samples: int) -> Tensor:
    """``(D, N)`` numbers from 0 to 1 by which histories are sampled outside training: one for each known song."""
    return torch.rand(samples, known, generator=torch.Generator().manual_seed(0))


def more_than(length: int, role: Tensor) -> Tensor:
    """``(n,)`` whether a song has more candidates ``(n, C)`` than its history holds; else all its samples are alike."""
    return ((role != NO_SONG) & (role != RETRIEVED)).sum(1) > length


def sample_histories(
    candidates: Candidates, chance: Tensor, generator: torch.Generator, *, length: int, thinning: Thinning | None = None
) -> Tensor:
    """Sample histories of at most ``length`` songs.

    Where there are more candidates the choice is random: songs on the same album come first, then the artist's own
    songs in all but four places. Retrieved songs are added on top of ``length``, all of them.

    Args:
        candidates: of ``n`` songs.
        chance: ``(n, D, C)`` numbers from 0 to 1; where there is not room for all, the highest are chosen.
        generator: of the thinning.
        length: ``H`` without the retrieved songs.
        thinning: in training.

    Returns:
        ``(n, D, H)`` columns of the candidates in the order of the sequence, -1 in front of shorter histories. ``H`` is
        the longest that was sampled.
    """
    n, count = candidates.role.shape
    samples = chance.shape[1]
    role = candidates.role.unsqueeze(1).expand(n, samples, count)
    keep = _kept(role, candidates.same_album, thinning, generator)
    same_album = None if candidates.same_album is None else candidates.same_album.unsqueeze(1)
    values = priority(role, keep, same_album, chance)
    room = length + (candidates.role == RETRIEVED).sum(-1)
    best = values.topk(min(int(room.max()) if n else length, count), dim=-1)
    chosen = (best.values >= 0) & (torch.arange(best.values.shape[-1]) < room[:, None, None])
    longest = int(chosen.sum(-1).max()) if n else 0
    chosen, column = chosen[..., :longest], best.indices[..., :longest]
    place = candidates.key.unsqueeze(1).expand(n, samples, count).gather(-1, column)
    order = torch.where(chosen, place, torch.inf).argsort(dim=-1, descending=True, stable=True)
    return torch.where(chosen, column, -1).gather(-1, order)


def _kept(role: Tensor, same_album: Tensor | None, thinning: Thinning | None, generator: torch.Generator) -> Tensor:
    """``(n, D, C)``: candidates that training leaves in place."""
    n, samples, count = role.shape
    keep = role != NO_SONG
    if thinning is None:
        return keep
    hidden = torch.rand(n, samples, 2, generator=generator) < torch.tensor(thinning.hide)
    # if nobody knows the artist, other names on the song are often unknown as well
    also = torch.rand(n, samples, generator=generator) < 0.5 * (thinning.hide[SAME] < 1)
    hidden[..., CREDITED] |= hidden[..., SAME] & also
    rate = thinning.most * torch.rand(n, samples, 1, generator=generator)
    drop = torch.rand(n, samples, count, generator=generator) < rate
    for kind in (SAME, CREDITED):
        keep = keep & ~((role == kind) & (hidden[..., kind : kind + 1] | drop))
    if same_album is not None:
        hidden = torch.rand(n, samples, 2, generator=generator) < torch.tensor(thinning.hide_album)
        keep = keep & ~((role == ALBUM) & (hidden[..., :1] | drop))
        keep = keep & ~((role == SAME) & same_album.unsqueeze(1) & hidden[..., 1:])
    return keep


def priority(role: Tensor, keep: Tensor, same_album: Tensor | None, chance: Tensor) -> Tensor:
    """``(..., C)``: candidates with the highest values make up the history; -1 for those that are out.

    Args:
        role: of the candidates.
        keep: those that are not out.
        same_album: on the same album, if any album is known.
        chance: numbers from 0 to 1.
    """
    values = torch.where(role == SAME, chance + 1, chance)
    credited = torch.where(keep & (role == CREDITED), chance, -1.0)
    top = credited.topk(min(CREDITED_PLACES, role.shape[-1]), dim=-1)
    values = values.scatter_add(-1, top.indices, torch.where(top.values >= 0, 2.0, 0.0))
    if same_album is not None:
        values = torch.where(same_album, chance + 5, values)
    return torch.where(keep, torch.where(role == RETRIEVED, 9.0, values), -1.0)
