"""One trial: a fit for each fold, of a network or of LightGBM, on songs that are not test songs."""

from __future__ import annotations

import json
import math
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.strategies import ParallelStrategy
from optuna_integration import PyTorchLightningPruningCallback

from popularity.data.songs import SongTable
from popularity.data.splits import Split, inner_splits
from popularity.errors import InputError, one_line
from popularity.features.tabular import TabularFeatures
from popularity.features.trees import SEARCHED, Rows, check_lightgbm, leaves, parted, regressor, stopped_early
from popularity.program import Stop, stopped
from popularity.training.callbacks import BestSoFar, DivergedError
from popularity.training.fit import build_fit, read_config
from popularity.training.module import regression_metrics
from popularity.tuning.space import Search
from popularity.tuning.study import NOTE, STOPPED

#: What a trial's Trainer leaves out.
SILENT = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}


def trial_config(search: Search, params: dict[str, Any]) -> Namespace:
    """The config of a fit with a trial's parameters."""
    return read_config([json.dumps(search.config)], params)


def search_songs(search: Search) -> tuple[SongTable, list[Split]]:
    """The song table, loaded once, and for each fold of a trial a split without test songs."""
    fit = build_fit(trial_config(search, {}), trainer=SILENT)
    trainer, data, settings = fit.trainer, fit.datamodule, search.config["data"]
    if trainer.num_devices * trainer.num_nodes > 1 or isinstance(trainer.strategy, ParallelStrategy):
        # every process of a trial would sample and report trials of its own
        raise InputError("tune fits each trial on one device: start one tune process per device on the same --storage")
    data.load()
    assert data.table is not None
    assert data.split is not None
    kind, seed = settings["split"], settings["split_seed"]
    return data.table, inner_splits(data.table.songs, data.split, kind, search.options.folds, seed)


def boosted(search: Search, params: dict[str, Any]) -> Any:
    """LightGBM's regressor with a trial's parameters; InputError for one that it does not have."""
    check_lightgbm("--space")
    settings = {**search.lightgbm_settings(params), "n_jobs": torch.get_num_threads()}
    return regressor(settings, SEARCHED, search.seed)


@dataclass(frozen=True)
class RunTrial:
    """Optuna's objective function: fits a trial on each split of the song table."""

    search: Search
    table: SongTable
    splits: list[Split]
    stop: Stop
    rows: dict[int, Any] = field(default_factory=dict)  # of LightGBM, by fold

    def __call__(self, trial: optuna.Trial) -> list[float]:
        """Fit a trial; its objectives. What ends it early is noted in the trial."""
        try:
            metrics = self.metrics(trial)
            trial.set_user_attr("metrics", {name: value for name, value in metrics.items() if math.isfinite(value)})
            values = [metrics[name] for name in self.search.objectives]
            if not all(math.isfinite(value) for value in values):
                raise optuna.TrialPruned("diverged")
            return values
        except (KeyboardInterrupt, SystemExit) as end:  # Lightning turns the first into the second
            trial.set_user_attr(STOPPED, True)
            self.stop.check()
            raise stopped(end) from end
        except Exception as error:
            trial.set_user_attr(NOTE, one_line(str(error)) or type(error).__name__)
            if isinstance(error, torch.OutOfMemoryError | DivergedError):
                raise optuna.TrialPruned from error
            raise

    def metrics(self, trial: optuna.Trial) -> dict[str, float]:
        """The mean metrics over the folds, with ``seconds`` of training (their sum) and ``parameters`` of the model."""
        found: list[dict[str, float]] = []
        for fold, split in enumerate(self.splits):
            self.stop.check()
            found.append(self._fit(trial, split, fold))
            if self.search.pruner == "wilcoxon":
                trial.report(found[-1][self.search.objectives[0]], step=fold)
                if fold + 1 < len(self.splits) and trial.should_prune():
                    raise optuna.TrialPruned(f"pruned after fold {fold}")
        means = {name: statistics.fmean(one[name] for one in found) for name in found[0]}
        return {**means, "seconds": means["seconds"] * len(found)}

    def _fit(self, trial: optuna.Trial, split: Split, fold: int) -> dict[str, float]:
        name = f"trial_{trial.number:04d}" + (f"_fold_{fold}" if len(self.splits) > 1 else "")
        logger = TensorBoardLogger(self.search.folder, name, version="", default_hp_metric=False)
        if not self.search.lightgbm:
            return self._fit_network(trial, split, fold, logger)
        if fold not in self.rows:  # the same for all trials
            features = TabularFeatures("everything", split=self.search.config["data"]["split"], seed=self.search.seed)
            self.rows[fold] = parted(features, self.table.songs, split.train, split.validation)
        metrics = self._fit_lightgbm(trial, *self.rows[fold])
        logger.log_hyperparams(trial.params, {BestSoFar.metric: metrics["val/mse"]})
        logger.finalize("success")
        return metrics

    def _fit_network(self, trial: optuna.Trial, split: Split, fold: int, logger: Logger) -> dict[str, float]:
        """Metrics of the epoch that `fit` would keep."""
        config = trial_config(self.search, {**trial.params, "plots.every_n_epochs": 0})
        epochs: list[dict[str, float]] = []

        def keep(trainer: Trainer, module: LightningModule) -> None:
            if not trainer.sanity_checking:
                epochs.append({name: value.item() for name, value in trainer.callback_metrics.items()})

        check = LambdaCallback(on_train_batch_end=lambda *_: self.stop.check(), on_validation_end=keep)
        callbacks: list[Callback] = [check]  # before the callback that may end the trial
        if self.search.pruner in ("median", "hyperband") and fold == 0:
            callbacks.append(PyTorchLightningPruningCallback(trial, monitor=self.search.objectives[0]))
        settings = {**SILENT, "logger": logger}
        fit = build_fit(config, table=self.table, split=split, callbacks=callbacks, trainer=settings)
        began = time.perf_counter()
        fit.run()
        costs = {"seconds": time.perf_counter() - began}
        costs["parameters"] = sum(weight.numel() for weight in fit.module.parameters())
        if not epochs:
            raise InputError("trainer: expected an epoch that is validated, got none")
        sign, monitor = 1 if config.checkpoint.mode == "min" else -1, config.checkpoint.monitor or "val/mse"
        return {**min(epochs, key=lambda epoch: sign * epoch[monitor]), **costs}

    def _fit_lightgbm(self, trial: optuna.Trial, train: Rows, validation: Rows) -> dict[str, float]:
        """Metrics of the best number of trees; their leaves are the parameters."""
        began = time.perf_counter()
        stopped_early(model := boosted(self.search, trial.params), *train, validation)
        predicted = torch.from_numpy(np.clip(model.predict(validation[0]), 0, 100))
        scores = regression_metrics("val")(predicted, torch.tensor(validation[1]))
        costs = {"seconds": time.perf_counter() - began, "parameters": leaves(model)}
        return {**{name: float(score) for name, score in scores.items()}, **costs}
