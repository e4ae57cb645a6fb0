"""One trial: a fit for each fold, on songs that are not test songs."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna_integration import PyTorchLightningPruningCallback

from popularity.data.songs import SongTable, load_songs
from popularity.data.splits import Split, SplitKind, make_split
from popularity.errors import InputError
from popularity.tuning.boosting import fit_lightgbm
from popularity.tuning.fits import trial_fit
from popularity.tuning.interrupts import Interrupts
from popularity.tuning.options import COSTS, Search
from popularity.tuning.study import NOTE, STOPPED


def search_songs(search: Search) -> tuple[SongTable, list[Split]]:
    """The song table, loaded once, and for each fold of a trial a split without test songs.

    Raises:
        InputError: a file that cannot be read, or too few songs for so many folds.
    """
    data, folds = search.config["data"], search.options.folds
    cache = Path(data["cache_dir"]) if data["cache_dir"] else None
    table = load_songs(data["source"], cache_dir=cache, deduplicate=data["deduplicate"])
    kind, seed = data["split"], data["split_seed"]
    split = make_split(
        table.songs, kind, folds=data["folds"], fold=data["fold"], seed=seed, validation=data["validation"]
    )
    return table, [search_split(table.songs, split, kind, folds, fold, seed) for fold in range(folds)]


def search_split(songs: pd.DataFrame, split: Split, kind: SplitKind, folds: int, fold: int, seed: int) -> Split:
    """The split that a trial sees.

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
        InputError: too few songs, or groups of them, for so many folds.
    """
    nothing = np.empty(0, dtype=np.int64)
    if folds == 1:
        return dataclasses.replace(split, test=nothing)
    rows = np.union1d(split.train, split.validation)
    parts = folds + 1 if kind == "time" else folds  # the oldest part has nothing before it to train on
    known = songs.iloc[rows].reset_index(drop=True)
    try:
        inner = make_split(known, kind, folds=parts, fold=fold, seed=seed, validation=0)
    except InputError as error:
        raise InputError(f"--folds {folds} of the {len(rows):,} songs that are not test songs: {error}") from error
    return Split(train=rows[inner.train], validation=rows[inner.test], test=nothing)


class BestEpoch(Callback):
    """Keeps the metrics of the epoch whose checkpoint ``fit`` would keep.

    Args:
        monitor: metric of the checkpoint.
        mode: ``min`` or ``max``.
        wanted: logged metrics that the search needs.
    """

    def __init__(self, monitor: str, mode: str, wanted: list[str]) -> None:
        self.monitor, self.sign, self.wanted = monitor, 1 if mode == "min" else -1, wanted
        self.metrics: dict[str, float] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare this epoch with the best so far."""
        if trainer.sanity_checking:
            return
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        if missing := [name for name in (*self.wanted, self.monitor) if name not in metrics]:
            raise InputError(f"--objective: expected one of {', '.join(sorted(metrics))}, got {missing[0]}")
        if not self.metrics or self.sign * metrics[self.monitor] < self.sign * self.metrics[self.monitor]:
            self.metrics = metrics


@dataclass(frozen=True)
class RunTrial:
    """Optuna's objective function.

    Args:
        search: the search.
        table: all songs.
        splits: one for each fold.
        interrupts: of this process.
    """

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
        except optuna.exceptions.UpdateFinishedTrialError:  # taken for lost: nothing can be noted any more
            raise
        except Exception as error:
            trial.set_user_attr(NOTE, str(error) or type(error).__name__)
            raise

    def metrics(self, trial: optuna.Trial) -> dict[str, float]:
        """The mean metrics over the folds, with ``seconds`` of training (their sum) and ``parameters`` of the model."""
        found: list[dict[str, float]] = []
        seconds = 0.0
        for fold, split in enumerate(self.splits):
            began = time.perf_counter()
            try:
                found.append(self._fit(trial, split, fold))
            finally:
                seconds += time.perf_counter() - began
                trial.set_user_attr("seconds", seconds)  # also of a trial that is pruned
            if self.search.pruner == "wilcoxon":
                trial.report(found[-1][self.search.objectives[0]], step=fold)
                if fold + 1 < len(self.splits) and trial.should_prune():
                    raise optuna.TrialPruned(f"pruned after fold {fold}")
        return {**{name: statistics.fmean(one[name] for one in found) for name in found[0]}, "seconds": seconds}

    def _fit(self, trial: optuna.Trial, split: Split, fold: int) -> dict[str, float]:
        search = self.search
        wanted = [name for name in search.objectives if name not in COSTS]
        if search.lightgbm:
            metrics = fit_lightgbm(search, trial.params, self.table.songs, split)
            if missing := [name for name in wanted if name not in metrics]:
                raise InputError(f"--objective: expected one of {', '.join(metrics)}, got {missing[0]}")
            return metrics
        checkpoint: dict[str, Any] = search.config["checkpoint"]
        best = BestEpoch(checkpoint["monitor"] or "val/mse", checkpoint["mode"], wanted)
        callbacks: list[Callback] = [best]  # before the callback that may end the trial
        if search.pruner in ("median", "hyperband") and fold == 0:
            callbacks.append(PyTorchLightningPruningCallback(trial, monitor=search.objectives[0]))
        fit = trial_fit(search, trial.params, self.table, split, callbacks)
        fit.run()
        return {**best.metrics, "parameters": sum(weight.numel() for weight in fit.module.parameters())}
