"""Intervals and chances are those of the histogram."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from popularity.errors import InputError
from tests.conftest import Lazy, quick_fit

metrics = Lazy("popularity.metrics")
distribution = Lazy("popularity.inference.distribution")
predictor = Lazy("popularity.inference.predictor")
EDGES = np.linspace(-10, 110, 61)


@pytest.fixture(scope="module")
def prediction():
    rng = np.random.default_rng(0)
    mass = rng.dirichlet(np.full(60, 0.3), 200)
    mass[0], mass[1], mass[2] = 0, 0, 0
    mass[0, 0], mass[1, -1], mass[2, [10, 40]] = 1, 1, 0.5  # all beyond an end; nothing between two bins
    return predictor.Prediction(np.zeros(200), mass, EDGES)


@pytest.mark.parametrize("level", [0.025, 0.1, 0.5, 0.9, 0.975])
def test_a_quantile_inverts_the_distribution_function(level, prediction):
    found = distribution.quantile(prediction, level)
    assert ((found >= 0) & (found <= 100)).all()
    inside = (found > 0) & (found < 100)
    assert inside.sum() > 20
    reached = metrics.cdf_at(found[inside], prediction.probabilities[inside], EDGES)
    np.testing.assert_allclose(reached, level, atol=1e-9)
    assert (metrics.cdf_at(found, prediction.probabilities, EDGES)[found == 0] >= level - 1e-9).all()
    assert found[0] == 0
    assert found[1] == 100


def test_intervals_lie_within_each_other(prediction):
    ends = [distribution.interval(prediction, share) for share in distribution.SHARES]
    for (low, high), (lower, higher) in pairwise(ends):
        assert (lower <= low).all()
        assert (low <= high).all()
        assert (high <= higher).all()


def zeros(share):
    """A prediction of popularity 0 with this probability, otherwise spread evenly up to 100."""
    mass = np.zeros((1, 60))
    mass[0, 0], mass[0, 5:55] = share, (1 - share) / 50
    return predictor.Prediction(np.zeros(1), mass, EDGES)


def test_an_interval_that_has_nothing_below_it_is_shorter():
    """An interval from 0 holds the songs of popularity 0 as well: it need not hold as much above."""
    ends = {share: distribution.interval(zeros(share), 0.8) for share in (0.0, 0.05, 0.15, 0.3, 0.6)}
    assert {share: low[0] for share, (low, _) in ends.items() if low[0]} == pytest.approx({0.0: 10, 0.05: 100 / 19})
    assert ends[0.05][1] == pytest.approx(100 - 10 / 0.95)  # a tenth above
    assert ends[0.15][1] == pytest.approx(100 - (15.425 / 0.85), abs=0.1)  # as much as songs of 0 there are
    for share in (0.3, 0.6):
        assert ends[share][1] == pytest.approx(100 - 20 / (1 - share))  # exactly a fifth: 80 % are inside


def test_intervals_are_nested_at_any_level_where_many_songs_have_0():
    for share in (0.08, 0.12, 0.2, 0.5):
        ends = np.array([distribution.interval(zeros(share), level) for level in np.linspace(0.02, 0.98, 49)])[:, :, 0]
        assert (np.diff(ends[:, 0]) <= 1e-9).all()
        assert (np.diff(ends[:, 1]) >= -1e-9).all()


def test_a_whole_number_is_reached_from_half_a_point_below(prediction):
    certain = predictor.Prediction(np.zeros(1), np.eye(60)[[30]], EDGES)  # from 50 to 52
    assert distribution.at_least(certain, 50).tolist() == [1.0]
    assert distribution.at_least(certain, 51) == pytest.approx([0.75])
    assert distribution.at_least(certain, 53).tolist() == [0.0]
    chances = [distribution.at_least(prediction, cutoff) for cutoff in (1, 30, 70, 100)]
    assert (np.diff(chances, axis=0) <= 1e-12).all()


def test_no_song_has_no_interval():
    nothing = predictor.Prediction(np.zeros(0), np.zeros((0, 60)), EDGES)
    assert len(distribution.quantile(nothing, 0.5)) == len(distribution.at_least(nothing, 50)) == 0


def test_predictions_take_the_map_of_their_known_songs(song_table):
    from popularity.data.splits import Split
    from popularity.training.outputs import known_songs

    fit = quick_fit(song_table, Split(np.arange(60), np.arange(0), np.arange(60, 80)))
    module, encoder, songs = fit.module, fit.datamodule.encoder, song_table[60:]
    known = known_songs(encoder, encoder.encode(songs)).numpy()
    assert 0 < (known == 0).sum() < 20
    before = predictor.predict_songs(module, encoder, songs)
    module.calibration.conformal.quantiles[0] = module.calibration.conformal.quantiles[0] ** 3
    after = predictor.predict_songs(module, encoder, songs)
    changed = np.abs(after.probabilities - before.probabilities).max(1) > 1e-3
    np.testing.assert_array_equal(changed, known == 0)
    np.testing.assert_array_equal(after.mean, before.mean)
    np.testing.assert_allclose(after.probabilities.sum(1), 1)


def test_cutoffs():
    assert distribution.parse_cutoffs("50, 70,50") == (50.0, 70.0)
    assert distribution.parse_cutoffs("") == ()
    for text in ("0", "101", "fifty", "nan"):
        with pytest.raises(InputError, match=r"--cutoffs: expected numbers from 1 to 100 such as 50,70, got"):
            distribution.parse_cutoffs(text)
