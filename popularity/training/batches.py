"""Batches made by indexing tensors: no Python work per row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from popularity.features.base import Encoder
from popularity.features.missing_audio import hide_audio

_TOGETHER = 8  # batches whose histories are sampled, and sorted by length, together


@dataclass(frozen=True)
class Order:
    """In which order rows come, and which of them this process gets.

    Attributes:
        shuffle: a new order every epoch, which depends on ``seed`` and the epoch alone, so that a resumed run goes on
            as if it had not stopped. Rows are then spread evenly over the batches: there is no short last batch.
        seed: of the order.
        epoch: returns the current epoch.
        rank: this process.
        world_size: number of processes.
    """

    shuffle: bool = False
    seed: int = 0
    epoch: Callable[[], int] = lambda: 0
    rank: int = 0
    world_size: int = 1


class SongBatches:
    """Iterates over encoded songs in batches, for one process of several.

    A plain iterable rather than a ``DataLoader``: the whole table is in memory, so workers would only copy it, and
    Lightning leaves iterables of other kinds alone (a replaced sampler would turn a batch into a single row). With
    several processes each takes its share of every global batch, so that two processes with half the batch size see
    the same global batches as one; no row is padded or repeated. A batch then also holds ``share``: the rows of this
    process divided by the mean over all processes. The loss times it, averaged over processes, is the mean over all
    rows.

    Args:
        encoder: fitted.
        songs: ``n`` songs.
        batch_size: rows of one batch of this process.
        training: the songs are those that the encoder was fitted on.
        samples: histories sampled per song in training.
        hide_audio: share of the songs whose audio columns are hidden, sampled anew at each pass.
        order: of the rows.
    """

    def __init__(
        self,
        encoder: Encoder,
        songs: pd.DataFrame,
        batch_size: int,
        *,
        training: bool = False,
        samples: int = 1,
        hide_audio: float = 0.0,
        order: Order | None = None,
    ) -> None:
        self.encoder, self.training, self.samples = encoder, training, samples
        self.tensors = encoder.encode(songs, training=training)
        if "popularity" in songs:
            self.tensors["song_number"] = torch.arange(len(songs))  # so that a batch can be named
            self.tensors["popularity"] = torch.from_numpy(songs["popularity"].to_numpy("float32", copy=True))
        self.rows, self.batch_size, self.hide_audio = len(songs), batch_size, hide_audio
        self.order = order or Order()

    def __len__(self) -> int:
        """Number of batches of one epoch, the same in every process."""
        count = math.ceil(self.rows / (self.batch_size * self.order.world_size))
        # in training every process needs a row in every batch: no loss without songs
        return max(1, min(count, self.rows // self.order.world_size)) if self.order.shuffle else count

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        order = self.order
        generator = torch.Generator().manual_seed(order.seed * 1_000_003 + (order.epoch() if order.shuffle else 0))
        if order.shuffle:
            parts = torch.randperm(self.rows, generator=generator).tensor_split(len(self))
        else:
            parts = torch.arange(self.rows).split(self.batch_size * order.world_size)
        for size, rows in self._sampled(parts, generator):
            index = torch.arange(size)[order.rank :: order.world_size]
            # in evaluation the last part may hold fewer rows than there are processes
            if len(index) or order.shuffle:
                batch = self.encoder.attach({name: tensor[index] for name, tensor in rows.items()})
                if order.world_size > 1:
                    batch["share"] = torch.tensor(len(index) * order.world_size / size)
                yield batch

    def _sampled(self, parts: Sequence[Tensor], generator: torch.Generator) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Number and rows of each batch; the histories of several batches are sampled at once."""
        for start in range(0, len(parts), _TOGETHER):
            some = parts[start : start + _TOGETHER]
            together = torch.cat(list(some))
            rows = {name: tensor[together] for name, tensor in self.tensors.items()}
            if self.hide_audio:
                hidden = torch.rand(len(together), generator=generator) < self.hide_audio
                rows = hide_audio(self.encoder, rows, hidden)
            rows = self.encoder.sample(rows, generator, training=self.training, samples=self.samples)
            length = rows.pop("length", None)
            if length is None:  # nothing was sampled, and no row is longer than another
                length, batches = torch.zeros(len(together)), list(torch.arange(len(together)).split([*map(len, some)]))
            else:
                batches = self._by_length(length, [*map(len, some)], generator)
            for batch in batches:
                longest = int(length[batch].max())
                yield len(batch), {name: self._cut(name, value[batch], longest) for name, value in rows.items()}

    def _by_length(self, length: Tensor, sizes: list[int], generator: torch.Generator) -> list[Tensor]:
        """Rows of batches of these sizes: in training rows of similar length together, the batches in random order."""
        if not self.order.shuffle:
            return list(torch.arange(len(length)).split(sizes))
        batches = list(length.argsort(stable=True).split(sizes))
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def _cut(self, name: str, rows: Tensor, longest: int) -> Tensor:
        """Drop the padding that no row of a batch needs: padded tensors ``(n, D, H)`` keep their last places."""
        return rows[:, :, rows.shape[2] - longest :] if name in self.encoder.padded else rows
