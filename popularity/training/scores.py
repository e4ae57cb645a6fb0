"""The table that a fit ends with."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from popularity.training.baselines import baseline_predictions
from popularity.training.datamodule import PopularityDataModule
from popularity.training.module import regression_metrics


def print_scores(datamodule: PopularityDataModule, model: str, scores: dict[str, float]) -> None:
    """Print the model's test scores beside those of baselines fitted to the same training songs.

    Args:
        datamodule: set up.
        model: its name in the table.
        scores: ``test/mse`` and the others of ``regression_metrics``.
    """
    train = datamodule.songs("train")
    test = datamodule.songs("test")
    rows = {}
    for name, prediction in baseline_predictions(train, test).items():
        metrics = regression_metrics("test", sync=False)  # the first process alone is here
        with warnings.catch_warnings():
            # the constant baseline has no correlation: not a number is what the table shows
            warnings.simplefilter("ignore")
            metrics.update(torch.from_numpy(prediction), torch.from_numpy(test["popularity"].to_numpy(copy=True)))
            rows[name] = {key: value.item() for key, value in metrics.compute().items()}
    rows[model] = scores
    h = datamodule.hparams
    held_out = f"split {h['split']}, fold {h['fold']} of {h['folds']}"
    table = Table(title=f"{len(test):,} test songs of {Path(h['source']).name}, {held_out}")
    table.add_column("model")
    for name in ("MSE", "RMSE", "MAE", "R2", "Spearman", "Pearson"):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        digits = {"mse": 2, "rmse": 2, "mae": 2, "r2": 3, "spearman": 3, "pearson": 3}
        table.add_row(name, *(f"{row[f'test/{key}']:.{places}f}" for key, places in digits.items()))
    Console().print(table)
