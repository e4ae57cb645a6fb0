"""Batches made by indexing tensors: no Python work per row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor


class TensorBatches:
    """Iterates over the rows of equally long tensors, in batches, for one process of several.

    A plain iterable rather than a ``DataLoader``: the whole table lies in memory, so workers would only copy it, and
    Lightning leaves iterables of other kinds alone (a replaced sampler would turn a batch into a single row). With
    several processes each takes its share of every global batch, so that two processes with half the batch size see the
    same global batches as one; nobody pads or repeats a row. A batch then also holds ``share``: the rows of this
    process over the mean of all; the loss times it, averaged over the processes, is the mean over all rows.

    Args:
        tensors: name to tensor, all of length ``n``.
        batch_size: rows of one batch of this process.
        shuffle: draw a new order every epoch. The order depends on ``seed`` and the epoch alone, so that a resumed run
            goes on as if it had not stopped. Rows are then spread evenly over the batches (no short last batch).
        seed: of the order.
        epoch: tells the current epoch.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        tensors: dict[str, Tensor],
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epoch: Callable[[], int] = lambda: 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.tensors = tensors
        self.rows = len(next(iter(tensors.values())))
        self.batch_size = batch_size
        self.shuffle, self.seed, self.epoch = shuffle, seed, epoch
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        """Number of batches of one epoch, the same in every process."""
        count = math.ceil(self.rows / (self.batch_size * self.world_size))
        # in training every process needs a row in every batch: no loss without songs
        return max(1, min(count, self.rows // self.world_size)) if self.shuffle else count

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch())
            order = torch.randperm(self.rows, generator=generator)
            parts = order.tensor_split(len(self))
        else:
            parts = torch.arange(self.rows).split(self.batch_size * self.world_size)
        for part in parts:
            index = part[self.rank :: self.world_size]
            # in evaluation the last part may hold fewer rows than there are processes
            if len(index) or self.shuffle:
                batch = {name: tensor[index] for name, tensor in self.tensors.items()}
                if self.world_size > 1:
                    batch["share"] = torch.tensor(len(index) * self.world_size / len(part))
                yield batch
