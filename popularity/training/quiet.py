"""Leaves out what Lightning says about things that are done here on purpose."""

from __future__ import annotations

import logging
import warnings

_MESSAGES = (
    "LightningCLI's args parameter",  # the front door passes on what stands on the command line
    r".*does not have many workers",  # batches are slices of tensors in memory
    r"The number of training batches",  # small data sets have few batches
    r"Total length of `list` across ranks is zero",  # data.validation 0: there is nothing to validate
    r"Checkpoint directory .* exists and is not empty",
    r"Be aware that when using `ckpt_path`, callbacks",  # scoring a checkpoint needs no callbacks
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # between Lightning and torch
    r"(?s).*(was deprecated in v4|JsonargparseDeprecationWarning)",  # lightning 2.6 calls jsonargparse 4 as it was
    r"`PopularityModule.configure_optimizers` will be overridden",  # --optimizer asks for it
)

#: Beginnings of lines of the log.
_NOISE = (
    "Tip:",
    "💡 Tip:",
    "TPU available",
    "GPU available",
    "Loading `train_dataloader` to estimate",
    "Restoring states from the checkpoint path",
    "Restored all states from the checkpoint",
    "Loaded model weights from the checkpoint",
    "Found current_model_state in the checkpoint",
    "`Trainer.fit` stopped: `max_epochs=",
)


def quiet_lightning() -> None:
    """Filter these messages, and nothing else; call it inside ``warnings.catch_warnings``."""
    for message in _MESSAGES:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    if _is_wanted not in logger.filters:
        logger.addFilter(_is_wanted)


def _is_wanted(record: logging.LogRecord) -> bool:
    """Neither an advertisement nor what the lines of `popularity.training.scores` say better."""
    message = record.getMessage()
    return not message.startswith(_NOISE)
