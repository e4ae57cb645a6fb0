from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _imports() -> None:
    """What is slow to import: with the first of these tests, not while tests are collected."""
    global torch, norm, head_module, HistogramHead, MSEHead
    import torch
    from scipy.stats import norm

    from popularity.models import heads as head_module
    from popularity.models.heads import HistogramHead, MSEHead


def test_target_is_the_normal_mass_of_each_bin():
    head = HistogramHead(bins=60, sigma=3.0)
    edges = head.edges.double().numpy()
    expected = norm(37.0, 3.0).cdf(edges[1:]) - norm(37.0, 3.0).cdf(edges[:-1])
    torch.testing.assert_close(
        head.target(torch.tensor([37.0])).double()[0], torch.from_numpy(expected), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("popularity", [0.0, 1.0, 50.0, 99.0, 100.0])
def test_mean_of_the_target_is_the_popularity(popularity):
    """Also at the ends: the support reaches beyond 0-100."""
    head = HistogramHead()
    logits = head.target(torch.tensor([popularity])).clamp_min(1e-30).log()
    assert head.predict(logits).item() == pytest.approx(popularity, abs=0.02)


def test_loss_is_smallest_at_the_target():
    head = HistogramHead()
    target = torch.tensor([20.0, 80.0])
    best = head.target(target).clamp_min(1e-30).log()
    assert head.loss(best, target) < head.loss(best.flip(0), target)
    assert head.loss(best, target) < head.loss(best + torch.randn_like(best) * 0.1, target)


def test_mse_head_is_squared_error_in_points():
    head = MSEHead()
    raw = torch.tensor([[0.0], [100.0]])
    assert head.predict(raw).tolist() == [50.0, 100.0]
    assert head.loss(raw, torch.tensor([40.0, 100.0])).item() == pytest.approx(50.0)


@pytest.mark.parametrize("kind", ["HistogramHead", "MSEHead"])
def test_bfloat16_outputs_are_judged_in_single_precision(kind):
    head = getattr(head_module, kind)()
    raw = torch.randn(4, head.outputs, dtype=torch.bfloat16)
    assert head.predict(raw).dtype == torch.float32
    assert head.loss(raw, torch.rand(4) * 100).dtype == torch.float32
