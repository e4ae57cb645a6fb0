"""One trial: a fit for each fold, of a network or of LightGBM, on songs that are not test songs."""

from __future__ import annotations

import json
import math
import statistics
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import ParallelStrategy
from optuna_integration import PyTorchLightningPruningCallback

from popularity.data.songs import SongTable
from popularity.data.splits import Split, SplitKind, inner_folds
from popularity.errors import InputError, one_line
from popularity.features.tabular import TabularFeatures
from popularity.program import Stop
from popularity.training.callbacks import BestSoFar, DivergedError
from popularity.training.fit import build_fit, read_config
from popularity.training.module import regression_metrics
from popularity.tuning.space import Search
from popularity.tuning.study import NOTE, STOPPED

#: What a trial's Trainer leaves out.
SILENT = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
#: What a space or ``--lightgbm.NAME`` may replace or add to, under LightGBM's own names.
_LIGHTGBM: dict[str, Any] = {"learning_rate": 0.05, "n_estimators": 2000, "num_leaves": 31, "min_child_samples": 20}
_LIGHTGBM |= {"subsample": 0.8, "subsample_freq": 1, "colsample_bytree": 0.8, "reg_alpha": 1e-3, "reg_lambda": 1.0}
_LIGHTGBM |= {"verbosity": -1, "deterministic": True, "force_row_wise": True}  # equal trees on every run


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
    seed = settings["split_seed"]
    return data.table, search_splits(data.table.songs, data.split, settings["split"], search.options.folds, seed)


def search_splits(songs: pd.DataFrame, split: Split, kind: SplitKind, folds: int, seed: int) -> list[Split]:
    """The splits of a trial: ``split`` without its test songs, or folds of all other songs, cut by the same rule."""
    nothing = np.empty(0, dtype=np.int64)
    if folds == 1:
        return [replace(split, test=nothing)]
    rows = np.union1d(split.train, split.validation)
    inner = inner_folds(songs.iloc[rows].reset_index(drop=True), kind, folds, seed)
    if len(inner) < folds:
        raise InputError(f"--folds {folds}: the {len(rows):,} songs that are not test songs are too few")
    return [Split(train=rows[train], validation=rows[held_out], test=nothing) for train, held_out in inner]


class Epochs(Callback):
    """Keeps the metrics of each epoch; ends the fit when told to stop."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_end(self, *_: object) -> None:
        """Look whether to stop."""
        self.stop.check()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep those of this epoch."""
        if not trainer.sanity_checking:
            self.metrics.append({name: value.item() for name, value in trainer.callback_metrics.items()})


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
        except (KeyboardInterrupt, SystemExit) as stopped:  # Lightning turns Ctrl-C into an exit
            trial.set_user_attr(STOPPED, True)
            raise KeyboardInterrupt from stopped
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
        search, name = self.search, f"trial_{trial.number:04d}" + (f"_fold_{fold}" if len(self.splits) > 1 else "")
        logger = TensorBoardLogger(search.folder, name, version="", default_hp_metric=False)
        if search.lightgbm:
            if fold not in self.rows:  # the same for all trials
                self.rows[fold] = features(search, self.table.songs, split)
            metrics = fit_lightgbm(search, trial.params, self.rows[fold])
            logger.log_hyperparams(trial.params, {BestSoFar.metric: metrics["val/mse"]})
            logger.finalize("success")
            return metrics
        config = trial_config(search, {**trial.params, "plots.every_n_epochs": 0})
        epochs = Epochs(self.stop)
        callbacks: list[Callback] = [epochs]  # before the callback that may end the trial
        if search.pruner in ("median", "hyperband") and fold == 0:
            callbacks.append(PyTorchLightningPruningCallback(trial, monitor=search.objectives[0]))
        settings = {**SILENT, "logger": logger}
        fit = build_fit(config, table=self.table, split=split, callbacks=callbacks, trainer=settings)
        began = time.perf_counter()
        fit.run()
        costs = {"seconds": time.perf_counter() - began}
        costs["parameters"] = sum(weight.numel() for weight in fit.module.parameters())
        sign, monitor = 1 if config.checkpoint.mode == "min" else -1, config.checkpoint.monitor or "val/mse"
        return {**min(epochs.metrics, key=lambda epoch: sign * epoch[monitor]), **costs}  # fit would keep this epoch


def lightgbm_settings(search: Search, params: dict[str, Any]) -> dict[str, Any]:
    """The settings of LightGBM for a trial's parameters; InputError for one that it does not have."""
    try:
        from lightgbm import LGBMRegressor
    except ImportError as error:
        raise InputError("the package lightgbm is missing, install this project's extra [baselines]") from error
    given = {**search.options.lightgbm, **{key.removeprefix("lightgbm."): params[key] for key in params}}
    if unknown := sorted(set(given) - set(LGBMRegressor().get_params())):
        raise InputError(f"lightgbm.{unknown[0]}: LightGBM has no such setting")
    return {**_LIGHTGBM, **given}


def features(search: Search, songs: pd.DataFrame, split: Split) -> list[tuple[pd.DataFrame, np.ndarray]]:
    """Tabular features and popularity: of a split's training songs, out of fold, and of its validation songs."""
    tabular = TabularFeatures("everything", split=search.config["data"]["split"], seed=search.seed)
    parts = songs.iloc[split.train], songs.iloc[split.validation]
    rows = tabular.fit_transform(parts[0]), tabular.transform(parts[1])
    return [(one, part["popularity"].to_numpy(np.float64)) for one, part in zip(rows, parts, strict=True)]


def fit_lightgbm(search: Search, params: dict[str, Any], songs: list[tuple[Any, np.ndarray]]) -> dict[str, float]:
    """Fit LightGBM to :func:`features`; ``val/*`` metrics of its best round, ``seconds``, leaves as ``parameters``."""
    import lightgbm

    began = time.perf_counter()
    settings = {**lightgbm_settings(search, params), "random_state": search.seed, "n_jobs": torch.get_num_threads()}
    stop = lightgbm.early_stopping(50, verbose=False)  # trees without a better validation MSE
    (rows, popularity), (asked, truth) = songs
    try:
        model = lightgbm.LGBMRegressor(**settings).fit(rows, popularity, eval_X=asked, eval_y=truth, callbacks=[stop])
    except lightgbm.basic.LightGBMError as error:
        raise InputError(f"lightgbm: {error}") from error
    predicted = torch.from_numpy(np.asarray(model.predict(asked))).clamp(0, 100)
    scores = regression_metrics("val")(predicted, torch.tensor(truth))
    trees = model.booster_.dump_model(num_iteration=model.best_iteration_)["tree_info"]
    costs = {"seconds": time.perf_counter() - began, "parameters": sum(tree["num_leaves"] for tree in trees)}
    return {**{name: float(score) for name, score in scores.items()}, **costs}
