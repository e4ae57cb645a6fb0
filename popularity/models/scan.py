"""The selective scan: one public function, and the one place that chooses its implementation."""

from __future__ import annotations

import importlib.util
import logging
import os
from functools import cache

import torch
from torch import Tensor

from popularity.errors import InputError
from popularity.models import scan_torch
from popularity.models.scan_torch import ScanGradients, ScanInputs

logger = logging.getLogger(__name__)

VARIABLE = "POPULARITY_SCAN"
IMPLEMENTATIONS = ("torch", "cpp", "cuda")
TWICE = (
    "the selective scan has no second derivative: its backward pass was asked for a graph (create_graph=True), "
    "which it cannot give"
)


@cache
def _announce(name: str) -> None:
    logger.info("selective scan: %s", name)


@cache
def _cuda_kernels() -> bool:
    return all(importlib.util.find_spec(name) for name in ("mamba_ssm", "selective_scan_cuda", "causal_conv1d_cuda"))


def implementation(tensor: Tensor) -> str:
    """Name of the implementation that serves ``tensor``: ``torch``, ``cpp`` or ``cuda``.

    Raises:
        InputError: ``POPULARITY_SCAN`` holds something else, or asks for an implementation that is not there.
    """
    forced = os.environ.get(VARIABLE, "")
    if forced not in ("", *IMPLEMENTATIONS):
        raise InputError(f"{VARIABLE}: expected one of {', '.join(IMPLEMENTATIONS)}, however: {forced!r}")
    if forced == "cuda" and not _cuda_kernels():
        raise InputError(f"{VARIABLE}=cuda: mamba-ssm and causal-conv1d with their CUDA kernels are not installed")
    chosen = "torch"
    if forced != "torch" and tensor.is_cuda and _cuda_kernels():
        chosen = "cuda"
    _announce({"torch": "plain PyTorch", "cuda": "mamba-ssm's CUDA kernels"}[chosen])
    return chosen


def needs_plain_graph() -> bool:
    """Whether something reads the operations one by one, so that it must see ordinary ones."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


class _SelectiveScan(torch.autograd.Function):
    """Token-major scan with the gradients written by hand."""

    @staticmethod
    def forward(ctx, x, delta, A, B, C, D, z, bias, softplus):  # type: ignore[no-untyped-def]
        inputs = ScanInputs(x, delta, A, B, C, D, z, bias, softplus)
        save = any(ctx.needs_input_grad)
        y, saved = scan_torch.scan_forward(inputs, save)
        if save:
            ctx.softplus = softplus
            ctx.save_for_backward(*inputs[:-1], *saved)
        return y

    @staticmethod
    def backward(ctx, dout):  # type: ignore[no-untyped-def]
        if torch.is_grad_enabled():
            raise RuntimeError(TWICE)
        tensors = ctx.saved_tensors
        inputs = ScanInputs(*tensors[:8], ctx.softplus)
        grads = ScanGradients(
            *(
                None if t is None else torch.empty_like(t)
                for t in (inputs.x, inputs.delta, inputs.B, inputs.C, inputs.z)
            )
        )
        summed = scan_torch.scan_backward(inputs, tensors[8:], dout, grads)
        return grads.x, grads.delta, summed.A, grads.B, grads.C, summed.D, grads.z, summed.bias, None


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Selective scan of Gu & Dao, "Mamba" (2023), equations 2a, 2b and 4, shapes and order as in ``mamba_ssm``.

    Args:
        u: Input, (batch, dim, length).
        delta: Step sizes, (batch, dim, length).
        A: State matrix, (dim, state), real.
        B: Input matrix, (batch, state, length).
        C: Output matrix, (batch, state, length).
        D: Skip, (dim,).
        z: Gate, (batch, dim, length): the result is multiplied by SiLU(z).
        delta_bias: Added to delta, (dim,).
        delta_softplus: Whether softplus is applied to delta and its bias.

    Returns:
        (batch, dim, length) in the type of ``u``. Half-precision inputs are computed in float32.

    Raises:
        ValueError: The shapes do not fit together.
        RuntimeError: A second derivative is asked for.
    """
    batch, dim, length = u.shape
    states = A.shape[-1]
    wanted = {
        "delta": (delta, (batch, dim, length)),
        "A": (A, (dim, states)),
        "B": (B, (batch, states, length)),
        "C": (C, (batch, states, length)),
        "D": (D, (dim,)),
        "z": (z, (batch, dim, length)),
        "delta_bias": (delta_bias, (dim,)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} must be {shape} to go with u {tuple(u.shape)}, however: {tuple(tensor.shape)}")
    work = u.dtype if u.dtype == torch.float64 else torch.float32
    with torch.autocast(u.device.type, enabled=False):
        x, step, b, c = (tensor.to(work).transpose(1, 2) for tensor in (u, delta, B, C))
        gate = None if z is None else z.to(work).transpose(1, 2)
        skip, bias = (None if tensor is None else tensor.to(work) for tensor in (D, delta_bias))
        inputs = ScanInputs(x, step, A.to(work).t(), b, c, skip, gate, bias, delta_softplus)
        plain = needs_plain_graph() or u.numel() == 0
        implementation(u)
        y = scan_torch.scan_plain(inputs) if plain else _SelectiveScan.apply(*inputs)
        return y.transpose(1, 2).to(u.dtype)
