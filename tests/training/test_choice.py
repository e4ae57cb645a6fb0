"""A fit chooses what its config leaves open: by the errors on held-out songs, and by nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import Lazy, make_songs

torch = Lazy("torch")
choices = Lazy("popularity.training.choice")
fits = Lazy("popularity.training.fit")

SMALL = {"trainer.accelerator": "cpu", "model.net.d_state": 4, "model.warmup_steps": 5, "plots.every_n_epochs": 0}
SILENT = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    from popularity.data.songs import load_songs

    path = tmp_path_factory.mktemp("songs") / "songs.csv"
    make_songs(200).to_csv(path, index=False)
    return load_songs(str(path))


@pytest.fixture
def split():
    from popularity.data.splits import Split

    return Split(np.arange(160), np.arange(160, 180), np.arange(180, 200))


class Candidates:
    """Stands in for fits: each candidate's predictions miss the truth by a given number of points."""

    def __init__(self, songs, misses):
        self.songs, self.misses, self.asked = songs, list(misses), []

    def __call__(self, config, rows):
        from popularity.models.heads import MSEHead

        self.asked.append((config, rows))
        truth = self.songs["popularity"].to_numpy(np.float64)[rows.validation]
        miss = self.misses[len(self.asked) - 1]
        wrong = (truth + np.where(np.arange(len(truth)) % 2, miss, -miss)).clip(1, 99)
        return MSEHead(), torch.tensor(wrong / 100).logit().unsqueeze(-1), None


def chosen(table, split, misses, settings=None):
    config = fits.read_config([], {**SMALL, **(settings or {})})
    candidates = Candidates(table.songs, misses)
    return choices.choose(config, table.songs, split, candidates), candidates


@pytest.mark.parametrize(("misses", "best"), [((9, 6, 3), "light"), ((5, 3, 8), "medium"), ((3, 5, 4), "strong")])
def test_the_smallest_error_wins(table, split, misses, best):
    choice, candidates = chosen(table, split, misses)
    assert len(candidates.asked) == 3
    assert choice.settings["model.net.init_args.width"] == choices.CANDIDATES[best]["model.net.width"]
    assert choice.settings["model.weight_decay"] == choices.CANDIDATES[best]["model.weight_decay"]
    assert min(choice.errors, key=choice.errors.get) == best
    assert best in choice.lines()[0]


def test_only_training_songs_are_used(table, split):
    _, candidates = chosen(table, split, (3, 2, 1))
    for _, rows in candidates.asked:
        used = np.concatenate([rows.train, rows.validation])
        assert len(rows.test) == 0
        assert np.isin(used, split.train).all()
        assert len(np.unique(used)) == len(split.train)
        assert len(rows.validation) == len(split.train) // 5


def test_songs_are_held_out_by_the_rule_of_the_split(table, split):
    _, candidates = chosen(table, split, (3, 2, 1), {"data.split": "artist"})
    rows = candidates.asked[0][1]
    artists = table.songs["artist"].to_numpy()
    assert not set(artists[rows.train]) & set(artists[rows.validation])


def test_a_given_setting_is_left_as_it_is(table, split):
    given = {"model.net.width": 8, "model.net.feature_dropout": 0.4}
    choice, candidates = chosen(table, split, (9, 6, 3), given)
    assert not any(name.endswith(("width", "feature_dropout")) for name in choice.settings)
    assert {config.model.net.init_args.width for config, _ in candidates.asked} == {8}
    assert choice.settings["model.net.init_args.dropout"] == 0.2


def test_candidates_that_flags_make_equal_are_fitted_once(table, split):
    given = {
        "model.net.width": 8,
        "model.net.feature_dropout": 0.4,
        "model.weight_decay": 0.3,
        "data.encoder.thin_history": 0.1,
        "data.encoder.hide_history": 0.1,
    }
    _, candidates = chosen(table, split, (9, 6, 3), given)
    assert [config.model.net.init_args.dropout for config, _ in candidates.asked] == [0.25, 0.2]


def test_own_candidates(table, split):
    own = {"one": {"model.net.dropout": 0.11}, "two": {"model.net.dropout": 0.44, "data.encoder.thin_history": 0.5}}
    choice, _ = chosen(table, split, (5, 3), {"choice.candidates": own})
    assert choice.settings["model.net.init_args.dropout"] == 0.44
    assert choice.settings["data.encoder.init_args.thin_history"] == 0.5
    assert "model.net.init_args.width" not in choice.settings


def test_without_candidates_and_calibration_nothing_is_fitted(table, split):
    choice, candidates = chosen(table, split, (), {"choice.candidates": None, "choice.calibrate": False})
    assert not candidates.asked
    assert choice.calibration is None
    assert choice.settings == {"trainer.max_epochs": choices.epochs_for(160)}


def test_the_best_candidate_calibrates(table, split):
    choice, _ = chosen(table, split, (9, 6, 3))
    assert choice.calibration is not None
    assert not choice.calibration.is_identity()
    assert "prediction" in choice.lines()[-1]
    bare, _ = chosen(table, split, (9, 6, 3), {"choice.calibrate": False})
    assert bare.calibration is None


def test_too_few_songs_take_the_first_candidate(table):
    from popularity.data.splits import Split

    few = Split(np.arange(25), np.arange(0), np.arange(0))
    choice, candidates = chosen(table, few, ())
    assert not candidates.asked
    assert choice.settings["model.net.init_args.width"] == choices.CANDIDATES["strong"]["model.net.width"]
    assert "too few" in choice.lines()[0]


def test_epochs_fall_with_the_number_of_songs():
    numbers = [choices.epochs_for(songs) for songs in (1, 100, 3_800, 17_000, 1_000_000)]
    assert numbers == sorted(numbers, reverse=True)
    assert choices.epochs_for(3_800) == 30
    assert numbers[0] <= 45
    assert numbers[-1] == 8


def test_a_given_number_of_epochs_stays(table, split):
    choice, candidates = chosen(table, split, (3, 5, 9), {"trainer.max_epochs": 2})
    assert "trainer.max_epochs" not in choice.settings
    assert candidates.asked[0][0].trainer.max_epochs == 2


def test_a_fit_is_built_with_what_was_chosen(table, split):
    """With real fits: the module has the chosen width, its calibration, and is trained on all training songs."""
    own = {"small": {"model.net.width": 8}, "smaller": {"model.net.width": 16}}
    config = fits.read_config([], {**SMALL, "choice.candidates": own, "trainer.max_epochs": 2, "model.net.members": 2})
    fit = fits.suited_fit(config, table, split, trainer=SILENT)
    width = fit.datamodule.chosen["model.net.init_args.width"]
    assert fit.config.model.net.init_args.width == width
    assert fit.module.hparams["net"]["init_args"]["width"] == width
    assert fit.module.net.members[0].readout_token.shape == (width,)
    assert len(fit.module.net.members) == 2
    assert not fit.module.calibration.is_identity()
    maps = fit.module.calibration.conformal.quantiles
    assert not torch.allclose(maps[0], torch.linspace(0, 1, maps.shape[1])), "intervals are corrected too"
    assert fit.datamodule.split is split
    assert fit.config.choice.candidates == own


def test_a_search_has_nothing_left_to_choose(table, split):
    config = choices.settled(fits.read_config([], {**SMALL, "model.net.dropout": 0.11}), 7)
    choice = choices.choose(config, table.songs, split, Candidates(table.songs, ()))
    assert choice.settings == {}
    assert config.trainer.max_epochs == 7
    assert config.model.net.init_args.dropout == 0.11
    assert config.model.net.init_args.width == choices.CANDIDATES["strong"]["model.net.width"]
