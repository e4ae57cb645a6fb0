"""The Mamba-2 block against its definition written step by step in float64."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from torch import Tensor

    from popularity.models.mamba2 import Mamba2

SMALL = {"d_model": 12, "d_state": 5, "headdim": 6}


def make(double: bool = False, **options: Any) -> Mamba2:
    import torch

    from popularity.models.mamba2 import Mamba2

    torch.manual_seed(0)
    block = Mamba2(**(SMALL | options))
    with torch.no_grad():  # away from the start, where D and the norm's weights are alike
        for parameter in (block.A_log, block.D, block.norm.weight):
            parameter.add_(0.3 * torch.randn_like(parameter))
    return block.double() if double else block


def reference_block(block: Mamba2, u: Tensor) -> Tensor:
    """Token by token and group by group: project, convolve the last d_conv inputs, scan, gate, norm, project."""
    import torch
    from torch.nn import functional as F

    p = dict(block.named_parameters())
    inner, groups, states = block.d_inner, block.ngroups, block.d_state
    past = [torch.zeros(u.shape[0], inner + 2 * groups * states, dtype=u.dtype)] * block.d_conv
    H = torch.zeros(u.shape[0], block.nheads, block.headdim, states, dtype=u.dtype)
    out = []
    for token in u.unbind(1):
        projected = token @ p["in_proj.weight"].T
        z, xbc, dt = projected[:, :inner], projected[:, inner : -block.nheads], projected[:, -block.nheads :]
        past = [*past[1:], xbc]
        xbc = F.silu(p["conv1d.bias"] + sum(p["conv1d.weight"][:, 0, k] * past[k] for k in range(block.d_conv)))
        x = xbc[:, :inner].reshape(-1, block.nheads, block.headdim)
        B, C = xbc[:, inner:].reshape(-1, 2, groups, states).repeat_interleave(block.nheads // groups, 2).unbind(1)
        dt = F.softplus(dt + p["dt_bias"])
        decay = torch.exp(-dt * torch.exp(p["A_log"]))
        H = decay[..., None, None] * H + torch.einsum("bh,bhp,bhn->bhpn", dt, x, B)
        y = torch.einsum("bhpn,bhn->bhp", H, C) + p["D"][:, None] * x
        gated = (y.reshape(-1, inner) * F.silu(z)).reshape(-1, groups, inner // groups)
        normed = gated / torch.sqrt(gated.square().mean(2, keepdim=True) + 1e-5)
        out.append((normed.reshape(-1, inner) * p["norm.weight"]) @ p["out_proj.weight"].T)
    return torch.stack(out, 1)


SHAPES = {
    # batch, length, then the block's arguments
    "the model's": (5, 8, {"d_model": 32, "d_state": 16, "headdim": 16}),
    "tiny products": (5, 3, {"d_model": 32, "d_state": 16, "headdim": 16}),
    "one of everything": (1, 1, {"d_model": 1, "d_state": 1, "headdim": 1, "d_conv": 1, "expand": 1}),
    "one head": (2, 20, {"headdim": 24}),
    "two groups": (2, 9, {"ngroups": 2}),
    "longer than a chunk": (2, 70, {"headdim": 3}),
    "two groups, longer than a chunk": (1, 40, {"ngroups": 2, "d_conv": 3}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(shape: str) -> None:
    import torch

    batch, length, options = SHAPES[shape]
    block = make(double=True, **options)
    u = torch.randn(batch, length, block.d_model, dtype=torch.float64, requires_grad=True)
    dout = torch.randn_like(u)
    y, wanted = block(u), reference_block(block, u)
    torch.testing.assert_close(y, wanted, rtol=1e-9, atol=1e-11)
    got = torch.autograd.grad(y, [u, *block.parameters()], dout)
    reference = torch.autograd.grad(wanted, [u, *block.parameters()], dout)
    for name, a, b in zip(["u", *dict(block.named_parameters())], got, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")
    single = block.float()(u.detach().float())
    torch.testing.assert_close(single.double(), wanted.detach(), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        assert torch.equal(block(u.float()), single)


@settings(deadline=None, max_examples=25)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), extra=st.integers(0, 3), groups=st.integers(1, 2))
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_leaves_no_trace(side: str, lengths: list[int], extra: int, groups: int) -> None:
    import torch

    block = make(double=True, ngroups=groups)
    longest = max(lengths) + extra
    padded = torch.full((len(lengths), longest, block.d_model), float("nan"), dtype=torch.float64)
    keep = torch.zeros(padded.shape[:2], dtype=torch.bool)
    for row, length in enumerate(lengths):
        keep[row, longest - length :] = True
    if side == "right":
        keep = keep.flip(1)
    padded[keep] = torch.randn(sum(lengths), block.d_model, dtype=torch.float64)
    padded.requires_grad_()
    parameters = list(block.parameters())
    y = block(padded, keep)
    alone = torch.cat([block(padded[row, keep[row]].unsqueeze(0)).squeeze(0) for row in range(len(lengths))])
    torch.testing.assert_close(y[keep], alone, rtol=1e-9, atol=1e-11)
    assert torch.equal(y[~keep], torch.zeros_like(y[~keep]))
    weights = torch.randn_like(alone)
    got = torch.autograd.grad(y[keep], [padded, *parameters], weights)
    wanted = torch.autograd.grad(alone, [padded, *parameters], weights)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_padding_leaves_no_trace_in_chunks() -> None:
    import torch

    block, u = make(double=True), torch.randn(2, 50, 12, dtype=torch.float64)
    keep = torch.ones(2, 50, dtype=torch.bool)
    keep[0, :37] = False
    y = block(u, keep)
    torch.testing.assert_close(y[0, 37:], block(u[:1, 37:])[0], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(y[1:], block(u[1:]), rtol=1e-9, atol=1e-11)


def test_names_and_shapes_are_those_of_mamba_ssm() -> None:
    from popularity.models.mamba2 import Mamba2

    assert {name: tuple(p.shape) for name, p in Mamba2(256, ngroups=2).named_parameters()} == {
        "dt_bias": (8,),
        "A_log": (8,),
        "D": (8,),
        "in_proj.weight": (2 * 512 + 2 * 2 * 64 + 8, 256),
        "conv1d.weight": (512 + 2 * 2 * 64, 1, 4),
        "conv1d.bias": (512 + 2 * 2 * 64,),
        "norm.weight": (512,),
        "out_proj.weight": (256, 512),
    }


def test_start_is_that_of_the_paper() -> None:
    from torch.nn import functional as F

    from popularity.models.mamba2 import Mamba2

    block = Mamba2(256, headdim=2)
    minus_A, step = block.A_log.detach().exp(), F.softplus(block.dt_bias.detach())
    assert 1 <= minus_A.min() < 2  # 256 samples, uniform between 1 and 16
    assert 15 < minus_A.max() <= 16.001
    assert 0.9e-3 < step.min() < 2e-3  # log-uniform between 0.001 and 0.1
    assert 0.05 < step.max() < 0.11
    assert F.softplus(Mamba2(32, dt_min=1e-9, dt_max=1e-8).dt_bias.detach()).min() > 0.9e-4
    marked = {name for name, p in block.named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert marked == {"A_log", "D", "dt_bias"}


@pytest.mark.parametrize("groups", [1, 2])
def test_steps_equal_the_parallel_form(groups: int) -> None:
    import torch

    block, u = make(ngroups=groups), torch.randn(3, 40, 12)
    state = block.initial_state(3)
    with torch.no_grad():
        stepped = torch.stack([block.step(token, *state) for token in u.unbind(1)], 1)
        torch.testing.assert_close(stepped, block(u), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(stepped[:, :9], block(u[:, :9]), rtol=1e-4, atol=1e-5)


def test_gradcheck() -> None:
    import torch

    block = make(double=True, d_model=3, d_state=2, headdim=3)
    u = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    keep = torch.arange(5) >= torch.tensor([[2], [0]])
    names = [name for name, _ in block.named_parameters()]

    def run(u: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (u, keep))

    assert torch.autograd.gradcheck(run, (u, *block.parameters()))


@pytest.mark.parametrize("length", [4, 40])
def test_every_parameter_gets_a_gradient_and_frozen_ones_get_none(length: int, implementation: str) -> None:
    import torch

    block = make()
    block.A_log.requires_grad_(False)
    block(torch.randn(2, length, 12)).square().sum().backward()
    assert [name for name, p in block.named_parameters() if p.grad is None] == ["A_log"]
    assert all(float(p.grad.abs().sum()) > 0 for p in block.parameters() if p.grad is not None)


@pytest.mark.parametrize("length", [4, 40])
def test_half_precision_and_autocast_are_computed_in_float32(length: int, implementation: str) -> None:
    import torch

    block, u = make().bfloat16(), torch.randn(2, length, 12).bfloat16()
    y = block(u)
    y.sum().backward()
    assert block.A_log.grad is not None
    assert y.dtype == block.A_log.grad.dtype == torch.bfloat16
    exact = make().bfloat16().float()
    assert torch.equal(y, exact(u.float()).bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(exact(u.float()).bfloat16(), y)


def test_nan_reaches_its_own_sequence_only(implementation: str) -> None:
    import torch

    block, u = make(), torch.randn(3, 9, 12)
    clean = block(u)
    u[1, 4, 0] = float("nan")
    y = block(u)
    assert y[1, 4:].isnan().all()
    assert torch.equal(y[[0, 2]], clean[[0, 2]])


def test_no_tokens_and_no_sequences(implementation: str) -> None:
    import torch

    assert make()(torch.zeros(2, 0, 12)).shape == (2, 0, 12)
    assert make()(torch.zeros(0, 3, 12)).shape == (0, 3, 12)


def test_a_second_derivative_is_refused(implementation: str) -> None:
    import torch

    block = make()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(block(torch.randn(2, 5, 12)).sum(), block.parameters(), create_graph=True)


def test_what_does_not_fit_is_named() -> None:
    import torch

    from popularity.models.mamba2 import Mamba2

    with pytest.raises(ValueError, match=r"u: expected shape \(batch, length, 12\), got \(2, 12\)"):
        make()(torch.zeros(2, 12))
    with pytest.raises(ValueError, match=r"keep: expected bool \(2, 3\), got torch.float32 \(2, 3\)"):
        make()(torch.zeros(2, 3, 12), torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"headdim: expected a divisor of expand \* d_model = 24, got 7"):
        Mamba2(12, headdim=7)
    with pytest.raises(ValueError, match="ngroups: expected a divisor of the 4 heads, got 3"):
        Mamba2(12, headdim=6, ngroups=3)


@pytest.mark.parametrize("options", [{}, {"ngroups": 2}])
@pytest.mark.parametrize("length", [4, 40])
def test_one_log_line_says_that_plain_pytorch_is_in_use(
    length: int, options: dict[str, int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from popularity.models import scan

    monkeypatch.setenv(scan.VARIABLE, "torch")
    scan._announce.cache_clear()
    with caplog.at_level(logging.INFO, logger="popularity"):
        for _ in range(2):
            make(**options)(torch.zeros(2, length, 12))
    assert [record.getMessage() for record in caplog.records] == ["Mamba-2 block: plain PyTorch"]


def test_a_forced_implementation_that_the_block_lacks_is_not_ignored(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from popularity.errors import InputError
    from popularity.models import kernel_library, scan

    scan._announce.cache_clear()
    monkeypatch.setenv(scan.VARIABLE, "triton")
    make()(torch.zeros(2, 4, 12))
    assert caplog.messages == ["Mamba-2 block: plain PyTorch (POPULARITY_SCAN=triton has no effect on it)"]
    monkeypatch.setenv(scan.VARIABLE, "numpy")
    with pytest.raises(InputError, match="expected one of torch, cpp, cuda, triton, got 'numpy'"):
        make()(torch.zeros(2, 4, 12))
    monkeypatch.setenv(scan.VARIABLE, "cpp")
    monkeypatch.setattr(kernel_library, "instruction_set", lambda: None)
    with pytest.raises(InputError, match="POPULARITY_SCAN=cpp: found no C\\+\\+ kernels"):
        make()(torch.zeros(2, 4, 12))


@pytest.mark.slow
def test_under_torch_compile(implementation: str) -> None:
    import torch

    block, u = make(), torch.randn(2, 9, 12, requires_grad=True)
    wanted = torch.autograd.grad(block(u).sum(), [u, *block.parameters()])
    compiled = torch.compile(block, backend="aot_eager")
    got = torch.autograd.grad(compiled(u).sum(), [u, *block.parameters()])
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.slow
def test_under_torch_export() -> None:
    import torch

    block, u = make(), torch.randn(2, 9, 12)
    program = torch.export.export(block, (u,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    other = torch.randn(5, 9, 12)
    torch.testing.assert_close(program.module()(other), block(other), rtol=1e-4, atol=1e-5)
