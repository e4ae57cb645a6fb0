"""Heads: targets, losses and points."""

from __future__ import annotations

import pytest

from tests.conftest import Lazy

torch = Lazy("torch")
heads = Lazy("popularity.models.heads")


def test_target_is_the_normal_mass_of_each_bin():
    from scipy.stats import norm

    head = heads.HistogramHead(bins=60, sigma=3.0)
    edges = head.edges.double().numpy()
    expected = norm(37.0, 3.0).cdf(edges[1:]) - norm(37.0, 3.0).cdf(edges[:-1])
    torch.testing.assert_close(
        head.target(torch.tensor([37.0])).double()[0], torch.from_numpy(expected), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("popularity", [0.0, 1.0, 50.0, 99.0, 100.0])
def test_mean_of_the_target_is_the_popularity(popularity):
    """Also at the ends: the support reaches beyond 0-100."""
    head = heads.HistogramHead()
    logits = head.target(torch.tensor([popularity])).clamp_min(1e-30).log()
    assert head.predict(logits).item() == pytest.approx(popularity, abs=0.02)


def test_loss_is_smallest_at_the_target():
    head = heads.HistogramHead()
    target = torch.tensor([20.0, 80.0])
    best = head.target(target).clamp_min(1e-30).log()
    assert head.loss(best, target) < head.loss(best.flip(0), target)
    assert head.loss(best, target) < head.loss(best + torch.randn_like(best) * 0.1, target)


def test_mse_head_is_squared_error_in_points():
    head = heads.MSEHead()
    raw = torch.tensor([[0.0], [100.0]])
    assert head.predict(raw).tolist() == [50.0, 100.0]
    assert head.loss(raw, torch.tensor([40.0, 100.0])).item() == pytest.approx(50.0)


@pytest.mark.parametrize("kind", ["HistogramHead", "MSEHead"])
def test_bfloat16_outputs_are_judged_in_single_precision(kind):
    head = getattr(heads, kind)()
    raw = torch.randn(4, head.outputs, dtype=torch.bfloat16)
    assert head.predict(raw).dtype == torch.float32
    assert head.loss(raw, torch.rand(4) * 100).dtype == torch.float32


def test_half_precision_does_not_round_the_edges():
    exact = heads.HistogramHead(bins=24).edges
    for kind in ("bfloat16", "half", "double"):
        assert torch.equal(getattr(heads.HistogramHead(bins=24), kind)().edges.float(), exact)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bins": 0}, "model.head.bins: expected at least 1, got 0"),
        ({"sigma": 0.0}, "model.head.sigma: expected a num"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    from popularity.errors import InputError

    with pytest.raises(InputError, match=message):
        heads.HistogramHead(**settings)
