"""Dropout whose masks cost little on a CPU.

PyTorch's generator of a CPU gives 64 random bits for the price of one number, and its dropout draws a number for each
element. Here each element takes 16 of the bits, so that four share a number: a mask costs a sixth.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_BITS = 16


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """As ``torch.nn.functional.dropout``, with ``p`` rounded to a multiple of 2^-16.

    Args:
        x: of any shape.
        p: probability that an element becomes 0; the others are divided by ``1 - p``.
        training: otherwise ``x`` is returned as it is.
    """
    if not training or p == 0:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, p)
    bits = random_bits(x.numel()).view(x.shape)
    mask = torch.ge(bits, threshold(p), out=torch.empty(x.shape, dtype=x.dtype))
    return x * mask.mul_(1 / (1 - p))


def random_bits(size: int) -> Tensor:
    """``(size,)`` random 16-bit integers."""
    numbers = torch.empty(-(-size * _BITS // 64), dtype=torch.int64)
    return numbers.random_(-(2**63), None).view(torch.int16)[:size]


def threshold(p: float) -> int:
    """Elements whose random bits are below it are dropped, a share ``p`` of them."""
    return round(p * 2**_BITS) - int(2 ** (_BITS - 1))


class Dropout(nn.Dropout):
    """``torch.nn.Dropout`` by :func:`dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        """See :func:`dropout`."""
        return dropout(x, self.p, self.training)
