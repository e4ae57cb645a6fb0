"""The history model: Mamba reads the known songs of an artist, then the song that is asked about.

The sequence of a song is: known songs (song + label + role), the song itself, its extras, a read-out token. Shorter
sequences are padded behind their end, where a causal scan cannot see them; the backward direction reads each sequence
from its own end.

Glossary of shapes: ``B`` songs, ``H`` known songs, ``L = H + 3`` tokens, ``d`` width, ``S`` numbers of a song vector,
``E`` extras, ``K`` members.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.features.related import ALBUM, CREDITED, NOBODY, QUERY, SAME
from popularity.models.heads import HistogramHead, MSEHead
from popularity.models.mamba import Mamba
from popularity.models.mamba2 import Mamba2

BlockName = Literal["mamba", "mamba2", "none"]

#: Shrinkage of the history's mean: as many songs of the average popularity as are added to it.
_PRIOR = 1.2
#: Histories have a dozen tokens: Mamba-2 starts with heads that look as far as that, not thousands of tokens.
_SHORT: dict[str, Any] = {"dt_min": 0.01, "dt_max": 0.3, "A_init_range": (0.5, 4.5)}
_TAIL = 3  # tokens behind the known songs: the song, its extras, the read-out


@dataclass(frozen=True)
class Plan:
    """What one member of the model is made of.

    Attributes:
        block: what mixes the tokens: Mamba (S6), Mamba-2 (SSD), or nothing.
        width: ``d``.
        layers: residual blocks.
        d_state: state size.
        d_conv: taps of the causal convolution.
        expand: inner width of a block over ``d``.
        bidirectional: read in both directions.
        text_scores: the extras hold what a ridge regression on the texts says, beside the history's statistics.
        difference: see how a known song differs from the one asked about.
    """

    block: BlockName = "mamba2"
    width: int = 48
    layers: int = 1
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    bidirectional: bool = True
    text_scores: bool = False
    difference: bool = False


class SongEmbedding(nn.Module):
    """Song vectors ``(..., S)`` and categories ``(..., C)`` to ``(..., d)`` by a network of one hidden layer.

    Args:
        size: ``S``.
        codes: number of codes of each category.
        width: ``d``.
        dropout: of the hidden layer.
        input_dropout: of the inputs.
    """

    offsets: Tensor

    def __init__(self, size: int, codes: Sequence[int], width: int, dropout: float, input_dropout: float) -> None:
        super().__init__()
        self.input_dropout = input_dropout
        self.vector = nn.Linear(size, 2 * width)
        self.category = nn.Embedding(sum(codes), 2 * width)
        nn.init.normal_(self.category.weight, std=size**-0.5)
        self.out = nn.Sequential(nn.SiLU(), nn.Dropout(dropout), nn.Linear(2 * width, width))
        self.register_buffer("offsets", torch.tensor([0, *codes[:-1]]).cumsum(0), persistent=False)

    def forward(self, song: Tensor, category: Tensor) -> Tensor:
        """See the class."""
        if self.training and self.input_dropout > 0:
            song = F.dropout(song, self.input_dropout)
            hidden = torch.rand(category.shape, device=category.device) < self.input_dropout
            category = category.masked_fill(hidden, 0)
        codes = category + self.offsets
        embedded = F.embedding_bag(codes.flatten(0, -2), self.category.weight, mode="sum")
        return self.out(self.vector(song) + embedded.view(*codes.shape[:-1], self.category.embedding_dim))


class DirectedBlock(nn.Module):
    """Pre-norm residual block, ``x + dropout(mix(rms_norm(x)))``, in one direction or two.

    Args:
        plan: of the member.
        dropout: after the block.
    """

    def __init__(self, plan: Plan, dropout: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(plan.width, eps=1e-5)
        self.forward_mamba = _mixer(plan)
        self.backward_mamba = _mixer(plan) if plan.bidirectional else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, reverse: Tensor) -> Tensor:
        """``(B, L, d)`` to ``(B, L, d)``; ``reverse`` ``(B, L)`` reads each sequence from its own end."""
        normed = self.norm(x)
        mixed = self.forward_mamba(normed)
        if self.backward_mamba is not None:
            index = reverse.unsqueeze(-1).expand_as(x)
            mixed = (mixed + self.backward_mamba(normed.gather(1, index)).gather(1, index)) * 0.7
        return x + self.dropout(mixed)


def _mixer(plan: Plan) -> nn.Module:
    if plan.block == "none":
        return nn.Identity()
    if plan.block == "mamba2":
        channels = math.gcd(16, plan.expand * plan.width)  # of a head: any width comes out even
        return Mamba2(
            plan.width, d_state=plan.d_state, d_conv=plan.d_conv, expand=plan.expand, headdim=channels, **_SHORT
        )
    return Mamba(plan.width, d_state=plan.d_state, d_conv=plan.d_conv, expand=plan.expand)


class HistoryMember(nn.Module):
    """One member: tokens, blocks, read-out and a linear skip from the inputs.

    Args:
        plan: what it is made of.
        song: ``S``.
        extras: ``E``.
        codes: number of codes of each category.
        outputs: raw outputs of the head.
        dropout: inside embeddings, after blocks and before the head.
        input_dropout: of song vectors, categories and extras.
        one_token: all tokens added up to a single one: the scan has nothing to scan.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        song: int,
        extras: int,
        codes: Sequence[int],
        outputs: int,
        dropout: float,
        input_dropout: float,
        one_token: bool = False,
    ) -> None:
        super().__init__()
        self.plan, self.one_token = plan, one_token
        d, seen = plan.width, (extras if plan.text_scores else 0) + 3
        self.song = SongEmbedding(song, codes, d, dropout, input_dropout)
        self.label = nn.Sequential(nn.Linear(1, d), nn.SiLU(), nn.Linear(d, d))
        self.gap = nn.Linear(2, d, bias=False)
        self.role = nn.Embedding(ALBUM, d)
        # albums come on top of a network that knows none, and files without albums leave it so: all begin at 0
        self.album_role = nn.Parameter(torch.zeros(2, d))  # by others on the same album; by anybody on the same album
        self.difference = nn.Linear(song, d, bias=False) if plan.difference else None
        self.extras = nn.Sequential(
            nn.Dropout(input_dropout), nn.Linear(seen, 2 * d), nn.SiLU(), nn.Dropout(dropout), nn.Linear(2 * d, d)
        )
        self.readout_token = nn.Parameter(torch.randn(d) * 0.02)
        self.blocks = nn.ModuleList(DirectedBlock(plan, dropout) for _ in range(plan.layers))
        self.norm = nn.RMSNorm(d, eps=1e-5)
        self.readout = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * d, outputs))
        self.skip = nn.Linear(song + seen, outputs)
        self.input_dropout = input_dropout
        self.album_extras = nn.Parameter(torch.zeros(2, 2 * d))
        self.album_skip = nn.Parameter(torch.zeros(2, outputs))

    def forward(
        self, batch: Mapping[str, Tensor], memory: Memory, known: Tensor, kind: Tensor, mate: Tensor | None = None
    ) -> Tensor:
        """Raw outputs ``(B, outputs)``.

        ``known``, ``kind`` and ``mate`` ``(B, H)``: rows of known songs, their roles, and who is on the same album.
        """
        song, category = batch["song"], batch["category"]
        here = kind != NOBODY
        label = memory.label[known] * here
        extras = self._extras(batch, label, kind)
        album = self._album(label, mate)
        query = self.song(song, category) + self.role.weight[QUERY]
        hide, into, activation, dropout, out = self.extras
        told = out(dropout(activation(into(hide(extras)) + album @ self.album_extras)))
        tail = [query, told, self.readout_token.expand_as(query)]
        vectors = memory.song[known]
        tokens = self.song(vectors, memory.category[known]) + self.label(label.unsqueeze(-1))
        role = F.embedding(kind.clamp_min(0), torch.cat([self.role.weight, self.album_role]))
        tokens = tokens + role + self.gap(_gap(batch["month"], memory.month[known]))
        if mate is not None:
            tokens = tokens + mate.unsqueeze(-1) * self.album_role[1]
        if self.difference is not None:
            tokens = tokens + self.difference(vectors - song.unsqueeze(1))
        x = torch.cat([tokens * here.unsqueeze(-1), torch.stack(tail, 1)], 1)
        lengths = here.sum(1) + _TAIL
        if self.one_token:
            x = (x.sum(1) / lengths.to(x.dtype).unsqueeze(1).sqrt()).unsqueeze(1)
            lengths = torch.ones_like(lengths)
        place = torch.arange(x.shape[1], device=x.device)
        # the padding in front moves behind the end
        x = x.gather(1, ((place - lengths.unsqueeze(1)) % x.shape[1]).unsqueeze(-1).expand_as(x))
        inside = place < lengths.unsqueeze(1)
        reverse = torch.where(inside, lengths.unsqueeze(1) - 1 - place, place)
        for block in self.blocks:
            x = block(x, reverse)
        x = self.norm(x)
        last = x[torch.arange(len(x), device=x.device), lengths - 1]
        mean = (x * inside.unsqueeze(-1)).sum(1) / lengths.unsqueeze(1)
        skipped = self.skip(torch.cat([song, extras], -1)) + album @ self.album_skip
        return self.readout(torch.cat([last, mean], -1)) + skipped

    def _extras(self, batch: Mapping[str, Tensor], label: Tensor, kind: Tensor) -> Tensor:
        """Scores of the texts; shrunk mean and number of the artist's songs, shrunk mean of the credited ones."""
        of_artist, credited = kind == SAME, kind == CREDITED
        count, others = of_artist.sum(1).to(label.dtype), credited.sum(1).to(label.dtype)
        statistics = [
            (label * of_artist).sum(1) / (count + _PRIOR),
            torch.log1p(count),
            (label * credited).sum(1) / (others + _PRIOR),
        ]
        shown = torch.stack(statistics, 1)
        return torch.cat([batch["extras"], shown], 1) if self.plan.text_scores else shown

    def _album(self, label: Tensor, mate: Tensor | None) -> Tensor:
        """Shrunk mean and number of the album mates, ``(B, 2)``; in training some are hidden like all inputs."""
        if mate is None:
            return label.new_zeros(len(label), 2)
        count = mate.sum(1).to(label.dtype)
        shown = torch.stack([(label * mate).sum(1) / (count + _PRIOR), torch.log1p(count)], 1)
        return F.dropout(shown, self.input_dropout, self.training)


def _gap(month: Tensor, known: Tensor) -> Tensor:
    """``(B, H, 2)``: signed log of the months between a known song and the song, and whether it is known."""
    gap = month.unsqueeze(1) - known
    dated = ~gap.isnan()
    gap = torch.nan_to_num(gap)
    return torch.stack([gap.sign() * gap.abs().log1p() / 4, dated.to(gap.dtype)], -1)


class Memory(nn.Module):
    """What the network reads of the known songs: ``song`` ``(N, S)``, ``category``, ``label``, ``month`` ``(N)``.

    Buffers that follow the module to its device but are not part of its weights: the encoder's state keeps them.
    """

    song: Tensor
    category: Tensor
    label: Tensor
    month: Tensor

    def __init__(self, song: int, categories: int) -> None:
        super().__init__()
        self.register_buffer("song", torch.zeros(1, song), persistent=False)
        self.register_buffer("category", torch.zeros(1, categories, dtype=torch.long), persistent=False)
        self.register_buffer("label", torch.zeros(1), persistent=False)
        self.register_buffer("month", torch.zeros(1), persistent=False)

    def fill(self, known: Mapping[str, Tensor]) -> None:
        """Take over the known songs of an encoder; labels are standardised."""
        popularity = known["popularity"]
        spread = popularity.std(correction=0) if len(popularity) else torch.tensor(1.0)
        values = {
            "song": known["song"],
            "category": known["category"],
            "label": (popularity - popularity.mean()) / spread.clamp_min(1e-3),
            "month": known["month"],
        }
        for name, value in values.items():
            old = getattr(self, name)
            setattr(self, name, value.to(old.device, old.dtype if value.is_floating_point() else None, copy=True))


class HistoryNet(nn.Module):
    """Members that read the same songs, each through histories of its own, as one model.

    In training raw outputs are ``(K, B, outputs)``: each member learns alone. In evaluation they are ``(B, outputs)``,
    the mean of all members' distributions over all drawn histories.

    Args:
        plans: one for each member.
        head: what turns raw outputs into a loss and a prediction.
        song: ``S``.
        extras: ``E``.
        codes: number of codes of each category.
        dropout: see :class:`HistoryMember`.
        input_dropout: see :class:`HistoryMember`.
        one_token: see :class:`HistoryMember`.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        *,
        head: HistogramHead | MSEHead,
        song: int,
        extras: int,
        codes: Sequence[int],
        dropout: float,
        input_dropout: float,
        one_token: bool = False,
    ) -> None:
        super().__init__()
        self.memory = Memory(song, len(codes))
        self.members = nn.ModuleList(
            HistoryMember(
                plan,
                song=song,
                extras=extras,
                codes=codes,
                outputs=head.outputs,
                dropout=dropout,
                input_dropout=input_dropout,
                one_token=one_token,
            )
            for plan in plans
        )
        self.head = head

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs for songs as ``HistoryEncoder.draw`` gives them, see the class."""
        known, kind, mate = batch["known"], batch["kind"], batch.get("mate")
        repeats = known.shape[1] // len(self.members)
        raws = []
        for index, member in enumerate(self.members):
            for at in range(index * repeats, (index + 1) * repeats):
                mates = None if mate is None else mate[:, at]
                raws.append(member(batch, self.memory, known[:, at], kind[:, at], mates))
        raw = torch.stack(raws)
        return raw if self.training else self.head.mix(raw)
