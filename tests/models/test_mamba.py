"""The block against Gu & Dao (2023), figure 3 and algorithm 2, written step by step in float64."""

from __future__ import annotations

import subprocess
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Lazy

if TYPE_CHECKING:
    from torch import Tensor

    from popularity.models.mamba import Mamba

torch = Lazy("torch")
F = Lazy("torch.nn.functional")
kernel_library = Lazy("popularity.models.kernel_library")
mamba = Lazy("popularity.models.mamba")
scan = Lazy("popularity.models.scan")


def reference_block(block: Mamba, u: Tensor) -> Tensor:
    """Token by token: project, convolve the last d_conv inputs, scan, gate, project."""
    p = dict(block.named_parameters())
    A = -torch.exp(p["A_log"])
    past = [torch.zeros(u.shape[0], block.d_inner, dtype=u.dtype)] * block.d_conv
    h = torch.zeros(u.shape[0], block.d_inner, block.d_state, dtype=u.dtype)
    out = []
    for token in u.unbind(1):
        x, z = (token @ p["in_proj.weight"].T).chunk(2, 1)
        past = [*past[1:], x]
        x = F.silu(p["conv1d.bias"] + sum(p["conv1d.weight"][:, 0, k] * past[k] for k in range(block.d_conv)))
        delta, B, C = (x @ p["x_proj.weight"].T).split([block.dt_rank, block.d_state, block.d_state], 1)
        delta = F.softplus(delta @ p["dt_proj.weight"].T + p["dt_proj.bias"])
        h = torch.exp(delta[:, :, None] * A) * h + delta[:, :, None] * B[:, None, :] * x[:, :, None]
        y = (h * C[:, None, :]).sum(2) + p["D"] * x
        out.append((y * F.silu(z)) @ p["out_proj.weight"].T)
    return torch.stack(out, 1)


def make(*arguments: int, seed: int = 0, **options: Any) -> Mamba:
    torch.manual_seed(seed)
    block = mamba.Mamba(*arguments, **options)
    with torch.no_grad():  # away from the start, where A's rows and D are alike
        block.A_log.add_(0.3 * torch.randn_like(block.A_log))
        block.D.add_(torch.randn_like(block.D))
    return block


def in_float64(block: Mamba) -> Mamba:
    copy = mamba.Mamba(
        block.d_model, block.d_state, block.d_conv, block.d_inner // block.d_model, block.dt_rank
    ).double()
    copy.load_state_dict(block.state_dict())
    return copy


def distance(got: Tensor, wanted: Tensor) -> float:
    got, wanted = got.detach().double(), wanted.detach()
    return float((got - wanted).norm() / wanted.norm().clamp(min=1e-300))


SHAPES = {
    # batch, length, then the block's arguments
    "the model's": (5, 14, {"d_model": 64}),
    "one of everything": (1, 1, {"d_model": 1, "d_state": 1, "d_conv": 1, "expand": 1}),
    "narrow": (3, 20, {"d_model": 12, "d_state": 5}),
    "odd": (2, 33, {"d_model": 50, "d_state": 17, "d_conv": 3}),
    "many states": (2, 70, {"d_model": 16, "d_state": 64, "d_conv": 8, "dt_rank": 7}),
    "too many states": (2, 9, {"d_model": 16, "d_state": 65}),
    "too many taps": (2, 12, {"d_model": 16, "d_conv": 9}),
    "several tiles": (2, 300, {"d_model": 64, "expand": 4}),
    "shorter than the convolution": (4, 2, {"d_model": 16}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(implementation: str, shape: str) -> None:
    batch, length, options = SHAPES[shape]
    block = make(**options)
    exact = in_float64(block)
    u = torch.randn(batch, length, block.d_model, requires_grad=True)
    exact_u = u.detach().double().requires_grad_()
    dout = torch.randn(u.shape)
    y, wanted = block(u), reference_block(exact, exact_u)
    assert distance(y, wanted) < 1e-6
    names = ["u", *(name for name, _ in block.named_parameters())]
    got = torch.autograd.grad(y, [u, *block.parameters()], dout)
    reference = torch.autograd.grad(wanted, [exact_u, *exact.parameters()], dout.double())
    assert {name: distance(a, b) for name, a, b in zip(names, got, reference, strict=True)} == pytest.approx(
        dict.fromkeys(names, 0), abs=1e-5
    )
    with torch.no_grad():
        assert torch.equal(block(u), y)


@pytest.mark.parametrize("expand", [1, 2])
def test_every_width(implementation: str, expand: int) -> None:
    """Whole vectors, parts of one, and panels of the products that hold padding alone."""
    wrong = {}
    for width in range(1, 41):
        block = make(width, 1 + width % 21, 1 + width % 8, expand, 1 + width % 5)
        exact = in_float64(block)
        u = torch.randn(2, 19, width, requires_grad=True)
        exact_u = u.detach().double().requires_grad_()
        dout = torch.randn(u.shape)
        y, wanted = block(u), exact(exact_u)
        got = torch.autograd.grad(y, [u, *block.parameters()], dout)
        reference = torch.autograd.grad(wanted, [exact_u, *exact.parameters()], dout.double())
        errors = [distance(a, b) for a, b in zip((y, *got), (wanted, *reference), strict=True)]
        if not all(error < 2e-5 for error in errors):
            wrong[width] = errors
    assert not wrong


def test_names_and_shapes_are_those_of_mamba_ssm() -> None:
    assert {name: tuple(p.shape) for name, p in mamba.Mamba(64).named_parameters()} == {
        "in_proj.weight": (256, 64),
        "conv1d.weight": (128, 1, 4),
        "conv1d.bias": (128,),
        "x_proj.weight": (36, 128),
        "dt_proj.weight": (128, 4),
        "dt_proj.bias": (128,),
        "A_log": (128, 16),
        "D": (128,),
        "out_proj.weight": (64, 128),
    }


def test_start_is_that_of_the_paper() -> None:
    block = mamba.Mamba(64)
    assert torch.allclose(-torch.exp(block.A_log[7]), -torch.arange(1.0, 17))
    step = F.softplus(block.dt_proj.bias)
    assert 0.9e-3 < float(step.min().detach()) < 3e-3  # 128 draws, log-uniform between 0.001 and 0.1
    assert 0.03 < float(step.max().detach()) < 0.11
    marked = {name for name, p in block.named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert marked == {"A_log", "D", "dt_proj.bias"}


def test_gradcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    block = make(3, d_state=2).double()
    u = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)

    def run(u: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (u,))

    names = [name for name, _ in block.named_parameters()]
    assert torch.autograd.gradcheck(run, (u, *block.parameters()))


def test_steps_equal_the_parallel_form(implementation: str) -> None:
    block = make(20, d_state=5)
    u = torch.randn(3, 25, 20)
    state = block.initial_state(3)
    with torch.no_grad():
        stepped = torch.stack([block.step(token, *state) for token in u.unbind(1)], 1)
        torch.testing.assert_close(stepped, block(u), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_bits_each_time(implementation: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        block, u = make(32), torch.randn(7, 40, 32)
        runs = [(y := block(u), *torch.autograd.grad(y.square().sum(), block.parameters())) for _ in range(2)]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_frozen_parameters_get_no_gradient(implementation: str) -> None:
    block = make(16)
    block.A_log.requires_grad_(False)
    block(torch.randn(2, 5, 16)).sum().backward()
    assert [name for name, p in block.named_parameters() if p.grad is None] == ["A_log"]
    assert all(float(p.grad.abs().sum()) > 0 for p in block.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_half_precision_is_computed_in_float32(implementation: str, name: str) -> None:
    dtype = getattr(torch, name)
    block = make(16).to(dtype)
    u = torch.randn(2, 9, 16, dtype=dtype)
    y = block(u)
    assert y.dtype == dtype
    assert torch.equal(y, make(16).to(dtype).float()(u.float()).to(dtype))
    y.sum().backward()
    assert block.A_log.grad is not None
    assert block.A_log.grad.dtype == dtype


def test_autocast_changes_nothing(implementation: str) -> None:
    block, u = make(16), torch.randn(2, 9, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(block(u), make(16)(u))


def test_nan_reaches_its_own_sequence_only(implementation: str) -> None:
    block, u = make(16), torch.randn(3, 9, 16)
    clean = block(u)
    u[1, 4, 0] = float("nan")
    y = block(u)
    assert y[1, 4:].isnan().all()
    assert torch.equal(y[[0, 2]], clean[[0, 2]])
    assert torch.equal(y[1, :4], clean[1, :4])


def test_a_second_derivative_is_refused(implementation: str) -> None:
    block = make(16)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(block(torch.randn(2, 5, 16)).sum(), block.parameters(), create_graph=True)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"u: expected shape \(batch, length, 16\), got \(2, 16\)"):
        mamba.Mamba(16)(torch.zeros(2, 16))


def test_no_tokens_and_no_sequences(implementation: str) -> None:
    assert mamba.Mamba(16)(torch.zeros(2, 0, 16)).shape == (2, 0, 16)
    assert mamba.Mamba(16)(torch.zeros(0, 3, 16)).shape == (0, 3, 16)


@pytest.mark.slow
def test_under_torch_compile(implementation: str) -> None:
    block, u = make(16), torch.randn(2, 9, 16, requires_grad=True)
    wanted = torch.autograd.grad(block(u).sum(), [u, *block.parameters()])
    compiled = torch.compile(block, backend="aot_eager")
    got = torch.autograd.grad(compiled(u).sum(), [u, *block.parameters()])
    assert all(distance(a, b) < 1e-5 for a, b in zip(got, wanted, strict=True))


@pytest.mark.slow
def test_under_torch_export() -> None:
    block, u = make(16), torch.randn(2, 9, 16)
    batch = torch.export.Dim("batch")
    program = torch.export.export(block, (u,), dynamic_shapes=({0: batch},))
    other = torch.randn(5, 9, 16)
    torch.testing.assert_close(program.module()(other), block(other), rtol=1e-5, atol=1e-6)


def test_mamba_ssm_gets_its_arguments_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def mamba_inner_fn(
        xz: Tensor, conv1d_weight: Tensor, conv1d_bias: Tensor, x_proj_weight: Tensor, delta_proj_weight: Tensor,
        out_proj_weight: Tensor, out_proj_bias: None, A: Tensor, B: None, C: None, D: Tensor, delta_bias: Tensor,
        delta_softplus: bool,
    ) -> Tensor:  # fmt: skip
        """The composition that mamba-ssm documents, on the scan of this package; xz: (batch, 2 d_inner, length)."""
        x, z = xz.chunk(2, 1)
        x = F.silu(F.conv1d(x, conv1d_weight, conv1d_bias, padding=3, groups=len(D))[..., : x.shape[2]])
        rank, states = delta_proj_weight.shape[1], A.shape[1]
        delta, b, c = F.linear(x.mT, x_proj_weight).split([rank, states, states], -1)
        delta = F.linear(delta, delta_proj_weight).mT
        monkeypatch.setattr("popularity.models.scan.implementation", lambda *_, **__: "torch")
        y = scan.selective_scan(x, delta, A, b.mT, c.mT, D, z, delta_bias, delta_softplus)
        return F.linear(y.mT, out_proj_weight, out_proj_bias)

    module = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    module.mamba_inner_fn = mamba_inner_fn  # type: ignore[attr-defined]
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    block, u = make(16), torch.randn(2, 9, 16)
    wanted = block(u)
    monkeypatch.setattr("popularity.models.mamba.implementation", lambda *_, **__: "cuda")
    torch.testing.assert_close(block(u), wanted, rtol=1e-5, atol=1e-6)


MEMORY = """
import resource, sys
from importlib import import_module
import torch

torch.set_num_threads(1)
module, name = sys.argv[1:]
kind = getattr(import_module(module), name)

def peak(d_state):
    block, u = kind(64, d_state), torch.randn(32, 128, 64, requires_grad=True)
    block(u).sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak(4)  # a peak never falls: this one has to come first
print(peak(64) - before)
"""


@pytest.mark.slow  # a process each
@pytest.mark.skipif(sys.platform != "linux", reason="reads ru_maxrss in KiB")
@pytest.mark.parametrize(("block", "name"), [("Mamba", "torch"), ("Mamba", "cpp"), ("Mamba2", "cpp")])
def test_training_keeps_no_states(block: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "cpp" and kernel_library.instruction_set() is None:
        pytest.skip("the kernels were not built")
    monkeypatch.setenv(scan.VARIABLE, name)
    # 32 x 128 tokens of 128 channels: the states would take 128 MiB at d_state 64, one array of channels takes 2 MiB,
    # Mamba-2's states between chunks 3 MiB
    command = [sys.executable, "-W", "error", "-c", MEMORY, f"popularity.models.{block.lower()}", block]
    grown = int(subprocess.check_output(command, text=True)) / 1024
    assert grown < 32
