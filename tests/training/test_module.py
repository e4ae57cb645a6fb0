"""The module and the data module as a fit uses them: optimiser, schedule, splits, and what the encoder is fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Lazy, quick_fit

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from popularity.data.splits import Split

torch = Lazy("torch")
lightning = Lazy("lightning.pytorch")
splits = Lazy("popularity.data.splits")
same_data = Lazy("popularity.training.same_data")
data_module = Lazy("popularity.training.datamodule")
optim = Lazy("popularity.training.optim")


@pytest.fixture(scope="module")
def songs(song_file) -> pd.DataFrame:
    from popularity.data.songs import load_songs

    return load_songs(str(song_file)).songs


@pytest.fixture(scope="module")
def split(songs) -> Split:
    rows = np.arange(len(songs))
    return splits.Split(rows[60:], rows[:0], rows[:60])


def recorder(seen: list[dict[str, Any]]) -> Callback:
    """Notes the learning rate and weight decay of each group of parameters at each step."""

    class Record(lightning.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            groups = trainer.optimizers[0].param_groups
            seen.append({"rate": groups[0]["lr"], "decay": [group["weight_decay"] for group in groups]})

    return Record()


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_learning_rate_follows_its_schedule(schedule, songs, split):
    seen: list[dict[str, Any]] = []
    settings = {"model.schedule": schedule, "model.warmup_steps": 5, "model.learning_rate": 0.01}
    quick_fit(songs, split, epochs=3, callbacks=[recorder(seen)], **settings, **{"model.weight_decay": 0.2})
    total = len(seen)
    assert total == 18
    expected = [
        0.01 * optim.rate_factor(step, warmup=5, total=total, cosine=schedule == "cosine") for step in range(total)
    ]
    assert [step["rate"] for step in seen] == pytest.approx(expected)
    assert seen[0]["decay"] == [0.2, 0.0], "matrices alone decay"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, r"model.learning_rate: expected a number above 0, got 0.0"),
        ({"weight_decay": -1.0}, r"model.weight_decay: expected at least 0, got -1.0"),
        ({"warmup_steps": -1}, r"model.warmup_steps: expected at least 0, got -1"),
    ],
)
def test_settings_of_the_module_out_of_range_are_refused(settings, message):
    from popularity.errors import InputError
    from popularity.training.module import PopularityModule

    with pytest.raises(InputError, match=message):
        PopularityModule(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, r"data.batch_size: expected at least 1, got 0"),
        ({"samples": 0}, r"data.samples: expected at least 1, got 0"),
        ({"shuffle_seed": -1}, r"data.shuffle_seed: expected a number from 0 to 4294967295, got -1"),
    ],
)
def test_settings_of_the_data_out_of_range_are_refused(settings, message):
    from popularity.errors import InputError

    with pytest.raises(InputError, match=message):
        data_module.PopularityDataModule(**settings)


@pytest.mark.parametrize("kind", ["random", "artist", "time"])
def test_the_encoder_is_fitted_on_the_training_songs_by_the_rule_of_the_split(kind, songs):
    split = splits.make_split(songs, kind, seed=1, validation=0.1)
    data = quick_fit(songs, split, **{"data.split": kind, "data.validation": 0.1, "trainer.max_steps": 0}).datamodule
    encoder, train = data.encoder, songs.iloc[split.train]
    assert encoder.known["popularity"].tolist() == train["popularity"].tolist()
    assert encoder.earlier == (kind == "time")
    assert (encoder.hidden[0] == 1.0) == (kind == "artist"), "estimated on inner folds"
    assert len(data.val_dataloader().tensors["song"]) == len(split.validation) > 0
    assert len(data.test_dataloader().tensors["song"]) == len(split.test)


def test_without_validation_songs_there_are_no_batches_of_them(songs, split):
    assert quick_fit(songs, split, **{"trainer.max_steps": 0}).datamodule.val_dataloader() == []


def test_a_second_setup_does_not_fit_the_encoder_again(songs, split):
    data = quick_fit(songs, split, **{"trainer.max_steps": 0}).datamodule
    known = data.encoder.known
    data.setup("fit")
    data.setup("test")
    assert data.encoder.known is known


def test_the_state_of_the_data_is_its_encoder(songs, split):
    data = quick_fit(songs, split, **{"trainer.max_steps": 0}).datamodule
    other = data_module.PopularityDataModule()
    other.load_state_dict(data.state_dict())
    one, two = data.encoder.encode(songs), other.encoder.encode(songs)
    assert all(torch.equal(one[name].nan_to_num(), two[name].nan_to_num()) for name in one)
    assert other.state_dict()["fingerprint"] == data.state_dict()["fingerprint"] == data.fingerprint()


FINGERPRINT = {"source": "songs.csv", "sha256": "a", "songs": 9, "split": "random", "folds": 5, "fold": 0}
FINGERPRINT |= {"split_seed": 0, "validation": 0.1, "deduplicate": True}


@pytest.mark.parametrize(("key", "value"), [("sha256", "b"), ("fold", 1), ("split", "artist"), ("validation", 0.2)])
def test_other_data_are_noticed(key, value):
    """To go on with, and to score on."""
    from popularity.errors import InputError

    other = {**FINGERPRINT, key: value}
    with pytest.raises(InputError, match=f"trained on other data .{key} {FINGERPRINT[key]} -> {value}"):
        same_data.check_same_data(FINGERPRINT, other)
    with pytest.raises(InputError, match=f"trained with {key} {FINGERPRINT[key]}, to be scored with {key} {value}"):
        same_data.check_held_out(FINGERPRINT, other)


def test_the_same_data_under_another_name_are_the_same():
    same_data.check_same_data(FINGERPRINT, {**FINGERPRINT, "source": "copy.csv"})


def test_other_songs_may_be_scored_in_any_split():
    same_data.check_held_out(FINGERPRINT, {**FINGERPRINT, "source": "new.csv", "sha256": "b", "fold": 3})


def test_several_processes_go_on_with_numbers_of_their_own():
    """Otherwise all would hide the same features of their songs."""
    from types import SimpleNamespace

    from popularity.training.callbacks import RandomState

    torch.manual_seed(5)
    state, numbers = RandomState(), set()
    for epoch in (0, 1):
        for rank in (0, 1):
            trainer = SimpleNamespace(world_size=2, current_epoch=epoch, global_rank=rank)
            state.on_train_epoch_start(trainer, None)
            numbers.add(torch.rand(1).item())
    assert len(numbers) == 4


def test_the_state_of_the_generators_is_restored():
    from popularity.training.callbacks import RandomState

    callback = RandomState()
    state = callback.state_dict()
    expected = torch.rand(3)
    torch.rand(7)
    callback.load_state_dict(state)
    assert torch.equal(torch.rand(3), expected)
