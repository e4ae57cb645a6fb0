"""Writing checkpoints so that none is ever half written, and the ones from which an interrupted run goes on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import IO, Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from popularity.errors import InputError
from popularity.features.mapped import MAPPED
from popularity.io import is_whole, write_atomically
from popularity.training.datamodule import PopularityDataModule
from popularity.training.module import PopularityModule

#: Names of the checkpoints to go on from: the state after the last epoch, and the one that was the last before it.
LAST, BEFORE_LAST = "last.ckpt", "before_last.ckpt"


class CheckpointFiles(TorchCheckpointIO):
    """Writes a checkpoint beside the old one, reads it back, and only then lets it take the old one's place.

    Lightning's own way goes through the folder for temporary files: between two file systems that is a copy, which a
    full disk or a kill cuts off. Addresses such as ``s3://...`` are left to Lightning.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            InputError: there is no space left, or the disk does not give back what was written.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path, binary=True, durable=True) as file:
            _save(checkpoint, file)
            file.flush()
            if not is_whole(file):
                raise InputError(f"{path}: cannot write: the disk does not give back what was written to it")

    def load_checkpoint(
        self, path: str | Path, map_location: Any = lambda storage, place: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint: tensors and plain values, whatever ``weights_only`` is, since a pickle may hold code.

        The pages of a large one are read when they are needed.
        """
        found: dict[str, Any]
        if os.path.isfile(path) and os.path.getsize(path) > MAPPED:
            found = torch.load(path, map_location, weights_only=True, mmap=True)
        else:
            found = super().load_checkpoint(path, map_location, weights_only=True)
        return found


class LastCheckpoint(Callback):
    """Keeps the state between two epochs, from which an interrupted run goes on, and the state before that.

    It is saved when the next epoch begins: only then has everything of the epoch before been logged, and have all
    learning rates moved. The first one is there before the first step. Put it before callbacks that change the weights
    when training ends, such as `EMA`.

    Args:
        best: saves the best epoch; the other checkpoints go to the same folder.
        every_n_epochs: how often; 0 for never.
    """

    def __init__(self, best: ModelCheckpoint, every_n_epochs: int = 1) -> None:
        self.best, self.every_n_epochs = best, every_n_epochs
        self._saved = -1  # step of the state in the file
        self._whole = False  # the file was written, or read, by this process

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember the state that the run goes on from."""
        self._saved = int(checkpoint["global_step"])
        # the epoch that was about to begin has not begun: Lightning would take it for one that was interrupted
        for progress in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
            if progress["ready"] == progress["completed"] + 1 and progress["started"] == progress["completed"]:
                progress["ready"] = progress["completed"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look whether the run goes on from the file that the next checkpoint replaces."""
        path = Path(str(self.best.dirpath)) / LAST
        self._whole = bool(trainer.ckpt_path) and path.exists() and os.path.samefile(path, str(trainer.ckpt_path))
        if not self._whole:
            self._saved = -1

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state after the epochs so far."""
        self._save(trainer)
        # an epoch begins with its first batch, also where ``max_steps`` lets Lightning expect that it goes on
        trainer.fit_loop.epoch_loop.restarting = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state after the last epoch."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if not self.every_n_epochs or trainer.current_epoch % self.every_n_epochs or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self._saved == trainer.global_step:
            return
        path = f"{self.best.dirpath}/{LAST}"
        if trainer.is_global_zero and self._whole and os.path.exists(path):
            _keep(Path(path))
        trainer.save_checkpoint(path, weights_only=False)
        self._saved, self._whole = trainer.global_step, True


def _keep(path: Path) -> None:
    """Give a checkpoint a second name, so that replacing it under the first does not lose it."""
    kept, spare = path.with_name(BEFORE_LAST), path.with_name(f".{BEFORE_LAST}")
    spare.unlink(missing_ok=True)
    try:
        os.link(path, spare)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, spare)
    os.replace(spare, kept)


def save_checkpoint(path: str | Path, module: PopularityModule, data: PopularityDataModule) -> None:
    """Write what :func:`load_checkpoint` reads, and every verb that scores or predicts; no fit can be resumed from it.

    Raises:
        InputError: the file cannot be written.
    """
    checkpoint: dict[str, Any] = {
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "global_step": 0,
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "datamodule_hyper_parameters": dict(data.hparams),
        type(data).__name__: data.state_dict(),
    }
    module.on_save_checkpoint(checkpoint)
    with write_atomically(path, binary=True) as file:
        _save(checkpoint, file)


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:  # PyTorch's writer hides what stopped it: a signal, or a full disk
        if isinstance(error.__context__, KeyboardInterrupt | OSError):
            raise error.__context__ from None
        raise
