"""Causal depthwise convolution with SiLU in plain PyTorch, its gradients written by hand.

Glossary of shapes: ``b`` batch, ``l`` tokens, ``d`` channels (d_inner), ``k`` taps (d_conv). All tensors are
token-major, channels last.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def conv_silu_forward(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Causal depthwise convolution, then SiLU.

    Args:
        x: (b, l, d).
        weight: (k, d); ``weight[k - 1]`` multiplies the current token.
        bias: (d,).

    Returns:
        The result and its input to SiLU, (b, l, d) each.
    """
    taps, length = weight.shape[0], x.shape[1]
    before = torch.addcmul(bias, x, weight[-1])
    for lag in range(1, min(taps, length)):
        before[:, lag:].addcmul_(x[:, :-lag], weight[-1 - lag])
    return F.silu(before), before


def conv_silu_backward(x: Tensor, weight: Tensor, before: Tensor, dout: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
    """Write the gradient of ``x`` into ``dx`` and return those of ``weight`` (k, d) and ``bias`` (d,)."""
    taps, length = weight.shape[0], x.shape[1]
    ds = torch.ops.aten.silu_backward(dout, before)
    torch.mul(ds, weight[-1], out=dx)
    dweight = torch.zeros_like(weight)
    dweight[-1] = (ds * x).sum((0, 1))
    for lag in range(1, min(taps, length)):
        dx[:, :-lag].addcmul_(ds[:, lag:], weight[-1 - lag])
        dweight[-1 - lag] = (ds[:, lag:] * x[:, :-lag]).sum((0, 1))
    return dweight, ds.sum((0, 1))
