"""The history network as a graph: what songs without known songs cost is short, and a block takes few operations.

All samples of a song are alike where its candidates fit into one history, and one sequence is read then. A song without
known songs has three tokens, and one with few of them has few tokens.

Glossary of shapes: ``B`` songs, ``R`` songs that may know some, ``D`` samples, ``Q`` sequences, ``H`` known songs of a
history, ``L = H + 3`` tokens, ``d`` width, ``C`` categories.
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
from popularity.inference.export_lookup import taken
from popularity.inference.export_mamba import DenseMamba2, SongAlone, takes_alone
from popularity.models.categories import CategorySum
from popularity.models.heads import Head
from popularity.models.histories import TAIL, History, histories_of
from popularity.models.history import HistoryMamba, HistoryMember
from popularity.models.known_songs import embed_known_songs
from popularity.models.mamba2 import Mamba2
from popularity.models.ssd import CHUNK

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
        found = []
        for number, group in enumerate(self.groups):
            steps = [category[..., place] * step for place, step in group.items()]
            found.append(taken(self.get_buffer(f"table_{number}"), sum(steps[1:], steps[0])))
        return sum(found[1:], found[0])


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
            table = getattr(module, "category", None)
            if isinstance(table, CategorySum):
                module.category = JointCategories(table)
        for member in self.members:
            for block in member.blocks if isinstance(member, HistoryMember) else ():
                for name in ("forward_mamba", "backward_mamba"):
                    mixer = getattr(block, name)
                    if isinstance(mixer, Mamba2) and mixer.ngroups == 1 and encoder.history + TAIL <= CHUNK:
                        setattr(block, name, DenseMamba2(mixer))
        extras = encoder.inputs.extras
        self.alone = nn.ModuleList(
            SongAlone(member, extras) if takes_alone(member) else member for member in self.members
        )

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs ``(B, K)``.

        Args:
            batch: from `popularity.inference.export_encoder.Histories`: of all songs, and the histories of those in
                ``rows`` ``(R,)``, which have ``candidates`` ``(R,)`` for them.
        """
        none = batch["month"].unsqueeze(1)[:, :0]
        nothing = History(none.long(), none.long(), none, none, none.long(), None)
        raw = mix(self.head, torch.stack([member(batch, nothing) for member in self.alone]))
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
