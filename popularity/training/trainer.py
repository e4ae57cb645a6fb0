"""The Trainer of a fit and of scoring: which callbacks and loggers it has, and which settings do not go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import Logger

from popularity.errors import InputError, one_line
from popularity.io import check_folder
from popularity.remote import address_of
from popularity.training.callbacks import EMA, BestSoFar, FiniteLoss, LongLived, ProgressBar, RandomState
from popularity.training.checkpoints import CheckpointFiles, LastCheckpoint
from popularity.training.loggers import MetricsCSV, MetricsFirst, run_version
from popularity.training.module import METRICS
from popularity.training.tensorboard import CurvesLogger, HyperParameters, Plots, flat

#: Callbacks that are part of every fit and have flags of their own.
CALLBACKS: dict[str, type[Callback]] = {
    "checkpoint": ModelCheckpoint,
    "early_stopping": EarlyStopping,
    "ema": EMA,
    "plots": Plots,
}
#: Where neither a config nor a choice says how many.
EPOCHS = 30
TRAINER_DEFAULTS: dict[str, Any] = {
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "enable_model_summary": False,  # the lines that a fit begins with say what matters
    "use_distributed_sampler": False,  # our batches share themselves out over processes, without padding
}


def make_trainer(
    config: Namespace,
    built: Namespace,
    *,
    checkpoint: str | None = None,
    callbacks: Sequence[Callback] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Trainer:
    """The Trainer of a fit, with its loggers and callbacks.

    Args:
        config: of the fit.
        built: objects of the config.
        checkpoint: path of the checkpoint that the fit goes on from.
        callbacks: further callbacks.
        overrides: arguments of the Trainer that override the config.

    Raises:
        InputError: what Lightning says of arguments that do not go together.
    """
    check_monitors(config)
    settings = {**built.trainer.as_dict(), **(overrides or {})}
    fast = bool(settings["fast_dev_run"])
    if settings["max_epochs"] is None and settings["max_steps"] == -1:
        settings["max_epochs"] = EPOCHS
    if settings["default_root_dir"] is None:
        # without a logger a run must not write into the current folder
        settings["default_root_dir"] = str(Path(config.log_dir) / config.name)
    if settings["logger"] in (None, True) and not fast:
        settings["logger"] = _loggers(config, checkpoint)
    if fast:
        settings["enable_checkpointing"] = False  # Lightning would leave a checkpoint behind
    best = BestSoFar()
    chosen = [*_own_callbacks(config, built, settings), FiniteLoss(), RandomState(), LongLived(), best]
    if settings["logger"]:
        hparams = {**flat(built.model.hparams), **flat(built.data.hparams, "data.")}
        chosen += [HyperParameters(hparams), LearningRateMonitor(logging_interval="step"), MetricsFirst()]
    if settings["enable_progress_bar"] is not False:
        chosen.append(ProgressBar(best))
    settings["callbacks"] = [*(settings["callbacks"] or []), *chosen, *callbacks]
    trainer = trainer_of(settings)
    for logger in trainer.loggers:
        _ = logger.version  # a new run takes its number here: nothing is refused any more, and no process started yet
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # not one that the user chose, or the strategy needs
        trainer.strategy.checkpoint_io = CheckpointFiles()
    return trainer


def scoring_trainer(built: Namespace, verb: str) -> Trainer:
    """The Trainer of ``validate``, ``test`` and ``predict``: it logs and saves nothing of its own.

    Args:
        built: objects of the config.
        verb: which of the three.

    Raises:
        InputError: what Lightning says of arguments that do not go together.
    """
    settings = dict(built.trainer.as_dict())
    if verb == "predict" and settings["devices"] == "auto":
        settings["devices"] = 1  # one file, written in the order of the songs
    if settings["logger"] in (None, True):
        settings["logger"] = False
    settings["enable_checkpointing"] = False
    settings["max_epochs"] = 1  # of training, which it does not do: without a number Lightning warns
    bar: list[Callback] = [] if settings["enable_progress_bar"] is False else [ProgressBar()]
    settings["callbacks"] = [*(settings["callbacks"] or []), *bar]
    return trainer_of(settings)


def trainer_of(settings: Mapping[str, Any]) -> Trainer:
    """A Trainer, or one line about arguments that do not go together."""
    try:
        return Trainer(**settings)
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise InputError(f"--trainer: {one_line(str(error))}") from error


def check_monitors(config: Namespace) -> None:
    """Refuse a metric that nobody logs, logging every 0 steps or where it cannot be, several checkpoints of one name.

    Raises:
        InputError: the flag, what was expected and what was given.
    """
    if config.trainer.log_every_n_steps is not None and config.trainer.log_every_n_steps < 1:
        raise InputError(
            f"--trainer.log_every_n_steps: expected at least 1, got {config.trainer.log_every_n_steps}; "
            "to log nothing give --trainer.logger false"
        )
    given = config.trainer.logger
    for logger in given if isinstance(given, list) else [given]:
        if isinstance(logger, Namespace) and logger.class_path.endswith("CSVLogger"):
            address = address_of(logger.get("init_args.save_dir") or "") or ""
            if address and not address.startswith("s3"):
                raise InputError(
                    f"--trainer.logger.save_dir: expected a folder of this machine or s3://..., got {address}: "
                    "CSVLogger appends to metrics.csv, and there all but the last rows would be lost"
                )
    known = [f"val/{name}" for name in METRICS]
    for key in ("checkpoint", "early_stopping"):
        monitor = config[key].monitor
        if monitor is not None and monitor not in known:
            raise InputError(f"--{key}.monitor: expected one of {', '.join(known)}, got {monitor}")
    if config.checkpoint.save_top_k not in (0, 1) and "{" not in (config.checkpoint.filename or "{epoch}"):
        raise InputError(
            "--checkpoint.save_top_k: several checkpoints of one name replace each other; "
            "add --checkpoint.filename 'best-{epoch}'"
        )


def check_runs(config: Namespace) -> Path:
    """The folder of the runs of one name.

    Raises:
        InputError: it lies outside ``log_dir``, or is not writable.
    """
    runs: Path = Path(config.log_dir) / config.name
    if ".." in Path(config.name).parts or Path(config.name).is_absolute():
        raise InputError(f"--name: expected the name of a folder in --log_dir, got {config.name}")
    check_folder(runs)
    return runs


def _own_callbacks(config: Namespace, built: Namespace, settings: Mapping[str, Any]) -> list[Callback]:
    """The callbacks with flags of their own, as far as this fit has a use for them."""
    keys = list(CALLBACKS)
    best: ModelCheckpoint = built.checkpoint
    if config.data.validation == 0 or config.data.folds == 0 or settings["limit_val_batches"] == 0:
        # nothing to monitor: the last epoch is the model, and nothing stops early
        keys.remove("early_stopping")
        best.monitor = None
    if settings["enable_checkpointing"] is False:
        return [built[key] for key in keys if key != "checkpoint"]
    every = config.checkpoint.every_n_epochs
    # before `ema`, which puts the average in place of the weights when training ends
    return [LastCheckpoint(best, 1 if every is None else every), *(built[key] for key in keys)]


def _loggers(config: Namespace, checkpoint: str | None) -> list[Logger]:
    """TensorBoard and CSV in one folder: a new version, or that of the checkpoint that the fit goes on from."""
    runs = check_runs(config)
    version = run_version(Path(checkpoint), runs) if checkpoint else None
    tensorboard = CurvesLogger(config.log_dir, config.name, version)
    return [tensorboard, MetricsCSV(tensorboard)]
