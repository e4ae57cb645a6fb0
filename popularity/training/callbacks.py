"""Callbacks: averaged weights, checkpoints, progress, random state, the data's record, hyper-parameters and figures."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.tensorboard.summary import hparams as hparams_summary

from popularity.errors import InputError
from popularity.io import write_atomically
from popularity.models.heads import HistogramHead
from popularity.training.loggers import AppendingCSVLogger
from popularity.training.module import PopularityModule


class EMA(WeightAveraging):
    """Exponential moving average of the weights, which validation, testing and checkpoints use.

    Lightning's own callback but for three things: the average forgets its random start quickly (its decay rises as
    ``(1 + t) / (10 + t)``), which short runs need; the encoder is fitted before the module is copied; and a step
    updates all weights in one call, where Lightning's goes tensor by tensor at a tenth of the cost of training.

    Args:
        decay: share of the old average kept at each step; 0 turns averaging off.
    """

    def __init__(self, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"ema.decay must be at least 0 and below 1, got {decay}")
        super().__init__(use_buffers=False)
        self.decay = decay
        self._pairs: list[tuple[torch.nn.Parameter, torch.nn.Parameter]] = []

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the average towards the weights after each optimiser step; the first step sets it to them."""
        if trainer.global_step == self._latest_update_step or self._average_model is None:
            return
        self._latest_update_step = trainer.global_step
        steps = int(self._average_model.n_averaged)
        if not self._pairs:  # to walk through all modules costs more than the average
            self._pairs = list(zip(self._average_model.module.parameters(), pl_module.parameters(), strict=True))
        averaged: list[Tensor] = [average for average, _ in self._pairs]
        current = [now.to(average.device, average.dtype) for average, now in self._pairs]
        decay = min(self.decay, (1 + steps) / (10 + steps)) if steps else 0.0
        torch._foreach_lerp_(averaged, current, 1.0 - decay)
        self._average_model.n_averaged += 1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fit the encoder, then copy the module."""
        pl_module.setup(stage)
        super().setup(trainer, pl_module, stage)
        self._pairs = []
        # the copy is made before Lightning converts the module: single precision is right for half precision, where
        # small steps of the average would be lost, and too little for double precision
        if self._average_model is not None and "64" in str(trainer.precision):
            self._average_model.double()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Resume the average and the current weights in ``fit``; elsewhere keep the averaged weights just loaded.

        Lightning's own callback would put the current weights back also where a fit is followed by a test.
        """
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


class Checkpoints(ModelCheckpoint):
    """Keeps the best and the last epoch, and writes each state once.

    Lightning's own writes ``last.ckpt`` only beside a new best, so that an interrupted run would go on from there, and
    then serialises the same state twice.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last epoch also where it is not the best."""
        super().on_train_epoch_end(trainer, pl_module)
        due = self._every_n_epochs >= 1 and (trainer.current_epoch + 1) % self._every_n_epochs == 0
        if due and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        written = Path(self._last_checkpoint_saved)
        known = self._last_global_step_saved == trainer.global_step
        # a checkpoint may also be a folder, or lie in a bucket: all processes must take the same way
        if not known or not trainer.strategy.broadcast(written.is_file()):
            super()._save_checkpoint(trainer, filepath)
            return
        if trainer.is_global_zero:
            with open(written, "rb") as source, write_atomically(Path(filepath), binary=True) as target:
                shutil.copyfileobj(source, target)
            for logger in trainer.loggers:
                logger.after_save_checkpoint(self)
        self._last_checkpoint_saved = filepath
        trainer.strategy.barrier()


class Progress(RichProgressBar):
    """Rich's bar, moved every tenth batch and at the last: to move it at each would add a per cent to an epoch."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, if it is time to."""
        if (batch_idx + 1) % self.refresh_rate == 0 or batch_idx + 1 == self.total_train_batches:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class RandomState(Callback):
    """Keeps the random number generator's state in the checkpoint: a resumed run equals one that never stopped.

    Several processes start from one seed, for equal weights; then each draws numbers of its own, new ones each epoch,
    or all would drop the same features of their songs.
    """

    def __init__(self) -> None:
        self.seed = torch.initial_seed()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give each of several processes its own numbers."""
        if trainer.world_size > 1:
            torch.manual_seed(self.seed + 1_000_003 * (trainer.current_epoch + 1) + 7919 * trainer.global_rank)

    def state_dict(self) -> dict[str, Any]:
        """State of the CPU generator, and of each CUDA device's."""
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put the generators back where they were."""
        torch.set_rng_state(state_dict["cpu"].cpu())
        if len(state_dict["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in state_dict["cuda"]])


class DataRecord(Callback):
    """Writes ``data.json`` into the run's folder: content hash, source, split and sizes of the data."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file when training starts."""
        folder = trainer.log_dir  # asked for in every process: the first tells the others
        if folder is None or not trainer.is_global_zero or not isinstance(pl_module, PopularityModule):
            return
        path = Path(folder) / "data.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as file:
            json.dump(pl_module.fitted_on, file, indent=2)
            file.write("\n")


class ResumedLog(Callback):
    """Lets the CSV log of a resumed run go on where the checkpoint stands."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop what was logged after the checkpoint."""
        for logger in trainer.loggers:
            if isinstance(logger, AppendingCSVLogger) and trainer.global_step > 0:
                logger.drop_from(trainer.global_step)


def _tensorboard(trainer: Trainer) -> TensorBoardLogger | None:
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


class HyperParameters(Callback):
    """Fills TensorBoard's HPARAMS tab: the hyper-parameters at the start, the best validation MSE as it falls."""

    tag = "best/val_mse"

    def __init__(self) -> None:
        self.best = math.inf

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Declare the run's hyper-parameters."""
        if (logger := _tensorboard(trainer)) is None:
            return
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        of_data = datamodule.hparams if datamodule is not None else {}
        # the model's own come first in the alphabet of the tab
        chosen = {**pl_module.hparams, **{f"data/{name}": value for name, value in of_data.items()}}
        values = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in chosen.items()
            if value is not None and "_instantiator" not in name
        }
        for summary in hparams_summary(values, {self.tag: 0.0}):
            logger.experiment._get_file_writer().add_summary(summary)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the best validation MSE so far."""
        mse = trainer.callback_metrics.get("val/mse")
        if trainer.sanity_checking or mse is None or (logger := _tensorboard(trainer)) is None:
            return
        self.best = min(self.best, float(mse))
        logger.experiment.add_scalar(self.tag, self.best, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best value of the checkpoint."""
        self.best = state_dict["best"]


class Figures(Callback):
    """Draws figures of the validation songs into TensorBoard.

    With several processes the figures show the share of the first.

    Args:
        every_n_epochs: how often; 0 for never.
    """

    def __init__(self, every_n_epochs: int = 10) -> None:
        if every_n_epochs < 0:
            raise InputError(f"figures.every_n_epochs must be at least 0, got {every_n_epochs}")
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
        if self._due(trainer) and _tensorboard(trainer) is not None:
            self._outputs.append({name: value.detach().cpu() for name, value in outputs.items()})

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        outputs, self._outputs = self._outputs, []
        logger = _tensorboard(trainer)
        if not outputs or logger is None:
            return
        from popularity import plots as figures  # matplotlib is needed here alone

        joined = {name: torch.cat([batch[name] for batch in outputs]) for name in outputs[0]}
        target, prediction = joined["popularity"].float().numpy(), joined["prediction"].float().numpy()
        drawn = {
            "predicted against true": figures.predicted_against_true(target, prediction),
            "residuals": figures.residuals(target, prediction),
            "popularity": figures.popularity_histogram(target, prediction),
        }
        head = getattr(pl_module.net, "head", None)
        if isinstance(head, HistogramHead):
            probabilities = head.probabilities(joined["raw"]).float().numpy()
            drawn["calibration"] = figures.calibration(target, probabilities, head.edges.float().cpu().numpy())
        for name, figure in drawn.items():
            logger.experiment.add_figure(f"validation/{name}", figure, trainer.current_epoch, close=False)
