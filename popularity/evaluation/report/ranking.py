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


def _reach(centre: pd.Series, low: pd.Series, high: pd.Series, zero: float, least: float) -> tuple[float, float]:
    """Limits that hold all but what lies far beyond the rest: one failed model must not flatten the others.

    What is at most `least` above `zero` is never beyond.
    """
    low, high = low.fillna(centre), high.fillna(centre)
    left, right = min(float(low.min()), zero), float(high.max())
    typical = float(high.quantile(0.75, interpolation="lower"))
    right = max(min(right, zero + max(least, 4 * (typical - zero), 4 * (zero - left))), zero)
    margin = 0.06 * (right - left) or 0.05 * max(abs(zero), 1)
    return left - margin, right + margin


def _mark(axes: Axes, row: int, centre: float, ends: tuple[float, float], right: float, colour: str) -> None:
    """Draw a mean and its interval, or at the right edge an arrow to one that lies beyond."""
    if centre > right:
        axes.plot(right, row, marker=">", color=ORANGE, markersize=8, clip_on=False)
        return
    axes.plot(ends, [row, row], color=colour, linewidth=2.6, solid_capstyle="butt")
    axes.plot(centre, row, marker="D" if colour == BLACK else "o", color=colour, markersize=6.5)


def _name_rows(axes: Axes, scores: pd.DataFrame, values: list[str]) -> None:
    """Name the models at the left, in brackets on how many folds where others have more; values at the right."""
    most = scores["folds"].max()
    names = [
        model if folds == most else f"{model} ({folds})"
        for model, folds in zip(scores["model"], scores["folds"], strict=True)
    ]
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(len(values)), values)
    beside.tick_params(length=0, labelsize=SMALL)
    beside.spines[["right"]].set_visible(False)


def ranking(scores: pd.DataFrame, reference: str) -> Figure:
    """Draw the ratio of each model's mean squared error to the reference's, with its interval, best on top.

    Args:
        scores: what :func:`popularity.evaluation.report.intervals.compare_ratios` returns, at least one row.
        reference: the model whose ratio is 1.
    """
    drawn, axes = _axes(len(scores))
    left, right = _reach(scores["ratio_to_reference"], scores["ratio_low"], scores["ratio_high"], zero=1, least=1)
    axes.axvline(1, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)))
    for row, found in enumerate(scores.itertuples()):
        colour = BLACK if found.model == reference else BLUE
        _mark(axes, row, found.ratio_to_reference, (found.ratio_low, found.ratio_high), right, colour)
    finish(axes, grid="x", xlabel=f"squared error, as a share of {reference}'s", xlim=(left, right))
    _name_rows(axes, scores, [f"{ratio:.3f}" for ratio in scores["ratio_to_reference"]])
    return drawn


def differences(folds: pd.DataFrame, scores: pd.DataFrame, reference: str) -> Figure:
    """Draw a dot per fold for each model's squared error minus the reference's, with the mean and its intervals.

    Args:
        folds: ``model, repeat, fold, mse``.
        scores: as for :func:`ranking`, with a model beside the reference; ``song_low`` and ``song_high``, if there, are
            drawn as a thin line.
        reference: the model to compare with.
    """
    others = scores[scores["model"] != reference].reset_index(drop=True)
    drawn, axes = _axes(len(others))
    base = folds[folds["model"] == reference].set_index(["repeat", "fold"])["mse"]
    left, right = _reach(others["difference"], others["low"], others["high"], zero=0, least=float(base.mean()))
    axes.axvline(0, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)))
    for row, found in enumerate(others.itertuples()):
        of_model = folds[folds["model"] == found.model].set_index(["repeat", "fold"])["mse"]
        dots = (of_model - base).dropna().to_numpy()
        if found.difference <= right:
            left, right = min(left, 1.05 * dots.min()), max(right, 1.05 * dots.max())
            offset = np.linspace(-0.28, 0.28, len(dots)) if len(dots) > 1 else np.zeros(1)
            axes.plot(dots, row + offset, "o", color="#A9C9DF", markeredgewidth=0, markersize=4)
            if "song_low" in others:
                axes.plot([found.song_low, found.song_high], [row, row], color=BLACK, linewidth=1)
    for row, found in enumerate(others.itertuples()):
        _mark(axes, row, found.difference, (found.low, found.high), right, BLUE)
    finish(axes, grid="x", xlabel=f"squared error minus {reference}'s (points²)", xlim=(left, right))
    _name_rows(
        axes,
        others,
        [f"{round(value, 2) + 0.0:+.2f}".replace("-", "\u2212") for value in others["difference"]],
    )
    return drawn
