"""The schedule of the learning rate, the optimiser, clipping."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import pytest

from tests.conftest import Lazy

torch = Lazy("torch")
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


def _network_after(optimizer_of, steps, reload_at=None):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))
    decayed, kept = optim.decay_groups(net)
    groups = [{"params": decayed, "weight_decay": 0.3}, {"params": kept, "weight_decay": 0.0}]
    optimizer = optimizer_of(groups, lr=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for step in range(steps):
        if step == reload_at:
            state, optimizer = optimizer.state_dict(), optimizer_of(groups, lr=1e-2, fused=True)
            optimizer.load_state_dict(copy.deepcopy(state))
            schedule.optimizer = optimizer
        optimizer.zero_grad()
        net(torch.randn(11, 5)).square().sum().backward()
        optimizer.step()
        schedule.step()
    return [*net.parameters()], optimizer.state_dict()


@pytest.mark.parametrize("reload_at", [None, 3])
def test_the_optimiser_is_adamw(reload_at):
    """The same bits, also after a state was loaded, and a state that PyTorch's own takes."""
    expected, state = _network_after(torch.optim.AdamW, 6, reload_at)
    found, own = _network_after(optim.AdamW, 6, reload_at)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert own["param_groups"] == state["param_groups"]
    for number, numbers in state["state"].items():
        assert all(torch.equal(own["state"][number][name], value) for name, value in numbers.items())


def test_the_optimiser_counts_all_steps_in_one_operation():
    net = torch.nn.Linear(3, 3)
    optimizer = optim.AdamW(net.parameters(), fused=True)
    for _ in range(3):
        net(torch.ones(3)).sum().backward()
        optimizer.step()
    steps = [state["step"] for state in optimizer.state.values()]
    assert [float(step) for step in steps] == [3.0, 3.0]
    assert len({step.untyped_storage().data_ptr() for step in steps}) == 1


@pytest.mark.parametrize("most", [0.1, 1e6])
def test_gradients_are_clipped_as_pytorch_does(most):
    gradients = []
    for clip in (torch.nn.utils.clip_grad_norm_, optim.clip_together):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 3))
        net(torch.randn(11, 5)).square().sum().backward()
        net[0].bias.grad = None
        clip([*net.parameters()], most)
        gradients.append([parameter.grad for parameter in net.parameters()])
    for expected, found in zip(*gradients, strict=True):
        assert (expected is None) == (found is None)
        if expected is not None:
            torch.testing.assert_close(found, expected)
