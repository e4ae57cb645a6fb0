"""Pictures of hit prediction: ROC and precision-recall curves, means over folds, and reliability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from popularity.plots.comparison import unit_square

_GRID = np.linspace(0, 1, 101)
_Line = tuple[np.ndarray, np.ndarray]


def hit_curves(hits: pd.DataFrame, scores: pd.DataFrame, styles: Mapping[str, Any]) -> tuple[Figure, Figure, Figure]:
    """Plot ROC curves, precision-recall curves and reliability at one cut-off.

    Args:
        hits: ``model, repeat, fold, hit, probability`` of each test song.
        scores: ``auroc, average_precision`` by model, for the legends.
        styles: Line style of each model that is shown.
    """
    of_model = {model: hits[hits["model"] == model] for model in styles}
    curves, rate = {model: _mean_curves(part) for model, part in of_model.items()}, float(hits["hit"].mean())

    def square(place: int, metric: str, guess: tuple[float, float], xlabel: str, ylabel: str) -> Figure:
        labels = {model: f"{model} {scores.loc[model, metric]:.3f}" for model in styles}
        labelled = {model: {**style, "label": labels[model]} for model, style in styles.items()}
        lines = {model: curve[place] for model, curve in curves.items()}
        return unit_square(lines, (f"guessing {np.mean(guess):.3f}", (0, 1), guess), xlabel, ylabel, labelled)

    roc = square(0, "auroc", (0, 1), "share of the others called hits", "share of the hits found")
    names = ("share of the hits found (recall)", "hits among the called (precision)")
    tenths = {
        model: calibration_curve(part["hit"], part["probability"], n_bins=10, strategy="quantile")[::-1]
        for model, part in of_model.items()
    }
    diagonal = ("calibrated", (0, 1), (0, 1))
    reliability = unit_square(tenths, diagonal, "probability given", "share that were hits", styles)
    return roc, square(1, "average_precision", (rate, rate), *names), reliability


def _mean_curves(hits: pd.DataFrame) -> tuple[_Line, _Line]:
    """ROC curve and precision-recall curve of a model, x and y each: means over folds at equal x."""
    rising, precise = [], []
    for _, part in hits.groupby(["repeat", "fold"]):
        if part["hit"].nunique() == 2:
            false, true, _ = roc_curve(part["hit"], part["probability"])
            rising.append(np.interp(_GRID, false, true))
            precision, recall, _ = precision_recall_curve(part["hit"], part["probability"])
            # a step: precision at recall r is that of the first threshold that reaches r (Davis & Goadrich, 2006)
            precise.append(precision[::-1][np.searchsorted(recall[::-1], _GRID, side="left")])
    return (_GRID, np.mean(rising, axis=0)), (_GRID[1:], np.mean(precise, axis=0)[1:])
