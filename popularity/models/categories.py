"""Categories of a song as one vector: the sum of their embeddings.

Glossary of shapes: ``C`` categories, ``d`` width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CategorySum(nn.Embedding):
    """The sum of the embeddings of several categories, which share one table.

    Args:
        codes: number of codes of each category.
        width: ``d``.
        spread: standard deviation of the embeddings at first.
    """

    offsets: Tensor

    def __init__(self, codes: Sequence[int], width: int, spread: float) -> None:
        super().__init__(sum(codes), width)
        nn.init.normal_(self.weight, std=spread)
        self.register_buffer("offsets", torch.tensor([0, *codes[:-1]]).cumsum(0), persistent=False)

    def forward(self, category: Tensor) -> Tensor:
        """``(..., d)`` of codes ``(..., C)``."""
        rows = category + self.offsets
        if torch.is_grad_enabled():
            return super().forward(rows).sum(-2)
        # several times as fast; its gradient would be summed in another order, and weights end in other bits
        found = F.embedding_bag(rows.view(-1, rows.shape[-1]), self.weight, mode="sum")
        return found.view(*rows.shape[:-1], self.embedding_dim)
