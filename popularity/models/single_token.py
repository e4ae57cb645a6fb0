"""The network of the project that this one set out from: one token of 13 numbers. Kept as the baseline to beat."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from popularity.features.base import Inputs
from popularity.models.mamba import Mamba
from popularity.models.network import require_inputs, require_ranges


class SingleTokenMamba(nn.Module):
    """One token of all columns, Mamba, ReLU, a linear layer.

    A scan over one token has nothing to scan: the block is a gated linear layer.

    Args:
        inputs: sizes of the batch, from the encoder.
        outputs: raw outputs of the head.
        d_state: state size of the scan.
        d_conv: taps of the causal convolution.
        expand: inner width of the block over the number of columns.

    Raises:
        InputError: a setting is out of range, or the encoder gives no columns.
    """

    def __init__(self, inputs: Inputs, outputs: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        require_inputs(self, inputs, "columns", "ColumnEncoder")
        require_ranges(at_least_one={"d_state": d_state, "d_conv": d_conv, "expand": expand}, shares={})
        self.mamba = Mamba(inputs.columns, d_state=d_state, d_conv=d_conv, expand=expand)
        self.readout = nn.Linear(inputs.columns, outputs)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs ``(B, outputs)`` of ``batch["columns"]``, ``(B, 13)``."""
        x = batch["columns"].to(self.readout.weight.dtype)
        raw: Tensor = self.readout(torch.relu(self.mamba(x.unsqueeze(1)).squeeze(1)))
        return raw
