"""The selective scan: one public function, and the one place that chooses its implementation."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Collection
from functools import cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from popularity.errors import InputError
from popularity.models import kernel_library, scan_cpp, scan_cuda, scan_torch
from popularity.models.scan_inputs import ScanGradients, ScanInputs

logger = logging.getLogger(__name__)

VARIABLE = "POPULARITY_SCAN"
IMPLEMENTATIONS = ("torch", "cpp", "cuda", "triton")
TRITON_STATES_MAX = 256
Function = TypeVar("Function", bound=Callable[..., Any])
TWICE = "the selective scan has no second derivative: create_graph=True is not supported"


@cache
def _announce(line: str, level: int = logging.INFO) -> None:
    """Log a line, once in a process."""
    logger.log(level, line)


def not_compiled(function: Function) -> Function:
    """The function, into which ``torch.compile`` does not look."""
    return cast(Function, torch.compiler.disable(function))


def needs_plain_graph(tensor: Tensor) -> bool:
    """Whether to use ordinary operations: something records them one by one, or there is nothing to scan."""
    jit: Any = torch.jit  # its functions have no types
    return torch.compiler.is_exporting() or jit.is_tracing() or tensor.numel() == 0


def forced_implementation() -> str:
    """The implementation that ``POPULARITY_SCAN`` names, empty if none; InputError if there is no such one."""
    forced = os.environ.get(VARIABLE, "")
    if forced not in ("", *IMPLEMENTATIONS):
        raise InputError(f"{VARIABLE}: expected one of {', '.join(IMPLEMENTATIONS)}, got {forced!r}")
    return forced


@cache
def _triton_works() -> bool:
    """Whether Triton is installed and can build and run a kernel here, for which it needs a C compiler."""
    if importlib.util.find_spec("triton") is None:
        return False
    from popularity.models import scan_triton

    try:
        scan_triton.try_out()
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        _announce(f"selective scan: Triton cannot be used ({type(error).__name__}: {reason})", logging.WARNING)
        return False
    return True


def _triton_takes(tensor: Tensor, states: int) -> bool:
    """Whether the Triton kernels can take inputs like ``tensor`` with this many states."""
    device = tensor.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
    half = (torch.float32, torch.bfloat16, torch.float16)
    return device and tensor.dtype in half and 1 <= states <= TRITON_STATES_MAX and _triton_works()


def _require_kernels() -> None:
    if kernel_library.instruction_set() is None:
        raise InputError(f"{VARIABLE}=cpp: found no C++ kernels of this version; install it with a C++ compiler")


def implementation(tensor: Tensor, states: int, conv: Tensor | None = None) -> str:
    """Name of the implementation of S6 for inputs like ``tensor``: ``torch``, ``cpp``, ``cuda`` or ``triton``.

    Args:
        tensor: of the inputs.
        states: of the scan.
        conv: weights (channels, 1, taps) of the convolution in a block; None for the scan alone.

    Raises:
        InputError: ``POPULARITY_SCAN`` is none of these, or asks for an implementation that is not installed.
    """
    forced = forced_implementation()
    if forced == "cuda" and not scan_cuda.available():
        raise InputError(f"{VARIABLE}=cuda: mamba-ssm and causal-conv1d with their CUDA kernels are not installed")
    if forced == "triton" and importlib.util.find_spec("triton") is None:
        raise InputError(f"{VARIABLE}=triton: Triton is not installed; it comes with PyTorch for CUDA")
    if forced == "cpp":
        _require_kernels()
    if forced in ("", "cuda") and scan_cuda.takes(tensor, states, conv):
        _announce("selective scan: mamba-ssm's CUDA kernels")
        return "cuda"
    if forced in ("", "triton") and (forced or tensor.is_cuda) and _triton_takes(tensor, states):
        _announce("selective scan: Triton kernels")
        return "triton"
    if forced in ("", "cpp") and kernel_library.takes(tensor, states, taps=1 if conv is None else conv.shape[2]):
        _announce(f"selective scan: C++ kernels for {kernel_library.instruction_set()}")
        return "cpp"
    _announce("selective scan: plain PyTorch")
    return "torch"


def block_implementation(block: str, kernels_take: bool) -> str:
    """Name of the implementation of a block whose only kernels are in C++: ``torch`` or ``cpp``; logs it once.

    Args:
        block: Its name in the log.
        kernels_take: Whether its inputs are such that the kernels can take them.

    Raises:
        InputError: ``POPULARITY_SCAN`` is not the name of an implementation, or asks for kernels that are not built.
    """
    forced = forced_implementation()
    if forced == "cpp":
        _require_kernels()
    if forced in ("", "cpp") and kernels_take:
        _announce(f"{block}: C++ kernels for {kernel_library.instruction_set()}")
        return "cpp"
    announce_plain(block, without=("cuda", "triton"))
    return "torch"


def kernels_wanted(able: bool) -> bool:
    """Whether the parts around a block use C++ kernels, which are ``able`` to take their inputs; logs nothing."""
    return able and forced_implementation() in ("", "cpp")


def announce_plain(block: str, without: Collection[str] = ("cpp", "cuda", "triton")) -> None:
    """Log once that a block runs in plain PyTorch; a warning if ``POPULARITY_SCAN`` names one of ``without``."""
    forced = forced_implementation()
    if forced in without:
        _announce(f"{block}: plain PyTorch ({VARIABLE}={forced} has no effect on it)", logging.WARNING)
    else:
        _announce(f"{block}: plain PyTorch")


class _SelectiveScan(torch.autograd.Function):
    """Token-major scan with the gradients written by hand."""

    @staticmethod
    def forward(ctx, kernels, x, delta, A, B, C, D, z, bias, softplus):  # type: ignore[no-untyped-def]
        inputs = ScanInputs(x, delta, A, B, C, D, z, bias, softplus)
        y, saved = kernels.scan_forward(inputs, True)
        ctx.kernels, ctx.softplus = kernels, softplus
        ctx.save_for_backward(*inputs[:-1], *saved)
        return y

    @staticmethod
    def backward(ctx, dout):  # type: ignore[no-untyped-def]
        if torch.is_grad_enabled():
            raise RuntimeError(TWICE)
        tensors = ctx.saved_tensors
        x, delta, A, B, C, D, z, bias = tensors[:8]
        inputs = ScanInputs(x, delta, A, B, C, D, z, bias, ctx.softplus)
        dx, ddelta, dB, dC = (torch.empty_like(tensor) for tensor in (x, delta, B, C))
        grads = ScanGradients(dx, ddelta, dB, dC, None if z is None else torch.empty_like(z))
        summed = ctx.kernels.scan_backward(inputs, tensors[8:], dout, grads)
        return None, grads.x, grads.delta, summed.A, grads.B, grads.C, summed.D, grads.z, summed.bias, None


@not_compiled
def _scan(inputs: ScanInputs) -> Tensor:
    """Scan token-major inputs with the implementation chosen for them."""
    x, delta, A, B, C, D, z, bias, softplus = inputs
    work = x.dtype if x.dtype == torch.float64 else torch.float32
    with torch.autocast(x.device.type, enabled=False):
        D, z, bias = (None if tensor is None else tensor.to(work) for tensor in (D, z, bias))
        inputs = ScanInputs(x.to(work), delta.to(work), A.to(work), B.to(work), C.to(work), D, z, bias, softplus)
        name = implementation(inputs.x, states=A.shape[0])
        if name == "cuda":
            return scan_cuda.scan(inputs).to(x.dtype)
        kernels: Any = scan_torch
        if name == "cpp":
            kernels, inputs = scan_cpp, scan_cpp.prepare(inputs)
        if name == "triton":
            from popularity.models import scan_triton

            kernels, inputs = scan_triton, scan_triton.prepare(inputs)
        if torch.is_grad_enabled() and any(isinstance(tensor, Tensor) and tensor.requires_grad for tensor in inputs):
            function: Any = _SelectiveScan  # its ``apply`` has no types
            y: Tensor = function.apply(kernels, *inputs)
        else:
            y = kernels.scan_forward(inputs, False)[0]
        return y[..., : x.shape[2]].to(x.dtype)


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
        ValueError: The shapes do not agree.
        RuntimeError: The backward pass is called with ``create_graph=True``.
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
            raise ValueError(f"{name}: expected shape {shape} for u {tuple(u.shape)}, got {tuple(tensor.shape)}")
    x, delta, B, C = (tensor.transpose(1, 2) for tensor in (u, delta, B, C))
    inputs = ScanInputs(x, delta, A.t(), B, C, D, None if z is None else z.transpose(1, 2), delta_bias, delta_softplus)
    y = scan_torch.scan_plain(inputs) if needs_plain_graph(u) else _scan(inputs)
    return y.transpose(1, 2)
