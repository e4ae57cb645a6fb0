"""A dictionary of whole numbers as tensors, for graphs: two places for each key (cuckoo hashing)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

_ROUNDS = 200  # evictions before larger tables are tried


def taken(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table ``(n, ...)`` at places of any shape: ``table[index]``, which graphs compute more slowly.

    ONNX Runtime takes single numbers seven times as fast by ``GatherElements`` as by ``Gather``.
    """
    flat = index.reshape(-1)
    rows = table.gather(0, flat.long()) if table.ndim == 1 else table.index_select(0, flat)
    return rows.reshape(*index.shape, *table.shape[1:])


def picked(table: Tensor, place: Tensor) -> Tensor:
    """``(B, E)`` numbers at places ``(B, E)`` of the rows of ``(B, K)``: ``table.gather(1, place)``, but faster."""
    begin = torch.arange(place.shape[0], device=place.device).unsqueeze(1) * table.shape[1]
    return taken(table.flatten(), begin + place)


def taken_or_last(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table, the last one for -1."""
    return taken(table, torch.where(index < 0, table.shape[0] - 1, index))


class Tables(nn.Module):
    """A module whose buffers are known to be tensors."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Tensor: ...


class Lookup(nn.Module):
    """Finds the places of keys in a list (Pagh & Rodler 2004, "Cuckoo hashing").

    A key stands in one of two places, which are its remainders by two primes: two comparisons find it.

    Args:
        keys: ``(n,)`` int64, each once.
    """

    keys: Tensor
    places: Tensor

    def __init__(self, keys: Tensor) -> None:
        super().__init__()
        numbers = [int(key) for key in keys]
        size = max(5, int(1.3 * len(numbers)))
        while (table := _filled(numbers, primes := (_prime(size), _prime(size + size // 7 + 2)))) is None:
            size += size // 3
        self.first, self.second = primes
        self.register_buffer("keys", torch.tensor([0 if place is None else numbers[place] for place in table]))
        self.register_buffer("places", torch.tensor([-1 if place is None else place for place in table]))

    def forward(self, keys: Tensor) -> Tensor:
        """Places of keys of any shape, int64, -1 for those that are not in the list."""
        one, two = keys.remainder(self.first), self.first + keys.remainder(self.second)
        found = torch.where(taken(self.keys, two) == keys, taken(self.places, two), -1)
        return torch.where(taken(self.keys, one) == keys, taken(self.places, one), found)


def _filled(keys: list[int], primes: tuple[int, int]) -> list[int | None] | None:
    """The table, places of keys in both parts; None if they do not fit."""
    table: list[int | None] = [None] * sum(primes)
    for number in range(len(keys)):
        place, part = number, 0
        for _ in range(_ROUNDS):
            slot = part * primes[0] + keys[place] % primes[part]
            evicted, table[slot] = table[slot], place
            if evicted is None:
                break
            # whoever stood here moves to its other place
            place, part = evicted, 1 - part
        else:
            return None
    return table


def _prime(least: int) -> int:
    while any(least % divisor == 0 for divisor in range(2, int(least**0.5) + 1)):
        least += 1
    return least
