"""A song as a sequence of tokens: one per feature, and last the token that is read out.

Glossary of shapes: ``B`` songs in a batch, ``F`` numeric features, ``K`` quantile bins, ``C`` categories, ``T`` title
inputs, ``L`` tokens, ``d`` width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from popularity.features.song import piecewise_linear


class FeatureTokens(nn.Module):
    """Embeds the features of a song, one token each, and appends a learned read-out token.

    A numeric feature becomes ``W_f [ple(x_f), x_f] + b_f`` (Gorishniy et al. 2022, section 3.1), or a learned vector
    where it is missing; a category becomes a row of an embedding table; the title statistics become one token together.
    Features that never occur in the training rows have no token: the buffer ``present`` says which do.

    Args:
        bins: ``K``.
        codes: number of codes of each category, the unknown (0) included.
        numeric: ``F``.
        title: ``T``.
        width: ``d``.
        dropout: share of features that training hides from the model, each as if it were missing in the file.
    """

    edges: Tensor
    present: Tensor
    offsets: Tensor

    def __init__(
        self, numeric: int, bins: int, codes: Sequence[int], title: int, width: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.weight = nn.Parameter(torch.randn(numeric, bins + 1, width) * (bins + 1) ** -0.5)
        self.bias = nn.Parameter(torch.randn(numeric, width) * 0.1)
        self.missing = nn.Parameter(torch.randn(numeric, width) * 0.1)
        self.category = nn.Embedding(sum(codes), width)
        nn.init.normal_(self.category.weight, std=0.5)
        self.title = nn.Linear(title, width)
        self.readout = nn.Parameter(torch.randn(width) * 0.1)
        self.register_buffer("edges", torch.zeros(numeric, bins + 1))
        self.register_buffer("present", torch.ones(numeric + len(codes) + 1, dtype=torch.bool))
        self.register_buffer("offsets", torch.tensor([0, *codes[:-1]]).cumsum(0), persistent=False)

    def hide(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Numeric ``(B, F)``, category ``(B, C)`` and title ``(B, T)``, in training with features hidden at random."""
        numeric, category, title = batch["numeric"], batch["category"], batch["title"]
        if self.training and self.dropout > 0:
            columns = numeric.shape[1] + category.shape[1] + 1
            hidden = torch.rand(len(numeric), columns, device=numeric.device) < self.dropout
            of_numeric, of_category, of_title = hidden.split([numeric.shape[1], category.shape[1], 1], dim=1)
            numeric = numeric.masked_fill(of_numeric, torch.nan)
            category = category.masked_fill(of_category, 0)
            unknown = torch.zeros_like(title)
            unknown[:, -1] = 1.0  # the last title input says "no title"
            title = torch.where(of_title, unknown, title)
        return numeric, category, title

    def forward(self, numeric: Tensor, category: Tensor, title: Tensor) -> Tensor:
        """Tokens ``(B, L, d)`` of encoded songs: numeric ``(B, F)``, category ``(B, C)``, title ``(B, T)``."""
        dtype = self.weight.dtype
        code = torch.cat([piecewise_linear(numeric, self.edges), torch.nan_to_num(numeric).unsqueeze(-1)], dim=-1)
        embedded = torch.einsum("bfk,fkd->bfd", code.to(dtype), self.weight) + self.bias
        embedded = torch.where(numeric.isnan().unsqueeze(-1), self.missing, embedded)  # (B, F, d)
        tokens = torch.cat(
            [embedded, self.category(category + self.offsets), self.title(title.to(dtype)).unsqueeze(1)], dim=1
        )
        tokens = tokens[:, self.present]
        return torch.cat([tokens, self.readout.expand(len(tokens), 1, -1)], dim=1)
