"""Telling hits from the rest: curves, confusion, cut-offs, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from popularity.evaluation.report.errors import reliability
from popularity.evaluation.report.style import BLACK, GREY, SMALL, WIDTH, Look, figure, finish, legend

#: Measures drawn against the cut-off, where the summary has them.
MEASURES = {"auroc": "AUROC", "average_precision": "average precision", "f1": "F1", "accuracy": "accuracy"}
_GRID = np.linspace(0, 1, 101)


def _points(cutoff: str) -> float | None:
    """The points of popularity of a cut-off, None for a relative one."""
    try:
        return float(cutoff)
    except ValueError:
        return None


def sort_cutoffs(cutoffs: Sequence[str]) -> list[str]:
    """Order cut-offs: numbers by size, then names.

    >>> sort_cutoffs(["top_quarter", "90", "50.0", "median"])
    ['50.0', '90', 'median', 'top_quarter']
    """

    return sorted(set(cutoffs), key=lambda cutoff: (np.inf if (x := _points(cutoff)) is None else x, cutoff))


def cutoff_name(cutoff: str) -> str:
    """Say a cut-off in words.

    >>> cutoff_name("75.0"), cutoff_name("top_quarter")
    ('popularity of at least 75', 'top quarter')
    """
    points = _points(cutoff)
    return cutoff.replace("_", " ") if points is None else f"popularity of at least {points:g}"


def _short(cutoff: str) -> str:
    return cutoff_name(cutoff).replace("popularity of at least ", "≥ ")


def fold_scores(hits: pd.DataFrame) -> pd.DataFrame:
    """AUROC and average precision of each model, mean over the folds that hold hits and others.

    Args:
        hits: rows of one cut-off: ``model, repeat, fold, probability, hit``.

    Returns:
        ``model, folds, auroc, average_precision``, best AUROC first.
    """
    rows = []
    for (model, _, _), part in hits.groupby(["model", "repeat", "fold"], sort=True):
        hit = part["hit"].to_numpy(dtype=bool)
        if 0 < hit.sum() < len(hit):
            scores = (roc_auc_score(hit, part["probability"]), average_precision_score(hit, part["probability"]))
            rows.append((model, *scores))
    scored = pd.DataFrame(rows, columns=["model", "auroc", "average_precision"])
    grouped = scored.groupby("model")
    mean = grouped.mean()
    mean.insert(0, "folds", grouped.size())
    return mean.sort_values("auroc", ascending=False).reset_index()


def _mean_curves(hits: pd.DataFrame, model: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean over folds of the ROC curve at equal false positive rates, and of precision at equal recall: (101,) each."""
    rising, precise = [], []
    for _, part in hits[hits["model"] == model].groupby(["repeat", "fold"]):
        hit, probability = part["hit"].to_numpy(dtype=bool), part["probability"].to_numpy()
        if 0 < hit.sum() < len(hit):
            false, true, _ = roc_curve(hit, probability)
            rising.append(np.interp(_GRID, false, true))
            precision, recall, _ = precision_recall_curve(hit, probability)
            # a step: precision at recall r is that of the first threshold that reaches r (Davis & Goadrich, 2006)
            order = np.searchsorted(recall[::-1], _GRID, side="left")
            precise.append(precision[::-1][order])
    return np.mean(rising, axis=0), np.mean(precise, axis=0)


def curves(hits: pd.DataFrame, scores: pd.DataFrame, looks: Mapping[str, Look]) -> tuple[Figure, Figure]:
    """Draw ROC and precision-recall curves, mean over folds.

    Args:
        hits: rows of one cut-off.
        scores: what :func:`fold_scores` returns for them.
        looks: the models to draw; all in `scores`.
    """
    roc, recall = figure(5.6), figure(5.6)
    rising, precise = roc.add_subplot(), recall.add_subplot()
    by_model = scores.set_index("model")
    for model, look in looks.items():
        true, precision = _mean_curves(hits, model)
        style: dict[str, Any] = {"color": look.colour, "linestyle": look.dash, "linewidth": 1.8}
        rising.plot(_GRID, true, label=f"{model} {by_model.loc[model, 'auroc']:.3f}", **style)
        named = f"{model} {by_model.loc[model, 'average_precision']:.3f}"
        precise.plot(_GRID[1:], precision[1:], label=named, **style)
    rate = float(hits["hit"].mean())
    rising.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="guessing 0.500")
    precise.axhline(rate, color=GREY, linestyle="--", linewidth=1, label=f"guessing {rate:.3f}")
    limits = {"xlim": (-0.01, 1.01), "ylim": (-0.01, 1.01)}
    finish(
        rising, grid="both", xlabel="share of the others called hits", ylabel="share of the hits found",
        aspect="equal", **limits,
    )  # fmt: skip
    finish(
        precise, grid="both", xlabel="share of the hits found (recall)", ylabel="hits among the called (precision)",
        aspect="equal", **limits,
    )  # fmt: skip
    legend(roc, rising)
    legend(recall, precise)
    return roc, recall


def confusion_counts(hits: pd.DataFrame) -> pd.DataFrame:
    """Count right and wrong calls over all folds, each fold at its own threshold: a hit is called at or above it.

    Args:
        hits: rows of one cut-off: ``model, probability, hit, threshold``.

    Returns:
        ``model, hits_found, hits_missed, false_alarms, others_passed``.
    """
    called = (hits["probability"] >= hits["threshold"]).to_numpy()
    hit = hits["hit"].to_numpy(dtype=bool)
    cells = {
        "hits_found": hit & called,
        "hits_missed": hit & ~called,
        "false_alarms": ~hit & called,
        "others_passed": ~hit & ~called,
    }
    return pd.DataFrame({"model": hits["model"], **cells}).groupby("model").sum().reset_index()


def confusion(counts: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw a square of four cells per model; shades give the share of each row (of the hits, of the others).

    Args:
        counts: what :func:`confusion_counts` returns.
        looks: the models to draw.
    """
    rows = (len(looks) + 1) // 2
    drawn = figure(0.3 + 2.5 * rows)
    panels = drawn.subplots(rows, 2, squeeze=False).ravel()
    by_model = counts.set_index("model")
    for axes, model in zip(panels, looks, strict=False):
        cells = by_model.loc[model].to_numpy(dtype=np.float64).reshape(2, 2)
        share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1.7, aspect="auto")
        for (row, column), value in np.ndenumerate(share):
            text = f"{100 * value:.0f} %\n{cells[row, column]:,.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=SMALL, color=BLACK)
        axes.set_xticks([0, 1], ["called hit", "not"])
        axes.set_yticks([0, 1], ["hit", "other"])
        finish(axes, title=model)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    for axes in panels[len(looks) :]:
        axes.remove()
    return drawn


def _line_and_dots(axes: Axes, values: np.ndarray, numeric: int, look: Look, label: str) -> None:
    """Join the cut-offs in points by a line; the relative ones after them stand alone."""
    style: dict[str, Any] = {"color": look.colour, "marker": look.marker, "markersize": 5.5, "linewidth": 1.6}
    places = np.arange(len(values))
    parts = [slice(0, numeric), slice(numeric, None)] if numeric else [slice(0, None)]
    for place, part in enumerate(parts):
        dash = look.dash if place == 0 and numeric else "none"
        axes.plot(places[part], values[part], linestyle=dash, label=None if place else label, **style)


def against_cutoff(summary: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw each measure that the summary has over the cut-offs, a line per model; accuracy beside the majority rate.

    Args:
        summary: ``model, cutoff`` and at least one of ``MEASURES``.
        looks: the models to draw.
    """
    measures = [name for name in MEASURES if name in summary]
    order = sort_cutoffs(summary["cutoff"].tolist())
    drawn = figure(0.9 + 1.9 * len(measures))
    panels = drawn.subplots(len(measures), 1, sharex=True, squeeze=False).ravel()
    numeric = sum(_points(cutoff) is not None for cutoff in order)
    for axes, measure in zip(panels, measures, strict=True):
        for model, look in looks.items():
            values = summary[summary["model"] == model].set_index("cutoff")[measure].reindex(order)
            _line_and_dots(axes, values.to_numpy(), numeric, look, model)
        if measure == "accuracy" and "majority" in summary:
            majority = summary.groupby("cutoff")["majority"].mean().reindex(order)
            _line_and_dots(axes, majority.to_numpy(), numeric, Look(GREY, "_", "--"), "always the majority")
        finish(axes, grid="y", ylabel=MEASURES[measure])
    panels[-1].set_xticks(range(len(order)), [_short(cutoff) for cutoff in order], rotation=30, ha="right")
    panels[-1].set_xlabel("what counts as a hit", fontsize=12)
    legend(drawn, panels[-1])
    return drawn


def calibration(hits: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw how often a hit came over the probability that was given, in tenths of the predictions.

    Args:
        hits: rows of one cut-off.
        looks: the models to draw.
    """
    drawn = figure(WIDTH)
    axes = drawn.add_subplot()
    highest = 0.1
    for model, look in looks.items():
        part = hits[hits["model"] == model]
        tenths = reliability(part["probability"].to_numpy(), part["hit"].to_numpy(dtype=bool), 10)
        axes.plot(
            tenths["predicted"], tenths["true"], label=model, color=look.colour, marker=look.marker,
            linestyle=look.dash, markersize=5.5, linewidth=1.6,
        )  # fmt: skip
        highest = max(highest, tenths[["predicted", "true"]].to_numpy().max())
    top = min(1.0, highest) * 1.04
    axes.plot([0, top], [0, top], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    finish(
        axes, grid="both", xlabel="probability given", ylabel="share that were hits", aspect="equal",
        xlim=(-0.01, top), ylim=(-0.01, top),
    )  # fmt: skip
    legend(drawn, axes)
    return drawn
