"""The Mamba-3 block against its definition with complex states, written step by step in float64."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from torch import Tensor

    from popularity.models.mamba3 import Mamba3

SMALL = {"d_model": 12, "d_state": 8, "headdim": 6}


def make(double: bool = False, **options: Any) -> Mamba3:
    import torch

    from popularity.models.mamba3 import Mamba3

    torch.manual_seed(0)
    block = Mamba3(**(SMALL | options))
    with torch.no_grad():  # away from the start, where many are alike, and to larger steps
        for name, parameter in block.named_parameters():
            if "proj" not in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
        block.dt_bias.add_(3)
    return block.double() if double else block


def paired(states: Tensor, mimo: bool) -> Tensor:
    """Real states (..., n) as complex ones (..., n / 2)."""
    import torch

    first, second = states.chunk(2, -1) if mimo else (states[..., 0::2], states[..., 1::2])
    return torch.complex(first.contiguous(), second.contiguous())


def reference_block(block: Mamba3, u: Tensor) -> Tensor:
    """Token by token, with the complex recurrence of Lahoti et al. (2026) and one head, input and output at a time.

    h[t] = exp(dt (A - i theta)) (h[t-1] + (1 - trap) dt B[t-1] x[t-1]) + trap dt B[t] x[t] and
    y[t] = Re(conj(C[t]) h[t]) + D x[t], where the states that do not turn have a theta of 0.
    """
    import torch
    from torch.nn import functional as F

    p = dict(block.named_parameters())
    heads, width, groups, rank, n = block.nheads, block.headdim, block.ngroups, block.rank, block.d_state
    inner, bc, mimo = heads * width, rank * groups * n, "mimo_x" in p
    (turning,) = {len(p["in_proj.weight"]) - 2 * inner - 2 * bc - 3 * heads}
    ends = [inner, inner, bc, bc, heads, heads, heads, turning]
    past = [torch.zeros(len(u), width, n // 2, dtype=torch.complex128) for _ in range(heads)]
    entering = [torch.zeros_like(state) for state in past]
    rows = []
    for token in u.unbind(1):
        z, x, B, C, dt, A, trap, angle = (token @ p["in_proj.weight"].T).split(ends, 1)
        norms = [
            F.rms_norm(m.view(-1, rank, groups, n), (n,), p[f"{name}_norm.weight"], 1e-5)
            for name, m in (("B", B), ("C", C))
        ]
        dt, A, trap = F.softplus(dt + p["dt_bias"]), -F.softplus(A).clamp(min=1e-4), trap.sigmoid()
        theta = F.pad(torch.pi * angle.tanh(), (0, n // 2 - turning))
        outputs = []
        for h in range(heads):
            group = h // (heads // groups)
            xs, zs = (part[:, h * width : (h + 1) * width] for part in (x, z))
            b, c = (
                [paired(m[:, r, group] + p[f"{name}_bias"][h, r], mimo) for r in range(rank)]
                for name, m in zip("BC", norms, strict=True)
            )
            inputs = [xs * p["mimo_x"][h, r] if mimo else xs for r in range(rank)]
            step, share = dt[:, h, None, None], trap[:, h, None, None]
            new = sum(inputs[r][:, :, None] * b[r][:, None] for r in range(rank))
            turn = torch.exp(step * torch.complex(A[:, h, None].expand_as(theta), -theta)[:, None])
            past[h] = turn * (past[h] + (1 - share) * step * entering[h]) + share * step * new
            entering[h] = new
            out = 0
            for r in range(rank):
                y = (c[r].conj()[:, None] * past[h]).sum(2).real + p["D"][h] * inputs[r]
                if "norm.weight" in p:
                    y = F.rms_norm(y, (width,), p["norm.weight"][h * width : (h + 1) * width], 1e-5)
                y = y * F.silu(zs * p["mimo_z"][h, r] if mimo else zs)
                out = out + (y * p["mimo_o"][h, r] if mimo else y)
            outputs.append(out)
        rows.append(torch.cat(outputs, 1) @ p["out_proj.weight"].T)
    return torch.stack(rows, 1)


MIMO = {"is_mimo": True, "mimo_rank": 3}
SHAPES = {
    # batch, length, then the block's arguments
    "the model's": (4, 8, {"d_model": 32, "d_state": 16, "headdim": 16}),
    "one of everything": (1, 1, {"d_model": 1, "d_state": 2, "headdim": 1, "expand": 1, "rope_fraction": 1.0}),
    "all states turn": (2, 9, {"rope_fraction": 1.0}),
    "a state without a partner": (2, 9, {"d_state": 10}),
    "two groups": (2, 9, {"ngroups": 2}),
    "norm": (2, 9, {"is_outproj_norm": True}),
    "mimo": (2, 9, MIMO),
    "mimo, all states turn": (2, 5, {**MIMO, "rope_fraction": 1.0, "ngroups": 2}),
    "mimo of rank 1, with norm": (2, 5, {"is_mimo": True, "mimo_rank": 1, "is_outproj_norm": True}),
    "longer than a chunk": (2, 70, {"headdim": 3, "d_model": 3}),
    "mimo, longer than a chunk": (1, 40, {**MIMO, "d_model": 6, "is_outproj_norm": True}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(shape: str) -> None:
    import torch

    batch, length, options = SHAPES[shape]
    block = make(double=True, **options)
    u = torch.randn(batch, length, block.d_model, dtype=torch.float64, requires_grad=True)
    dout = torch.randn_like(u)
    y, wanted = block(u), reference_block(block, u)
    torch.testing.assert_close(y, wanted, rtol=1e-9, atol=1e-10)
    got = torch.autograd.grad(y, [u, *block.parameters()], dout)
    reference = torch.autograd.grad(wanted, [u, *block.parameters()], dout)
    for name, a, b in zip(["u", *dict(block.named_parameters())], got, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
    single = block.float()(u.detach().float())
    torch.testing.assert_close(single.double(), wanted.detach(), rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        assert torch.equal(block(u.float()), single)


@settings(deadline=None, max_examples=20)
@given(
    length=st.integers(0, 20),
    heads=st.sampled_from([(1, 1), (3, 1), (4, 2)]),
    states=st.integers(2, 9),
    norm=st.booleans(),
    rank=st.integers(0, 3),
)
def test_recurrence_steps_and_parallel_form_agree(
    length: int, heads: tuple[int, int], states: int, norm: bool, rank: int
) -> None:
    import torch

    options: dict[str, Any] = {"d_model": 2 * heads[0], "headdim": 4, "ngroups": heads[1], "d_state": 2 * states}
    options |= {"is_outproj_norm": norm, "is_mimo": rank > 0, "mimo_rank": rank}
    block = make(double=True, **options)
    u = torch.randn(2, length, block.d_model, dtype=torch.float64)
    state = block.initial_state(2)
    with torch.no_grad():
        stepped = [block.step(token, *state) for token in u.unbind(1)]
        y = block(u)
        assert y.shape == u.shape
        if length:
            torch.testing.assert_close(torch.stack(stepped, 1), y, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(reference_block(block, u), y, rtol=1e-9, atol=1e-9)


def test_steps_continue_over_chunks_in_float32() -> None:
    import torch

    block, u = make(), torch.randn(3, 80, 12)
    state = block.initial_state(3)
    with torch.no_grad():
        stepped = torch.stack([block.step(token, *state) for token in u.unbind(1)], 1)
        torch.testing.assert_close(stepped, block(u), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("length", [9, 70])
@pytest.mark.parametrize("options", [{}, MIMO])
def test_what_comes_after_a_token_does_not_change_it(options: dict[str, Any], length: int) -> None:
    """Padding behind the end of a sequence leaves no trace in it."""
    import torch

    block, u = make(double=True, **options), torch.randn(3, length, 12, dtype=torch.float64)
    with torch.no_grad():
        whole = block(u)
        for end in range(1, length, 8):
            other = u.clone()
            other[:, end:] = 1e3 * torch.randn_like(other[:, end:])
            torch.testing.assert_close(block(other)[:, :end], whole[:, :end], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(block(u[:, :end]), whole[:, :end], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("length", [5, 40])
def test_gradcheck(length: int) -> None:
    import torch

    small = {"d_model": 2, "d_state": 4, "headdim": 2}
    block = make(double=True, **small, is_mimo=True, mimo_rank=2, is_outproj_norm=True)
    u = torch.randn(2, length, 2, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in block.named_parameters()]

    def run(u: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (u,))

    assert torch.autograd.gradcheck(run, (u, *block.parameters()), fast_mode=length > 5)


#: Of ``Mamba3`` in mamba-ssm 2.3.2.post1; all but the last four at its defaults with d_model 256.
ALWAYS = {
    "dt_bias": (8,),
    "B_bias": (8, 1, 128),
    "C_bias": (8, 1, 128),
    "D": (8,),
    "in_proj.weight": (2 * 512 + 2 * 128 + 3 * 8 + 32, 256),
    "B_norm.weight": (128,),
    "C_norm.weight": (128,),
    "out_proj.weight": (256, 512),
}


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({}, {}),
        ({"rope_fraction": 1.0}, {"in_proj.weight": (2 * 512 + 2 * 128 + 3 * 8 + 64, 256)}),
        ({"ngroups": 2, "d_state": 66}, {
            "in_proj.weight": (2 * 512 + 2 * 2 * 66 + 3 * 8 + 16, 256),
            "B_bias": (8, 1, 66), "C_bias": (8, 1, 66), "B_norm.weight": (66,), "C_norm.weight": (66,),
        }),
        ({"is_mimo": True, "mimo_rank": 4, "is_outproj_norm": True}, {
            "in_proj.weight": (2 * 512 + 2 * 4 * 128 + 3 * 8 + 32, 256),
            "B_bias": (8, 4, 128), "C_bias": (8, 4, 128),
            "mimo_x": (8, 4, 64), "mimo_z": (8, 4, 64), "mimo_o": (8, 4, 64), "norm.weight": (512,),
        }),
    ],
)  # fmt: skip
def test_names_and_shapes_are_those_of_mamba_ssm(options: dict[str, Any], changed: dict[str, tuple[int, ...]]) -> None:
    from popularity.models.mamba3 import Mamba3

    assert {name: tuple(p.shape) for name, p in Mamba3(256, **options).state_dict().items()} == ALWAYS | changed


def test_start_is_that_of_mamba_ssm() -> None:
    from torch.nn import functional as F

    from popularity.models.mamba3 import Mamba3

    block = Mamba3(256, headdim=2, is_mimo=True, mimo_rank=4)
    step = F.softplus(block.dt_bias.detach())
    assert 0.9e-3 < step.min() < 2e-3  # log-uniform between 0.001 and 0.1
    assert 0.05 < step.max() < 0.11
    assert F.softplus(Mamba3(32, dt_min=1e-9, dt_max=1e-8).dt_bias.detach()).min() > 0.9e-4
    for name, value in {"B_bias": 1, "C_bias": 1, "D": 1, "mimo_x": 0.25, "mimo_z": 1, "mimo_o": 0.25}.items():
        assert (getattr(block, name) == value).all(), name
    marked = {name for name, p in block.named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert marked == {"D", "dt_bias"}


def test_biases_do_not_decay_and_matrices_do() -> None:
    from popularity.training.optim import decay_groups

    block = make(**MIMO, is_outproj_norm=True)
    names = {id(p): name for name, p in block.named_parameters()}
    decayed, kept = ({names[id(p)] for p in group} for group in decay_groups(block))
    assert decayed == {"in_proj.weight", "out_proj.weight", "mimo_x", "mimo_z", "mimo_o"}
    assert kept == {"dt_bias", "B_bias", "C_bias", "D", "B_norm.weight", "C_norm.weight", "norm.weight"}


@pytest.mark.parametrize("length", [4, 40])
def test_half_precision_and_autocast_are_computed_in_float32(length: int) -> None:
    import torch

    block, u = make().bfloat16(), torch.randn(2, length, 12).bfloat16()
    y = block(u)
    y.sum().backward()
    assert block.dt_bias.grad is not None
    assert y.dtype == block.dt_bias.grad.dtype == torch.bfloat16
    exact = make().bfloat16().float()
    assert torch.equal(y, exact(u.float()).bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(exact(u.float()).bfloat16(), y)


def test_nan_reaches_its_own_sequence_only() -> None:
    import torch

    block, u = make(), torch.randn(3, 9, 12)
    clean = block(u)
    u[1, 4, 0] = float("nan")
    y = block(u)
    assert y[1, 4:].isnan().all()
    assert torch.equal(y[[0, 2]], clean[[0, 2]])


def test_no_tokens_and_no_sequences() -> None:
    import torch

    assert make()(torch.zeros(2, 0, 12)).shape == (2, 0, 12)
    assert make()(torch.zeros(0, 3, 12)).shape == (0, 3, 12)


def test_what_does_not_fit_is_named() -> None:
    import torch

    from popularity.models.mamba3 import Mamba3

    with pytest.raises(ValueError, match=r"u: expected shape \(batch, length, 12\), got \(2, 12\)"):
        make()(torch.zeros(2, 12))
    for options, message in (
        ({"headdim": 7}, r"headdim: expected a divisor of expand \* d_model = 24, got 7"),
        ({"ngroups": 3}, "ngroups: expected a divisor of the 4 heads, got 3"),
        ({"rope_fraction": 0.3}, "rope_fraction: expected 0.5 or 1, got 0.3"),
        ({"d_state": 3}, "d_state: expected at least 4, got 3"),
        ({"d_state": 1, "rope_fraction": 1.0}, "d_state: expected at least 2, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Mamba3(12, **({"headdim": 6} | options))


@pytest.mark.parametrize("forced", ["", "torch", "cpp", "triton"])
def test_one_log_line_says_that_plain_pytorch_is_in_use(
    forced: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from popularity.models import scan

    monkeypatch.setenv(scan.VARIABLE, forced)
    scan._announce.cache_clear()
    with caplog.at_level(logging.INFO, logger="popularity"):
        for _ in range(2):
            make()(torch.zeros(2, 4, 12))
    note = f" (POPULARITY_SCAN={forced} has no effect on it)" if forced in ("cpp", "triton") else ""
    assert caplog.messages == [f"Mamba-3 block: plain PyTorch{note}"]


@pytest.mark.slow
def test_under_torch_compile_without_breaks() -> None:
    import torch

    block, u = make(), torch.randn(2, 9, 12, requires_grad=True)
    wanted = torch.autograd.grad(block(u).sum(), [u, *block.parameters()])
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    got = torch.autograd.grad(compiled(u).sum(), [u, *block.parameters()])
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("length", [9, 40])
def test_under_torch_export(length: int) -> None:
    import torch

    block, u = make(), torch.randn(2, length, 12)
    program = torch.export.export(block, (u,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    other = torch.randn(5, length, 12)
    torch.testing.assert_close(program.module()(other), block(other), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [4, 40])
def test_every_parameter_gets_a_gradient_and_frozen_ones_get_none(length: int) -> None:
    import torch

    block = make()
    block.D.requires_grad_(False)
    block(torch.randn(2, length, 12)).square().sum().backward()
    assert [name for name, p in block.named_parameters() if p.grad is None] == ["D"]
    assert all(float(p.grad.abs().sum()) > 0 for p in block.parameters() if p.grad is not None)


def test_gradients_by_hand_and_by_autograd_agree_at_the_edges() -> None:
    """Where -A is at its floor, and where steps are so small that they are 0."""
    import torch

    block, u = make(A_floor=0.7), torch.randn(2, 9, 12, requires_grad=True)
    with torch.no_grad():
        block.dt_bias[1] -= 150
    dout = torch.randn_like(u)
    got = torch.autograd.grad(block(u), [u, *block.parameters()], dout)
    block._simple = False
    wanted = torch.autograd.grad(block(u), [u, *block.parameters()], dout)
    for a, b in zip(got, wanted, strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_second_derivative_is_refused_for_short_sequences() -> None:
    import torch

    block = make()
    with pytest.raises(RuntimeError, match="Mamba-3 block has no second derivative"):
        torch.autograd.grad(block(torch.randn(2, 5, 12)).sum(), block.parameters(), create_graph=True)
