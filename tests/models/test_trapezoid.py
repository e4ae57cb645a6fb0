"""The scan of Mamba-3: its dual form, its chunks and the recurrence, step by step in float64, are one function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from torch import Tensor

Inputs = tuple["Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor"]


def sample(batch: int, heads: int, length: int, rank: int, width: int, states: int, seed: int = 0) -> Inputs:
    """C, B, x, log_decay, dt and share in float64."""
    import torch

    g = torch.Generator().manual_seed(seed)
    C, B = torch.randn(2, batch, heads, length, rank, states, generator=g, dtype=torch.float64)
    x = torch.randn(batch, heads, length, rank, width, generator=g, dtype=torch.float64)
    raw, dt, share = torch.randn(3, batch, heads, length, generator=g, dtype=torch.float64)
    dt = dt.sub(1).exp()
    return C, B, x, -raw.exp() * dt, dt, share.sigmoid()


def recurrence(C: Tensor, B: Tensor, x: Tensor, log_decay: Tensor, dt: Tensor, share: Tensor) -> Tensor:
    """Token by token: H = alpha H + beta x' B' (of the token before) + gamma x B', y = H C."""
    import torch

    H = before = torch.zeros(*x.shape[:2], x.shape[4], B.shape[4], dtype=x.dtype)
    out = torch.zeros_like(x)
    for t in range(x.shape[2]):
        alpha, step, own = (part[:, :, t, None, None] for part in (log_decay.exp(), dt, share))
        entering = torch.einsum("bhrp,bhrn->bhpn", x[:, :, t], B[:, :, t])
        H = alpha * H + (1 - own) * step * alpha * before + own * step * entering
        before = entering
        out[:, :, t] = torch.einsum("bhpn,bhrn->bhrp", H, C[:, :, t])
    return out


SIZES = {
    "batch": st.integers(0, 3),
    "heads": st.integers(1, 3),
    "length": st.integers(0, 23),
    "rank": st.integers(1, 3),
    "width": st.integers(1, 4),
    "states": st.integers(1, 5),
}


@settings(deadline=None, max_examples=25)
@given(st.fixed_dictionaries(SIZES), st.integers(1, 9), st.integers(0, 99))
def test_dual_form_chunks_and_recurrence_agree(sizes: dict[str, int], chunk: int, seed: int) -> None:
    import torch

    from popularity.models.trapezoid import trapezoid

    inputs = sample(**sizes, seed=seed)
    wanted = recurrence(*inputs)
    for limit in (chunk, 100):
        torch.testing.assert_close(trapezoid(*inputs, chunk=limit), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("chunk", [3, 7])
def test_gradcheck(chunk: int) -> None:
    import torch

    from popularity.models.trapezoid import trapezoid

    inputs = [tensor.requires_grad_() for tensor in sample(2, 2, 7, 2, 2, 3)]
    assert torch.autograd.gradcheck(lambda *tensors: trapezoid(*tensors, chunk=chunk), inputs)


@pytest.mark.parametrize("chunk", [8, 64])
def test_a_long_past_takes_no_digits_and_nothing_overflows(chunk: int) -> None:
    """Decays of exp(-1e6) before a short segment whose sum is small: cumulative sums would have lost it."""
    import torch

    from popularity.models.trapezoid import trapezoid

    C, B, x, log_decay, dt, share = sample(2, 2, 40, 1, 3, 4)
    for steps in (log_decay, dt):
        steps[:, :, :30] *= 1e6
        steps[:, :, 30:] *= 1e-2
    x[:, :, :30] /= 1e6
    exact = recurrence(C, B, x, log_decay, dt, share)
    inputs = [tensor.float().requires_grad_() for tensor in (C, B, x, log_decay, dt, share)]
    y = trapezoid(*inputs, chunk=chunk)
    torch.testing.assert_close(y.double(), exact, rtol=1e-4, atol=1e-4)
    y.sum().backward()
    assert all(bool(tensor.grad.isfinite().all()) for tensor in inputs if tensor.grad is not None)


def test_turning_keeps_lengths_and_products_depend_on_the_difference_of_angles() -> None:
    import torch

    from popularity.models.trapezoid import rotate

    states, other, angles, more = torch.randn(4, 5, 10, dtype=torch.float64)
    turned = rotate(states, angles[:, :3])
    torch.testing.assert_close(turned.norm(dim=1), states.norm(dim=1))
    assert (turned[:, :6] != states[:, :6]).all()
    assert torch.equal(turned[:, 6:], states[:, 6:])
    product = (turned * rotate(other, more[:, :3])).sum(1)
    wanted = (rotate(states, angles[:, :3] - more[:, :3]) * other).sum(1)
    torch.testing.assert_close(product, wanted)


def test_states_that_turn_together_are_neighbours_or_half_of_all_apart() -> None:
    from popularity.models.trapezoid import turning_order

    assert turning_order(10, 2, halves=False).tolist() == [0, 2, 1, 3, 4, 6, 8, 5, 7, 9]
    assert turning_order(10, 2, halves=True).tolist() == [0, 1, 5, 6, 2, 3, 4, 7, 8, 9]
    assert turning_order(4, 2, halves=False).tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dt": (2, 2, 4)}, r"dt: expected shape \(2, 2, 5\) for x \(2, 2, 5, 1, 3\), got \(2, 2, 4\)"),
        ({"share": (2, 2)}, r"share: expected shape \(2, 2, 5\) for x"),
        ({"C": (2, 2, 5, 1, 7)}, r"C: expected shape \(2, 2, 5, 1, 4\) for x"),
        ({"B": (2, 2, 5, 2, 4)}, r"B: expected shape \(2, 2, 5, 1, 4\) for x"),
    ],
)
def test_shapes_that_do_not_fit_are_named(changed: dict[str, tuple[int, ...]], message: str) -> None:
    import torch

    from popularity.models.trapezoid import trapezoid

    shapes = {"C": (2, 2, 5, 1, 4), "B": (2, 2, 5, 1, 4), "x": (2, 2, 5, 1, 3)}
    shapes |= dict.fromkeys(("log_decay", "dt", "share"), (2, 2, 5)) | changed
    with pytest.raises(ValueError, match=message):
        trapezoid(*(torch.zeros(shape) for shape in shapes.values()))
    with pytest.raises(ValueError, match="chunk: expected a positive integer, got 0"):
        trapezoid(*sample(1, 1, 2, 1, 1, 1), chunk=0)
