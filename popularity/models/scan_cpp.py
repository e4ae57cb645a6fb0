"""Selective scan in C++ through ctypes: float32 on the CPU, same interface as ``scan_torch.py`` (shapes: see there).

The kernels (``kernels/``) know neither Python nor PyTorch, so that one build serves every version of both. They come as
optional extension modules, one for each instruction set, which are never imported, only loaded; where no compiler was
at hand there are none. PyTorch is imported first, so that both use the one OpenMP runtime that it brings.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from popularity.models.scan_torch import ParameterGradients, ScanGradients, ScanInputs

CHANNELS = 16  # the kernels take whole vectors of channels: a multiple of this
STATES_MAX = 64
TAPS_MAX = 8
SEGMENT = 16  # tokens whose states the kernels hold at once
INSTRUCTION_SETS = {"AVX512": ("avx512", "avx2", "portable"), "AVX2": ("avx2", "portable")}

_forked = False


def _after_fork() -> None:
    # OpenMP's threads do not survive a fork and its runtime waits for them for ever: one thread from then on
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_after_fork)


class ScanCall(ctypes.Structure):
    """The structure of the same name in ``kernels/scan.cpp``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "length", "channels", "states")),
        *((name, ctypes.c_int64) for name in ("softplus", "interval", "threads")),
        *((name, ctypes.c_void_p) for name in ("x", "delta", "z", "b", "c", "A", "D", "bias", "y", "kept")),
        *((name, ctypes.c_void_p) for name in ("dy", "dx", "ddelta", "dz", "db", "dc", "sums")),
    )  # fmt: skip


@cache
def load(instruction_set: str) -> ctypes.CDLL | None:
    """The kernels built for ``avx512``, ``avx2`` or ``portable``; None if they were not built or do not load."""
    spec = importlib.util.find_spec(f"popularity.models._scan_{instruction_set}")
    if spec is None or spec.origin is None:
        return None
    try:
        return ctypes.CDLL(spec.origin)
    except OSError:
        return None


@cache
def instruction_set() -> str | None:
    """The best instruction set for which there are kernels that this machine can run."""
    names = INSTRUCTION_SETS.get(torch.backends.cpu.get_cpu_capability(), ("portable",))
    return next((name for name in names if load(name) is not None), None)


def takes(tensor: Tensor, states: int, taps: int = 1) -> bool:
    """Whether the kernels serve inputs like ``tensor`` with so many states and taps of the convolution."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and 1 <= states <= STATES_MAX
        and 1 <= taps <= TAPS_MAX
        and tensor.numel() > 0
        and instruction_set() is not None
    )


def call(function: str, arguments: ctypes.Structure) -> None:
    """Call a kernel.

    Raises:
        MemoryError: A thread got no memory for its buffers.
    """
    library = load(instruction_set() or "portable")
    if getattr(library, function)(ctypes.byref(arguments)):
        raise MemoryError(f"{function}: no memory for a thread's buffers")


def threads(batch: int) -> int:
    """Threads to use: as many as PyTorch is told to, one in a forked process, no more than there are sequences."""
    return 1 if _forked else max(1, min(torch.get_num_threads(), batch))


def interval(states: int) -> int:
    """Tokens between two kept states: at least as many as states, so that what is kept is no larger than the input."""
    return SEGMENT * -(-states // SEGMENT)


def pointer(tensor: Tensor | None) -> int | None:
    """Address of a tensor's first element."""
    return None if tensor is None else tensor.data_ptr()


def pad(tensor: Tensor, dim: int) -> Tensor:
    """Zeros behind ``tensor`` along ``dim`` up to a multiple of ``CHANNELS``; the result is contiguous."""
    missing = -tensor.shape[dim] % CHANNELS
    if missing:
        tensor = F.pad(tensor, (0, 0) * (tensor.dim() - 1 - dim) + (0, missing))
    return tensor.contiguous()


def prepare(inputs: ScanInputs) -> ScanInputs:
    """The same inputs as the kernels read them: contiguous, channels padded, no skip or bias left out."""
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
