"""`Mamba2` as a graph, and what the history network makes of songs that know none: few operations on few numbers.

Glossary of shapes: ``B`` songs, ``Q`` sequences, ``L`` tokens, ``d`` width, ``h`` heads, ``p`` channels of a head,
``n`` states, ``S`` numbers of a song vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.features.related import QUERY
from popularity.inference.export_lookup import Tables
from popularity.models.blocks import DirectedBlock
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
        heads = enumerate(x.split(self.width, 2))
        gated = torch.cat([torch.bmm(mixing[:, head], part) for head, part in heads], 2) * gate
        return self.projected(gated)

    def projected(self, gated: Tensor) -> Tensor:
        """``(..., d)`` of ``(..., h p)``: the norm and the last projection."""
        scale = ((gated * gated).mean(-1, keepdim=True) + EPSILON).rsqrt()
        return (gated @ self.out) * scale


def takes_alone(member: nn.Module) -> TypeGuard[HistoryMember]:
    """Whether `SongAlone` can stand for a member."""
    if not isinstance(member, HistoryMember) or member.one_token or len(member.blocks) != 1:
        return False
    block: Any = member.blocks[0]
    return isinstance(block.forward_mamba, DenseMamba2) and block.backward_mamba is None


class SongAlone(Tables):
    """What `HistoryMember` gives of songs that know none, whose sequences are the song, its extras and the read-out.

    A projection of all three tokens, with the convolution, is one product with the first two; what the read-out, which
    is the same for all songs, adds to it is computed beforehand. Each token is a tensor of its own, so that little is
    put together or taken apart.

    Args:
        member: trained, with one block in one direction, whose mixer is a `DenseMamba2`.
        extras: of a song; those of its history are 0.
    """

    member: HistoryMember
    block: DirectedBlock
    mixer: DenseMamba2

    def __init__(self, member: HistoryMember, extras: int) -> None:
        super().__init__()
        block: Any = member.blocks[0]
        mixer: DenseMamba2 = block.forward_mamba
        last_layer: Any = member.readout[1]
        self.member, self.block, self.mixer, self.extras = member, block, mixer, extras
        with torch.no_grad():
            readout = block.norm(member.readout_token).unsqueeze(0)
            of_song, of_extras, biases = [], [], []
            for name in "xBC":
                weight, bias = getattr(mixer, f"{name}_weight"), getattr(mixer, f"{name}_bias")
                now, before, earlier = F.pad(weight.flip(0), (0, 0, 0, 0, 0, TAIL))[:TAIL]
                of_song += [now, before, earlier]
                of_extras += [torch.zeros_like(now), now, before]
                biases += [bias, bias, bias + (readout @ now).squeeze(0)]
            last, mean = last_layer.weight.t().chunk(2)
            tensors = {
                "weight": torch.cat([torch.cat(of_song, 1), torch.cat(of_extras, 1)]),
                "bias": torch.cat(biases),
                "dt": F.softplus(readout @ mixer.step + mixer.dt_bias),  # (1, h)
                "gate": F.silu(readout @ mixer.gate),  # (1, h p)
                "readout": member.readout_token.unsqueeze(0),
                # from heads to their channels: a product of small tensors is slow where one of them is repeated
                "spread": torch.eye(mixer.heads).repeat_interleave(mixer.width, 1),
                "weights": torch.stack([mean / TAIL, mean / TAIL, mean / TAIL + last]),  # of each token
                "out_bias": last_layer.bias,
            }
        for name, value in tensors.items():
            self.register_buffer(name, value.detach().clone(memory_format=torch.contiguous_format))

    def forward(self, batch: Mapping[str, Tensor], nothing: History) -> Tensor:
        """Raw outputs ``(B, outputs)``.

        Args:
            batch: of songs.
            nothing: histories without songs.
        """
        member, song, seen = self.member, batch["song"], batch["extras"]
        query = member.embedded(batch, nothing)[1] + member.role.weight[QUERY]
        into: Any = member.extras[1]
        extras = member.extras[2:](F.linear(seen, into.weight[:, : self.extras], into.bias))
        known = song.shape[1] + self.extras
        raw = F.linear(torch.cat([song, seen], 1), member.skip.weight[:, :known], member.skip.bias)
        for token, weight in zip(self._tokens(query, extras), self.weights, strict=True):
            raw = raw + member.norm(token) @ weight
        raw = raw + self.out_bias
        if member.interactions is None:
            return raw
        numbers = torch.cat([song[:, : member.numbers], seen], 1)
        missing = member.interactions.vector.in_features - numbers.shape[1]
        products: Tensor = member.interactions(F.pad(numbers, (0, missing)), batch["category"])
        return raw + products

    def _tokens(self, query: Tensor, extras: Tensor) -> list[Tensor]:
        """``(B, d)`` each, after the block."""
        mixer, given = self.mixer, [query, extras, self.readout]
        normed = [self.block.norm(token) for token in given[:2]]
        parts = F.silu(torch.cat(normed, 1) @ self.weight + self.bias)
        x, B, C = self._parted(parts)
        dt = [*(F.softplus(token @ mixer.step + mixer.dt_bias) for token in normed), self.dt]  # (B, h)
        gate = [*(F.silu(token @ mixer.gate) for token in normed), self.gate]
        decay = [(step * mixer.log_decay.squeeze(1)).exp() for step in dt]
        found = []
        for row, token in enumerate(given):
            terms, passed = [], torch.ones_like(self.dt)  # how far earlier tokens have decayed by now
            for earlier in range(row, -1, -1):
                factor = (C[row] * B[earlier]).sum(1, keepdim=True) * dt[earlier] * passed
                if earlier == row:
                    factor = factor + mixer.skip.flatten()
                terms.append((factor @ self.spread) * x[earlier])
                passed = passed * decay[earlier]
            y = sum(terms[1:], terms[0])
            found.append(token + mixer.projected(y * gate[row]))
        return found

    def _parted(self, parts: Tensor) -> list[list[Tensor]]:
        """x, B and C of the three tokens."""
        found, begin = [], 0
        for name in "xBC":
            width = len(getattr(self.mixer, f"{name}_bias"))
            found.append([parts[:, begin + width * row : begin + width * (row + 1)] for row in range(TAIL)])
            begin += width * TAIL
        return found
