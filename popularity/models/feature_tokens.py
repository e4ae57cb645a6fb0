"""The networks: a Mamba over the tokens of a song, and the original project's single-token Mamba.

Glossary of shapes: ``B`` songs in a batch, ``L`` tokens, ``d`` width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from popularity.models.heads import HistogramHead, MSEHead
from popularity.models.history import Plan
from popularity.models.mamba import Mamba
from popularity.models.tokens import FeatureTokens


class ResidualBlock(nn.Module):
    """Pre-norm residual Mamba: ``x + dropout(mamba(rms_norm(x)))``, read in both directions if asked for.

    The two directions have weights of their own and see the same normalised input (the backward one reversed); their
    outputs are averaged.
    """

    def __init__(
        self, width: int, d_state: int, d_conv: int, expand: int, dropout: float, bidirectional: bool = True
    ) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.forward_mamba = Mamba(width, d_state=d_state, d_conv=d_conv, expand=expand)
        self.backward_mamba = Mamba(width, d_state=d_state, d_conv=d_conv, expand=expand) if bidirectional else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, L, d)`` to ``(B, L, d)``."""
        normed = self.norm(x)
        mixed = self.forward_mamba(normed)
        if self.backward_mamba is not None:
            mixed = (mixed + self.backward_mamba(normed.flip(1)).flip(1)) / 2
        return x + self.dropout(mixed)


class MambaRegressor(nn.Module):
    """Tokens of a song -> Mamba blocks -> read-out -> raw outputs of a head.

    The read-out joins the last token, which has seen the whole sequence, with the mean of all tokens, and a linear skip
    from the inputs is added to it, so that the blocks only have to learn what a linear model cannot.

    Args:
        numeric: number of numeric features.
        bins: quantile bins of the piecewise-linear encoding.
        codes: number of codes of each category.
        title: number of title inputs.
        head: what turns raw outputs into a loss and a prediction.
        width: ``d``.
        layers: number of residual blocks.
        d_state: state size of the selective scan.
        d_conv: taps of the causal convolution.
        expand: inner width of a block over ``d``.
        dropout: after each block and before the head.
        feature_dropout: share of input features hidden in training.
        bidirectional: blocks read in both directions.
    """

    def __init__(
        self,
        *,
        numeric: int,
        bins: int,
        codes: Sequence[int],
        title: int,
        head: HistogramHead | MSEHead,
        width: int = 32,
        layers: int = 2,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dropout: float = 0.0,
        feature_dropout: float = 0.0,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        self.tokens = FeatureTokens(numeric, bins, codes, title, width, feature_dropout)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, d_state, d_conv, expand, dropout, bidirectional) for _ in range(layers)
        )
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(2 * width, head.outputs)
        self.skip = nn.Linear(numeric + title, head.outputs, bias=False)
        # start at the mean of the blocks' work: an untrained skip would add noise of the inputs' size
        nn.init.zeros_(self.skip.weight)
        self.head = head

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs ``(B, head.outputs)`` of songs as ``FeatureEncoder.encode`` gives them."""
        numeric, category, title = self.tokens.hide(batch)
        x = self.tokens(numeric, category, title)  # (B, L, d)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        hidden = torch.cat([x[:, -1], x.mean(1)], dim=-1)  # (B, 2 d)
        inputs = torch.cat([torch.nan_to_num(numeric), title], dim=-1).to(hidden.dtype)
        return self.readout(self.dropout(hidden)) + self.skip(inputs)


class FeatureTokensNet(nn.Module):
    """Members that read the same song as one model; they differ in width and direction, see ``member_plans``.

    In training raw outputs are ``(K, B, outputs)``: each member learns alone, with features of its own hidden. In
    evaluation they are ``(B, outputs)``, the members' mean.

    Args:
        plans: one for each member; ``text_scores``, ``difference`` and ``block`` say nothing here: all blocks are S6.
        head: what turns raw outputs into a loss and a prediction.
        options: see :class:`MambaRegressor`.
    """

    def __init__(self, plans: Sequence[Plan], *, head: HistogramHead | MSEHead, **options: Any) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            MambaRegressor(
                head=head,
                width=plan.width,
                layers=plan.layers,
                d_state=plan.d_state,
                d_conv=plan.d_conv,
                expand=plan.expand,
                bidirectional=plan.bidirectional,
                **options,
            )
            for plan in plans
        )
        self.head = head

    def take_over(self, edges: Tensor, present: Tensor) -> None:
        """What ``FeatureEncoder.fit`` has learned: the edges of the bins, and which features there are."""
        for member in self.members:
            assert isinstance(member, MambaRegressor)
            member.tokens.edges.copy_(edges)
            member.tokens.present.copy_(present)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs of songs as ``FeatureEncoder.encode`` gives them, see the class."""
        raw = torch.stack([member(batch) for member in self.members])
        return raw if self.training else self.head.mix(raw)


class SingleTokenMamba(nn.Module):
    """The original project's network: one token of 13 numbers, Mamba, ReLU, a linear layer, ``100 sigmoid``.

    A scan over one token has nothing to scan: the block is a gated linear layer. Kept as the baseline to beat.
    """

    def __init__(self, head: MSEHead, columns: int = 13, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        self.mamba = Mamba(columns, d_state=d_state, d_conv=d_conv, expand=expand)
        self.readout = nn.Linear(columns, head.outputs)
        self.head = head

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs ``(B, 1)`` of ``batch["columns"]``, ``(B, 13)``."""
        x = batch["columns"].to(self.readout.weight.dtype)
        return self.readout(torch.relu(self.mamba(x.unsqueeze(1)).squeeze(1)))
