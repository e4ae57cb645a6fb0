"""Pictures of what a trained model does: curves of a feature, one prediction as a sum, and what if."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from popularity.plots.songs import UNIT
from popularity.plots.style import (
    BLACK,
    BLUE,
    DENSITY,
    GREY,
    LARGE,
    LIGHT,
    ORANGE,
    SMALL,
    finish,
    legend,
    new_figure,
    values_beside,
)

Floats = NDArray[np.float64]


def curves(xlabel: str, grid: Floats, individual: Floats, effects: pd.DataFrame) -> Figure:
    """Plot partial dependence with the curve of each song, and below it accumulated local effects.

    Args:
        xlabel: name of the feature.
        grid: ``(g,)`` its values.
        individual: ``(n, g)`` predictions of each song at these values.
        effects: ``value, effect, low, high``, as `accumulated_local_effects` gives them.
    """
    figure = new_figure(5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    upper.plot(grid, individual.T, color=BLUE, alpha=float(np.clip(15 / len(individual), 0.15, 0.6)), linewidth=0.8)
    upper.plot([], [], color=BLUE, alpha=0.5, linewidth=0.8, label="one song")
    upper.plot(grid, individual.mean(0), color=BLACK, linewidth=2.2, label="partial dependence: mean of these songs")
    finish(upper, grid="y", ylabel="predicted, points")
    lower.axhline(0, color=GREY, linewidth=1)
    lower.fill_between(
        effects["value"], effects["low"], effects["high"], color=ORANGE, alpha=0.25, linewidth=0, label="95 % interval"
    )
    lower.plot(effects["value"], effects["effect"], color=ORANGE, linewidth=2.2, label="accumulated local effect")
    lower.plot(
        effects["value"], np.full(len(effects), 0.02), "|", color=GREY, transform=lower.get_xaxis_transform(), ms=6
    )
    span = max(grid[-1] - grid[0], 1e-9)
    finish(
        lower, grid="y", xlabel=xlabel, ylabel="effect, points", xlim=(grid[0] - 0.02 * span, grid[-1] + 0.02 * span)
    )
    handles = [axes.get_legend_handles_labels() for axes in (upper, lower)]
    figure.legend(
        [*handles[0][0], *handles[1][0]],
        [*handles[0][1], *handles[1][1]],
        loc="outside lower center",
        ncols=2,
        fontsize=SMALL,
        frameon=False,
    )
    return figure


def sum_of_parts(names: Sequence[str], values: Floats, baseline: float, title: str = "") -> Figure:
    """Plot how parts lead from a baseline, part by part from the top, to a prediction.

    Args:
        names: of the parts.
        values: ``(parts,)`` in points.
        baseline: where the first part begins.
        title: of the picture.
    """
    figure = new_figure(1.5 + 0.3 * len(names), title)
    axes = figure.add_subplot()
    ends = baseline + np.cumsum(values)
    starts = ends - values
    places = np.arange(1, len(names) + 1)
    axes.barh(places, values, left=starts, color=np.where(values < 0, ORANGE, BLUE), height=0.62)
    for place, end in zip(places, ends, strict=True):
        axes.plot([end, end], [place, place + 1], color=GREY, linewidth=0.8)
    axes.plot([baseline, baseline], [0, 1], color=GREY, linewidth=0.8)
    axes.plot([baseline, ends[-1]], [0, len(names) + 1], "o", color=BLACK, markersize=6)
    low, high = min(baseline, *starts, *ends), max(baseline, *starts, *ends)
    margin = 0.08 * (high - low) or 1.0
    axes.set_yticks(range(len(names) + 2), ["average song, nobody known", *names, "prediction"])
    finish(axes, grid="x", xlabel=UNIT, ylim=(len(names) + 1.6, -0.6), xlim=(low - margin, high + margin))
    values_beside(axes, [f"{baseline:.1f}", *(f"{value:+.1f}" for value in values), f"{ends[-1]:.1f}"])
    return figure


def what_if_line(xlabel: str, x: Floats, table: pd.DataFrame, now: tuple[float, float] | None) -> Figure:
    """Plot predictions over the values of one feature, with their 80 % intervals where there are any.

    Args:
        xlabel: name of the feature.
        x: ``(g,)`` its values.
        table: ``prediction`` and perhaps ``low, high`` at these values.
        now: the song's own value and its prediction, where it has one.
    """
    figure = new_figure(4.2)
    axes = figure.add_subplot()
    if "low" in table:
        axes.fill_between(x, table["low"], table["high"], color=BLUE, alpha=0.2, linewidth=0, label="80 % interval")
    axes.plot(x, table["prediction"], color=BLUE, linewidth=2, marker="o", markersize=3.5, label="prediction")
    if now is not None:
        axes.plot(*now, "D", color=ORANGE, markersize=8, linestyle="none", label="the song as it is")
    finish(axes, grid="both", xlabel=xlabel, ylabel=UNIT)
    legend(figure, axes, 3)
    return figure


def what_if_map(names: tuple[str, str], x: Floats, y: Floats, table: pd.DataFrame, now: Floats | None) -> Figure:
    """Plot predictions over two features as a map, and the width of the 80 % intervals where there are any.

    Args:
        names: of the two features.
        x: ``(g,)`` values of the first.
        y: ``(h,)`` values of the second.
        table: ``prediction`` and perhaps ``low, high`` in the order of ``(h, g)``.
        now: ``(2,)`` the song's own values, where it has both.
    """
    panels = {"predicted popularity, points": table["prediction"]}
    if "low" in table:
        panels["width of the 80 % interval, points"] = table["high"] - table["low"]
    figure = new_figure(0.4 + 3.9 * len(panels))
    drawn = figure.subplots(len(panels), 1, squeeze=False).ravel()
    for axes, (label, values) in zip(drawn, panels.items(), strict=True):
        cells = values.to_numpy().reshape(len(y), len(x))
        mesh = axes.pcolormesh(x, y, cells, cmap=DENSITY, shading="nearest", rasterized=True)
        _contours(axes, x, y, cells)
        bar = figure.colorbar(mesh, ax=axes)
        bar.set_label(label, fontsize=LARGE)
        if now is not None:
            axes.plot(*now, "D", color=ORANGE, markeredgecolor="white", markersize=9, clip_on=False)
        finish(axes, xlabel=names[0], ylabel=names[1])
    return figure


def _contours(axes: Axes, x: Floats, y: Floats, cells: Floats) -> None:
    if min(cells.shape) < 2 or np.ptp(cells) < 1e-3:
        return
    lines = axes.contour(x, y, cells, levels=5, colors="white", linewidths=0.9)
    axes.clabel(lines, fontsize=SMALL, fmt="%.4g")


def changes(names: Sequence[str], before: Floats, after: Floats, ends: tuple[Floats, Floats], note: str) -> Figure:
    """Plot how far features move, each between the ends of its range in the training songs.

    Args:
        names: of the features, with their values.
        before: ``(features,)`` in standard deviations of the training songs, as the network reads them.
        after: likewise.
        ends: lowest and highest values in the training songs.
        note: above the axes.
    """
    figure = new_figure(1.6 + 0.34 * len(names))
    axes = figure.add_subplot()
    for place, (begin, end, low, high) in enumerate(zip(before, after, *ends, strict=True)):
        axes.plot([low, high], [place, place], color=LIGHT, linewidth=7, solid_capstyle="round", zorder=1)
        if abs(end - begin) > 1e-6:
            axes.plot([begin, end], [place, place], color=ORANGE, linewidth=2, zorder=2)
            axes.plot(end, place, "D", color=ORANGE, markersize=5, zorder=4)
        axes.plot(begin, place, "o", color=BLUE, markersize=6, zorder=3)
    axes.plot([], [], color=LIGHT, linewidth=7, label="range of the training songs")
    axes.plot([], [], "o", color=BLUE, label="the song as it is")
    axes.plot([], [], "D-", color=ORANGE, markersize=5, linewidth=2, label="after the change")
    axes.set_yticks(range(len(names)), names)
    finish(axes, note, grid="x", xlabel="standard deviations from the mean song", ylim=(len(names) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    legend(figure, axes, 3)
    return figure
