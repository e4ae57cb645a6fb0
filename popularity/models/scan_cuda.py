"""mamba-ssm's CUDA kernels (https://github.com/state-spaces/mamba), where they are installed."""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from popularity.models.scan_inputs import ScanInputs

STATES_MAX = 256  # of the scan's kernels
TAPS, CHANNELS = (2, 3, 4), 8  # of causal-conv1d: taps of its kernels, and what divides the number of channels


@cache
def available() -> bool:
    """Whether the packages and their compiled parts are installed."""
    return all(importlib.util.find_spec(name) for name in ("mamba_ssm", "selective_scan_cuda", "causal_conv1d_cuda"))


def takes(tensor: Tensor, states: int, conv: Tensor | None = None) -> bool:
    """Whether the kernels are there and can take inputs like ``tensor``, in single precision.

    Args:
        tensor: of the inputs.
        states: of the scan.
        conv: weights (channels, 1, taps) of the convolution in a block; None for the scan alone.
    """
    fits = conv is None or (conv.shape[0] % CHANNELS == 0 and conv.shape[2] in TAPS)
    return tensor.is_cuda and tensor.dtype == torch.float32 and 1 <= states <= STATES_MAX and fits and available()


def scan(inputs: ScanInputs) -> Tensor:
    """The scan of ``scan_torch.scan_forward``, differentiable; inputs and result are token-major."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    x, delta, A, B, C, D, z, bias, softplus = inputs
    x, delta, B, C = (tensor.transpose(1, 2) for tensor in (x, delta, B, C))
    gate = None if z is None else z.transpose(1, 2)
    y: Tensor = selective_scan_fn(x, delta, A.t(), B, C, D, gate, bias, softplus)
    return y.transpose(1, 2)


def block(tensors: list[Tensor]) -> Tensor:
    """The block of ``mamba_torch.block_forward``, differentiable."""
    from mamba_ssm.ops.selective_scan_interface import mamba_inner_fn

    u, w_in, conv, conv_bias, w_x, w_dt, bias, A_log, D, w_out = tensors
    xz = F.linear(u, w_in).transpose(1, 2)
    A = -torch.exp(A_log)
    out: Tensor = mamba_inner_fn(
        xz, conv, conv_bias, w_x, w_dt, w_out, None, A, None, None, D, delta_bias=bias, delta_softplus=True
    )
    return out
