"""Sampled histories, and what of them needs no learning: statistics of their labels, and the order of their tokens.

Glossary of shapes: ``B`` songs, ``D`` sampled histories, ``H`` known songs, ``L = H + TAIL`` tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from popularity.features.related import ALBUM, CREDITED, NO_SONG, SAME
from popularity.models.blocks import rows_of

#: Shrinkage of a history's mean: number of songs of average popularity that are added to it.
_PRIOR = 1.2
TAIL = 3  # tokens behind the known songs: the song, its extras, the read-out
STATISTICS, OF_ALBUM = 5, 4  # numbers that describe a history, and its songs on the same album


class History(NamedTuple):
    """One sampled history of each song of a batch; only ``role`` and ``same_album`` tell padding from songs.

    Attributes:
        song: ``(B, H, S)`` vectors of known songs.
        category: ``(B, H, C)`` their categories.
        label: ``(B, H)`` their standardised popularities.
        month: ``(B, H)`` their release in months since 1970, NaN where unknown.
        role: ``(B, H)``, ``NO_SONG`` at padding.
        same_album: ``(B, H)`` on the song's album, or None where no album is known.
    """

    song: Tensor
    category: Tensor
    label: Tensor
    month: Tensor
    role: Tensor
    same_album: Tensor | None

    def sample(self, number: int) -> History:
        """One of the samples of histories that lead with the sample, ``(D, B, ...)``."""
        return History._make(None if part is None else part[number] for part in self)


def histories_of(batch: Mapping[str, Tensor]) -> History:
    """All samples of the histories of a batch, ``(D, B, ...)``, as `HistoryEncoder.attach` gives them."""
    names = ("history_song", "history_category", "history_label", "history_month", "role")
    return History._make([*(batch[name] for name in names), batch.get("same_album")])


class Reading(NamedTuple):
    """What a history says beside its songs. Each may lead with the sample.

    Attributes:
        statistics: ``(B, 5)`` of labels: shrunk mean and number of the artist's songs, shrunk mean of the credited
            songs, highest and lowest of the artist's; 0 where there are none.
        album: ``(B, 4)`` of labels of known songs on the same album: shrunk mean, number, highest and lowest, 0 where
            there are none; None where no album is known.
        features: ``(B, H, 9)`` of each known song beside its label: its role, one-hot; whether it is on the same
            album; the signed log of the months between it and the song, and whether both dates are known; 1.
        lengths: ``(B,)`` tokens of each sequence.
        inside: ``(B, L)`` tokens that are no padding.
        order: ``(B L,)`` rows of the tokens when the padding in front moves behind the end.
        back: ``(B L,)`` the inverse of that order.
        reverse: ``(B L,)`` rows of the tokens when each sequence is read from its end; its own inverse.
    """

    statistics: Tensor
    album: Tensor | None
    features: Tensor
    lengths: Tensor
    inside: Tensor
    order: Tensor
    back: Tensor
    reverse: Tensor

    def sample(self, number: int) -> Reading:
        """One of the samples."""
        return Reading._make(None if part is None else part[number] for part in self)


def read(history: History, month: Tensor) -> Reading:
    """Read one sample of histories, or all samples at once.

    Args:
        history: ``(B, ...)`` or ``(D, B, ...)``.
        month: ``(B,)`` release of the songs, NaN where unknown.
    """
    label, role, same_album = history.label, history.role, history.same_album
    kinds = [role == SAME, role == CREDITED, *([] if same_album is None else [same_album])]
    some = torch.stack(kinds)
    count = some.sum(-1).to(label.dtype)
    mean, number = (label * some).sum(-1) / (count + _PRIOR), torch.log1p(count)
    high, low = _ends(label, some)
    album = None if same_album is None else torch.stack([mean[2], number[2], high[2], low[2]], -1)
    lengths = (role != NO_SONG).sum(-1) + TAIL
    tokens, length = role.shape[-1] + TAIL, lengths.unsqueeze(-1)
    place = torch.arange(tokens, device=role.device)
    inside = place < length
    places = torch.stack(
        [(place - length) % tokens, (place + length) % tokens, torch.where(inside, length - 1 - place, place)]
    )
    return Reading(
        torch.stack([mean[0], number[0], mean[1], high[0], low[0]], -1), album, _features(history, month),
        lengths, inside, *rows_of(places).unbind(),
    )  # fmt: skip


def _ends(label: Tensor, some: Tensor) -> tuple[Tensor, Tensor]:
    """Highest and lowest of some of the labels ``(..., H)``, each ``(...)``; 0 where there are none of them."""
    others = ~some
    none = others.all(-1)
    # a column is added, for a maximum over no column is refused
    high, low = (F.pad(label.masked_fill(others, end), (0, 1), value=end) for end in (-torch.inf, torch.inf))
    return high.amax(-1).masked_fill(none, 0), low.amin(-1).masked_fill(none, 0)


def _features(history: History, month: Tensor) -> Tensor:
    role, same_album = history.role.clamp_min(0).unsqueeze(-1), history.same_album
    gap = month.unsqueeze(-1) - history.month
    dated = ~gap.isnan()
    gap = torch.nan_to_num(gap)
    numbers = [
        dated.new_zeros(dated.shape) if same_album is None else same_album,
        gap.sign() * gap.abs().log1p() / 4,
        dated,
        torch.ones_like(dated),
    ]
    roles = (role == torch.arange(ALBUM + 1, device=role.device)).to(gap.dtype)
    return torch.cat([roles, torch.stack([number.to(gap.dtype) for number in numbers], -1)], -1)
