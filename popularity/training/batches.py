"""Batches made by indexing tensors: no Python work per row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

#: Makes rows of tensors ready for the network, with randomness of the generator: adds ``length`` ``(n)``, by which rows
#: are sorted into batches; tensors of three dimensions are cut to the longest of a batch, from the front.
Prepare = Callable[[dict[str, Tensor], torch.Generator], dict[str, Tensor]]

_TOGETHER = 8  # batches that are prepared, and sorted by length, together


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
        prepare: what happens to the rows of a batch before they leave.
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
        prepare: Prepare | None = None,
    ) -> None:
        self.tensors = tensors
        self.rows = len(next(iter(tensors.values())))
        self.batch_size = batch_size
        self.shuffle, self.seed, self.epoch = shuffle, seed, epoch
        self.rank, self.world_size, self.prepare = rank, world_size, prepare

    def __len__(self) -> int:
        """Number of batches of one epoch, the same in every process."""
        count = math.ceil(self.rows / (self.batch_size * self.world_size))
        # in training every process needs a row in every batch: no loss without songs
        return max(1, min(count, self.rows // self.world_size)) if self.shuffle else count

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + (self.epoch() if self.shuffle else 0))
        if self.shuffle:
            order = torch.randperm(self.rows, generator=generator)
            parts = order.tensor_split(len(self))
        else:
            parts = torch.arange(self.rows).split(self.batch_size * self.world_size)
        for part, rows in self._prepared(parts, generator) if self.prepare else self._plain(parts):
            index = torch.arange(len(part))[self.rank :: self.world_size]
            # in evaluation the last part may hold fewer rows than there are processes
            if len(index) or self.shuffle:
                batch = {name: tensor[index] for name, tensor in rows.items()}
                if self.world_size > 1:
                    batch["share"] = torch.tensor(len(index) * self.world_size / len(part))
                yield batch

    def _plain(self, parts: Sequence[Tensor]) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        for part in parts:
            yield part, {name: tensor[part] for name, tensor in self.tensors.items()}

    def _prepared(
        self, parts: Sequence[Tensor], generator: torch.Generator
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Prepare several batches at once and, in training, sort them by length: like goes with like."""
        assert self.prepare is not None
        for start in range(0, len(parts), _TOGETHER):
            some = parts[start : start + _TOGETHER]
            together = torch.cat(list(some))
            rows = self.prepare({name: tensor[together] for name, tensor in self.tensors.items()}, generator)
            length = rows.pop("length")
            order = length.argsort(stable=True) if self.shuffle else torch.arange(len(together))
            batches = list(order.split([len(part) for part in some]))
            if self.shuffle:
                batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
            for batch in batches:
                longest = int(length[batch].max())
                yield (
                    batch,
                    {
                        name: value[batch, :, value.shape[2] - longest :] if value.ndim == 3 else value[batch]
                        for name, value in rows.items()
                    },
                )
