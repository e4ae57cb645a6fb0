"""Metrics against independent implementations: scipy, scikit-learn, and formulas by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

EDGES = np.linspace(-10, 110, 61)
MASS = np.eye(60)[[25, 30, 35]]


@pytest.fixture(scope="module")
def stats() -> Any:
    from scipy import stats

    return stats


def _normal_histograms(mean: np.ndarray, scale: float, edges: np.ndarray) -> np.ndarray:
    from scipy import stats

    mass = np.diff(stats.norm.cdf(edges[None], mean[:, None], scale), axis=1)
    return mass / mass.sum(axis=1, keepdims=True)


def test_cdf_agrees_with_scipys_histogram_distribution(stats: Any) -> None:
    from popularity.metrics import cdf_at

    generator = np.random.default_rng(0)
    edges = np.cumsum(generator.uniform(0.5, 6, 31)) - 10  # uneven bins
    mass = generator.dirichlet(np.full(30, 0.4), size=50)
    points = generator.uniform(-20, 120, 50)
    oracle = [stats.rv_histogram((row, edges), density=False).cdf(x) for row, x in zip(mass, points, strict=True)]
    np.testing.assert_allclose(cdf_at(points, mass, edges), oracle, atol=1e-12)


def test_cdf_at_the_edges_themselves() -> None:
    from popularity.metrics import cdf_at

    mass, edges = np.array([0.1, 0.0, 0.6, 0.3]), np.array([0.0, 1.0, 2.0, 5.0, 9.0])
    read = cdf_at(edges, np.tile(mass, (5, 1)), edges)
    np.testing.assert_allclose(read, [0, 0.1, 0.1, 0.7, 1.0], atol=1e-12)


def test_half_precision_rows_still_end_at_one() -> None:
    from popularity.metrics import cdf_at

    mass = _normal_histograms(np.linspace(20, 80, 40), 15.0, EDGES).astype(np.float16)
    assert (cdf_at(np.full(40, 110.0), mass, EDGES) == 1).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_cdf_never_falls_and_stays_in_bounds(seed: int, bins: int) -> None:
    from popularity.metrics import cdf_at

    generator = np.random.default_rng(seed)
    edges = np.cumsum(generator.uniform(0.01, 10, bins + 1))
    mass = np.tile(generator.dirichlet(np.ones(bins)), (200, 1))
    read = cdf_at(np.sort(generator.uniform(edges[0] - 5, edges[-1] + 5, 200)), mass, edges)
    assert (np.diff(read) >= -1e-12).all()
    assert read.min() >= 0
    assert read.max() <= 1


def test_continuous_transform_is_the_normal_cdf(stats: Any) -> None:
    from popularity.metrics import probability_integral_transform

    generator = np.random.default_rng(1)
    fine = np.linspace(-200, 300, 20_001)
    mean = generator.uniform(30, 70, 40)
    truth = np.clip(mean + 10 * generator.standard_normal(40), 1, 99)
    transform = probability_integral_transform(truth, _normal_histograms(mean, 10.0, fine), fine, resolution=0)
    np.testing.assert_allclose(transform, stats.norm.cdf(truth, mean, 10.0), atol=1e-5)


def test_transform_lies_between_the_two_sides_of_the_rounded_value() -> None:
    from popularity.metrics import cdf_at, probability_integral_transform

    truth = np.array([40.0, 41.0, 0.0, 100.0])
    mass = _normal_histograms(np.array([45.0, 45.0, 5.0, 95.0]), 15.0, EDGES)
    low, high = cdf_at(truth - 0.5, mass, EDGES), cdf_at(truth + 0.5, mass, EDGES)
    low[2], high[3] = 0.0, 1.0  # all mass beyond an end of the scale belongs to that end
    draws = np.array([probability_integral_transform(truth, mass, EDGES, seed=seed) for seed in range(200)])
    assert ((draws >= low) & (draws <= high)).all()
    np.testing.assert_allclose(draws.min(axis=0), low, atol=0.02 * (high - low).max())
    np.testing.assert_allclose(draws.max(axis=0), high, atol=0.02 * (high - low).max())


def test_transform_of_calibrated_rounded_popularity_is_uniform_even_with_many_zeros(stats: Any) -> None:
    from popularity.metrics import NOMINAL, interval_coverage, probability_integral_transform

    generator = np.random.default_rng(2)
    mean = generator.uniform(-20, 55, 20_000)  # many songs belong below the scale, and so come out at 0
    fine = np.linspace(-120, 180, 1201)
    truth = np.clip(np.round(mean + 18 * generator.standard_normal(20_000)), 0, 100)
    zeros = np.mean(truth == 0)
    assert zeros > 0.2
    transform = probability_integral_transform(truth, _normal_histograms(mean, 18.0, fine), fine)
    assert stats.kstest(transform, "uniform").pvalue > 0.01
    np.testing.assert_allclose(interval_coverage(transform), NOMINAL, atol=0.012)


@pytest.mark.parametrize(("scale", "sign"), [(6.0, -1), (24.0, 1)])
def test_narrow_distributions_cover_too_little_and_wide_ones_too_much(scale: float, sign: int) -> None:
    from popularity.metrics import NOMINAL, interval_coverage, probability_integral_transform

    generator = np.random.default_rng(3)
    mean = generator.uniform(40, 60, 3000)
    truth = np.clip(np.round(mean + 12 * generator.standard_normal(3000)), 0, 100)
    transform = probability_integral_transform(truth, _normal_histograms(mean, scale, EDGES), EDGES)
    assert (sign * (interval_coverage(transform) - NOMINAL) > 0.03).all()


def test_coverage_counts_songs_inside_scipys_central_interval(stats: Any) -> None:
    from popularity.metrics import interval_coverage

    generator = np.random.default_rng(4)
    truth = generator.standard_normal(500) * 1.3
    nominal = np.array([0.1, 0.5, 0.8, 0.95])
    low, high = stats.norm.interval(nominal[:, None])
    inside = ((truth >= low) & (truth <= high)).mean(axis=1)
    np.testing.assert_allclose(interval_coverage(stats.norm.cdf(truth), nominal), inside, atol=1e-12)


def test_coverage_keeps_a_song_that_lies_on_the_end_of_its_interval() -> None:
    from popularity.metrics import interval_coverage

    assert interval_coverage([0.35, 0.65], [0.3])[0] == 1


def test_same_seed_same_transform() -> None:
    from popularity.metrics import probability_integral_transform

    truth, mass = np.full(5, 50.0), _normal_histograms(np.full(5, 45.0), 15.0, EDGES)
    first, again, other = (probability_integral_transform(truth, mass, EDGES, seed=s) for s in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("target", "mass", "edges", "message"),
    [
        ([50, np.nan, 50], MASS, EDGES, "target: expected finite values, got 1 of 3 that are not"),
        ([50, 50, 50], np.full_like(MASS, np.nan), EDGES, "probabilities: expected finite"),
        ([50, 50, 50], MASS[:, :-1], EDGES, r"probabilities: expected shape \(3, 60\)"),
        ([50, 50], MASS, EDGES, r"probabilities: expected shape \(2, 60\)"),
        ([50, 50, 50], MASS * 2, EDGES, "rows that sum to 1, got .* a row sum of 2"),
        ([50, 50, 50], MASS - 0.001, EDGES, "expected 0 or more"),
        ([50, 50, 50], MASS, EDGES[::-1], "edges: expected ascending"),
        ([], np.empty((0, 60)), EDGES, "expected a non-empty array"),
        ([50, 50, 101], MASS, EDGES, "target: expected 0 to 100 points, got 50 to 101"),
    ],
)
def test_refuses_what_is_no_distribution(
    target: list[float], mass: np.ndarray, edges: np.ndarray, message: str
) -> None:
    from popularity.metrics import probability_integral_transform

    with pytest.raises(ValueError, match=message):
        probability_integral_transform(target, mass, edges)


def test_refuses_values_out_of_range() -> None:
    from popularity.metrics import interval_coverage, probability_integral_transform

    with pytest.raises(ValueError, match="nominal: expected values from 0"):
        interval_coverage([0.5], [80.0])
    with pytest.raises(ValueError, match="transform: expected values from 0"):
        interval_coverage([-0.1], [0.8])
    with pytest.raises(ValueError, match="resolution: expected 0 or more"):
        probability_integral_transform([50, 50, 50], MASS, EDGES, resolution=-1)


def test_metrics_agree_with_scipy_and_scikit_learn():
    from scipy import stats
    from sklearn import metrics

    from popularity.metrics import CLASSIFICATION, REGRESSION, hit_scores, regression_scores

    rng = np.random.default_rng(4)
    truth = rng.integers(0, 101, 300).astype(float)
    guess = np.clip(truth + rng.normal(0, 15, 300), 0, 100)
    found = regression_scores(guess, truth)
    assert tuple(found) == REGRESSION
    assert found["mse"] == pytest.approx(metrics.mean_squared_error(truth, guess))
    assert found["rmse"] == pytest.approx(found["mse"] ** 0.5)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(truth, guess))
    assert found["r2"] == pytest.approx(metrics.r2_score(truth, guess))
    assert found["spearman"] == pytest.approx(stats.spearmanr(truth, guess).statistic)
    assert found["within_5"] == np.mean(abs(guess - truth) <= 5) < found["within_10"]
    assert np.isnan(regression_scores(np.full(300, 50.0), truth)["spearman"])

    hit, chance = truth >= 70, guess / 100
    called = chance >= 0.6
    scores = hit_scores(chance, hit, 0.6)
    assert tuple(scores) == CLASSIFICATION
    expected = {
        "auroc": metrics.roc_auc_score(hit, chance),
        "average_precision": metrics.average_precision_score(hit, chance),
        "f1": metrics.f1_score(hit, called),
        "precision": metrics.precision_score(hit, called),
        "recall": metrics.recall_score(hit, called),
        "accuracy": metrics.accuracy_score(hit, called),
        "brier": metrics.brier_score_loss(hit, chance),
        "majority": max(hit.mean(), 1 - hit.mean()),
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    bins = np.minimum((chance * 10).astype(int), 9)
    gaps = [abs(chance[bins == b].mean() - hit[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist())]
    assert scores["calibration_error"] == pytest.approx(sum(gaps), abs=1e-6)


def test_the_best_threshold_is_the_one_that_a_search_finds():
    from sklearn.metrics import f1_score

    from popularity.metrics import best_threshold

    rng = np.random.default_rng(5)
    for _ in range(50):
        chance = rng.integers(0, 8, 40) / 8
        hit = rng.random(40) < chance
        hit[0] = True
        scores = {t: f1_score(hit, chance >= t) for t in np.unique(chance)}
        best = max(scores.values())
        assert best_threshold(chance, hit) == max(t for t, score in scores.items() if score > best - 1e-12)
