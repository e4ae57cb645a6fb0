"""Callbacks: averaged weights, random state, the record of a run, progress."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar, WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from popularity.errors import InputError
from popularity.io import write_atomically
from popularity.remote import address_of


class MovingAverage(AveragedModel):
    """The copy of a module that `EMA` keeps.

    PyTorch's own update walks through all modules to find the parameters, at each step, which costs a small network a
    tenth of its time. Here they are found once.

    Args:
        module: to average.
        decay: as of `EMA`.
    """

    def __init__(self, module: LightningModule, decay: float) -> None:
        super().__init__(module, device=module.device, use_buffers=False)
        self._decay = decay
        self._pairs: tuple[nn.Module, list[Tensor], list[Tensor]] | None = None

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move towards the parameters of the model; the first time, copy them."""
        if self._pairs is None or self._pairs[0] is not model:
            self._pairs = model, [*self.parameters()], [*model.parameters()]
        _, averaged, current = self._pairs
        steps = int(self.n_averaged)
        kept = min(self._decay, (1 + steps) / (10 + steps)) if steps else 0.0
        # a parameter may have changed its type or its place since
        same = [now.to(average.device, average.dtype) for average, now in zip(averaged, current, strict=True)]
        torch._foreach_lerp_(averaged, same, 1.0 - kept)
        self.n_averaged += 1


class EMA(WeightAveraging):
    """Exponential moving average of the weights, which validation, testing and checkpoints use.

    The decay of step ``t`` is at most ``(1 + t) / (10 + t)``, so that the average forgets its random start quickly,
    which short runs need (the warm-up of TensorFlow's ``ExponentialMovingAverage``).

    Args:
        decay: share of the old average kept at each step; 0 turns averaging off.

    Raises:
        InputError: ``decay`` is out of range.
    """

    def __init__(self, decay: float = 0.995) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"ema.decay: expected at least 0 and below 1, got {decay}")
        super().__init__(use_buffers=False)
        self.decay = decay

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the module."""
        if stage != "fit":
            return
        # private: Lightning's `setup` makes an AveragedModel itself, and no public hook gives it another class
        self._average_model = MovingAverage(pl_module, self.decay)
        # the copy is made before Lightning converts the module: single precision is right for half precision, where
        # small steps of the average would be lost, and too little for double precision
        if "64" in str(trainer.precision):
            self._average_model.double()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Resume the average and the current weights in ``fit``; elsewhere keep the averaged weights just loaded.

        Lightning's own callback would put the current weights back also where a fit is followed by a test.
        """
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


class RandomState(Callback):
    """Keeps the random number generator's state in the checkpoint: a resumed run equals one that never stopped.

    Several processes start from one seed, for equal weights; then each goes on with random numbers of its own, new
    ones each epoch. Otherwise all would drop the same features of their songs.
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


class LongLived(Callback):
    """Spares Python's collector of garbage what was there before training: each step it would look through it again.

    That costs a small network a twentieth of its time.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set aside all objects that there are."""
        gc.freeze()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put them back."""
        gc.unfreeze()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put them back."""
        gc.unfreeze()


class DivergedError(InputError):
    """The loss is not a number any more: every later step would be lost."""


class FiniteLoss(Callback):
    """Ends a fit whose loss is NaN or infinite in one line that names the songs of the batch.

    The loss of a step is looked at after the next one: on a GPU nothing then has to wait for it.
    """

    shown = 20  # songs in the line

    def __init__(self) -> None:
        self._latest: tuple[int, int, Tensor, Tensor | None] | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss of the step before."""
        self._check(trainer)
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            numbers = batch.get("song_number") if isinstance(batch, dict) else None
            self._latest = trainer.current_epoch, trainer.global_step, loss.detach(), numbers

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last loss of the epoch."""
        self._check(trainer)

    on_validation_start = on_train_epoch_end  # which would stop early, with another message

    def _check(self, trainer: Trainer) -> None:
        step, self._latest = self._latest, None
        if step is None or step[2].isfinite().all():
            return
        epoch, number, loss, numbers = step
        raise DivergedError(
            f"epoch {epoch}, step {number}: expected a finite loss, got {float(loss)}; try a lower "
            f"--model.learning_rate, or look at the songs of this batch{_named(trainer, numbers)}"
        )


def _named(trainer: Trainer, numbers: Tensor | None) -> str:
    """The songs of a batch: the rows of the song table, counted from 1, and their ids."""
    if numbers is None:
        return ""
    songs = trainer.datamodule.songs("train").iloc[numbers.cpu().tolist()]  # type: ignore[attr-defined]
    named = [f"{row + 1} ({song})" for row, song in songs["track_id"].items()]
    more = f" and {len(named) - FiniteLoss.shown} more" if len(named) > FiniteLoss.shown else ""
    return f": rows {', '.join(named[: FiniteLoss.shown])}{more}"


class RunRecord(Callback):
    """Writes ``config.yaml`` and ``data.json`` into the folder of a run when training starts.

    Not earlier: a command that is refused must leave the run that it would have resumed as it is.

    Args:
        config: text of the config.
    """

    def __init__(self, config: str) -> None:
        self.config = config

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files."""
        folder = trainer.log_dir  # asked for in every process: the first tells the others
        if folder is None or not trainer.is_global_zero:
            return
        if address_of(folder) is None:
            Path(folder).mkdir(parents=True, exist_ok=True)
        with write_atomically(Path(folder) / "config.yaml") as file:
            file.write(self.config)
        with write_atomically(Path(folder) / "data.json") as file:
            json.dump(trainer.datamodule.record(), file, indent=2)  # type: ignore[attr-defined]
            file.write("\n")


class BestSoFar(Callback):
    """Remembers the best validation MSE and its epoch, and logs it as ``best/val_mse``."""

    metric = "best/val_mse"

    def __init__(self) -> None:
        self.best, self.epoch = float("inf"), -1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare with the best so far."""
        mse = trainer.callback_metrics.get("val/mse")
        if trainer.sanity_checking or mse is None or trainer.state.fn != "fit":
            return
        if float(mse) < self.best:
            self.best, self.epoch = float(mse), trainer.current_epoch
        for logger in trainer.loggers:
            # the step under which Lightning logs the metrics of this validation
            logger.log_metrics({self.metric: self.best}, trainer.global_step - 1)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best value of the checkpoint."""
        self.best, self.epoch = state_dict["best"], state_dict["epoch"]


class ProgressBar(RichProgressBar):
    """Rich's bar, which shows the loss, the last validation MSE, the best one and its epoch.

    Args:
        best: the callback that knows the best one; None outside training.
    """

    def __init__(self, best: BestSoFar | None = None) -> None:
        # on standard error: standard output may be the file of predictions
        super().__init__(refresh_rate=10, console_kwargs={"stderr": True})
        self.best = best

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What stands beside the bar."""
        shown = trainer.progress_bar_metrics
        metrics: dict[str, Any] = {"loss": shown["train/loss"]} if "train/loss" in shown else {}
        if "val/mse" in trainer.callback_metrics:
            metrics["val/mse"] = f"{float(trainer.callback_metrics['val/mse']):.1f}"
        if self.best is not None and self.best.epoch >= 0:
            metrics["best"] = f"{self.best.best:.1f}@{self.best.epoch}"
        return metrics
