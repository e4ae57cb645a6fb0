"""The history network as a graph: what songs without known songs cost is short, and a block takes few operations.

All samples of a song are alike where its candidates fit into one history, and one sequence is read then. A song without
known songs has three tokens, and one with few of them has few tokens.

Glossary of shapes: ``B`` songs, ``R`` songs that may know some, ``D`` samples, ``Q`` sequences, ``H`` known songs of a
history, ``L = H + 3`` tokens, ``d`` width, ``h`` heads, ``p`` channels of a head, ``n`` states.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.features.encoder import HistoryEncoder
from popularity.inference.export_characters import places
from popularity.inference.export_head import mix
from popularity.inference.export_lookup import Tables, taken
from popularity.models.categories import CategorySum
from popularity.models.heads import Head
from popularity.models.histories import TAIL, History, histories_of
from popularity.models.history import HistoryMamba, HistoryMember
from popularity.models.known_songs import embed_known_songs
from popularity.models.mamba2 import Mamba2
from popularity.models.mamba2_torch import EPSILON
from popularity.models.ssd import CHUNK, segment_indicator

_SONG = ("song", "category", "extras", "month")
_FEW = 4  # known songs of a short history
_JOINT = 1024  # rows of a table of several categories


class JointCategories(nn.Module):
    """What `CategorySum` gives, with one lookup for several small categories together.

    Args:
        of: trained.
    """

    def __init__(self, of: CategorySum) -> None:
        super().__init__()
        table, offsets = of.weight.detach(), of.offsets.tolist()
        self.groups: list[dict[int, int]] = []  # of each joint table, its categories and their steps in it
        rows = 0
        for place, (begin, end) in enumerate(pairwise([*offsets, len(table)])):
            weight, codes = table[begin:end], end - begin
            if rows and rows * codes <= _JOINT:
                joint = self.get_buffer(f"table_{len(self.groups) - 1}").unsqueeze(0) + weight.unsqueeze(1)
                weight, step = joint.flatten(0, 1), rows
            else:
                self.groups.append({})
                step = 1
            self.groups[-1][place] = step
            self.register_buffer(f"table_{len(self.groups) - 1}", weight.clone())
            rows = len(weight)

    def forward(self, category: Tensor) -> Tensor:
        """``(..., d)`` of codes ``(..., C)``."""
        total = None
        for number, group in enumerate(self.groups):
            row = sum(category[..., place] * step for place, step in group.items())
            found = taken(self.get_buffer(f"table_{number}"), row)
            total = found if total is None else total + found
        return total


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
        sequences, length, _ = u.shape
        taps = min(self.taps, length)
        padded = F.pad(u, (0, 0, taps - 1, 0))
        beside = torch.cat([padded[:, tap : tap + length] for tap in range(taps)], 2)
        x, B, C = (
            F.silu(beside @ getattr(self, f"{name}_weight")[-taps:].flatten(0, 1) + getattr(self, f"{name}_bias"))
            for name in "xBC"
        )
        dt = F.softplus(u @ self.step + self.dt_bias).transpose(1, 2)  # (Q, h, L)
        segments = torch.mm((dt * self.log_decay).reshape(-1, length), segment_indicator(length, u))
        weights = torch.bmm(C, B.transpose(1, 2)).tril().unsqueeze(1)
        mixing = segments.exp().view(sequences, self.heads, length, length) * weights * dt.unsqueeze(2)
        mixing = mixing + self.skip * torch.eye(length, dtype=u.dtype)
        gated = self._mixed(mixing, x) * F.silu(u @ self.gate)
        scale = ((gated * gated).mean(2, keepdim=True) + EPSILON).rsqrt()
        return (gated @ self.out) * scale

    def _mixed(self, mixing: Tensor, x: Tensor) -> Tensor:
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


class HistoryNetwork(nn.Module):
    """What `HistoryMamba` gives, mixed by a head.

    Args:
        net: trained; left as it was.
        head: mixes its members and samples.
        encoder: with the known songs.
    """

    def __init__(self, net: HistoryMamba, head: Head, encoder: HistoryEncoder) -> None:
        super().__init__()
        net = copy.deepcopy(net)
        embed_known_songs(net, encoder)
        self.members, self.head = net.members, head
        for module in list(net.modules()):
            if isinstance(getattr(module, "category", None), CategorySum):
                module.category = JointCategories(module.category)
        for member in self.members:
            for block in member.blocks if isinstance(member, HistoryMember) else ():
                for name in ("forward_mamba", "backward_mamba"):
                    mixer = getattr(block, name)
                    if isinstance(mixer, Mamba2) and mixer.ngroups == 1 and encoder.history + TAIL <= CHUNK:
                        setattr(block, name, DenseMamba2(mixer))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs ``(B, K)``.

        Args:
            batch: from `popularity.inference.export_encoder.Histories`: of all songs, and the histories of those in
                ``rows`` ``(R,)``, which have ``candidates`` ``(R,)`` for them.
        """
        none = batch["month"].unsqueeze(1)[:, :0]
        nothing = History(none.long(), none.long(), none, none, none.long(), None)
        raw = mix(self.head, torch.stack([member(batch, nothing) for member in self.members]))
        raw = F.pad(raw, (0, 0, 1, 0))  # in front, a song that is none
        histories, count = histories_of(batch), batch["candidates"]
        most = histories.role.shape[-1]
        for least, room in ((1, min(_FEW, most)), (_FEW + 1, most)):
            if least > room:
                continue
            wanted = (count >= least) if room == most else (count >= least) & (count <= room)
            # with two more, whose result is dropped: graphs take tensors of no row or of one for cases of their own
            some, song = F.pad(places(wanted), (2, 0)), F.pad(taken(batch["rows"], places(wanted)) + 1, (2, 0))
            songs = {name: taken(batch[name], (song - 1).clamp_min(0)) for name in _SONG}
            parts = [None if part is None else part.index_select(1, some)[..., most - room :] for part in histories]
            crowded = taken(count, some) > most if room == most else None
            raw = raw.index_put((song,), self._read(songs, History._make(parts), crowded))
        return raw[1:]

    def _read(self, songs: Mapping[str, Tensor], histories: History, crowded: Tensor | None) -> Tensor:
        """Mixed outputs ``(R, K)`` of songs and their histories ``(D, R, H)``; crowded ones have several."""
        samples, count = histories.role.shape[0], len(self.members)
        each = max(1, samples // count)
        shares = [[(index * each + step) % samples for step in range(each)] for index in range(count)]
        if crowded is None or each == 1:
            alike = (histories.sample(share[0]) for share in shares)
            return mix(
                self.head, torch.stack([member(songs, one) for member, one in zip(self.members, alike, strict=True)])
            )
        wanted = torch.cat([torch.ones_like(crowded).unsqueeze(0), *[crowded.unsqueeze(0)] * (each - 1)])
        sequence = places(wanted.flatten())  # (Q,) of the samples one behind the other
        torch._check(sequence.shape[0] >= 2)
        song = torch.arange(crowded.shape[0]).expand_as(wanted)
        # the sequence that stands for a sample of a song: its own, or the first
        place = torch.where(wanted, wanted.flatten().long().cumsum(0).view_as(wanted) - 1, song)
        own = {name: taken(value, taken(song.flatten(), sequence)) for name, value in songs.items()}
        raw = []
        for member, share in zip(self.members, shares, strict=True):
            parts = [None if part is None else torch.cat([part[one] for one in share]) for part in histories]
            history = History._make(None if part is None else taken(part, sequence) for part in parts)
            raw.append(taken(member(own, history), place))
        return mix(self.head, torch.cat(raw))
