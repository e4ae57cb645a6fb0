"""The blocks on a CUDA device against their definitions in float64."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import Tensor, nn

pytestmark = [
    pytest.mark.gpu,
    # a backward pass in a thread that has no CUDA context yet: PyTorch sets it, and says so
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS"),
]


@pytest.fixture(params=["torch", "triton", "cuda"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    from popularity.models import scan, scan_cuda

    if request.param == "cuda" and not scan_cuda.available():
        pytest.skip("mamba-ssm and causal-conv1d with their CUDA kernels are not installed")
    monkeypatch.setenv(scan.VARIABLE, request.param)
    return request.param


def with_gradients(block: nn.Module, u: Tensor, dout: Tensor) -> list[Tensor]:
    import torch

    u = u.detach().requires_grad_()
    y = block(u)
    return [y.detach(), *torch.autograd.grad(y, [u, *block.parameters()], dout.to(y.dtype))]


def worst(block: nn.Module, batch: int, length: int, width: int) -> float:
    """Largest distance of the output and all gradients from those of the same block in float64, relative to these."""
    import torch

    block = block.cuda()
    u, dout = torch.randn(2, batch, length, width, device="cuda")
    got = with_gradients(block, u, dout)
    exact = with_gradients(copy.deepcopy(block).double(), u.double(), dout)
    return max(float((a.double() - b).norm() / b.norm()) for a, b in zip(got, exact, strict=True))


SHAPES = [(3, 1, 1, 1), (5, 14, 64, 16), (2, 33, 50, 17), (2, 70, 16, 64), (4, 130, 24, 5), (1100, 3, 16, 16)]


@pytest.mark.parametrize(("batch", "length", "width", "states"), SHAPES)
def test_s6_block(implementation: str, batch: int, length: int, width: int, states: int) -> None:
    from popularity.models.mamba import Mamba

    assert worst(Mamba(width, states), batch, length, width) < 1e-5


@pytest.mark.parametrize("length", [1, 17, 70])
def test_mamba2_block(length: int) -> None:
    from popularity.models.mamba2 import Mamba2

    assert worst(Mamba2(48, 16, headdim=16), 5, length, 48) < 1e-5


def test_the_same_bits_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from popularity.models import scan
    from popularity.models.mamba import Mamba

    monkeypatch.setenv(scan.VARIABLE, "triton")
    block = Mamba(32).cuda()
    u, dout = torch.randn(2, 300, 40, 32, device="cuda")
    first, second = (with_gradients(block, u, dout) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_without_mamba_ssm_triton_is_chosen(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from popularity.models import scan, scan_cuda
    from popularity.models.mamba import Mamba

    monkeypatch.delenv(scan.VARIABLE, raising=False)
    monkeypatch.setattr(scan_cuda, "available", lambda: False)
    scan._announce.cache_clear()
    with caplog.at_level(logging.INFO, logger="popularity"):
        Mamba(16).cuda()(torch.zeros(2, 5, 16, device="cuda"))
    assert caplog.messages == ["selective scan: Triton kernels"]
