"""Pictures of models beside each other: intervals, errors by groups of songs, effects of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from popularity.plots.style import (
    BLACK,
    BLUE,
    DIVERGING,
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


def forest(
    table: pd.DataFrame, zero: float, xlabel: str, form: str, dots: Mapping[str, np.ndarray] | None = None
) -> Figure:
    """Plot a mean and its interval per model, the first model at the top.

    Models far beyond the others are shown by an arrow at the right edge: one failed model must not flatten the rest.

    Args:
        table: ``model, folds, mean, low, high`` and optionally ``song_low, song_high`` (a thin line); an interval that
            is not a number is not plotted. A model on fewer folds than the others has their number in brackets.
        zero: Value of the dashed line: no difference.
        xlabel: Label of the axis.
        form: Format of the means at the right, such as ``.3f``.
        dots: One value per fold of each model.
    """
    figure = new_figure(1.0 + 0.3 * len(table))
    axes = figure.add_subplot()
    ends = pd.concat([table["low"].fillna(table["mean"]), table["high"].fillna(table["mean"])], axis=1)
    left, right = min(zero, ends.to_numpy().min()), ends.to_numpy().max()
    typical = ends.max(axis=1).quantile(0.75, interpolation="lower")
    right = max(zero, min(right, zero + max(4 * (typical - zero), 4 * (zero - left), 1e-9)))
    axes.axvline(zero, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)))
    for place, row in enumerate(table.itertuples()):
        if row.mean > right:
            axes.plot(right, place, marker=">", color=ORANGE, markersize=8, clip_on=False)
            continue
        values = dots.get(str(row.model), np.empty(0)) if dots else np.empty(0)
        offset = np.linspace(-0.28, 0.28, len(values)) if len(values) > 1 else np.zeros(len(values))
        axes.plot(values, place + offset, "o", color="#A9C9DF", markeredgewidth=0, markersize=4)
        left, right = min([left, *values]), max([right, *values])
        if "song_low" in table:
            axes.plot([row.song_low, row.song_high], [place, place], color=BLACK, linewidth=1)
        axes.plot([row.low, row.high], [place, place], color=BLUE, linewidth=2.6, solid_capstyle="butt")
        axes.plot(row.mean, place, "D" if pd.isna(row.low) else "o", color=BLUE, markersize=6.5)
    margin = 0.06 * (right - left) or 0.05
    finish(axes, grid="x", xlabel=xlabel, xlim=(left - margin, right + margin), ylim=(len(table) - 0.4, -0.6))
    short = table["folds"] < table["folds"].max()
    names = table["model"].where(~short, table["model"] + " (" + table["folds"].astype("str") + ")")
    axes.set_yticks(range(len(table)), names)
    values_beside(axes, [f"{value:{form}}" for value in table["mean"]])
    return figure


def errors_by_group(
    table: pd.DataFrame, panels: Mapping[str, str], names: Sequence[str], xlabel: str, styles: Mapping[str, Any]
) -> Figure:
    """Plot errors of each model in groups of songs, and below them how many predictions a group holds.

    Args:
        table: ``model, group, predictions`` (group: a number into `names`) and for each panel ``NAME`` and perhaps
            ``NAME_half``, half the width of its 95 % interval.
        panels: Column of the table to the label of its axis, from top to bottom.
        names: Names of the groups.
        xlabel: What the groups are of.
        styles: Model to line style.
    """
    figure = new_figure(1.8 + 2.3 * len(panels))
    *upper, lowest = figure.subplots(len(panels) + 1, 1, sharex=True, height_ratios=[3] * len(panels) + [1.3])
    for axes, (column, label) in zip(upper, panels.items(), strict=True):
        for place, (model, style) in enumerate(styles.items()):
            part = table[table["model"] == model]
            shift = 0.1 * (place - (len(styles) - 1) / 2)  # side by side, so that intervals do not cover each other
            half = part[f"{column}_half"].fillna(0) if f"{column}_half" in part else None
            axes.errorbar(part["group"] + shift, part[column], yerr=half, label=model, elinewidth=1.2, **style)
        signed = bool((table[column] < 0).any())
        if signed:
            axes.axhline(0, color=GREY, linewidth=1)
        finish(axes, grid="y", ylabel=label, ylim=(None if signed else 0, None))
    counts = table.groupby("group")["predictions"].max().reindex(range(len(names)), fill_value=0)
    filled = lowest.bar(counts.index, counts, color=LIGHT, edgecolor=GREY, linewidth=0.6, width=0.8)
    lowest.bar_label(filled, [f"{count:,}" for count in counts], padding=2, fontsize=SMALL)
    lowest.set_xticks(range(len(names)), names, rotation=45 if len(names) > 6 else 0)
    finish(lowest, xlabel=xlabel, ylabel="predictions", yticks=[], ylim=(0, 1.35 * max(1, counts.max())))
    lowest.spines[["left"]].set_visible(False)
    legend(figure, upper[0])
    return figure


def bars(names: Sequence[str], values: np.ndarray, halves: np.ndarray, xlabel: str, form: str = "") -> Figure:
    """Plot a bar with a range for each name, orange where the value is below 0; all arrays (names,).

    Values stand at the right if there is a format for them, such as ``.1f``.
    """
    figure = new_figure(0.9 + 0.27 * len(names))
    axes = figure.add_subplot()
    places = np.arange(len(names))
    axes.barh(places, values, color=np.where(values < 0, ORANGE, BLUE), height=0.62)
    axes.errorbar(values, places, xerr=halves, fmt="none", ecolor=BLACK, elinewidth=1.4, capsize=3)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(places, [name.replace("_", " ") for name in names])
    finish(axes, grid="x", xlabel=xlabel, ylim=(len(names) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    if form:
        values_beside(axes, [f"{value:{form}}" for value in values])
    return figure


def correlation_map(table: pd.DataFrame) -> Figure:
    """Plot the lower triangle of a square table of correlations, columns named alike in both directions."""
    figure = new_figure(5.9)
    axes = figure.add_subplot()
    hidden = np.triu(np.ones(table.shape, dtype=bool), k=1)
    picture = axes.imshow(np.ma.masked_array(table.to_numpy(), hidden), cmap=DIVERGING, vmin=-1, vmax=1)
    names = [str(name).replace("_", " ") for name in table]
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    finish(axes)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(picture, ax=axes, location="bottom", fraction=0.04, pad=0.02, aspect=40)
    bar.set_label("rank correlation", fontsize=LARGE)
    bar.ax.tick_params(labelsize=SMALL)
    return figure


def unit_square(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    guess: tuple[str, Sequence[float], Sequence[float]],
    xlabel: str,
    ylabel: str,
    styles: Mapping[str, Any],
) -> Figure:
    """Plot lines in a square from 0 to 1: ROC curves, precision-recall curves, reliability.

    Args:
        lines: Model to x and y; up to 20 values have markers. The label is the model's unless its style has one.
        guess: Label, x and y of the dashed line for comparison.
        xlabel: Label of the axis.
        ylabel: Label of the axis.
        styles: Model to line style.
    """
    figure = new_figure(5.6)
    axes = figure.add_subplot()
    for model, (x, y) in lines.items():
        marked = {} if len(x) <= 20 else {"marker": None}
        axes.plot(x, y, **{"label": model, **styles[model], **marked})
    axes.plot(guess[1], guess[2], color=GREY, linestyle="--", linewidth=1, label=guess[0])
    limits = (-0.01, 1.01)
    finish(axes, grid="both", xlabel=xlabel, ylabel=ylabel, aspect="equal", xlim=limits, ylim=limits)
    legend(figure, axes)
    return figure


def scores_by_cutoff(
    table: pd.DataFrame, measures: Mapping[str, str], cutoffs: Mapping[str, str], styles: Mapping[str, Any]
) -> Figure:
    """Plot each measure over the cut-offs; cut-offs in points are joined by a line, the others stand alone.

    Args:
        table: ``model, cutoff`` and the measures.
        measures: Column to the label of its axis, from top to bottom.
        cutoffs: Cut-off to its name, those in points first.
        styles: Model to line style.
    """
    figure = new_figure(0.9 + 1.9 * len(measures))
    panels = figure.subplots(len(measures), 1, sharex=True, squeeze=False).ravel()
    joined = sum(cutoff[0].isdigit() for cutoff in cutoffs)
    for axes, (measure, label) in zip(panels, measures.items(), strict=True):
        for model, style in styles.items():
            values = table[table["model"] == model].set_index("cutoff")[measure].reindex(list(cutoffs)).to_numpy()
            axes.plot(range(joined), values[:joined], **{"label": model, **style})
            axes.plot(range(joined, len(values)), values[joined:], **{**style, "linestyle": "none"})
        finish(axes, grid="y", ylabel=label)
    panels[-1].set_xticks(range(len(cutoffs)), list(cutoffs.values()), rotation=30, ha="right")
    panels[-1].set_xlabel("what counts as a hit", fontsize=LARGE)
    legend(figure, panels[-1])
    return figure
