"""Values and gradients of the blocks on a GPU against float64: the first part of ``gpu.py``, and its shared parts."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

os.environ["TRITON_INTERPRET"] = "1" if "--try" in sys.argv else "0"  # before Triton is imported

import torch
from common import table
from torch import Tensor, nn

from popularity.models import mamba_torch, scan, scan_cuda
from popularity.models.mamba import Mamba
from popularity.models.mamba2 import Mamba2
from popularity.models.scan_inputs import ScanInputs
from popularity.models.scan_torch import scan_plain

TRY = "--try" in sys.argv
DEVICE = "cpu" if TRY else "cuda"
# batch, length, channels or d_model, d_state, and headdim for Mamba-2
SCANS = [(3, length, 40, states) for length in (1, 15, 16, 17, 130) for states in (1, 5, 16, 64)]
BLOCKS = [(5, 14, 64, 16), (2, 33, 50, 17), (1100, 3, 16, 16)]
BLOCKS2 = [(5, 17, 48, 16, 16), (2, 70, 64, 64, 64)]
LIMIT = 2e-5  # of the errors
if TRY:
    SCANS, BLOCKS, BLOCKS2 = [(3, 5, 3, 2)], [(2, 3, 4, 2)], [(2, 3, 4, 2, 4)]


def implementations() -> list[str]:
    """Names for ``POPULARITY_SCAN``, plain PyTorch first."""
    return ["torch", "triton", *(["cuda"] if scan_cuda.available() else [])]


def force(name: str) -> None:
    """Use one implementation of S6 from here on."""
    os.environ[scan.VARIABLE] = name


def distance(got: Tensor, wanted: Tensor) -> float:
    """Norm of the difference relative to that of what is wanted."""
    return float((got.detach().double() - wanted.detach()).norm() / wanted.detach().norm().clamp(min=1e-300))


def gradients(function: Callable[..., Tensor], inputs: list[Tensor], dout: Tensor) -> list[Tensor]:
    """The result and the gradients of all inputs."""
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    y = function(*inputs)
    return [y, *torch.autograd.grad(y, inputs, dout.to(y.dtype))]


def worst(function: Callable[..., Tensor], exact: Callable[..., Tensor], inputs: list[Tensor]) -> tuple[float, float]:
    """Distance of the result, and the largest of the gradients, from those of ``exact`` in float64."""
    with torch.no_grad():
        dout = torch.randn_like(function(*inputs))
    got = gradients(function, inputs, dout)
    wanted = gradients(exact, [tensor.double() for tensor in inputs], dout)
    errors = [distance(a, b) for a, b in zip(got, wanted, strict=True)]
    return errors[0], max(errors[1:])


def scan_inputs(batch: int, length: int, dim: int, states: int) -> list[Tensor]:
    """u, delta, A, B, C, D, z and delta_bias as ``selective_scan`` takes them."""
    return [
        torch.randn(batch, dim, length, device=DEVICE), torch.randn(batch, dim, length, device=DEVICE) - 2,
        -torch.rand(dim, states, device=DEVICE), torch.randn(batch, states, length, device=DEVICE),
        torch.randn(batch, states, length, device=DEVICE), torch.randn(dim, device=DEVICE),
        torch.randn(batch, dim, length, device=DEVICE), 0.1 * torch.randn(dim, device=DEVICE),
    ]  # fmt: skip


def exact_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *rest: Tensor) -> Tensor:
    """The scan as ordinary operations, one step per token."""
    D, z, bias = rest
    x, delta, B, C, z = (tensor.transpose(1, 2) for tensor in (u, delta, B, C, z))
    return scan_plain(ScanInputs(x, delta, A.t(), B, C, D, z, bias, True)).transpose(1, 2)


def check() -> tuple[dict[str, Any], str]:
    """Errors of values and gradients against float64.

    Raises:
        ArithmeticError: One is not below ``LIMIT``.
    """
    errors: dict[str, list[tuple[float, float]]] = {}
    for name in implementations():
        force(name)
        for shape in SCANS:
            found = worst(lambda *t: scan.selective_scan(*t, True), exact_scan, scan_inputs(*shape))
            errors.setdefault(f"S6 scan, {name}", []).append(found)
        for batch, length, width, states in BLOCKS:
            block = Mamba(width, states).to(DEVICE)
            inputs = [torch.randn(batch, length, width, device=DEVICE), *block.block_parameters()]
            found = worst(run_block(block, block.block_parameters()), lambda *t: mamba_torch.block_plain(t), inputs)
            errors.setdefault(f"S6 block, {name}", []).append(found)
    force("torch")
    for batch, length, width, states, headdim in BLOCKS2:
        block2 = Mamba2(width, states, headdim=headdim).to(DEVICE)
        exact = copy.deepcopy(block2).double()
        exact.forward = lambda u, net=exact: net._plain(u, None)  # type: ignore[method-assign]
        inputs = [torch.randn(batch, length, width, device=DEVICE), *block2.parameters()]
        found = worst(run_block(block2, block2.parameters()), run_block(exact, exact.parameters()), inputs)
        errors.setdefault("Mamba-2 block, plain PyTorch", []).append(found)
    largest = {name: torch.tensor(found).amax(0).tolist() for name, found in errors.items()}  # keeps NaN, max() may not
    rows = [[name, len(errors[name]), *(f"{error:.1e}" for error in found)] for name, found in largest.items()]
    text = "Largest error against float64, relative\n\n" + table(["", "shapes", "values", "gradients"], rows)
    if not all(error < LIMIT for found in largest.values() for error in found):
        raise ArithmeticError(f"expected errors below {LIMIT}\n{text}")
    return {name: dict(zip(("values", "gradients"), found, strict=True)) for name, found in largest.items()}, text


def run_block(block: nn.Module, parameters: Iterable[nn.Parameter]) -> Callable[..., Tensor]:
    """A block as a function of its input and its parameters, in the order of ``parameters``."""
    names = {id(parameter): name for name, parameter in block.named_parameters()}
    order = [names[id(parameter)] for parameter in parameters]
    return lambda u, *values: torch.func.functional_call(block, dict(zip(order, values, strict=True)), (u,))
