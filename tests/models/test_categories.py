"""Sums of embeddings: the short way of predictions is the way of training."""

from __future__ import annotations

import pytest

from tests.conftest import Lazy

torch = Lazy("torch")
categories_module = Lazy("popularity.models.categories")


@pytest.mark.parametrize("shape", [(1,), (300,), (5, 7), (0,)])
@pytest.mark.parametrize("width", [24, 128, 256])
def test_without_gradients_it_is_the_same(shape: tuple[int, ...], width: int) -> None:
    from popularity.features.song import CODES

    torch.manual_seed(0)
    categories = categories_module.CategorySum(CODES, width, 0.3)
    codes = torch.stack([torch.randint(0, count, shape) for count in CODES], -1)
    with_gradients = categories(codes)
    with torch.no_grad():
        without = categories(codes)
    assert without.shape == (*shape, width)
    torch.testing.assert_close(without, with_gradients, rtol=1e-5, atol=1e-6)
    each = [categories.weight[code + first] for code, first in zip(codes.unbind(-1), categories.offsets, strict=True)]
    torch.testing.assert_close(without, sum(each), rtol=1e-5, atol=1e-6)
