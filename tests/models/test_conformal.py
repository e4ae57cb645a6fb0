"""Conformal correction: intervals hold as many new songs as they say, in each band of known songs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Lazy

torch = Lazy("torch")
stats = Lazy("scipy.stats")
metrics = Lazy("popularity.metrics")
heads = Lazy("popularity.models.heads")
calibration = Lazy("popularity.models.calibration")
conformal = Lazy("popularity.models.conformal")
distribution = Lazy("popularity.inference.distribution")
predictor = Lazy("popularity.inference.predictor")

EDGES = np.linspace(-10, 110, 61)
SHARES = (0.5, 0.8, 0.95)


def histograms(centre, spread):
    """Normal distributions as histograms, ``(n, 60)``."""
    mass = np.diff(stats.norm.cdf(EDGES, np.asarray(centre)[:, None], np.asarray(spread)[:, None]), axis=1) + 1e-12
    return mass / mass.sum(1, keepdims=True)


def intervals(probabilities):
    prediction = predictor.Prediction(np.zeros(len(probabilities)), np.asarray(probabilities), EDGES)
    return [distribution.interval(prediction, share) for share in SHARES]


def songs(count, seed, spread=10.0, shift=0.0):
    """Predicted centres of songs and their popularity around them, with a tail on one side."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(30, 70, count)
    return centre, (centre + shift + spread * (rng.gamma(4, 0.5, count) - 2)).clip(0, 100)


def transform(centre, popularity, spread):
    found = histograms(centre, np.full(len(centre), spread))
    return metrics.probability_integral_transform(popularity, found, EDGES, resolution=0)


def corrected(learned, probabilities, known=None):
    known = None if known is None else torch.as_tensor(known)
    return learned(torch.from_numpy(probabilities), known).numpy()


@pytest.mark.parametrize("spread", [4.0, 10.0, 25.0])
def test_intervals_hold_what_they_say_whatever_the_histogram_says(spread):
    """Over many held-out parts: a histogram that is too narrow, about right, or too wide."""
    inside, fresh = [], songs(2_000, 10_000)
    raw = histograms(fresh[0], np.full(2_000, spread))
    for seed in range(30):
        learned = conformal.Conformal()
        learned.learn(transform(*songs(199, seed), spread))
        found = intervals(corrected(learned, raw))
        inside.append([np.mean((low <= fresh[1]) & (fresh[1] <= high)) for low, high in found])
    for share, coverage in zip(SHARES, np.mean(inside, axis=0), strict=True):
        # of one held-out part the coverage is a beta variable; these are 30, judged by the same 2,000 songs
        error = np.sqrt(share * (1 - share) * (1 / (200 * 30) + 1 / 2_000))
        assert abs(coverage - share) < 3 * error + 0.005


def test_too_narrow_a_histogram_gets_wider_intervals():
    """Through line and sharpness, as a fit does it."""
    head, learned = heads.HistogramHead(), calibration.Calibration()
    centre, popularity = songs(1_500, 0, spread=12)
    learned.learn(head, torch.from_numpy(np.log(histograms(centre, np.full(1_500, 3.0)))), torch.from_numpy(popularity))
    centre, popularity = songs(3_000, 1, spread=12)
    raw = torch.from_numpy(np.log(histograms(centre, np.full(3_000, 3.0))))
    before, sharpened = head.probabilities(raw), head.probabilities(learned(head, raw))
    after = learned.conformal(sharpened)
    for name, found in (("before", before), ("after", after)):
        low, high = intervals(found.numpy())[1]
        coverage = np.mean((low <= popularity) & (popularity <= high))
        assert (coverage < 0.5) if name == "before" else (abs(coverage - 0.8) < 0.04)
    assert np.mean(np.subtract(*intervals(after.numpy())[1][::-1])) > 2 * np.mean(
        np.subtract(*intervals(before.numpy())[1][::-1])
    )


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 400), spread=st.floats(1.0, 40.0))
def test_a_corrected_distribution_is_one_and_its_intervals_are_nested(seed, count, spread):
    learned = conformal.Conformal()
    learned.learn(transform(*songs(count, seed), spread), np.random.default_rng(seed).integers(0, 3, count))
    assert (learned.quantiles.diff(dim=1) >= 0).all()
    raw = histograms(songs(20, seed + 1)[0], np.full(20, spread))
    found = corrected(learned, raw, np.arange(20))
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-9)
    ends = intervals(found)
    for (low, high), (lower, higher) in pairwise(ends):
        assert (lower <= low + 1e-9).all()
        assert (low <= high + 1e-9).all()
        assert (high <= higher + 1e-9).all()
    assert (ends[-1][0] >= 0).all()
    assert (ends[-1][1] <= 100).all()


def test_chances_go_with_the_intervals():
    """A song lies below the 80 % interval with a chance of 10 %, and above it too."""
    learned = conformal.Conformal()
    learned.learn(transform(*songs(400, 0), 4.0))
    found = corrected(learned, histograms([45.0, 55.0], [4.0, 4.0]))
    prediction = predictor.Prediction(np.zeros(2), found, EDGES)
    low, high = distribution.interval(prediction, 0.8)
    for row in range(2):
        assert distribution.at_least(prediction, low[row] + 0.5)[row] == pytest.approx(0.9, abs=1e-6)
        assert distribution.at_least(prediction, high[row] + 0.5)[row] == pytest.approx(0.1, abs=1e-6)


def test_a_band_with_enough_songs_has_a_map_of_its_own():
    """Songs by unknown artists are predicted worse: their intervals are wider than those of others."""
    known = np.repeat([0, 1, 9], [600, 600, conformal.LEAST - 1])
    errors = [songs(600, 0, spread=16), songs(600, 1, spread=6), songs(conformal.LEAST - 1, 2, spread=1)]
    learned = conformal.Conformal()
    learned.learn(transform(*np.concatenate(errors, axis=1), 10.0), known)
    raw = histograms(np.full(4, 50.0), np.full(4, 10.0))
    low, high = intervals(corrected(learned, raw, np.array([0, 1, 9, 3])))[1]
    unknown, one, few, none = high - low
    assert unknown > 1.8 * one
    assert one < few == none < unknown  # too few songs, and none: the map of all
    for spread, band, seed in ((16, 0, 3), (6, 1, 4)):
        centre, popularity = songs(2_000, seed, spread=spread)
        found = corrected(learned, histograms(centre, np.full(2_000, 10.0)), np.full(2_000, band))
        low, high = intervals(found)[1]
        assert np.mean((low <= popularity) & (popularity <= high)) == pytest.approx(0.8, abs=0.05)


def whole(seed, count, peak=0.4):
    """Whole popularities, many of them exactly 0, as a head that smooths predicts them: a peak from -8 to 8 at 0."""
    rng = np.random.default_rng(seed)
    centre, zero = rng.uniform(5, 60, count), rng.random(count) < peak
    popularity = np.where(zero, 0, rng.normal(centre, 9).round().clip(0, 100))
    chance = np.where(zero, 0.9, 0.1) * rng.uniform(0.7, 1, count)
    peaks = histograms(np.zeros(count), np.full(count, 3.0))
    return chance[:, None] * peaks + (1 - chance[:, None]) * histograms(centre, np.full(count, 9.0)), popularity


def learned_from(probabilities, popularity, known=None):
    found = conformal.Conformal()
    found.learn(metrics.probability_integral_transform(popularity, probabilities, EDGES), known)
    found.learn_shares(conformal.least_share(popularity, corrected(found, probabilities, known), EDGES), known)
    return found


def predicted(learned, probabilities, known=None):
    known = None if known is None else torch.as_tensor(known)
    taken = learned.taken(len(probabilities), known)
    return predictor.Prediction(np.zeros(len(probabilities)), corrected(learned, probabilities, known), EDGES, taken)


def test_intervals_hold_what_they_say_where_many_songs_are_exactly_zero():
    inside = []
    for seed in range(20):
        prediction = predicted(learned_from(*whole(seed, 399)), (fresh := whole(1_000 + seed, 400))[0])
        ends = [distribution.interval(prediction, share) for share in SHARES]
        inside.append([np.mean((low <= fresh[1]) & (fresh[1] <= high)) for low, high in ends])
        for (low, high), (lower, higher) in pairwise(ends):
            assert (lower <= low + 1e-9).all()
            assert (high <= higher + 1e-9).all()
    np.testing.assert_allclose(np.mean(inside, axis=0), SHARES, atol=0.015)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_the_least_share_is_that_of_the_smallest_interval_that_holds_a_song(seed):
    probabilities, popularity = whole(seed, 60)
    popularity[:3] = 100
    least = conformal.least_share(popularity, probabilities, EDGES)
    prediction = predictor.Prediction(np.zeros(60), probabilities, EDGES)
    for share in np.linspace(0.01, 0.99, 25):
        low, high = distribution.interval(prediction, share)
        inside = (low <= popularity) & (popularity <= high)
        sure = np.abs(least - share) > 1e-6
        assert (inside == (least <= share))[sure].all()


def test_shares_have_bands_too():
    """Many songs of popularity 0 among unknown artists alone: their intervals take less of the distribution."""
    parts = [whole(0, 500, peak=0.6), whole(1, 500, peak=0.0)]
    known = np.repeat([0, 1], 500)
    learned = learned_from(*(np.concatenate(part) for part in zip(*parts, strict=True)), known)
    unknown, one, few = learned.taken(3, torch.tensor([0, 1, 9]))[:, 32]  # of 80 %
    assert unknown < few < one
    assert one == pytest.approx(0.8, abs=0.02)


def test_nothing_learned_changes_nothing():
    raw = torch.from_numpy(histograms([20.0, 90.0], [5.0, 20.0]))
    assert conformal.Conformal()(raw) is raw
    np.testing.assert_allclose(conformal.Conformal().taken(2)[:, [20, 32, 38]], [SHARES] * 2, atol=1e-7)


def test_a_module_in_half_precision_keeps_its_maps():
    learned = conformal.Conformal()
    learned.learn(transform(*songs(400, 0), 4.0))
    raw = histograms(np.array([50.0]), np.array([4.0]))
    exact, rounded = (corrected(one, raw) for one in (learned, learned.to(torch.bfloat16)))
    np.testing.assert_allclose(rounded.cumsum(1), exact.cumsum(1), atol=0.02)


def test_a_module_keeps_its_maps_in_its_checkpoint():
    learned, read = calibration.Calibration(), calibration.Calibration()
    learned.conformal.learn(transform(*songs(400, 0), 4.0))
    read.load_state_dict(learned.state_dict())
    raw = histograms([50.0], [4.0])
    np.testing.assert_array_equal(corrected(read.conformal, raw), corrected(learned.conformal, raw))
    assert not np.allclose(corrected(read.conformal, raw), raw)
