"""The history network as a graph: what songs without known songs cost is short, and a block takes few operations.

All samples of a song are alike where its candidates fit into one history, and one sequence is read then. A song that
knows no songs has three tokens.

Glossary of shapes: ``B`` songs, ``R`` songs that may know some, ``D`` samples, ``Q`` sequences, ``H`` known songs of a
history, ``L = H + 3`` tokens, ``d`` width, ``h`` heads, ``p`` channels of a head, ``n`` states.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.features.encoder import HistoryEncoder
from popularity.inference.export_lookup import Tables, taken
from popularity.models.heads import Head
from popularity.models.histories import History, histories_of
from popularity.models.history import HistoryMamba, HistoryMember
from popularity.models.known_songs import embed_known_songs
from popularity.models.mamba2 import Mamba2
from popularity.models.mamba2_torch import EPSILON
from popularity.models.ssd import CHUNK, segment_indicator

_SONG = ("song", "category", "extras", "month")


class DenseMamba2(Tables):
    """What `Mamba2` computes of sequences of at most `CHUNK` tokens, in few operations on few numbers.

    The convolution is part of the projection, which reads a token beside those before it; the weights of the norm are
    part of the last projection, whose result is scaled in place of what it reads; a head has projections of its own,
    so that nothing is transposed; and the skip is the diagonal of what mixes the tokens.

    Args:
        block: trained, with one group.
    """

    def __init__(self, block: Mamba2) -> None:
        super().__init__()
        w_in, conv, conv_bias, dt_bias, A_log, D, norm, w_out = (
            parameter.detach() for parameter in block.block_parameters()
        )
        self.taps, self.heads, self.inner = block.d_conv, block.nheads, block.d_inner
        z, xbc, dt = w_in.split([block.d_inner, block.conv_dim, block.nheads])
        by_tap = (xbc.unsqueeze(1) * conv.transpose(1, 2)).flatten(1).t()  # (taps d, channels), the earliest first
        sizes = [block.headdim] * self.heads + [block.d_state] * 2
        for name, of in (("tap", by_tap.split(sizes, 1)), ("bias", conv_bias.split(sizes))):
            for place, part in enumerate(of):
                self.register_buffer(f"{name}_{place}", part.contiguous())
        tensors = {
            "gate": z.t(), "step": dt.t(), "dt_bias": dt_bias, "log_decay": -A_log.exp().unsqueeze(1),
            "skip": D.reshape(-1, 1, 1), "out": (w_out * norm).t(),
        }  # fmt: skip
        for name, value in tensors.items():
            self.register_buffer(name, value.contiguous())

    def forward(self, u: Tensor) -> Tensor:
        """``(Q, L, d)`` to ``(Q, L, d)``."""
        sequences, length, _ = u.shape
        padded = F.pad(u, (0, 0, self.taps - 1, 0))
        beside = torch.cat([padded[:, tap : tap + length] for tap in range(self.taps)], 2)
        *x, B, C = (
            F.silu(beside @ getattr(self, f"tap_{part}") + getattr(self, f"bias_{part}"))
            for part in range(self.heads + 2)
        )
        dt = F.softplus(u @ self.step + self.dt_bias).transpose(1, 2)  # (Q, h, L)
        segments = torch.mm((dt * self.log_decay).reshape(-1, length), segment_indicator(length, u))
        weights = torch.bmm(C, B.transpose(1, 2)).tril().unsqueeze(1)
        mixing = segments.exp().view(sequences, self.heads, length, length) * weights * dt.unsqueeze(2)
        mixing = mixing + self.skip * torch.eye(length, dtype=u.dtype)
        y = torch.cat([torch.bmm(mixing[:, head], of) for head, of in enumerate(x)], 2)
        gated = y * F.silu(u @ self.gate)
        scale = ((gated * gated).mean(2, keepdim=True) + EPSILON).rsqrt()
        return (gated @ self.out) * scale


class HistoryNetwork(nn.Module):
    """What `HistoryMamba` gives, mixed by a head.

    Args:
        net: trained; left as it was.
        head: mixes its members and samples.
        encoder: with the known songs.
    """

    def __init__(self, net: HistoryMamba, head: Head, encoder: HistoryEncoder) -> None:
        super().__init__()
        self.members, self.head = copy.deepcopy(net).members, head
        embed_known_songs(self, encoder)
        for member in self.members:
            for block in member.blocks:
                for name in ("forward_mamba", "backward_mamba"):
                    mixer = getattr(block, name)
                    if isinstance(mixer, Mamba2) and mixer.ngroups == 1 and encoder.history + 3 <= CHUNK:
                        setattr(block, name, DenseMamba2(mixer))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs ``(B, K)``.

        Args:
            batch: from `popularity.inference.export_encoder.Histories`: of all songs, and the histories of those in
                ``rows`` ``(R,)``; ``crowded`` ``(R,)`` tells those whose samples differ.
        """
        nothing = self._nothing(batch)
        alone = self.head.mix(torch.stack([member(batch, nothing) for member in self.members]))
        rows = batch["rows"]
        songs = {name: taken(batch[name], rows) for name in _SONG}
        return alone.index_put((rows,), self._read(songs, histories_of(batch), batch["crowded"]))

    @staticmethod
    def _nothing(batch: Mapping[str, Tensor]) -> History:
        none = batch["month"].unsqueeze(1)[:, :0]
        return History(none.long(), none.long(), none, none, none.long(), None)

    def _read(self, songs: Mapping[str, Tensor], histories: History, crowded: Tensor) -> Tensor:
        """Mixed outputs ``(R, K)`` of songs and their histories ``(D, R, H)``."""
        samples, count = histories.role.shape[0], len(self.members)
        each = max(1, samples // count)
        wanted = torch.cat([torch.ones_like(crowded).unsqueeze(0), *[crowded.unsqueeze(0)] * (each - 1)])
        sequence = wanted.flatten().nonzero().squeeze(1)  # (Q,) of the samples one behind the other
        torch._check(sequence.shape[0] >= 2)
        song = torch.arange(crowded.shape[0]).expand_as(wanted)
        # the sequence that stands for a sample of a song: its own, or the first
        place = torch.where(wanted, wanted.flatten().long().cumsum(0).view_as(wanted) - 1, song)
        own = {name: taken(value, taken(song.flatten(), sequence)) for name, value in songs.items()}
        raw = []
        for index, member in enumerate(self.members):
            assert isinstance(member, HistoryMember)
            shares = [(index * each + step) % samples for step in range(each)]
            parts = [None if part is None else torch.cat([part[share] for share in shares]) for part in histories]
            history = History._make(None if part is None else taken(part, sequence) for part in parts)
            raw.append(taken(member(own, history), place))
        return self.head.mix(torch.cat(raw))
