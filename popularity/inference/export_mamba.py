"""`Mamba2` as a graph, and what the history network makes of songs that know none: few operations on few numbers.

Glossary of shapes: ``B`` songs, ``Q`` sequences, ``L`` tokens, ``d`` width, ``h`` heads, ``p`` channels of a head,
``n`` states, ``S`` numbers of a song vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.features.related import QUERY
from popularity.inference.export_lookup import Tables
from popularity.models.histories import TAIL, History
from popularity.models.history import HistoryMember
from popularity.models.mamba2 import Mamba2
from popularity.models.mamba2_torch import EPSILON
from popularity.models.ssd import segment_indicator


class DenseMamba2(Tables):
    """What `Mamba2` computes of sequences of at most `CHUNK` tokens, in few operations on few numbers.

    The convolution is part of the projection, which reads a token beside those before it; the weights of the norm are
    part of the last projection, whose result is scaled in place of what it reads; heads are taken one by one, so that
    nothing is transposed; and the skip is the diagonal of what mixes the tokens.

    Args:
        block: trained, with one group.
    """

    def __init__(self, block: Mamba2) -> None:
        super().__init__()
        w_in, conv, conv_bias, dt_bias, A_log, D, norm, w_out = (
            parameter.detach() for parameter in block.block_parameters()
        )
        self.taps, self.heads, self.width = block.d_conv, block.nheads, block.headdim
        z, xbc, dt = w_in.split([block.d_inner, block.conv_dim, block.nheads])
        by_tap = xbc.unsqueeze(1) * conv.transpose(1, 2)  # (channels, taps, d), the earliest first
        sizes = [block.d_inner, block.d_state, block.d_state]
        for name, weight, bias in zip("xBC", by_tap.split(sizes), conv_bias.split(sizes), strict=True):
            self.register_buffer(f"{name}_weight", weight.permute(1, 2, 0).contiguous())
            self.register_buffer(f"{name}_bias", bias.clone())  # a slice would be written whole
        tensors = {
            "gate": z.t(), "step": dt.t(), "dt_bias": dt_bias, "log_decay": -A_log.exp().unsqueeze(1),
            "skip": D.reshape(-1, 1, 1), "out": (w_out * norm).t(),
        }  # fmt: skip
        for name, value in tensors.items():
            self.register_buffer(name, value.clone(memory_format=torch.contiguous_format))

    def forward(self, u: Tensor) -> Tensor:
        """``(Q, L, d)`` to ``(Q, L, d)``."""
        length = u.shape[1]
        taps = min(self.taps, length)
        padded = F.pad(u, (0, 0, taps - 1, 0))
        beside = torch.cat([padded[:, tap : tap + length] for tap in range(taps)], 2)
        x, B, C = (
            F.silu(beside @ getattr(self, f"{name}_weight")[-taps:].flatten(0, 1) + getattr(self, f"{name}_bias"))
            for name in "xBC"
        )
        dt = F.softplus(u @ self.step + self.dt_bias).transpose(1, 2)
        return self.mixed(x, B, C, dt, F.silu(u @ self.gate))

    def mixed(self, x: Tensor, B: Tensor, C: Tensor, dt: Tensor, gate: Tensor) -> Tensor:
        """Tokens ``(Q, L, d)``.

        Args:
            x, gate: ``(Q, L, h p)``, after the nonlinearity.
            B, C: ``(Q, L, n)``, likewise.
            dt: ``(Q, h, L)`` steps.
        """
        sequences, length, _ = x.shape
        segments = torch.mm((dt * self.log_decay).reshape(-1, length), segment_indicator(length, x))
        weights = torch.bmm(C, B.transpose(1, 2)).tril().unsqueeze(1)
        mixing = segments.exp().view(sequences, self.heads, length, length) * weights * dt.unsqueeze(2)
        mixing = mixing + self.skip * torch.eye(length, dtype=x.dtype)
        gated = self._rows(mixing, x) * gate
        scale = ((gated * gated).mean(2, keepdim=True) + EPSILON).rsqrt()
        return (gated @ self.out) * scale

    def _rows(self, mixing: Tensor, x: Tensor) -> Tensor:
        """``(Q, h, L, L)`` times ``(Q, L, h p)``."""
        if x.shape[1] > TAIL:
            return torch.cat([torch.bmm(mixing[:, head], part) for head, part in enumerate(x.split(self.width, 2))], 2)
        # so many small products that it is faster to write them out
        mixing, x = mixing.permute(2, 3, 0, 1).unsqueeze(4), x.unflatten(2, (self.heads, -1))
        rows = []
        for row in range(x.shape[1]):
            rows.append(mixing[row, 0] * x[:, 0])
            for token in range(1, row + 1):
                rows[row] = rows[row] + mixing[row, token] * x[:, token]
        return torch.stack(rows, 1).flatten(2)


class SongAlone(Tables):
    """What `HistoryMember` gives of songs that know none.

    Of their three tokens two are the same for all songs, and what they add to each projection is computed beforehand.

    Args:
        member: trained, with one block in one direction, whose mixer is a `DenseMamba2`.
    """

    def __init__(self, member: HistoryMember) -> None:
        super().__init__()
        (self.block,) = member.blocks
        self.member, self.mixer = member, self.block.forward_mamba
        mixer, seen = self.mixer, member.extras[1].in_features
        with torch.no_grad():
            _, into, activation, _, out = member.extras
            tail = torch.stack([out(activation(into(torch.zeros(seen)))), member.readout_token])
            normed = self.block.norm(tail)
            weights, biases = [], []
            for name in "xBC":
                weight, bias = getattr(mixer, f"{name}_weight"), getattr(mixer, f"{name}_bias")
                taps = F.pad(weight.flip(0), (0, 0, 0, 0, 0, TAIL))[:TAIL]  # of a token, of the one before it, ...
                weights += taps.unbind(0)
                biases += [bias, bias + normed[0] @ taps[0], bias + normed[0] @ taps[1] + normed[1] @ taps[0]]
            tensors = {
                "tail": tail,
                "weight": torch.cat(weights, 1),
                "bias": torch.cat(biases),
                "dt": F.softplus(normed @ mixer.step + mixer.dt_bias).t(),  # (h, 2)
                "gate": F.silu(normed @ mixer.gate),  # (2, h p)
            }
        for name, value in tensors.items():
            self.register_buffer(name, value.clone(memory_format=torch.contiguous_format))
        self.sizes = [TAIL * len(getattr(mixer, f"{name}_bias")) for name in "xBC"]

    @staticmethod
    def takes(member: nn.Module) -> bool:
        """Whether a member is one of these."""
        if not isinstance(member, HistoryMember) or member.one_token or len(member.blocks) != 1:
            return False
        block = member.blocks[0]
        return isinstance(block.forward_mamba, DenseMamba2) and block.backward_mamba is None

    def forward(self, batch: Mapping[str, Tensor], nothing: History) -> Tensor:
        """Raw outputs ``(B, outputs)``.

        Args:
            batch: of songs, without extras.
            nothing: histories without songs.
        """
        member, song = self.member, batch["song"]
        query = member.embedded(batch, nothing)[1] + member.role.weight[QUERY]
        normed = self.block.norm(query)
        parts = F.silu(normed @ self.weight + self.bias).split(self.sizes, 1)
        x, B, C = (part.unflatten(1, (TAIL, -1)) for part in parts)
        dt, gate = F.softplus(normed @ self.mixer.step + self.mixer.dt_bias), F.silu(normed @ self.mixer.gate)
        dt, gate = self._behind(dt.unsqueeze(2), self.dt, 2), self._behind(gate.unsqueeze(1), self.gate, 1)
        tokens = self._behind(query.unsqueeze(1), self.tail, 1) + self.mixer.mixed(x, B, C, dt, gate)
        tokens = member.norm(tokens)
        raw: Tensor = member.readout(torch.cat([tokens[:, -1], tokens.mean(1)], 1))
        raw = raw + F.linear(song, member.skip.weight[:, : song.shape[1]], member.skip.bias)
        if member.interactions is None:
            return raw
        numbers = F.pad(song[:, : member.numbers], (0, member.interactions.vector.in_features - member.numbers))
        return raw + member.interactions(numbers, batch["category"])

    @staticmethod
    def _behind(first: Tensor, others: Tensor, dim: int) -> Tensor:
        return torch.cat([first, others.expand(first.shape[0], *others.shape)], dim)
