"""What a run shows in TensorBoard beside its curves: the HPARAMS tab, and plots of the validation songs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from popularity import plots
from popularity.errors import InputError
from popularity.models.heads import HistogramHead
from popularity.training.callbacks import BestSoFar
from popularity.training.loggers import take_version

#: Group of a metric -> group of its card. TensorBoard sorts groups by name, and opens the first two.
CARDS = {"val": "1 validation", "train": "2 training", "lr-AdamW": "2 training/learning rate", "test": "3 test"}


class CurvesLogger(TensorBoardLogger):
    """TensorBoard's logger with the validation curves as the first cards; names elsewhere are as they were.

    Args:
        log_dir: folder of all runs.
        name: of the runs.
        version: number of a run that goes on; a new run takes the next free one.
    """

    def __init__(self, log_dir: str, name: str, version: int | None = None) -> None:
        super().__init__(log_dir, name, version=version, default_hp_metric=False)
        self.number = version

    @property
    def version(self) -> int:
        """Number of the run; Lightning's own would be given to two runs that begin at once."""
        if self.number is None:
            self.number = take_version(Path(os.path.expanduser(os.path.expandvars(self.root_dir))))
        return self.number

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics under the names of their cards; the epoch is no curve."""
        super().log_metrics({card(name): value for name, value in metrics.items() if name != "epoch"}, step)


def card(name: str) -> str:
    """The TensorBoard card of a metric.

    >>> card("val/mse")
    '1 validation/mse'
    """
    group, slash, rest = name.partition("/")
    return f"{CARDS.get(group, group)}{slash}{rest}"


def tensorboard_of(trainer: Trainer) -> TensorBoardLogger | None:
    """The TensorBoard logger of a Trainer, in the first process."""
    found = (logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger))
    return next(found, None) if trainer.is_global_zero else None


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Nested settings as dotted names; ``class_path`` stands for the class, and settings without a value are left out.

    >>> flat({"net": {"class_path": "popularity.models.history.HistoryMamba", "init_args": {"width": 48}}})
    {'net': 'HistoryMamba', 'net.width': 48}
    """
    found: dict[str, bool | int | float | str] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and "class_path" in value:
            found[name] = value["class_path"].rpartition(".")[2]
            found |= flat(value.get("init_args") or {}, f"{name}.")
        elif isinstance(value, dict):
            found |= flat(value, f"{name}.")
        elif value is not None:
            found[name] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


class HyperParameters(Callback):
    """Fills TensorBoard's HPARAMS tab with a run's settings and its best validation MSE.

    Args:
        settings: dotted names to values.
    """

    def __init__(self, settings: dict[str, bool | int | float | str]) -> None:
        self.settings = settings
        self._logged = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the settings at the first validation; `BestSoFar` then moves the metric."""
        mse = trainer.callback_metrics.get("val/mse")
        if self._logged or trainer.sanity_checking or mse is None or trainer.state.fn != "fit":
            return
        self._logged = True
        if (logger := tensorboard_of(trainer)) is not None:
            logger.log_hyperparams(self.settings, {BestSoFar.metric: float(mse)}, step=trainer.global_step)


class Plots(Callback):
    """Adds plots of the validation songs to TensorBoard. With several processes they show the share of the first.

    Args:
        every_n_epochs: how often; 0 for never.

    Raises:
        InputError: ``every_n_epochs`` is negative.
    """

    def __init__(self, every_n_epochs: int = 10) -> None:
        if every_n_epochs < 0:
            raise InputError(f"plots.every_n_epochs: expected at least 0, got {every_n_epochs}")
        self.every_n_epochs = every_n_epochs
        self._outputs: list[dict[str, Tensor]] = []

    def _due(self, trainer: Trainer) -> bool:
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        due = self.every_n_epochs > 0 and (last or trainer.current_epoch % self.every_n_epochs == 0)
        return due and trainer.is_global_zero and not trainer.sanity_checking and trainer.state.fn == "fit"

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the predictions of this batch."""
        if self._due(trainer) and tensorboard_of(trainer) is not None:
            self._outputs.append({name: value.detach().cpu() for name, value in outputs.items()})

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plot."""
        outputs, self._outputs = self._outputs, []
        logger = tensorboard_of(trainer)
        if not outputs or logger is None:
            return
        joined = {name: torch.cat([batch[name] for batch in outputs]) for name in outputs[0]}
        target, prediction = joined["popularity"].float().numpy(), joined["prediction"].float().numpy()
        plotted = {
            "predicted against true": plots.predicted_against_true(target, prediction),
            "residuals": plots.residuals(target, prediction),
            "popularity": plots.popularity_histogram(target, prediction),
        }
        head = pl_module.head
        if isinstance(head, HistogramHead):
            probabilities = head.probabilities(joined["raw"]).float().numpy()
            plotted["calibration"] = plots.calibration(target, probabilities, head.edges.float().cpu().numpy())
        for name, figure in plotted.items():
            logger.experiment.add_figure(f"validation/{name}", figure, trainer.current_epoch, close=False)
