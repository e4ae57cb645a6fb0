"""The embedding of songs: a network with one hidden layer over song vectors and categories."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.models import embedding_cpp
from popularity.models.categories import CategorySum
from popularity.models.dropout import Dropout, dropout
from popularity.models.scan import kernels_wanted, needs_plain_graph


class SongEmbedding(nn.Module):
    """Song vectors of ``S`` numbers and ``C`` categories to ``d`` numbers.

    Args:
        size: ``S``.
        codes: number of codes of each category.
        width: ``d``.
        dropout: of the hidden layer.
        feature_dropout: of the inputs.
    """

    def __init__(self, size: int, codes: Sequence[int], width: int, dropout: float, feature_dropout: float) -> None:
        super().__init__()
        self.feature_dropout = feature_dropout
        self.vector = nn.Linear(size, 2 * width)
        self.category = CategorySum(codes, 2 * width, size**-0.5)
        self.out = nn.Sequential(nn.SiLU(), Dropout(dropout), nn.Linear(2 * width, width))

    def forward(self, known: tuple[Tensor, Tensor], role: Tensor, songs: tuple[Tensor, Tensor]) -> Tensor:
        """Embed known songs and songs in one pass.

        Args:
            known: ``(K, S)`` vectors of known songs and ``(K, C)`` their categories.
            role: ``(K,)``, below 0 at padding, whose content does not matter.
            songs: ``(B, S)`` and ``(B, C)``.

        Returns:
            ``(K + B, d)``; at padding, anything finite.
        """
        category = torch.cat([known[1], songs[1]])
        if not torch.compiler.is_compiling() and self._kernels_take(known[0], songs[0]):
            return embedding_cpp.embed(self, known[0], role, songs[0], category)
        song = torch.cat([known[0], songs[0]])
        if self.training and self.feature_dropout > 0:
            song = dropout(song, self.feature_dropout)
        codes = self.codes(category)
        embedded = F.embedding_bag(codes, self.category.weight, mode="sum")
        out: Tensor = self.out(self.vector(song) + embedded)
        return out

    def codes(self, category: Tensor) -> Tensor:
        """Rows of the table of categories ``(n, C)``; training hides some categories."""
        if self.training and self.feature_dropout > 0:
            hidden = torch.rand(category.shape, device=category.device) < self.feature_dropout
            category = category.masked_fill(hidden, 0)
        return category + self.category.offsets

    def _kernels_take(self, known: Tensor, song: Tensor) -> bool:
        if needs_plain_graph(song):
            return False
        able = all(
            embedding_cpp.takes(some, self.vector.weight) for some in (song, known) if some.numel() or some is song
        )
        return kernels_wanted(able)
