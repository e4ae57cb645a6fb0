"""A fit suits itself to its songs: epochs by their number, members and calibration by held-out songs alone."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import Lazy, make_songs

torch = Lazy("torch")
choices, rules = Lazy("popularity.training.choice"), Lazy("popularity.training.rules")
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


@pytest.fixture(scope="module")
def by_rule():
    """What 160 training songs make of the settings that a config leaves open."""
    return {
        "trainer.max_epochs": rules.epochs_for(160),
        rules.LEARNING_RATE: rules.learning_rate_for(160),
        rules.WEIGHT_DECAY: rules.weight_decay_for(160),
        rules.INTERACTION_DROPOUT: rules.dropout_for(rules.INTERACTION_DROPOUT, 160),
    }


class Network:
    """Stands in for a fit: each member's predictions miss the truth by a given number of points, up or down."""

    def __init__(self, songs, misses):
        self.songs, self.misses, self.asked = songs, misses, []

    def __call__(self, config, rows):
        from popularity.models.heads import MSEHead

        self.asked.append((config, rows))
        truth = self.songs["popularity"].to_numpy(np.float64)[rows.validation]
        sign = np.where(np.arange(len(truth)) % 2, 1, -1)
        wrong = np.stack([(truth + sign * miss).clip(1, 99) for miss in self.misses])
        return choices.Tried(MSEHead(), torch.tensor(wrong / 100).logit().unsqueeze(-1))


def chosen(table, split, misses, settings=None):
    settings = settings or {}
    default = {} if "model.net" in settings else {"model.net.mlp_width": 0}
    config = fits.read_config([], {**SMALL, **default, **settings})
    network = Network(table.songs, misses)
    return choices.choose(config, table.songs, split, network), network


@pytest.mark.parametrize("best", [0, 1])
def test_a_member_that_is_clearly_better_is_kept_alone(table, split, best):
    choice, network = chosen(table, split, (20, 1) if best else (1, 20))
    assert len(network.asked) == 1
    net = {name.removeprefix("model.net.init_args."): value for name, value in choice.settings.items()}
    assert net["members"] == choice.settings["data.samples"] == 1
    assert (net["width"], net["dropout"], net["feature_dropout"]) == ((32, 0.25, 0.35), (24, 0.2, 0.25))[best]
    assert min(choice.errors, key=choice.errors.get) == f"member {best + 1}"
    assert "one member" in choice.lines()[1]


def test_members_that_make_each_other_better_are_kept(table, split, by_rule):
    choice, _ = chosen(table, split, (5, -5))
    assert choice.settings == by_rule
    assert choice.errors["mean"] < choice.errors["member 1"]
    assert "all members are kept" in choice.lines()[1]


@pytest.mark.parametrize("misses", [(20, 20, 1), (1, 20, 20)])
def test_an_mlp_that_is_clearly_better_is_kept_alone(table, split, misses):
    choice, _ = chosen(table, split, misses, {"model.net.mlp_width": 8})
    net = {name.removeprefix("model.net.init_args."): value for name, value in choice.settings.items()}
    assert net["mlp_dropout"] == rules.dropout_for(rules.MLP_DROPOUT, 160)
    assert (net["members"], net.get("mlp_width")) == ((0, None) if misses[-1] == 1 else (1, 0))
    assert set(choice.errors) == {"member 1", "member 2", "MLP", "mean"}
    config = choices.with_settings(fits.read_config([], SMALL | {"model.net.mlp_width": 8}), choice.settings)
    assert choices.member_names(config) == (["MLP"] if misses[-1] == 1 else ["member 1"])
    fit = fits.build_fit(config, table=table, split=split, trainer=SILENT)
    assert len(fit.module.net.members) == 1


def test_a_network_that_shows_its_mean_alone_is_calibrated(table, split, by_rule):
    choice, _ = chosen(table, split, (5,))
    assert choice.settings == by_rule
    assert not choice.errors
    assert choice.calibration is not None


def test_chance_drops_no_member():
    """Of two members that are equally good none is kept alone, but rarely; the songs of an artist count as one."""
    rng = np.random.default_rng(0)
    kept = {"songs": 0, "artists": 0}
    for _ in range(200):
        artist = np.repeat(np.arange(50), 8)
        one, two = (rng.normal(0, 10, 400) + rng.normal(0, 10, 50)[artist] for _ in range(2))
        errors = np.stack([one**2, two**2, (one**2 + two**2) / 2])
        kept["artists"] += choices.clearly_better(errors, artist) is not None
        kept["songs"] += choices.clearly_better(errors, np.arange(400)) is not None
    assert kept["artists"] < 0.02 * 200 < kept["songs"]


def test_songs_by_unknown_artists_have_intervals_of_their_own(table, split, monkeypatch):
    from popularity.models import conformal
    from popularity.models.heads import HistogramHead

    def fit(config, rows):
        head = HistogramHead()
        truth = torch.tensor(table.songs["popularity"].to_numpy(np.float32)[rows.validation])
        known = torch.arange(len(truth)) % 2 * 9
        centre = truth + torch.where(known > 0, 1, 15) * torch.randn(len(truth), generator=torch.manual_seed(0))
        return choices.Tried(head, head.target(centre).clamp_min(1e-9).log().unsqueeze(0), known)

    monkeypatch.setattr(conformal, "LEAST", 10)
    config = fits.read_config([], {**SMALL, "choice.members": False})
    choice = choices.choose(config, table.songs, split, fit)
    maps = choice.calibration.conformal.quantiles
    low, high = maps.shape[1] // 10, maps.shape[1] * 9 // 10
    assert maps[0, high] - maps[0, low] > maps[-1, high] - maps[-1, low] + 0.1
    assert (choice.calibration.conformal.shares - torch.linspace(0, 1, maps.shape[1])).abs().max() > 0.005


def test_members_stay_where_they_are_asked_for(table, split):
    choice, _ = chosen(table, split, (20, 1), {"choice.members": False})
    assert choice.errors == {}
    assert not any(name.endswith("members") for name in choice.settings)
    assert choice.calibration is not None


def test_only_training_songs_are_used(table, split):
    _, network = chosen(table, split, (3, 2))
    for _, rows in network.asked:
        used = np.concatenate([rows.train, rows.validation])
        assert len(rows.test) == 0
        assert np.isin(used, split.train).all()
        assert len(np.unique(used)) == len(split.train)
        assert len(rows.validation) == len(split.train) // 5


def test_songs_are_held_out_by_the_rule_of_the_split(table, split):
    _, network = chosen(table, split, (3, 2), {"data.split": "artist"})
    rows = network.asked[0][1]
    artists = table.songs["artist"].to_numpy()
    assert not set(artists[rows.train]) & set(artists[rows.validation])


def test_a_fold_that_one_group_fills_is_not_held_out(table):
    songs = table.songs.iloc[:160].copy()
    songs["artist"] = ["Everybody"] * 40 + [f"Artist {number}" for number in range(120)]
    for seed in range(5):
        rows = choices.hold_out(songs, "credits", 0.25, seed)
        assert "Everybody" not in set(songs["artist"].iloc[rows.validation])
        assert len(rows.validation) == 40


def test_a_given_setting_is_left_as_it_is(table, split):
    given = {"model.net.width": 8, "model.net.feature_dropout": 0.4}
    choice, network = chosen(table, split, (20, 1), given)
    assert not any(name.endswith((".width", "feature_dropout")) for name in choice.settings)
    assert network.asked[0][0].model.net.init_args.width == 8
    assert choice.settings["model.net.init_args.dropout"] == 0.2


def test_with_nothing_to_learn_nothing_is_fitted(table, split, by_rule):
    choice, network = chosen(table, split, (), {"choice.members": False, "choice.calibrate": False})
    assert not network.asked
    assert choice.calibration is None
    assert choice.settings == by_rule
    one = {"model.net.members": 1, "model.net.mlp_width": 0, "choice.calibrate": False}
    assert not chosen(table, split, (), one)[1].asked, "a single member"


def test_what_is_kept_is_calibrated(table, split):
    choice, _ = chosen(table, split, (9, -3))
    assert choice.calibration is not None
    assert not choice.calibration.is_identity()
    assert "prediction" in choice.lines()[-1]
    bare, _ = chosen(table, split, (9, -3), {"choice.calibrate": False})
    assert bare.calibration is None


def test_too_few_songs_hold_nothing_out(table):
    from popularity.data.splits import Split

    few = Split(np.arange(25), np.arange(0), np.arange(0))
    choice, network = chosen(table, few, ())
    assert not network.asked
    assert choice.calibration is None
    assert "too few" in choice.lines()[1]


@pytest.mark.parametrize("name", ["model.learning_rate", "model.weight_decay"])
def test_a_given_rate_stays_and_one_left_open_is_told(table, split, name):
    choice, network = chosen(table, split, (3, 5), {name: 0.02})
    assert name not in choice.settings
    assert network.asked[0][0][name] == 0.02
    choice, network = chosen(table, split, (3, 5))
    assert network.asked[0][0][name] == choice.settings[name] > 0
    assert f"{name.partition('.')[2].replace('_', ' ')} {choice.settings[name]:.2g}" in choice.lines()[0]


def test_a_given_dropout_of_interactions_stays(table, split):
    choice, network = chosen(table, split, (3, 5), {"model.net.interaction_dropout": 0.2})
    assert rules.INTERACTION_DROPOUT not in choice.settings
    assert network.asked[0][0].model.net.init_args.interaction_dropout == 0.2


def test_a_network_without_interactions_has_none_chosen(table, split):
    choice, _ = chosen(table, split, (3, 2), {"model.net": "FeatureTokensMamba", "data.encoder": "FeatureEncoder"})
    assert rules.INTERACTION_DROPOUT not in choice.settings


def test_a_given_number_of_epochs_stays(table, split):
    choice, network = chosen(table, split, (3, 5), {"trainer.max_epochs": 2})
    assert "trainer.max_epochs" not in choice.settings
    assert network.asked[0][0].trainer.max_epochs == 2


def test_a_fit_is_built_with_what_was_chosen(table, split):
    """With real fits: the module is calibrated, and trained on all training songs."""
    members = {"model.net.members": 2, "model.net.width": "[8, 16]"}
    config = fits.read_config([], {**SMALL, "trainer.max_epochs": 2, **members})
    fit = fits.suited_fit(config, table, split, trainer=SILENT)
    widths = [member.readout_token.shape[0] for member in fit.module.net.members if hasattr(member, "readout_token")]
    assert widths in ([8, 16], [8], [16])
    assert fit.config.model.net.init_args.members == fit.config.data.samples == len(widths)
    assert not fit.module.calibration.is_identity()
    maps = fit.module.calibration.conformal.quantiles
    assert not torch.allclose(maps[0], torch.linspace(0, 1, maps.shape[1])), "intervals are corrected too"
    assert fit.datamodule.split is split


@pytest.mark.parametrize(("net", "heads"), [("HistoryMamba", "HistogramHead"), ("HistoryMamba", "MSEHead")])
def test_members_predict_alone(table, split, net, heads):
    """The mean of what each member says is what the module says."""
    from popularity.training.outputs import member_outputs, outputs_and_known

    plain = {"trainer.max_epochs": 1, "choice.members": False, "choice.calibrate": False}
    small = {**SMALL, **plain, "model.head": heads, "model.net.mlp_width": 8}
    fit = fits.suited_fit(fits.read_config([], small), table, split, trainer=SILENT)
    fit.run()
    songs, encoder = table.songs.iloc[split.test], fit.datamodule.encoder
    apart, *_ = member_outputs(fit.module, encoder, songs, samples=2)
    assert len(apart) == 3
    together, _ = outputs_and_known(fit.module, encoder, encoder.encode(songs), samples=2)
    head = fit.module.head
    torch.testing.assert_close(head.predict(head.mix(apart)), head.predict(together))
    assert not torch.allclose(head.predict(apart[0]), head.predict(apart[1]))


def test_an_interrupted_fit_goes_on_with_what_it_chose(table, split):
    choice, _ = chosen(table, split, (20, 1))
    config = fits.read_config([], SMALL)
    assert choices.chosen_before(config, choice.settings) == choice.settings
    config = fits.read_config([], {**SMALL, "trainer.max_epochs": 3})
    kept = choices.chosen_before(config, choice.settings)
    assert "trainer.max_epochs" not in kept
    assert rules.INTERACTION_DROPOUT in kept
    given = fits.read_config([], {**SMALL, "model.net.interaction_dropout": 0.2})
    assert rules.INTERACTION_DROPOUT not in choices.chosen_before(given, choice.settings)
    assert kept["model.net.init_args.members"] == 1


def test_a_search_has_nothing_left_to_choose(table, split):
    config = choices.settled(fits.read_config([], {**SMALL, "model.net.dropout": 0.11}), 7)
    choice = choices.choose(config, table.songs, split, Network(table.songs, ()))
    assert choice.settings == {}
    assert config.trainer.max_epochs == 7
    assert (config.model.learning_rate, config.model.weight_decay) == (pytest.approx(2.8e-3), pytest.approx(0.3))
    net = config.model.net.init_args
    assert (net.dropout, net.members, net.width, net.feature_dropout) == (0.11, 1, 32, 0.35), "one network"
    assert (net.interaction_dropout, net.mlp_width) == (pytest.approx(0.7), 0)
