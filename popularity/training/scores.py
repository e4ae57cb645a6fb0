"""What a fit says before it starts, and the table that it ends with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
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


def describe_fit(trainer: Trainer, module: LightningModule, datamodule: PopularityDataModule) -> None:
    """Print what is trained, on what: songs and split; device and network; what was left out.

    Args:
        trainer: of the fit.
        module: to be trained.
        datamodule: loaded.
    """
    if not trainer.is_global_zero or datamodule.table is None:
        return
    h, report, split = datamodule.hparams, datamodule.table.report, datamodule.split
    assert split is not None
    sizes = f"{len(split.train):,} to train on, {len(split.validation):,} to validate, {len(split.test):,} to test"
    print(f"songs:  {_source(datamodule)}, split {h['split']}, fold {h['fold']} of {h['folds']}: {sizes}")
    parameters = sum(parameter.numel() for parameter in module.parameters())
    device = trainer.strategy.root_device
    print(f"model:  {type(module.net).__name__}, {parameters:,} parameters, on {device} (x {trainer.world_size})")
    if report is not None:
        removed = ", ".join(f"{count:,} {rule}" for rule, count in report.duplicates.items() if count)
        undated = f"; {split.undated:,} songs without a date" if split.undated else ""
        print(f"left out: {report.rows - report.songs:,} of {report.rows:,} rows ({removed or 'nothing'}){undated}")


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
            warnings.simplefilter("ignore")  # a constant has no correlation: the table shows nan
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
        table.add_row(name, *(f"{float(row[f'{prefix}/{key}']):.{digits}f}" for key, digits in _COLUMNS.values()))
    Console().print(table)


def _source(datamodule: PopularityDataModule) -> str:
    return Path(datamodule.hparams["source"]).name
