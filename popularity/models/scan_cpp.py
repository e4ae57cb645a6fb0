"""Selective scan in C++ through ctypes: float32 on the CPU, with the interface of ``scan_torch.py``."""

from __future__ import annotations

import torch
from torch import Tensor

from popularity.models.kernel_library import ScanCall, call, interval, pad, pointer, threads
from popularity.models.scan_inputs import ParameterGradients, ScanGradients, ScanInputs


def prepare(inputs: ScanInputs) -> ScanInputs:
    """The same inputs as the kernels read them: contiguous, channels padded, zeros for a missing skip or bias."""
    x, delta, A, B, C, D, z, bias, softplus = inputs
    channels = x.new_zeros(x.shape[2])
    return ScanInputs(
        pad(x, 2),
        pad(delta, 2),
        pad(A, 1),
        B.contiguous(),
        C.contiguous(),
        pad(channels if D is None else D, 0),
        None if z is None else pad(z, 2),
        pad(channels if bias is None else bias, 0),
        softplus,
    )


def _call_for(inputs: ScanInputs, kept: Tensor | None) -> ScanCall:
    x, delta, A, B, C, D, z, bias, softplus = inputs
    (batch, length, channels), states = x.shape, A.shape[0]
    return ScanCall(
        batch, length, channels, states, softplus, interval(states), threads(batch),
        *(pointer(t) for t in (x, delta, z, B, C, A, D, bias)),
        kept=pointer(kept),
    )  # fmt: skip


def scan_forward(inputs: ScanInputs, save: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """As ``scan_torch.scan_forward``; ``inputs`` come from ``prepare``."""
    (batch, length, channels), states = inputs.x.shape, inputs.A.shape[0]
    y = torch.empty_like(inputs.x)
    kept = y.new_empty(batch, (length - 1) // interval(states), states, channels) if save else None
    arguments = _call_for(inputs, kept)
    arguments.y = y.data_ptr()
    call("popularity_scan_forward", arguments)
    return y, () if kept is None else (kept,)


def scan_backward(
    inputs: ScanInputs, saved: tuple[Tensor, ...], dout: Tensor, grads: ScanGradients
) -> ParameterGradients:
    """As ``scan_torch.scan_backward``; ``inputs`` come from ``prepare``, ``grads`` hold contiguous tensors."""
    arguments = _call_for(inputs, saved[0])
    dout = dout.contiguous()
    states, channels = inputs.A.shape
    sums = dout.new_zeros(arguments.threads, states + 2, channels)
    arguments.dy, arguments.sums = dout.data_ptr(), sums.data_ptr()
    for name, tensor in zip(("dx", "ddelta", "db", "dc", "dz"), grads, strict=True):
        setattr(arguments, name, pointer(tensor))
    call("popularity_scan_backward", arguments)
    total = sums.sum(0)
    return ParameterGradients(total[:states], total[states], total[states + 1])
