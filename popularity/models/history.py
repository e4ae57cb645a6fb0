"""The history model: Mamba reads the known songs of an artist, then the song whose popularity is predicted.

The sequence of a song is: known songs (song + label + role), the song itself, its extras, a read-out token. Shorter
sequences are padded behind their end, where a causal scan cannot see the padding; the backward direction reads each
sequence from its own end.

Glossary of shapes: ``B`` songs, ``D`` sampled histories, ``H`` known songs, ``L = H + 3`` tokens, ``d`` width, ``S``
numbers of a song vector, ``E`` extras.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from popularity.errors import InputError
from popularity.features.base import Inputs
from popularity.features.related import ALBUM, NO_SONG, QUERY
from popularity.models.blocks import BlockName, DirectedBlock, MemberConfig, member_configs, reordered
from popularity.models.dropout import Dropout, dropout
from popularity.models.embedding import SongEmbedding
from popularity.models.histories import OF_ALBUM, STATISTICS, TAIL, History, Reading, histories_of, read
from popularity.models.interactions import Interactions
from popularity.models.mlp import MLPMember
from popularity.models.network import require_inputs, require_ranges
from popularity.models.norm import RMSNorm


class HistoryMember(nn.Module):
    """One member: tokens, blocks, read-out, a linear skip from the inputs and their interactions.

    Args:
        config: what it is made of.
        inputs: sizes of the batch.
        outputs: raw outputs of the head.
        interactions: products of the song's numbers and categories that are read beside the tokens.
        one_token: add all tokens up to a single one, so that the scan has nothing to scan.
    """

    def __init__(
        self, config: MemberConfig, inputs: Inputs, outputs: int, *, interactions: int = 64, one_token: bool = False
    ) -> None:
        super().__init__()
        dropout, feature_dropout = config.dropout, config.feature_dropout
        self.one_token, self.feature_dropout = one_token, feature_dropout
        d, song, seen = config.width, inputs.song, inputs.extras + STATISTICS
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
        self.norm = RMSNorm(d, eps=1e-5)
        self.readout = nn.Sequential(Dropout(dropout), nn.Linear(2 * d, outputs))
        self.skip = nn.Linear(song + seen, outputs)
        self.numbers, numbers = inputs.numbers, inputs.numbers + seen
        rate = config.interaction_dropout
        self.interactions = Interactions(numbers, inputs.codes, interactions, outputs, rate) if interactions else None
        self.album_extras = nn.Parameter(torch.zeros(OF_ALBUM, 2 * d))
        self.album_skip = nn.Parameter(torch.zeros(OF_ALBUM, outputs))

    def forward(self, batch: Mapping[str, Tensor], history: History, reading: Reading | None = None) -> Tensor:
        """Raw outputs ``(B, outputs)``; ``reading`` is what :func:`read` gives for these histories."""
        reading = reading or read(history, batch["month"])
        extras = torch.cat([batch["extras"], reading.statistics], 1)
        album = self._album(reading, extras)
        x, reading = self._sequence(batch, history, reading, (extras, album))  # (B, L, d)
        for block in self.blocks:
            x = block(x, reading.reverse)
        x, lengths = self.norm(x), reading.lengths
        ends = x.shape[1] * torch.arange(x.shape[0], device=x.device) + lengths - 1
        last = x.flatten(0, 1).index_select(0, ends)
        mean = (x * reading.inside.unsqueeze(-1)).sum(1) / lengths.unsqueeze(1)
        skipped = self.skip(torch.cat([batch["song"], extras], -1)) + album @ self.album_skip
        raw: Tensor = self.readout(torch.cat([last, mean], -1)) + skipped
        if self.interactions is not None:
            numbers = torch.cat([batch["song"][:, : self.numbers], extras], 1)
            raw = raw + self.interactions(numbers, batch["category"])
        return raw

    def _album(self, reading: Reading, like: Tensor) -> Tensor:
        """``(B, 4)``, with feature dropout; 0 where no album is known."""
        if reading.album is None:
            return like.new_zeros(like.shape[0], OF_ALBUM)
        return dropout(reading.album, self.feature_dropout, self.training)

    def _sequence(
        self, batch: Mapping[str, Tensor], history: History, reading: Reading, seen: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Reading]:
        """Tokens ``(B, L, d)``, padded behind their end, and how they are read."""
        known, query = self.embedded(batch, history)
        query = query + self.role.weight[QUERY]
        extras, album = seen
        hide, into, activation, dropout, out = self.extras
        embedded = out(dropout(activation(into(hide(extras)) + album @ self.album_extras)))
        tail = torch.stack([query, embedded, self.readout_token.expand_as(query)], 1)
        x = torch.cat([self._tokens(history, reading, known), tail], 1)
        if not self.one_token:
            return reordered(x, reading.order, reading.back), reading
        here = torch.cat([history.role != NO_SONG, reading.inside[:, :TAIL]], 1)
        total = (x * here.unsqueeze(-1)).sum(1) / reading.lengths.to(x.dtype).unsqueeze(1).sqrt()
        alone = torch.arange(len(x), device=x.device)
        one = reading._replace(lengths=torch.ones_like(reading.lengths), inside=reading.inside[:, :1], reverse=alone)
        return total.unsqueeze(1), one

    def embedded(self, batch: Mapping[str, Tensor], history: History) -> tuple[Tensor, Tensor]:
        """Known songs ``(B, H, d)`` and the songs ``(B, d)``, in one pass."""
        songs = history.song.flatten(0, 1), history.category.flatten(0, 1)
        both = self.song(songs, history.role.flatten(), (batch["song"], batch["category"]))
        known, query = both.split([history.role.numel(), len(history.role)])
        return known.view(*history.role.shape, query.shape[-1]), query

    def _tokens(self, history: History, reading: Reading, known: Tensor) -> Tensor:
        """Tokens of known songs, ``(B, H, d)``, from the embedded songs; at padding, anything finite."""
        into, activation, out = self.label
        assert isinstance(out, nn.Linear)
        label = activation(into(history.label.unsqueeze(-1)))
        # of `Reading.features`: what is linear in them is one product
        weights = torch.cat([self.role.weight, self.album_role, self.gap.weight.t(), out.bias.unsqueeze(0)])
        tokens = torch.addmm(known.flatten(0, 1), reading.features.flatten(0, 1), weights)
        return torch.addmm(tokens, label.flatten(0, 1), out.weight.t()).view_as(known)


class HistoryMamba(nn.Module):
    """Mamba over the known songs of the names on a song, then the song itself.

    Its members read the same songs, each through its share of the sampled histories, and are averaged. Settings with
    several values have one for each member that reads tokens; by default the first of these is regularised strongly,
    the second lightly.

    Args:
        inputs: sizes of the batch, from the encoder.
        outputs: raw outputs of the head.
        members: networks that read tokens, trained side by side and averaged; 0 for none but the one of ``mlp_width``.
        width: width of the tokens.
        layers: residual blocks.
        block: what mixes the tokens: ``mamba2`` (SSD), ``mamba`` (S6), ``mamba3`` or ``none``.
        d_state: state size of the scan.
        d_conv: taps of the causal convolution; ``mamba3`` has none.
        expand: inner width of a block over its width.
        bidirectional: read the tokens in both directions.
        dropout: in embeddings, after each block and before the head.
        feature_dropout: share of input features that training hides, but from interactions.
        interactions: products of the song's numbers and categories that are read beside the tokens; 0 for none.
        interaction_dropout: of these products; by default `fit` chooses it by the number of training songs.
        mlp_width: width of one more member, which reads numbers instead of tokens (`MLPMember`); 0 for none.
        mlp_dropout: of this member; by default `fit` chooses it by the number of training songs.
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
        bidirectional: bool | tuple[bool, ...] = False,
        dropout: float | tuple[float, ...] = (0.25, 0.2),
        feature_dropout: float | tuple[float, ...] = (0.35, 0.25),
        interactions: int = 64,
        interaction_dropout: float | tuple[float, ...] | None = None,
        mlp_width: int = 256,
        mlp_dropout: float | None = None,
        one_token: bool = False,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("interactions", interactions, 0),
            ("mlp_width", mlp_width, 0),
            ("members", members, 0 if mlp_width else 1),
        ):
            if value < least:
                raise InputError(f"model.net.{name}: expected at least {least}, got {value}")
        mlp_dropout = 0.3 if mlp_dropout is None else mlp_dropout
        require_ranges(at_least_one={}, shares={"mlp_dropout": mlp_dropout})
        require_inputs(self, inputs, "song", "HistoryEncoder")
        configs = member_configs(
            max(1, members),
            block=block,
            width=width,
            layers=layers,
            d_state=d_state,
            d_conv=d_conv,
            expand=expand,
            bidirectional=bidirectional,
            dropout=dropout,
            feature_dropout=feature_dropout,
            interaction_dropout=0.6 if interaction_dropout is None else interaction_dropout,
        )
        self.members = nn.ModuleList(
            HistoryMember(config, inputs, outputs, interactions=interactions, one_token=one_token)
            for config in configs[:members]
        )
        if mlp_width:
            self.members.append(MLPMember(inputs, outputs, mlp_width, mlp_dropout))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs ``(M, B, outputs)``, one for each sampled history; member ``k`` reads the ``k``-th share of them.

        With fewer samples than members, members share samples.
        """
        samples, count = len(batch["role"]), len(self.members)
        each, histories = max(1, samples // count), histories_of(batch)
        reading = read(histories, batch["month"])
        raw = []
        for index, member in enumerate(self.members):
            for step in range(each):
                at = (index * each + step) % samples
                raw.append(member(batch, histories.sample(at), reading.sample(at)))
        return torch.stack(raw)
