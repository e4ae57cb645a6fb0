"""One trial: a fit for each fold, on songs that are not test songs."""

from __future__ import annotations

import json
import math
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna_integration import PyTorchLightningPruningCallback

from popularity.data.songs import SongTable
from popularity.data.splits import Split, SplitKind, inner_folds
from popularity.errors import InputError
from popularity.training.fit import build_fit, read_config
from popularity.tuning.boosting import fit_lightgbm
from popularity.tuning.space import Search
from popularity.tuning.study import NOTE, STOPPED, Interrupts

#: What a trial's Trainer leaves out.
SILENT = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}


def trial_config(search: Search, params: dict[str, Any]) -> Namespace:
    """The config of a fit with a trial's parameters."""
    return read_config([json.dumps(search.config)], params)


def search_songs(search: Search) -> tuple[SongTable, list[Split]]:
    """The song table, loaded once, and for each fold of a trial a split without test songs.

    Raises:
        InputError: a file that cannot be read, or too few songs for so many folds.
    """
    data = build_fit(trial_config(search, {}), trainer=SILENT).datamodule
    data.load()
    if data.table is None or data.split is None:
        raise RuntimeError("the data module has loaded nothing")
    settings = search.config["data"]
    folds = search.options.folds, settings["split_seed"]
    return data.table, search_splits(data.table.songs, data.split, settings["split"], *folds)


def search_splits(songs: pd.DataFrame, split: Split, kind: SplitKind, folds: int, seed: int) -> list[Split]:
    """The splits of a trial: ``split`` without its test songs, or folds of all other songs, cut by the same rule.

    Raises:
        InputError: too few songs, or groups of them, for so many folds.
    """
    nothing = np.empty(0, dtype=np.int64)
    if folds == 1:
        return [replace(split, test=nothing)]
    rows = np.union1d(split.train, split.validation)
    inner = inner_folds(songs.iloc[rows].reset_index(drop=True), kind, folds, seed)
    if len(inner) < folds:
        raise InputError(f"--folds {folds}: the {len(rows):,} songs that are not test songs are too few")
    return [Split(train=rows[train], validation=rows[held_out], test=nothing) for train, held_out in inner]


class BestEpoch(Callback):
    """Keeps the metrics of the epoch whose checkpoint ``fit`` would keep, given the checkpoint's monitor and mode."""

    def __init__(self, monitor: str, mode: str) -> None:
        self.monitor, self.sign = monitor, 1 if mode == "min" else -1
        self.metrics: dict[str, float] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare this epoch with the best so far."""
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        best = self.metrics.get(self.monitor, self.sign * math.inf)
        if not trainer.sanity_checking and (not self.metrics or self.sign * metrics[self.monitor] < self.sign * best):
            self.metrics = metrics


@dataclass(frozen=True)
class RunTrial:
    """Optuna's objective function: fits a trial on each split of the song table."""

    search: Search
    table: SongTable
    splits: list[Split]
    interrupts: Interrupts

    def __call__(self, trial: optuna.Trial) -> list[float]:
        """Fit a trial; its objectives. What ends it early is noted in the trial.

        Raises:
            optuna.TrialPruned: it is worse than others, it diverged, or it needs more memory than there is.
            KeyboardInterrupt: this process was told to stop.
        """
        try:
            with self.interrupts.allowed():
                metrics = self.metrics(trial)
            trial.set_user_attr("metrics", {name: value for name, value in metrics.items() if math.isfinite(value)})
            values = [metrics[name] for name in self.search.objectives]
            if not all(math.isfinite(value) for value in values):
                raise optuna.TrialPruned("diverged")
            return values
        except (KeyboardInterrupt, SystemExit) as stopped:  # Lightning turns Ctrl-C into an exit
            trial.set_user_attr(STOPPED, True)
            raise KeyboardInterrupt from stopped
        except torch.OutOfMemoryError as error:
            trial.set_user_attr(NOTE, "out of memory")
            raise optuna.TrialPruned from error
        except Exception as error:
            trial.set_user_attr(NOTE, str(error) or type(error).__name__)
            raise

    def metrics(self, trial: optuna.Trial) -> dict[str, float]:
        """The mean metrics over the folds, with ``seconds`` of training (their sum) and ``parameters`` of the model."""
        found: list[dict[str, float]] = []
        began, search = time.perf_counter(), self.search
        for fold, split in enumerate(self.splits):
            try:
                found.append(self._fit(trial, split, fold))
            finally:
                trial.set_user_attr("seconds", time.perf_counter() - began)  # also of a trial that is pruned
            if search.pruner == "wilcoxon":
                trial.report(found[-1][search.objectives[0]], step=fold)
                if fold + 1 < len(self.splits) and trial.should_prune():
                    raise optuna.TrialPruned(f"pruned after fold {fold}")
        means = {name: statistics.fmean(one[name] for one in found) for name in found[0]}
        return {**means, "seconds": time.perf_counter() - began}

    def _fit(self, trial: optuna.Trial, split: Split, fold: int) -> dict[str, float]:
        search = self.search
        if search.lightgbm:
            return fit_lightgbm(search, trial.params, self.table.songs, split)
        config = trial_config(search, trial.params)
        best = BestEpoch(config.checkpoint.monitor or "val/mse", config.checkpoint.mode)
        callbacks: list[Callback] = [best]  # before the callback that may end the trial
        if search.pruner in ("median", "hyperband") and fold == 0:
            callbacks.append(PyTorchLightningPruningCallback(trial, monitor=search.objectives[0]))
        fit = build_fit(config, table=self.table, split=split, callbacks=callbacks, trainer=SILENT)
        fit.run()
        return {**best.metrics, "parameters": sum(weight.numel() for weight in fit.module.parameters())}
