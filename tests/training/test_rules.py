"""Settings that follow from the number of training songs."""

import pytest

from tests.conftest import Lazy

rules = Lazy("popularity.training.rules")


def test_epochs_fall_with_the_number_of_songs():
    numbers = [rules.epochs_for(songs) for songs in (1, 100, 3_800, 17_000, 1_000_000)]
    assert numbers == sorted(numbers, reverse=True)
    assert rules.epochs_for(3_800) == 30
    assert numbers[0] <= 45
    assert numbers[-1] == 8


def test_the_learning_rate_gains_what_epochs_lose():
    songs = (1, 100, 3_800, 8_000, 17_000, 60_000, 1_000_000)
    rates = [rules.learning_rate_for(number) for number in songs]
    assert rates == sorted(rates)
    assert rates[:3] == [pytest.approx(2.8e-3)] * 3, "less of it underfits small files"
    assert rates[4] * rules.epochs_for(17_000) == pytest.approx(2.8e-3 * 30, rel=0.03)
    assert rates[-1] == pytest.approx(5.6e-3)


def test_weight_decay_forgets_as_much_over_all_steps():
    songs = (1, 1_500, 3_800, 8_000, 17_000, 60_000)
    decays = [rules.weight_decay_for(number) for number in songs]
    assert decays == sorted(decays, reverse=True)
    assert decays[0] == 1, "and never more than this"
    assert rules.weight_decay_for(3_800) == pytest.approx(0.3)
    over_all = [decay * number * rules.epochs_for(number) for number, decay in zip(songs, decays, strict=True)]
    assert over_all[1:] == pytest.approx([0.3 * 3_800 * 30] * 5, rel=0.05)


@pytest.mark.parametrize(
    ("name", "most", "usual", "least"), [("INTERACTION_DROPOUT", 0.75, 0.7, 0.5), ("MLP_DROPOUT", 0.55, 0.5, 0.2)]
)
def test_more_songs_keep_more(name, most, usual, least):
    name = getattr(rules, name)
    dropouts = [rules.dropout_for(name, songs) for songs in (1, 100, 3_800, 17_000, 1_000_000)]
    assert dropouts == sorted(dropouts, reverse=True)
    assert dropouts[0] == pytest.approx(most), "small files keep enough to learn from"
    assert dropouts[-1] == pytest.approx(least)
    assert rules.dropout_for(name, 3_800) == pytest.approx(usual)
