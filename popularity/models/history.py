"""The history model: Mamba reads the known songs of an artist, then the song whose popularity is predicted.

The sequence of a song is: known songs (song + label + role), the song itself, its extras, a read-out token. Shorter
sequences are padded behind their end, where a causal scan cannot see the padding; the backward direction reads each
sequence from its own end.

Glossary of shapes: ``B`` songs, ``D`` sampled histories, ``H`` known songs, ``L = H + 3`` tokens, ``d`` width, ``S``
numbers of a song vector, ``E`` extras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.features.base import Inputs
from popularity.features.related import ALBUM, CREDITED, NO_SONG, QUERY, SAME
from popularity.models.blocks import BlockName, DirectedBlock, MemberConfig, member_configs, reordered
from popularity.models.dropout import Dropout, dropout
from popularity.models.network import require_inputs

#: Shrinkage of a history's mean: number of songs of average popularity that are added to it.
_PRIOR = 1.2
_TAIL = 3  # tokens behind the known songs: the song, its extras, the read-out
_STATISTICS, _OF_ALBUM = 5, 4  # numbers that describe a history, and its songs on the same album


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


def history_of(batch: Mapping[str, Tensor], sample: int) -> History:
    """One sample of the histories of a batch, as `HistoryEncoder.attach` gives them."""
    return History(
        batch["history_song"][sample],
        batch["history_category"][sample],
        batch["history_label"][sample],
        batch["history_month"][sample],
        batch["role"][sample],
        batch["same_album"][sample] if "same_album" in batch else None,
    )


class SongEmbedding(nn.Module):
    """Song vectors ``(..., S)`` and categories ``(..., C)`` to ``(..., d)``, by a network with one hidden layer.

    Args:
        size: ``S``.
        codes: number of codes of each category.
        width: ``d``.
        dropout: of the hidden layer.
        feature_dropout: of the inputs.
    """

    offsets: Tensor

    def __init__(self, size: int, codes: Sequence[int], width: int, dropout: float, feature_dropout: float) -> None:
        super().__init__()
        self.feature_dropout = feature_dropout
        self.vector = nn.Linear(size, 2 * width)
        self.category = nn.Embedding(sum(codes), 2 * width)
        nn.init.normal_(self.category.weight, std=size**-0.5)
        self.out = nn.Sequential(nn.SiLU(), Dropout(dropout), nn.Linear(2 * width, width))
        self.register_buffer("offsets", torch.tensor([0, *codes[:-1]]).cumsum(0), persistent=False)

    def forward(self, song: Tensor, category: Tensor) -> Tensor:
        """See the class."""
        if self.training and self.feature_dropout > 0:
            song = dropout(song, self.feature_dropout)
            hidden = torch.rand(category.shape, device=category.device) < self.feature_dropout
            category = category.masked_fill(hidden, 0)
        codes = category + self.offsets
        embedded = F.embedding_bag(codes.flatten(0, -2), self.category.weight, mode="sum")
        out: Tensor = self.out(self.vector(song) + embedded.view(*codes.shape[:-1], self.category.embedding_dim))
        return out


class HistoryMember(nn.Module):
    """One member: tokens, blocks, read-out and a linear skip from the inputs.

    Args:
        config: what it is made of.
        inputs: sizes of the batch.
        outputs: raw outputs of the head.
        one_token: add all tokens up to a single one, so that the scan has nothing to scan.
    """

    def __init__(self, config: MemberConfig, inputs: Inputs, outputs: int, *, one_token: bool = False) -> None:
        super().__init__()
        dropout, feature_dropout = config.dropout, config.feature_dropout
        self.one_token, self.feature_dropout = one_token, feature_dropout
        d, song, seen = config.width, inputs.song, inputs.extras + _STATISTICS
        self.song = SongEmbedding(song, inputs.codes, d, dropout, feature_dropout)
        self.label = nn.Sequential(nn.Linear(1, d), nn.SiLU(), nn.Linear(d, d))
        self.gap = nn.Linear(2, d, bias=False)
        self.role = nn.Embedding(ALBUM, d)
        # weights for albums start at 0: a file without albums leaves the network as if it had none
        self.album_role = nn.Parameter(torch.zeros(2, d))  # by others on the same album; by anybody on the same album
        self.extras = nn.Sequential(
            Dropout(feature_dropout), nn.Linear(seen, 2 * d), nn.SiLU(), Dropout(dropout), nn.Linear(2 * d, d)
        )
        self.readout_token = nn.Parameter(torch.randn(d) * 0.02)
        self.blocks = nn.ModuleList(DirectedBlock(config, scale=0.7) for _ in range(config.layers))
        self.norm = nn.RMSNorm(d, eps=1e-5)
        self.readout = nn.Sequential(Dropout(dropout), nn.Linear(2 * d, outputs))
        self.skip = nn.Linear(song + seen, outputs)
        self.album_extras = nn.Parameter(torch.zeros(_OF_ALBUM, 2 * d))
        self.album_skip = nn.Parameter(torch.zeros(_OF_ALBUM, outputs))

    def forward(self, batch: Mapping[str, Tensor], history: History) -> Tensor:
        """Raw outputs ``(B, outputs)``."""
        extras = torch.cat([batch["extras"], _statistics(history)], 1)
        album = self._album(history)
        x, lengths = self._sequence(batch, history, extras, album)  # (B, L, d), (B)
        place = torch.arange(x.shape[1], device=x.device)
        inside = place < lengths.unsqueeze(1)  # (B, L)
        reverse = torch.where(inside, lengths.unsqueeze(1) - 1 - place, place)
        for block in self.blocks:
            x = block(x, reverse)
        x = self.norm(x)
        ends = x.shape[1] * torch.arange(x.shape[0], device=x.device) + lengths - 1
        last = x.flatten(0, 1).index_select(0, ends)
        mean = (x * inside.unsqueeze(-1)).sum(1) / lengths.unsqueeze(1)
        skipped = self.skip(torch.cat([batch["song"], extras], -1)) + album @ self.album_skip
        raw: Tensor = self.readout(torch.cat([last, mean], -1)) + skipped
        return raw

    def _sequence(
        self, batch: Mapping[str, Tensor], history: History, extras: Tensor, album: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens ``(B, L, d)``, padded behind their end, and their number ``(B)``."""
        known, query = self.embedded(batch, history)
        query = query + self.role.weight[QUERY]
        hide, into, activation, dropout, out = self.extras
        embedded = out(dropout(activation(into(hide(extras)) + album @ self.album_extras)))
        tail = torch.stack([query, embedded, self.readout_token.expand_as(query)], 1)
        here = history.role != NO_SONG
        x = torch.cat([self._tokens(batch, history, known) * here.unsqueeze(-1), tail], 1)
        lengths = here.sum(1) + _TAIL
        if self.one_token:
            total = x.sum(1) / lengths.to(x.dtype).unsqueeze(1).sqrt()
            return total.unsqueeze(1), torch.ones_like(lengths)
        place = torch.arange(x.shape[1], device=x.device)
        # the padding in front moves behind the end
        return reordered(x, (place - lengths.unsqueeze(1)) % x.shape[1]), lengths

    def embedded(self, batch: Mapping[str, Tensor], history: History) -> tuple[Tensor, Tensor]:
        """Known songs with their popularities ``(B, H, d)``, and the songs ``(B, d)``, in one pass."""
        song = torch.cat([history.song.flatten(0, 1), batch["song"]])
        both = self.song(song, torch.cat([history.category.flatten(0, 1), batch["category"]]))
        known, query = both.split([history.role.numel(), len(history.role)])
        return known.view(*history.role.shape, query.shape[-1]) + self.label(history.label.unsqueeze(-1)), query

    def _tokens(self, batch: Mapping[str, Tensor], history: History, known: Tensor) -> Tensor:
        """Tokens of known songs, ``(B, H, d)``, from the embedded songs."""
        role = F.embedding(history.role.clamp_min(0), torch.cat([self.role.weight, self.album_role]))
        tokens: Tensor = known + role + self.gap(_gap(batch["month"], history.month))
        if history.same_album is not None:
            tokens = tokens + history.same_album.unsqueeze(-1) * self.album_role[1]
        return tokens

    def _album(self, history: History) -> Tensor:
        """Labels of known songs on the same album, ``(B, 4)``, with feature dropout; 0 where there are none.

        Shrunk mean, number, highest and lowest.
        """
        label, same = history.label, history.same_album
        if same is None:
            return label.new_zeros(label.shape[0], _OF_ALBUM)
        count = same.sum(1).to(label.dtype)
        mean = (label * same).sum(1) / (count + _PRIOR)
        return dropout(
            torch.stack([mean, torch.log1p(count), *_ends(label, same)], 1), self.feature_dropout, self.training
        )


def _statistics(history: History) -> Tensor:
    """Labels of the names' songs, ``(B, 5)``; 0 where there are none.

    Shrunk mean and number of the artist's songs, shrunk mean of the credited songs, highest and lowest of the artist's.
    """
    label = history.label
    same, credited = history.role == SAME, history.role == CREDITED
    count, others = same.sum(1).to(label.dtype), credited.sum(1).to(label.dtype)
    means = [(label * role).sum(1) / (number + _PRIOR) for role, number in ((same, count), (credited, others))]
    return torch.stack([means[0], torch.log1p(count), means[1], *_ends(label, same)], 1)


def _ends(label: Tensor, some: Tensor) -> tuple[Tensor, Tensor]:
    """Highest and lowest of some of the labels ``(B, H)``, each ``(B,)``; 0 where there are none of them."""
    none = ~some.any(1)
    # a column is added, for a maximum over no column is refused
    high, low = (F.pad(label.masked_fill(~some, end), (0, 1), value=end) for end in (-torch.inf, torch.inf))
    return high.amax(1).masked_fill(none, 0), low.amin(1).masked_fill(none, 0)


def _gap(month: Tensor, known: Tensor) -> Tensor:
    """``(B, H, 2)``: signed log of the months between a known song and the song, and whether both dates are known."""
    gap = month.unsqueeze(1) - known
    dated = ~gap.isnan()
    gap = torch.nan_to_num(gap)
    return torch.stack([gap.sign() * gap.abs().log1p() / 4, dated.to(gap.dtype)], -1)


class HistoryMamba(nn.Module):
    """Mamba over the known songs of the names on a song, then the song itself.

    Its members read the same songs, each through sampled histories of its own, and are averaged. Settings with several
    values have one for each member; by default the first member is regularised strongly, the second lightly.

    Args:
        inputs: sizes of the batch, from the encoder.
        outputs: raw outputs of the head.
        members: networks trained side by side and averaged.
        width: width of the tokens.
        layers: residual blocks.
        block: what mixes the tokens: ``mamba2`` (SSD), ``mamba`` (S6), ``mamba3`` or ``none``.
        d_state: state size of the scan.
        d_conv: taps of the causal convolution; ``mamba3`` has none.
        expand: inner width of a block over its width.
        bidirectional: read the tokens in both directions.
        dropout: in embeddings, after each block and before the head.
        feature_dropout: share of input features that training hides.
        one_token: add all tokens up to one, so that there is nothing to scan; for comparison.

    Raises:
        InputError: a setting is out of range, or the encoder gives no histories.
    """

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        members: int = 2,
        width: int | tuple[int, ...] = (32, 24),
        layers: int = 1,
        block: BlockName | tuple[BlockName, ...] = "mamba2",
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        bidirectional: bool | tuple[bool, ...] = True,
        dropout: float | tuple[float, ...] = (0.25, 0.2),
        feature_dropout: float | tuple[float, ...] = (0.35, 0.25),
        one_token: bool = False,
    ) -> None:
        super().__init__()
        require_inputs(self, inputs, "song", "HistoryEncoder")
        configs = member_configs(
            members,
            block=block,
            width=width,
            layers=layers,
            d_state=d_state,
            d_conv=d_conv,
            expand=expand,
            bidirectional=bidirectional,
            dropout=dropout,
            feature_dropout=feature_dropout,
        )
        self.members = nn.ModuleList(HistoryMember(config, inputs, outputs, one_token=one_token) for config in configs)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs ``(M, B, outputs)``, one for each sampled history; member ``k`` reads the ``k``-th share of them.

        With fewer samples than members, members share samples.
        """
        samples, count = len(batch["role"]), len(self.members)
        each = max(1, samples // count)
        return torch.stack(
            [
                member(batch, history_of(batch, (index * each + step) % samples))
                for index, member in enumerate(self.members)
                for step in range(each)
            ]
        )
