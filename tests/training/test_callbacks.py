"""Averaged weights, clipped gradients, and callbacks that keep a record."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Lazy, quick_fit

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule
    from torch import Tensor

    from popularity.data.splits import Split

torch = Lazy("torch")
lightning = Lazy("lightning.pytorch")
callbacks = Lazy("popularity.training.callbacks")
quiet = Lazy("popularity.training.quiet")

SILENT = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)


@pytest.fixture(scope="module")
def songs(song_file) -> pd.DataFrame:
    from popularity.data.songs import load_songs

    return load_songs(str(song_file)).songs


@pytest.fixture(scope="module")
def split(songs) -> Split:
    from popularity.data.splits import Split

    rows = np.arange(len(songs))
    return Split(rows[60:], rows[:0], rows[:60])


def counting_down(steps: int, *more: Callback) -> LightningModule:
    """A module whose one weight is -t after step t, after so many steps of training."""

    class CountsDown(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return self.weight * 1.0

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1.0)

    module = CountsDown()
    data = torch.utils.data.DataLoader(torch.zeros(steps, 1), batch_size=1)
    trainer = lightning.Trainer(accelerator="cpu", max_epochs=1, callbacks=[*more], **SILENT)
    with warnings.catch_warnings():
        quiet.quiet_lightning()
        trainer.fit(module, data)
    return module


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 60])
@pytest.mark.parametrize("decay", [0.5, 0.995])
def test_the_average_starts_with_a_small_decay(steps, decay):
    """The decay of step t is the smaller of the one asked for and (1 + t) / (10 + t)."""
    expected = -1.0  # the first step is copied
    for t in range(1, steps):
        d = min(decay, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * -(t + 1)
    found = float(counting_down(steps, callbacks.EMA(decay)).weight.detach())
    assert found == pytest.approx(expected, rel=1e-5)


def test_without_decay_the_weights_are_those_of_the_last_step():
    assert float(counting_down(7, callbacks.EMA(0.0)).weight.detach()) == -7


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay):
    from popularity.errors import InputError

    with pytest.raises(InputError, match=r"ema.decay: expected at least 0 and below 1"):
        callbacks.EMA(decay)


def grow(factor: float) -> Callback:
    """Multiplies the gradients of the first member."""

    class Grow(lightning.Callback):
        def on_fit_start(self, trainer, pl_module):
            for parameter in pl_module.net.members[0].parameters():
                parameter.register_hook(lambda gradient: gradient * factor)

    return Grow()


def test_a_huge_gradient_in_one_member_does_not_slow_down_another(songs, split):
    """One step of plain gradient descent: what a member learns does not depend on the other's gradient."""
    weights = []
    for factor in (1.0, 1e6):
        two = {"model.net.members": 2}
        sgd = {
            "optimizer": "SGD",
            "optimizer.lr": 1.0,
            "trainer.max_steps": 1,
            "trainer.gradient_clip_val": 0.01,
            **two,
        }
        fit = quick_fit(songs, split, callbacks=[grow(factor)], **sgd)
        weights.append([torch.cat([p.detach().flatten() for p in m.parameters()]) for m in fit.module.net.members])
    start = quick_fit(songs, split, **{"trainer.max_steps": 0, **two}).module.net.members
    begun = [torch.cat([p.detach().flatten() for p in member.parameters()]) for member in start]
    assert torch.equal(weights[0][1], weights[1][1])
    for member in (0, 1):
        for run in (0, 1):
            step = (weights[run][member] - begun[member]).norm()
            assert step.item() == pytest.approx(0.01, rel=0.01), (
                "each member's gradient is clipped to the norm asked for"
            )


def test_gradients_of_a_network_without_members_are_clipped(songs, split):
    sgd = {"optimizer": "SGD", "optimizer.lr": 1.0, "trainer.max_steps": 1, "trainer.gradient_clip_val": 0.001}
    own = {"model.net": "tests.training.own_parts.MyNet"}
    begun, after = (
        torch.cat([p.detach().flatten() for p in quick_fit(songs, split, **settings).module.net.parameters()])
        for settings in ({**own, "trainer.max_steps": 0}, {**own, **sgd})
    )
    assert (after - begun).norm().item() == pytest.approx(0.001, rel=0.01)


def test_objects_from_before_training_are_spared_by_the_collector_until_it_ends():
    import gc

    callback = callbacks.LongLived()
    for end in (callback.on_train_end, lambda *_: callback.on_exception(None, None, ValueError())):
        callback.on_train_start(None, None)
        assert gc.get_freeze_count() > 10_000
        end(None, None)
        assert gc.get_freeze_count() == 0
