"""Interactions of features: what one number or category means by the value of another.

A tree finds "this genre, in these years" in two cuts. A network of one hidden layer bends towards it only slowly, and
not at all where training hides a share of its inputs: then no two of them are both there often enough. Here products of
two linear maps say it directly, all inputs are there, and the products are dropped instead.

Glossary of shapes: ``B`` songs, ``N`` numbers, ``C`` categories, ``P`` products.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from popularity.models.categories import CategorySum
from popularity.models.dropout import Dropout

#: Standard deviation of the embeddings at first; 1 was worse on an inner fold.
CATEGORY_SPREAD = 0.3


class Interactions(nn.Module):
    """Gated linear unit (Shazeer 2020, "GLU variants improve transformer", SwiGLU) over numbers and categories.

    Args:
        numbers: ``N``.
        codes: number of codes of each category.
        products: ``P``.
        outputs: of the whole.
        dropout: of the products.
    """

    def __init__(self, numbers: int, codes: Sequence[int], products: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.vector = nn.Linear(numbers, 2 * products)
        self.category = CategorySum(codes, 2 * products, CATEGORY_SPREAD)
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(products, outputs)
        nn.init.zeros_(self.out.bias)

    def forward(self, numbers: Tensor, category: Tensor) -> Tensor:
        """``(B, outputs)`` from numbers ``(B, N)`` and codes of categories ``(B, C)``."""
        factor, gate = (self.vector(numbers) + self.category(category)).chunk(2, 1)
        out: Tensor = self.out(self.dropout(factor * F.silu(gate)))
        return out
