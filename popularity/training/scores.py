"""What a fit says before it starts, and the table that it ends with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table
from torch import Tensor

from popularity.training.baselines import baseline_predictions
from popularity.training.datamodule import PopularityDataModule
from popularity.training.module import regression_metrics

#: Column of the table -> metric and decimal places.
_COLUMNS = {
    "MSE": ("mse", 2),
    "RMSE": ("rmse", 2),
    "MAE": ("mae", 2),
    "R2": ("r2", 3),
    "Spearman": ("spearman", 3),
    "Pearson": ("pearson", 3),
}

_CORRELATIONS = ("spearman", "pearson")


@rank_zero_only
def say(*lines: str) -> None:
    """Print lines, in the first of several processes alone."""
    for line in lines:
        print(line)


@rank_zero_only
def describe_data(datamodule: PopularityDataModule) -> None:
    """Print what was read from the file, and how it is split, in the first process.

    Args:
        datamodule: loaded.
    """
    table, split, h = datamodule.table, datamodule.split, datamodule.hparams
    if table is None or split is None:
        return
    for line in table.report.lines() if table.report is not None else []:
        print(line)
    sizes = f"{len(split.train):,} to train on, {len(split.validation):,} to validate, {len(split.test):,} to test"
    if h["folds"] == 0:
        print(f"all {len(split.train):,} songs are trained on: none are held out to validate or test")
        return
    undated = f", {split.undated:,} without a date left out" if split.undated else ""
    print(f"split {h['split']}, fold {h['fold']} of {h['folds']}: {sizes}{undated}")


def describe_model(trainer: Trainer, module: LightningModule) -> None:
    """Print what is trained, and where."""
    if trainer.is_global_zero:
        parameters = sum(parameter.numel() for parameter in module.parameters())
        devices = f" on {trainer.world_size} devices" if trainer.world_size > 1 else ""
        print(f"{type(module.net).__name__}, {parameters:,} parameters, {trainer.strategy.root_device}{devices}")


def print_scores(datamodule: PopularityDataModule, stage: str, metrics: Mapping[str, Tensor]) -> None:
    """Print the model's scores beside those of baselines fitted on the same training songs.

    Args:
        datamodule: loaded.
        stage: ``test``, or ``validate`` for the validation songs.
        metrics: ``test/mse`` and the others of ``regression_metrics``, or ``val/mse`` and so on.
    """
    part, prefix = ("validation", "val") if stage == "validate" else ("test", "test")
    train, scored = datamodule.songs("train"), datamodule.songs(part)
    truth = torch.from_numpy(scored["popularity"].to_numpy(copy=True))
    rows = {}
    for name, prediction in baseline_predictions(train, scored).items():
        own = regression_metrics(prefix, sync=False)  # only the first process is here
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a constant has no correlation: the table shows a dash
            own.update(torch.from_numpy(prediction), truth)
            rows[name] = own.compute()
    rows["Mamba"] = dict(metrics)
    h = datamodule.hparams
    held_out = f"split {h['split']}, fold {h['fold']} of {h['folds']}"
    table = Table(title=f"{len(scored):,} {part} songs of {_source(datamodule)}, {held_out}")
    table.add_column("model")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        constant = not torch.isfinite(row[f"{prefix}/pearson"])  # has no correlation, also where a metric says 0
        cells = {key: f"{float(row[f'{prefix}/{key}']):.{digits}f}" for key, digits in _COLUMNS.values()}
        table.add_row(name, *("-" if constant and key in _CORRELATIONS else cell for key, cell in cells.items()))
    Console().print(table)


def _source(datamodule: PopularityDataModule) -> str:
    return Path(datamodule.hparams["source"]).name
