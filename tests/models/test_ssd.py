"""The scan of Mamba-2: its dual form, its chunks and the recurrence, step by step in float64, are one function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from torch import Tensor


def sample(batch: int, length: int, groups: int, per: int, width: int, states: int, seed: int = 0) -> list[Tensor]:
    """x, dt, A, B, C and D in float64."""
    import torch

    g = torch.Generator().manual_seed(seed)
    heads = groups * per
    x = torch.randn(batch, length, heads, width, generator=g, dtype=torch.float64)
    dt = torch.randn(batch, length, heads, generator=g, dtype=torch.float64).sub(1).exp()
    A = -torch.randn(heads, generator=g, dtype=torch.float64).exp()
    B, C = torch.randn(2, batch, length, groups, states, generator=g, dtype=torch.float64)
    return [x, dt, A, B, C, torch.randn(heads, generator=g, dtype=torch.float64)]


def recurrence(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Token by token: H = exp(dt A) H + dt x B', y = H C + D x."""
    import torch

    per = x.shape[2] // B.shape[2]
    B, C = B.repeat_interleave(per, 2), C.repeat_interleave(per, 2)
    H = torch.zeros(*x[:, :0].sum(1).shape, B.shape[3], dtype=x.dtype)
    out = [torch.zeros_like(x[:, :0])]
    for t in range(x.shape[1]):
        H = torch.exp(dt[:, t] * A)[..., None, None] * H + torch.einsum("bh,bhp,bhn->bhpn", dt[:, t], x[:, t], B[:, t])
        out.append((torch.einsum("bhpn,bhn->bhp", H, C[:, t]) + D[:, None] * x[:, t]).unsqueeze(1))
    return torch.cat(out, 1)


SIZES = {
    "batch": st.integers(0, 3),
    "length": st.integers(0, 23),
    "groups": st.integers(1, 3),
    "per": st.integers(1, 3),
    "width": st.integers(1, 4),
    "states": st.integers(1, 5),
}


@settings(deadline=None, max_examples=25)
@given(st.fixed_dictionaries(SIZES), st.integers(1, 9), st.integers(0, 99))
def test_dual_form_chunks_and_recurrence_agree(sizes: dict[str, int], chunk: int, seed: int) -> None:
    import torch

    from popularity.models.ssd import ssd

    inputs = sample(**sizes, seed=seed)
    wanted = recurrence(*inputs)
    for limit in (chunk, 100):
        torch.testing.assert_close(ssd(*inputs, chunk=limit), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("chunk", [3, 7])
def test_gradcheck(chunk: int) -> None:
    import torch

    from popularity.models.ssd import ssd

    inputs = [tensor.requires_grad_() for tensor in sample(2, 7, 2, 2, 2, 3)]
    assert torch.autograd.gradcheck(lambda *tensors: ssd(*tensors, chunk=chunk), inputs)


@pytest.mark.parametrize("chunk", [8, 64])
def test_a_long_past_takes_no_digits_and_nothing_overflows(chunk: int) -> None:
    """Decays of exp(-1e6) before a short segment whose sum is small: cumulative sums would have lost it."""
    import torch

    from popularity.models.ssd import ssd

    x, dt, A, B, C, D = sample(2, 40, 1, 2, 3, 4)
    dt[:, :30] *= 1e6
    dt[:, 30:] *= 1e-2
    x[:, :30] /= 1e6
    exact = recurrence(x, dt, A, B, C, D)
    inputs = [tensor.float().requires_grad_() for tensor in (x, dt, A, B, C, D)]
    y = ssd(*inputs, chunk=chunk)
    torch.testing.assert_close(y.double(), exact, rtol=1e-4, atol=1e-4)
    y.sum().backward()
    assert all(bool(tensor.grad.isfinite().all()) for tensor in inputs if tensor.grad is not None)


def test_half_precision_is_computed_in_float32_also_under_autocast() -> None:
    import torch

    from popularity.models.ssd import ssd

    inputs = [tensor.bfloat16() for tensor in sample(2, 9, 1, 2, 3, 4)]
    wanted = ssd(*(tensor.float() for tensor in inputs)).bfloat16()
    assert torch.equal(ssd(*inputs), wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ssd(*inputs), wanted)


@pytest.mark.parametrize("chunk", [4, 16])
def test_nan_reaches_its_own_sequence_only(chunk: int) -> None:
    import torch

    from popularity.models.ssd import ssd

    x, *rest = sample(3, 12, 1, 2, 3, 4)
    clean = ssd(x, *rest, chunk=chunk)
    x[1, 5] = float("nan")
    y = ssd(x, *rest, chunk=chunk)
    assert y[1, 5:].isnan().all()
    assert torch.equal(y[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dt": (2, 5, 3)}, r"dt: expected shape \(2, 5, 2\) for x \(2, 5, 2, 3\), got \(2, 5, 3\)"),
        ({"A": (3,)}, r"A: expected shape \(2,\) for x"),
        ({"C": (2, 5, 1, 7)}, r"C: expected shape \(2, 5, 1, 4\) for x"),
        ({"B": (2, 5, 3, 4), "C": (2, 5, 3, 4)}, "groups that divides the 2 heads of x, got 3"),
    ],
)
def test_shapes_that_do_not_fit_are_named(changed: dict[str, tuple[int, ...]], message: str) -> None:
    import torch

    from popularity.models.ssd import ssd

    shapes = {"x": (2, 5, 2, 3), "dt": (2, 5, 2), "A": (2,), "B": (2, 5, 1, 4), "C": (2, 5, 1, 4)} | changed
    with pytest.raises(ValueError, match=message):
        ssd(*(torch.zeros(shape) for shape in shapes.values()))
    with pytest.raises(ValueError, match="chunk: expected a positive integer, got 0"):
        ssd(*sample(1, 2, 1, 1, 1, 1), chunk=0)
