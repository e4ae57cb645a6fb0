"""A song as a sequence of tokens, one per feature, and last a read-out token; Mamba reads them.

Glossary of shapes: ``B`` songs in a batch, ``F`` numeric features, ``K`` quantile bins, ``C`` categories, ``T`` title
inputs, ``L`` tokens, ``d`` width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from popularity.features.base import Inputs
from popularity.models.blocks import BlockName, DirectedBlock, MemberConfig, member_configs, rows_of
from popularity.models.dropout import Dropout
from popularity.models.network import require_inputs
from popularity.models.norm import RMSNorm


class FeatureTokens(nn.Module):
    """Embeds the features of a song, one token each, and appends a learned read-out token.

    A numeric feature becomes ``W_f [ple(x_f), x_f] + b_f`` (Gorishniy et al. 2022, section 3.1), or a learned vector
    where it is missing; a category becomes a row of an embedding table; the title statistics become one token together.
    Features that do not differ between training rows have no token.

    Args:
        inputs: sizes of the batch.
        width: ``d``.
        feature_dropout: share of features that training hides, each as if it were missing in the file.
    """

    offsets: Tensor

    def __init__(self, inputs: Inputs, width: int, feature_dropout: float = 0.0) -> None:
        super().__init__()
        self.feature_dropout = feature_dropout
        numeric, bins, codes = inputs.numeric, inputs.bins, inputs.codes
        self.weight = nn.Parameter(torch.randn(numeric, bins + 1, width) * (bins + 1) ** -0.5)
        self.bias = nn.Parameter(torch.randn(numeric, width) * 0.1)
        self.missing = nn.Parameter(torch.randn(numeric, width) * 0.1)
        self.category = nn.Embedding(sum(codes), width)
        nn.init.normal_(self.category.weight, std=0.5)
        self.title = nn.Linear(inputs.title, width)
        self.readout = nn.Parameter(torch.randn(width) * 0.1)
        self.register_buffer("offsets", torch.tensor([0, *codes[:-1]]).cumsum(0), persistent=False)

    def hide(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch, in training with features hidden at random."""
        numeric, category, title = batch["numeric"], batch["category"], batch["title"]
        if self.training and self.feature_dropout > 0:
            columns = numeric.shape[1] + category.shape[1] + 1
            hidden = torch.rand(len(numeric), columns, device=numeric.device) < self.feature_dropout
            of_numeric, of_category, of_title = hidden.split([numeric.shape[1], category.shape[1], 1], dim=1)
            numeric = numeric.masked_fill(of_numeric, torch.nan)
            category = category.masked_fill(of_category, 0)
            unknown = torch.zeros_like(title)
            unknown[:, -1] = 1.0  # the last title input says "no title"
            title = torch.where(of_title, unknown, title)
        return {**batch, "numeric": numeric, "category": category, "title": title}

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Tokens ``(B, L, d)`` of songs as `FeatureEncoder.encode` gives them."""
        dtype, numeric = self.weight.dtype, batch["numeric"]
        code = torch.cat([batch["bins"], torch.nan_to_num(numeric).unsqueeze(-1)], dim=-1)
        embedded = torch.einsum("bfk,fkd->bfd", code.to(dtype), self.weight) + self.bias
        embedded = torch.where(numeric.isnan().unsqueeze(-1), self.missing, embedded)  # (B, F, d)
        category = self.category(batch["category"] + self.offsets)
        title = self.title(batch["title"].to(dtype)).unsqueeze(1)
        tokens = torch.cat([embedded, category, title], dim=1)[:, batch["present"][0]]
        return torch.cat([tokens, self.readout.expand(tokens.shape[0], 1, -1)], dim=1)


class FeatureTokensMember(nn.Module):
    """One member: tokens of a song, Mamba blocks, read-out.

    The read-out joins the last token, which has seen the whole sequence, with the mean of all tokens, and a linear skip
    from the inputs is added to it, so that the blocks only have to learn what a linear model cannot.

    Args:
        config: what it is made of.
        inputs: sizes of the batch.
        outputs: raw outputs of the head.
    """

    def __init__(self, config: MemberConfig, inputs: Inputs, outputs: int) -> None:
        super().__init__()
        d, seen = config.width, inputs.numeric + inputs.title
        self.tokens = FeatureTokens(inputs, d, config.feature_dropout)
        self.blocks = nn.ModuleList(DirectedBlock(config, scale=0.5) for _ in range(config.layers))
        self.norm = RMSNorm(d, eps=1e-5)
        self.dropout = Dropout(config.dropout)
        self.readout = nn.Linear(2 * d, outputs)
        self.skip = nn.Linear(seen, outputs, bias=False)
        nn.init.zeros_(self.skip.weight)  # an untrained skip would add noise as large as the inputs

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs ``(B, outputs)``."""
        shown = self.tokens.hide(batch)
        x = self.tokens(shown)  # (B, L, d)
        reverse = rows_of(torch.arange(x.shape[1] - 1, -1, -1, device=x.device).expand(x.shape[0], -1))
        for block in self.blocks:
            x = block(x, reverse)
        x = self.norm(x)
        hidden = torch.cat([x[:, -1], x.mean(1)], dim=-1)  # (B, 2 d)
        inputs = torch.cat([torch.nan_to_num(shown["numeric"]), shown["title"]], dim=-1).to(hidden.dtype)
        raw: Tensor = self.readout(self.dropout(hidden)) + self.skip(inputs)
        return raw


class FeatureTokensMamba(nn.Module):
    """Mamba over the features of the song alone, one token each.

    Settings with several values have one for each member.

    Args:
        inputs: sizes of the batch, from the encoder.
        outputs: raw outputs of the head.
        members: networks trained side by side and averaged.
        width: width of the tokens.
        layers: residual blocks.
        block: what mixes the tokens: ``mamba`` (S6), ``mamba2`` (SSD), ``mamba3`` or ``none``.
        d_state: state size of the scan.
        d_conv: taps of the causal convolution.
        expand: inner width of a block over its width.
        bidirectional: read the tokens in both directions.
        dropout: after each block and before the head.
        feature_dropout: share of input features that training hides.

    Raises:
        InputError: a setting is out of range, or the encoder gives no single features.
    """

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        members: int = 2,
        width: int | tuple[int, ...] = (80, 104),
        layers: int = 1,
        block: BlockName | tuple[BlockName, ...] = "mamba",
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        bidirectional: bool | tuple[bool, ...] = (True, False),
        dropout: float | tuple[float, ...] = 0.3,
        feature_dropout: float | tuple[float, ...] = 0.15,
    ) -> None:
        super().__init__()
        require_inputs(self, inputs, "numeric", "FeatureEncoder")
        configs = member_configs(
            members,
            block=block,
            width=width,
            layers=layers,
            d_state=d_state,
            d_conv=d_conv,
            expand=expand,
            bidirectional=bidirectional,
            dropout=dropout,
            feature_dropout=feature_dropout,
        )
        self.members = nn.ModuleList(FeatureTokensMember(config, inputs, outputs) for config in configs)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs ``(members, B, outputs)`` of songs as `FeatureEncoder.encode` gives them."""
        return torch.stack([member(batch) for member in self.members])
