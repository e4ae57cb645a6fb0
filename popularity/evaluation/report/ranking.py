"""Who is ahead, and by how much: ranking and paired differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from popularity.evaluation.report.style import BLACK, BLUE, GREY, ORANGE, SMALL, figure, finish

_ROW = 0.3  # inches for each model


def _axes(rows: int) -> tuple[Figure, Axes]:
    drawn = figure(1.0 + _ROW * rows)
    axes = drawn.add_subplot()
    axes.set_ylim(rows - 0.4, -0.6)  # the best on top
    return drawn, axes


def _reach(centre: pd.Series, half: pd.Series, zero: float) -> tuple[float, float]:
    """Limits that hold all but what lies far beyond the rest: one failed model must not flatten the others."""
    half = half.fillna(0)
    low, high = min(float((centre - half).min()), zero), float((centre + half).max())
    typical = float((centre + half).quantile(0.75))
    high = max(min(high, zero + 4 * max(typical - zero, zero - low)), zero)
    margin = 0.06 * (high - low) or 0.05 * max(abs(zero), 1)
    return low - margin, high + margin


def _bars(axes: Axes, centre: pd.Series, half: pd.Series, reference: np.ndarray, limits: tuple[float, float]) -> None:
    for row, (value, width, is_reference) in enumerate(zip(centre, half.fillna(0), reference, strict=True)):
        colour = BLACK if is_reference else BLUE
        if value > limits[1]:
            axes.plot(limits[1], row, marker=">", color=ORANGE, markersize=8, clip_on=False)
            continue
        axes.plot([value - width, value + width], [row, row], color=colour, linewidth=2.4, solid_capstyle="butt")
        axes.plot(value, row, marker="D" if is_reference else "o", color=colour, markersize=7)


def _name_rows(axes: Axes, models: pd.Series, values: list[str]) -> None:
    axes.set_yticks(range(len(models)), list(models))
    axes.tick_params(axis="y", length=0)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(len(values)), values)
    beside.tick_params(length=0, labelsize=SMALL)
    beside.spines[["right"]].set_visible(False)


def ranking(scores: pd.DataFrame, reference: str) -> Figure:
    """Draw the ratio of each model's mean squared error to the reference's, with its interval, best on top.

    Args:
        scores: what :func:`popularity.evaluation.report.intervals.paired` returns, at least one row.
        reference: the model whose ratio is 1.
    """
    drawn, axes = _axes(len(scores))
    limits = _reach(scores["ratio"], scores["ratio_half"], 1.0)
    axes.axvline(1, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)))
    _bars(axes, scores["ratio"], scores["ratio_half"], (scores["model"] == reference).to_numpy(), limits)
    finish(axes, grid="x", xlabel=f"squared error, as a share of {reference}'s", xlim=limits)
    _name_rows(axes, scores["model"], [f"{ratio:.3f}" for ratio in scores["ratio"]])
    return drawn


def differences(folds: pd.DataFrame, scores: pd.DataFrame, reference: str) -> Figure:
    """Draw a dot per fold for each model's squared error minus the reference's, with the mean and its interval.

    Args:
        folds: ``model, repeat, fold, mse``.
        scores: what :func:`popularity.evaluation.report.intervals.paired` returns, with a model beside the reference.
        reference: the model to compare with.
    """
    others = scores[scores["model"] != reference].reset_index(drop=True)
    drawn, axes = _axes(len(others))
    limits = _reach(others["difference"], others["difference_half"], 0.0)
    base = folds[folds["model"] == reference].set_index(["repeat", "fold"])["mse"]
    dots = []
    for row, model in enumerate(others["model"]):
        of_model = folds[folds["model"] == model].set_index(["repeat", "fold"])["mse"]
        dots.append((of_model - base).dropna().to_numpy())
        offset = np.linspace(-0.28, 0.28, len(dots[-1])) if len(dots[-1]) > 1 else np.zeros(1)
        shown = dots[-1] <= limits[1] + abs(limits[1])
        axes.plot(dots[-1][shown], row + offset[shown], "o", color="#A9C9DF", markeredgewidth=0, markersize=4)
    within = np.concatenate(dots)
    within = within[within <= limits[1] + abs(limits[1])]
    limits = min(limits[0], 1.05 * within.min(initial=0)), max(limits[1], 1.05 * within.max(initial=0))
    axes.axvline(0, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)))
    _bars(axes, others["difference"], others["difference_half"], np.zeros(len(others), dtype=bool), limits)
    finish(axes, grid="x", xlabel=f"squared error minus {reference}'s (points²)", xlim=limits)
    _name_rows(axes, others["model"], [f"{value:+.2f}".replace("-", "\u2212") for value in others["difference"]])
    return drawn
