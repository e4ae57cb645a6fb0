"""One trial: a fit for each fold, on songs that are not test songs."""

from __future__ import annotations

import copy
import dataclasses
import math
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ParallelStrategy
from optuna_integration import PyTorchLightningPruningCallback

from popularity.cli import ConfiguredCLI
from popularity.data.songs import SongTable
from popularity.data.splits import Split, make_split
from popularity.errors import InputError
from popularity.training.datamodule import PopularityDataModule
from popularity.tuning.boosting import LightGBM, fit_lightgbm
from popularity.tuning.options import COSTS, Search

#: Loaded songs by source, of this process.
Tables = dict[tuple[Any, ...], SongTable]


class BestEpoch(Callback):
    """Remembers the metrics of the epoch that the checkpoint would keep.

    Args:
        monitor: metric of the checkpoint.
        mode: ``min`` or ``max``.
        wanted: logged metrics that the search needs.
    """

    def __init__(self, monitor: str, mode: str, wanted: list[str]) -> None:
        self.monitor, self.sign, self.wanted = monitor, 1 if mode == "min" else -1, wanted
        self.best = math.inf
        self.metrics: dict[str, float] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare this epoch with the best so far."""
        if trainer.sanity_checking:
            return
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        for name in (*self.wanted, self.monitor):
            if name not in metrics:
                raise InputError(f"--objective: {name} is not logged; logged are {', '.join(sorted(metrics))}")
        if not self.metrics or self.sign * metrics[self.monitor] < self.best:
            self.best = self.sign * metrics[self.monitor]
            self.metrics = metrics


def search_split(songs: pd.DataFrame, split: Split, kind: Any, folds: int, fold: int, seed: int) -> Split:
    """The split that a trial sees: without the test songs.

    Args:
        songs: the whole table.
        split: of the config.
        kind: rule of the split, by which the folds are cut as well.
        folds: 1: the config's own training and validation songs; above: folds of both together.
        fold: which of them.
        seed: of the folds.

    Returns:
        Rows of ``songs``; the test part is empty.

    Raises:
        InputError: too few songs or groups of them for so many folds.
    """
    nothing = np.empty(0, dtype=np.int64)
    if folds == 1:
        return dataclasses.replace(split, test=nothing)
    rows = np.union1d(split.train, split.validation)
    # of K parts in time the oldest has nothing before it to train on
    parts = folds + 1 if kind == "time" else folds
    known = songs.iloc[rows].reset_index(drop=True)
    try:
        inner = make_split(known, kind, folds=parts, fold=fold, seed=seed, validation=0)
    except InputError as error:
        raise InputError(f"--folds {folds} of the {len(rows):,} songs that are not test songs: {error}") from error
    return Split(train=rows[inner.train], validation=rows[inner.test], test=nothing)


def give_songs(datamodule: PopularityDataModule, tables: Tables, folds: int, fold: int) -> None:
    """Set a data module up with songs that are loaded once per process, and without its test songs."""
    h = datamodule.hparams
    key = (h["source"], h["deduplicate"], h["cache_dir"])
    if key in tables:
        datamodule.table = tables[key]
    else:
        datamodule.prepare_data()
    datamodule.setup("fit")
    assert datamodule.table is not None
    assert datamodule.split is not None
    tables[key] = datamodule.table
    datamodule.split = search_split(datamodule.table.songs, datamodule.split, h["split"], folds, fold, h["split_seed"])


def trial_config(search: Search, params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The config of a fit with a trial's settings, which leaves nothing behind but ``config.yaml``."""
    config = with_params(search.config, params)
    config["trainer"] |= {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": str(folder),
    }
    config["figures"] |= {"every_n_epochs": 0}
    return config


def with_params(config: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """A nested config with dotted keys replaced."""
    config = copy.deepcopy(config)
    for key, value in params.items():
        *path, name = key.split(".")
        inner = config
        for part in path:
            inner = inner[part]
        inner[name] = value
    return config


def check_devices(trainer: Trainer) -> None:
    """Refuse to run a trial on several devices."""
    devices = trainer.num_devices * trainer.num_nodes
    if devices > 1 or isinstance(trainer.strategy, ParallelStrategy):
        raise InputError(
            f"tune fits each trial on one device, got {devices} and strategy {type(trainer.strategy).__name__}: every "
            "process of a trial would draw and report trials of its own. Give --trainer.devices 1 --trainer.strategy "
            "auto, and start one tune process per device (CUDA_VISIBLE_DEVICES) on the same --storage"
        )


def run_trial(search: Search, trial: optuna.Trial, folder: Path, tables: Tables) -> dict[str, float]:
    """Fit a trial; its metrics, the mean over folds, with ``seconds`` of training and ``parameters`` of the model.

    Raises:
        optuna.TrialPruned: it is worse than others so far.
        InputError: the objective is not logged.
    """
    folds = search.options.folds
    objective = search.objectives[0].name
    found: list[dict[str, float]] = []
    for fold in range(folds):
        if search.lightgbm is not None:
            found.append(_fit_lightgbm(search, trial, tables, fold))
        else:
            prunes = search.pruner in ("median", "hyperband") and fold == 0
            found.append(_fit_network(search, trial, folder, tables, fold, prunes=prunes))
        trial.set_user_attr("seconds", sum(one["seconds"] for one in found))
        if search.pruner == "wilcoxon":
            trial.report(found[-1][objective], step=fold)
            if fold + 1 < folds and trial.should_prune():
                raise optuna.TrialPruned(f"pruned after fold {fold}")
    metrics = {name: statistics.fmean(one[name] for one in found) for name in found[0]}
    metrics["seconds"] *= folds
    return metrics


def _fit_network(
    search: Search, trial: optuna.Trial, folder: Path, tables: Tables, fold: int, *, prunes: bool
) -> dict[str, float]:
    cli = ConfiguredCLI(
        trial_config(search, trial.params, folder),
        lambda datamodule: give_songs(datamodule, tables, search.options.folds, fold),
    )
    check_devices(cli.trainer)
    checkpoint = search.config["checkpoint"]
    wanted = [one.name for one in search.objectives if one.name not in COSTS]
    best = BestEpoch(checkpoint["monitor"] or "val/mse", checkpoint["mode"], wanted)
    # before the callback that may end the trial
    callbacks: list[Callback] = cli.trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(best)
    if prunes:
        callbacks.append(PyTorchLightningPruningCallback(trial, monitor=search.objectives[0].name))
    began = time.perf_counter()
    try:
        cli.trainer.fit(cli.model, cli.datamodule)
    finally:
        seconds = time.perf_counter() - began
        trial.set_user_attr("seconds", seconds)  # also of a trial that is pruned
    parameters = sum(parameter.numel() for parameter in cli.model.parameters())
    return {**best.metrics, "seconds": seconds, "parameters": parameters}


def _fit_lightgbm(search: Search, trial: optuna.Trial, tables: Tables, fold: int) -> dict[str, float]:
    assert search.lightgbm is not None
    datamodule = PopularityDataModule(**search.config["data"])
    give_songs(datamodule, tables, search.options.folds, fold)
    given = with_params({"lightgbm": search.lightgbm}, trial.params)["lightgbm"]
    seed = search.config["seed_everything"]
    began = time.perf_counter()
    metrics, leaves = fit_lightgbm(
        LightGBM(**given), datamodule.songs("train"), datamodule.songs("validation"), seed if seed > 0 else 0
    )
    unknown = [one.name for one in search.objectives if one.name not in (*metrics, *COSTS)]
    if unknown:
        raise InputError(f"--objective: LightGBM has no {unknown[0]}; it has {', '.join(metrics)}")
    return {**metrics, "seconds": time.perf_counter() - began, "parameters": leaves}
