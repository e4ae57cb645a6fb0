"""Residual blocks: their formula, both directions, and heads that start with a memory as long as a history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Lazy

if TYPE_CHECKING:
    from torch import Tensor

    from popularity.models.blocks import DirectedBlock

torch = Lazy("torch")
blocks = Lazy("popularity.models.blocks")


def block_of(name: str, *, bidirectional: bool, scale: float = 0.7, width: int = 8, expand: int = 2) -> DirectedBlock:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"width": width, "layers": 1, "d_state": 4, "d_conv": 4, "expand": expand}
    config = blocks.MemberConfig(name, **sizes, bidirectional=bidirectional)
    return blocks.DirectedBlock(config, scale)


def normed(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("scale", [0.5, 0.7])
@pytest.mark.parametrize("name", ["mamba", "mamba2", "mamba3", "none"])
def test_a_block_adds_the_scaled_sum_of_both_directions(name, scale):
    """``x + scale (f(norm(x)) + reverse(b(reverse(norm(x)))))``, each sequence reversed within its own length."""
    block = block_of(name, bidirectional=True, scale=scale)
    x, lengths = torch.randn(3, 6, 8), torch.tensor([6, 4, 1])
    place = torch.arange(6)
    reverse = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)
    with torch.no_grad():
        found = block(x, blocks.rows_of(reverse))
        for i, length in enumerate(lengths.tolist()):
            own = normed(x[i : i + 1, :length])
            both = block.forward_mamba(own) + block.backward_mamba(own.flip(1)).flip(1)
            torch.testing.assert_close(found[i : i + 1, :length], x[i : i + 1, :length] + scale * both)


@pytest.mark.parametrize("name", ["mamba", "mamba2", "mamba3", "none"])
def test_a_block_in_one_direction_is_not_scaled(name):
    block, x = block_of(name, bidirectional=False), torch.randn(2, 5, 8)
    with torch.no_grad():
        found = block(x, torch.arange(4, -1, -1).expand(2, -1))
        torch.testing.assert_close(found, x + block.forward_mamba(normed(x)))


def test_heads_start_with_a_memory_of_a_dozen_tokens():
    mamba, mamba3 = (block_of(name, bidirectional=False, width=64).forward_mamba for name in ("mamba2", "mamba3"))
    for one in (mamba, mamba3):
        step = torch.nn.functional.softplus(one.dt_bias)
        assert ((step > 0.0099) & (step < 0.31)).all()
    assert ((mamba.A_log.exp() > 0.49) & (mamba.A_log.exp() < 4.51)).all()


@pytest.mark.parametrize("name", ["mamba2", "mamba3"])
@pytest.mark.parametrize(("width", "expand"), [(8, 1), (12, 1), (7, 2), (48, 2)])
def test_heads_divide_any_width(width, expand, name):
    block, x = block_of(name, bidirectional=True, width=width, expand=expand), torch.randn(2, 5, width)
    assert torch.isfinite(block(x, blocks.rows_of(torch.arange(5).expand(2, -1)))).all()
