"""The schedule of the learning rate."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from tests.conftest import Lazy

optim = Lazy("popularity.training.optim")


def test_warm_up_then_half_a_cosine():
    factors = [optim.rate_factor(step, warmup=10, total=100, cosine=True) for step in range(101)]
    assert factors[0] == pytest.approx(0.1, abs=0.001)
    assert max(factors) == factors[9]
    assert all(a > b for a, b in pairwise(factors[9:]))
    assert factors[50] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("total", "cosine"), [(100, False), (math.inf, True)])
def test_constant_after_warm_up(total, cosine):
    assert [optim.rate_factor(step, warmup=2, total=total, cosine=cosine) for step in (0, 1, 500)] == [0.5, 1.0, 1.0]
