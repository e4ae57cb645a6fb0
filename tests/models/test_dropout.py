"""Dropout with cheap masks is PyTorch's dropout: shares, scale, gradients, seeds."""

from __future__ import annotations

import pytest

from tests.conftest import Lazy

torch = Lazy("torch")
dropout = Lazy("popularity.models.dropout")


@pytest.mark.parametrize("p", [0.05, 0.35, 0.5, 0.9])
def test_each_element_is_dropped_with_the_probability_and_the_others_are_scaled(p):
    torch.manual_seed(0)
    x = torch.ones(500, 1001)  # not a multiple of four
    out = dropout.dropout(x, p)
    kept = out != 0
    deviation = (p * (1 - p) / x.numel()) ** 0.5
    assert float(kept.double().mean()) == pytest.approx(1 - p, abs=4 * deviation)
    assert torch.allclose(out[kept], torch.tensor(1 / (1 - p)))


def test_elements_are_dropped_independently():
    """Elements side by side share a random number: neighbours, and rows, are uncorrelated all the same."""
    torch.manual_seed(0)
    dropped = (dropout.dropout(torch.ones(40_000, 8), 0.3) == 0).double()
    correlation = torch.corrcoef(dropped.t()) - torch.eye(8)
    assert float(correlation.abs().max()) < 4 / 200
    assert abs(float(torch.corrcoef(torch.stack([dropped[1:, 0], dropped[:-1, 0]]))[0, 1])) < 4 / 200


def test_a_seed_gives_the_same_mask_and_the_next_mask_is_another():
    masks = []
    for _ in range(2):
        torch.manual_seed(3)
        masks.append([dropout.dropout(torch.ones(64), 0.5) for _ in range(2)])
    assert torch.equal(masks[0][0], masks[1][0])
    assert not torch.equal(masks[0][0], masks[0][1])


def test_the_gradient_has_the_same_mask():
    x = torch.randn(7, 9, dtype=torch.float64, requires_grad=True)
    out = dropout.dropout(x, 0.4)
    out.sum().backward()
    torch.testing.assert_close(out, x * x.grad)
    assert out.dtype == torch.float64


def test_in_evaluation_and_without_a_share_nothing_is_done():
    x = torch.randn(5)
    assert dropout.dropout(x, 0.5, False) is x
    assert dropout.dropout(x, 0.0) is x
    assert dropout.Dropout(0.5).eval()(x) is x
    assert dropout.dropout(torch.ones(0, 3), 0.5).shape == (0, 3)
