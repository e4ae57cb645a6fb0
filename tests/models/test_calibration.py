"""Calibration: the mean goes where it should, the distribution follows, and noise is not followed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Lazy

torch = Lazy("torch")
heads = Lazy("popularity.models.heads")
calibration = Lazy("popularity.models.calibration")


def logits(seed: int, songs: int = 40, spread: float = 4.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(songs, 60, generator=generator, dtype=torch.float64) * spread


def number(value: float):
    return torch.tensor(value, dtype=torch.float64)


@given(
    seed=st.integers(0, 10_000),
    spread=st.floats(0.1, 30.0),
    offset=st.floats(-30.0, 30.0),
    slope=st.floats(0.1, 1.5),
    sharpness=st.floats(0.4, 2.5),
)
def test_calibrated_mean_is_the_line_of_the_mean(seed, spread, offset, slope, sharpness):
    head, raw = heads.HistogramHead().double(), logits(seed, spread=spread)
    corrected = head.calibrated(raw, number(offset), number(slope), number(sharpness))
    wanted = (offset + slope * head.predict(raw)).clamp(0, 100)
    torch.testing.assert_close(head.predict(corrected), wanted, atol=1e-3, rtol=0)


def test_a_peak_stays_where_it_is():
    """Songs of popularity 0 are a peak of their own: a smaller mean makes it higher and does not move it."""
    head = heads.HistogramHead().double()
    two = torch.full((1, 60), -30.0, dtype=torch.float64)
    two[0, [5, 35]] = 0.0  # around 1 and 61 points
    corrected = head.probabilities(head.calibrated(two, number(0.0), number(0.5), number(1.0)))
    assert corrected[0, [5, 35]].sum() > 0.999
    assert corrected[0, 5] > 0.7


@given(st.integers(0, 1_000))
def test_sharpness_narrows_and_widens(seed):
    head, raw = heads.HistogramHead().double(), logits(seed, spread=1.0)

    def entropy(sharpness: float):
        probability = head.probabilities(head.calibrated(raw, number(0.0), number(1.0), number(sharpness)))
        return -torch.xlogy(probability, probability).sum(-1).mean()

    assert entropy(2.0) < entropy(1.0) < entropy(0.5)


def test_one_number_is_calibrated_too():
    head = heads.MSEHead()
    raw = torch.tensor([[-1.0], [0.0], [2.0]])
    corrected = head.calibrated(raw, torch.tensor(10.0), torch.tensor(0.5), torch.tensor(1.0))
    torch.testing.assert_close(head.predict(corrected), 10 + 0.5 * head.predict(raw))


def predictions_and_truth(songs: int, slope: float, seed: int = 0):
    """Outputs whose predictions are too spread: the truth lies on a line of this slope, with noise."""
    rng = np.random.default_rng(seed)
    prediction = rng.normal(50, 12, songs).clip(5, 95)
    truth = 50 + slope * (prediction - 50) + rng.normal(0, 8, songs)
    return torch.tensor(prediction / 100).logit().unsqueeze(-1), torch.tensor(truth.clip(0, 100))


@pytest.mark.parametrize("slope", [0.6, 0.85, 1.1])
def test_many_held_out_songs_tell_the_slope(slope):
    head, learned = heads.MSEHead(), calibration.Calibration()
    raw, truth = predictions_and_truth(20_000, slope)
    learned.learn(head, raw, truth)
    assert float(learned.slope) == pytest.approx(slope, abs=0.02)
    corrected = head.predict(learned(head, raw))
    assert float((truth - corrected).mean()) == pytest.approx(0, abs=0.2)
    assert float(np.polyfit(corrected.numpy(), truth.numpy(), 1)[0]) == pytest.approx(1, abs=0.02)


def test_few_held_out_songs_change_little():
    learned = calibration.Calibration()
    learned.learn(heads.MSEHead(), *predictions_and_truth(6, 0.3))
    assert abs(float(learned.slope) - 1) < 0.2


def test_the_spread_follows_the_errors():
    """Distributions that are far too narrow become wider."""
    head, learned = heads.HistogramHead(), calibration.Calibration()
    rng = np.random.default_rng(0)
    centre = torch.tensor(rng.uniform(20, 80, 3_000))
    raw = head.target(centre).clamp_min(1e-12).log()
    truth = (centre + torch.tensor(rng.normal(0, 12, 3_000))).clamp(0, 100)
    learned.learn(head, raw, truth)
    assert float(learned.sharpness) < 0.6
    assert head.loss(learned(head, raw).float(), truth) < head.loss(raw.float(), truth)


def test_nothing_to_learn_from_changes_nothing():
    head, learned = heads.HistogramHead(), calibration.Calibration()
    raw = logits(0)
    learned.learn(head, raw[:1], torch.tensor([3.0]))
    learned.learn(head, raw[:1].expand(9, -1), torch.arange(9.0))  # one prediction for all
    assert learned.is_identity()
    assert learned(head, raw) is raw


def test_a_module_predicts_calibrated_and_its_checkpoint_keeps_it():
    from popularity.features.base import Inputs
    from popularity.training.module import PopularityModule

    class Reads(torch.nn.Linear):
        def forward(self, batch):
            return super().forward(batch["columns"])

    module = PopularityModule(net=lambda inputs, outputs: Reads(3, outputs), inputs=Inputs(columns=3))
    batch = {"columns": torch.randn(5, 3)}
    before = module.head.predict(module(batch))
    module.calibration.slope.fill_(0.5)
    module.calibration.offset.fill_(20.0)
    torch.testing.assert_close(module.head.predict(module(batch)), 20 + 0.5 * before, atol=1e-2, rtol=0)
    assert {"calibration.slope", "calibration.offset", "calibration.sharpness"} <= module.state_dict().keys()


def test_songs_of_one_group_count_as_one_witness():
    """What 500 songs of a single artist show is believed less than what 500 artists show."""
    head, apart, together = heads.MSEHead(), calibration.Calibration(), calibration.Calibration()
    rng = np.random.default_rng(0)
    artist = np.repeat(np.arange(10), 50)
    prediction = rng.normal(50, 10, 10)[artist]
    truth = torch.tensor(50 + 0.7 * (prediction - 50) + rng.normal(0, 8, 10)[artist])
    raw = torch.tensor(prediction / 100).logit().unsqueeze(-1)
    apart.learn(head, raw, truth)
    together.learn(head, raw, truth, torch.from_numpy(artist))
    assert abs(float(together.slope) - 1) < abs(float(apart.slope) - 1) / 2


def blended(network: float, trees: float, songs: int = 800):
    """A calibration learned from songs that network and trees miss by errors of these standard deviations."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(20, 80, songs)
    prediction, tree = (truth + rng.normal(0, miss, songs) for miss in (network, trees))
    learned, raw = calibration.Calibration(trees=True), torch.tensor(prediction.clip(1, 99) / 100).logit().unsqueeze(-1)
    assert float(learned.weight) == 0.5
    learned.learn(heads.MSEHead(), raw, torch.tensor(truth), tree=torch.tensor(tree))
    return learned, raw, torch.tensor(truth), torch.tensor(tree)


@pytest.mark.parametrize(("network", "trees", "low", "high"), [(4, 40, 0, 0.05), (40, 4, 0.95, 1), (8, 8, 0.45, 0.55)])
def test_the_better_of_network_and_trees_gets_the_weight(network, trees, low, high):
    assert low <= float(blended(network, trees)[0].weight) <= high


def test_a_network_that_says_nothing_leaves_it_to_the_trees():
    learned, raw, truth, tree = blended(4, 4)
    learned.learn(heads.MSEHead(), torch.zeros_like(raw), truth, tree=tree)
    assert float(learned.weight) > 0.9


def test_a_blend_is_better_than_either_and_its_distribution_follows():
    learned, raw, truth, tree = blended(8, 8)
    head = heads.MSEHead()

    def error(prediction) -> float:
        return float((prediction - truth).square().mean())

    assert error(head.predict(learned(head, raw, tree))) < 0.7 * min(error(head.predict(raw)), error(tree))
    histogram, logits_ = heads.HistogramHead(), logits(0)
    tree = torch.linspace(20, 60, 40, dtype=torch.float64)
    learned.slope.fill_(0.9)
    wanted = learned.offset + 0.9 * ((1 - learned.weight) * histogram.predict(logits_) + learned.weight * tree)
    found = histogram.predict(learned(histogram, logits_, tree))
    torch.testing.assert_close(found, wanted.double(), atol=1e-2, rtol=0)


def test_few_songs_leave_the_weight_near_a_half():
    assert abs(float(blended(4, 40, songs=5)[0].weight) - 0.5) < abs(float(blended(4, 40)[0].weight) - 0.5)


def test_without_trees_their_weight_changes_nothing():
    """A batch of training songs has no prediction of theirs."""
    head, learned, raw = heads.MSEHead(), calibration.Calibration(trees=True), torch.tensor([[-1.0], [2.0]])
    torch.testing.assert_close(head.predict(learned(head, raw)), head.predict(raw))


def test_one_group_of_songs_says_nothing_of_others():
    """Songs of one artist that are ten points above their predictions do not move the predictions of all others."""
    raw = torch.randn(300, 60, generator=torch.Generator().manual_seed(0))
    head = heads.HistogramHead()
    popularity = (head.predict(raw) + 10).clamp(0, 100)
    learned = {}
    for name, groups in (("one", torch.zeros(300, dtype=torch.long)), ("many", torch.arange(300))):
        fitted = calibration.Calibration()
        fitted.learn(head, raw, popularity, groups)
        learned[name] = (float(fitted.offset), float(fitted.slope))
    assert learned["one"] == (0.0, 1.0)
    assert learned["many"][0] > 5


def test_variance_grows_where_a_group_is_larger_than_all_others():
    terms = torch.randn(100, generator=torch.Generator().manual_seed(0)).double()
    terms -= terms.mean()
    alone = calibration.variance(terms, torch.arange(100))
    assert alone == pytest.approx(float(terms.square().sum()) / 0.99)
    assert calibration.variance(terms, torch.zeros(100, dtype=torch.long)) == float("inf")


@pytest.mark.parametrize("spread", [1, 10, 40])
def test_a_tilt_is_found_whatever_the_logits(spread):
    """Peaks far apart, and hardly any mass between them, have a mean that a small tilt moves by most of the scale."""
    raw = torch.randn(500, 60, generator=torch.Generator().manual_seed(1)).double() * spread
    centre = torch.linspace(-9, 109, 60).double()
    goal = torch.rand(500, generator=torch.Generator().manual_seed(2)).double() * 100
    found = heads.tilted(raw, centre, goal).softmax(-1) @ centre
    torch.testing.assert_close(found, goal, atol=1e-3, rtol=0)
