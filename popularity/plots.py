"""Figures that show how well popularity is predicted: pure functions from arrays to a matplotlib Figure.

All arguments are arrays (or CPU tensors without gradient) in points of popularity. Nothing here touches pyplot or any
other global state, so that figures can be drawn in a training process, on any thread, without a display. Text stands
outside the plotting area, where it cannot cover data. Colours: Okabe and Ito (2008), safe for colour-blind readers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from popularity.metrics import NOMINAL, interval_coverage, probability_integral_transform

BLUE, ORANGE, BLACK, GREY = "#0072B2", "#D55E00", "#000000", "#8C8C8C"
DENSITY = LinearSegmentedColormap.from_list("density", ["#D3E5F2", BLUE, "#04223A"])
DOTS = 3000  # up to here single songs can be told apart; above, cells are counted
UNIT = "popularity (0-100 points)"

Floats = NDArray[np.float64]


def _checked(target: ArrayLike, prediction: ArrayLike) -> tuple[Floats, Floats]:
    """Both as (n,) float64; ValueError when they do not fit together or hold a value that cannot be drawn."""
    truth, predicted = np.asarray(target, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != predicted.shape or truth.size == 0:
        raise ValueError(
            "target and prediction must be filled arrays of one shape (n,), "
            f"however: {truth.shape} and {predicted.shape}"
        )
    for name, values in (("target", truth), ("prediction", predicted)):
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name} must be finite, however: {int((~np.isfinite(values)).sum())} of {values.size} are not"
            )
    return truth, predicted


def _figure(title: str, width: float = 6.4, height: float = 4.8) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=12, fontweight="bold")
    return figure


def _finish(axes: Axes, note: str, **labels: Any) -> None:
    axes.set(**labels)
    axes.set_title(note, fontsize=9.5)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8.5, frameon=False)


def _cloud(figure: Figure, axes: Axes, beside: Axes, x: Floats, y: Floats, x_edges: Floats, y_edges: Floats) -> None:
    """Dots for few songs; for many, counted cells with a colour bar to the right of the axes `beside`."""
    if len(x) <= DOTS:
        alpha = float(np.clip(12 / np.sqrt(len(x)), 0.25, 0.8))
        axes.scatter(x, y, s=14, color=BLUE, alpha=alpha, linewidths=0, label="one song")
        return
    counts = np.histogram2d(x, y, bins=(x_edges, y_edges))[0]
    cells = np.ma.masked_equal(counts.T, 0)
    norm = LogNorm(1, max(2.0, counts.max()))
    # rasterised: thousands of cells make a vector file slow to open
    mesh = axes.pcolormesh(x_edges, y_edges, cells, cmap=DENSITY, norm=norm, rasterized=True)
    figure.colorbar(
        mesh, ax=beside, label="songs in a cell", format="{x:,.0f}", fraction=0.04 if beside is axes else 0.16
    )


def _rows(count: int) -> str:
    return f"n = {count:,}"


def predicted_against_true(target: ArrayLike, prediction: ArrayLike) -> Figure:
    """True popularity over predicted popularity, with the identity and the mean truth in tenths of the predictions.

    A model without bias has that mean on the identity: songs predicted at 40 are at 40 on average. The note gives
    R2 = 1 - sum (y - f)^2 / sum (y - mean y)^2 and RMSE = sqrt(mean (y - f)^2). Error bars reach 1.96 standard errors
    to each side. Songs are put in tenths by the order of their predictions; equal predictions are never parted.

    Args:
        target: (n,) true popularity in points.
        prediction: (n,) predicted popularity in points; what lies outside -10..110 is counted in the note, not drawn.

    Raises:
        ValueError: when shapes differ, nothing came, or a value is not finite.
    """
    truth, predicted = _checked(target, prediction)
    figure = _figure("Predicted against true popularity", height=5.6)
    axes = figure.add_subplot()
    low, high = max(-10.0, min(-2.0, predicted.min() - 2)), min(110.0, max(102.0, predicted.max() + 2))
    # Popularity is whole: rows of cells two points high, cut between whole numbers, hold two values each.
    _cloud(figure, axes, axes, predicted, truth, np.arange(low, high + 2, 2), np.arange(-0.5, 102, 2))
    axes.plot([low, high], [low, high], color=BLACK, linestyle="--", linewidth=1.2, label="predicted = true")

    centre, mean, error = _means(predicted, truth)
    if len(centre):
        axes.errorbar(
            centre, mean, yerr=error, color=ORANGE, marker="o", markersize=5, linewidth=1.8, capsize=3,
            label="mean truth, by tenths of the predictions",
        )  # fmt: skip
    spread = float(((truth - truth.mean()) ** 2).sum())
    squares = float(((truth - predicted) ** 2).sum())
    r2 = f"R² = {round(1 - squares / spread, 3) + 0.0:.3f}" if spread > 0 else "R² undefined (one true value)"
    note = f"{r2},  RMSE = {np.sqrt(squares / len(truth)):.2f} points,  {_rows(len(truth))}"
    beyond = int(((predicted < low) | (predicted > high)).sum())
    _finish(
        axes,
        note + (f",  {beyond:,} beyond the axis" if beyond else ""),
        xlabel=f"predicted {UNIT}",
        ylabel=f"true {UNIT}",
        xlim=(low, high),
        ylim=(-2, 102),
        aspect="equal",
    )
    _legend(figure, axes, 3)
    return figure


def _means(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean of x, mean of y and 1.96 standard errors of y in ten groups of x, fewer when there are under 50 rows."""
    groups = min(10, len(x) // 5)
    if groups == 0:
        return np.empty(0), np.empty(0), np.empty(0)
    edges = np.unique(np.quantile(x, np.linspace(0, 1, groups + 1)))
    group = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(0, len(edges) - 2))
    count = np.bincount(group)
    filled = count > 0
    count = count[filled]
    mean_x, mean_y = (np.bincount(group, weights=v)[filled] / count for v in (x, y))
    squares = np.bincount(group, weights=(y - y.mean()) ** 2)[filled] / count - (mean_y - y.mean()) ** 2
    variance = np.maximum(squares, 0) * count / np.maximum(count - 1, 1)
    return mean_x, mean_y, 1.96 * np.sqrt(variance / count)


def residuals(target: ArrayLike, prediction: ArrayLike) -> Figure:
    """Residual (true minus predicted) over prediction with running median and 10-90 % band; its distribution beside.

    Above the zero line a song is more popular than predicted. The running quantiles are those of windows of a twentieth
    of the songs, but at least 100, in the order of their predictions (none where one window holds all songs or all
    predictions are equal). Dotted: the ends of the scale, where the truth is 0 or 100; no song lies beyond them.

    Args:
        target: (n,) true popularity in points.
        prediction: (n,) predicted popularity in points.

    Raises:
        ValueError: when shapes differ, nothing came, or a value is not finite.
    """
    truth, predicted = _checked(target, prediction)
    residual = truth - predicted
    figure = _figure("Residuals against predicted popularity")
    axes, side = figure.subplots(1, 2, sharey=True, width_ratios=[4, 1])
    middle, reach = (predicted.min() + predicted.max()) / 2, max(5.0, np.ptp(predicted) * 0.53)
    left, right = middle - reach, middle + reach
    extent = max(10.0, np.abs(residual).max() * 1.05)

    steps = np.linspace(-extent, extent, 61)
    _cloud(figure, axes, side, predicted, residual, np.linspace(left, right, 61), steps)
    axes.axhline(0, color=BLACK, linestyle="--", linewidth=1.2)
    ends = np.array([left, right])
    axes.plot(ends, -ends, color=GREY, linestyle=":", linewidth=1.2, label="truth at 0 or at 100")
    axes.plot(ends, 100 - ends, color=GREY, linestyle=":", linewidth=1.2)
    centre, quantiles = _running(predicted, residual)
    if len(centre) > 1:
        axes.plot(centre, quantiles[1], color=ORANGE, linewidth=2.2, label="running median")
        axes.plot(centre, quantiles[0], color=ORANGE, linewidth=1.4, linestyle="--", label="10-90 % band")
        axes.plot(centre, quantiles[2], color=ORANGE, linewidth=1.4, linestyle="--")
    _finish(
        axes,
        f"mean {residual.mean():+.2f},  standard deviation {residual.std():.2f} points,  {_rows(len(truth))}",
        xlabel=f"predicted {UNIT}",
        ylabel="residual: true minus predicted (points)",
        xlim=(left, right),
        ylim=(-extent, extent),
    )
    share = np.full(len(residual), 100 / len(residual))
    side.hist(residual, bins=list(steps[::2]), weights=share, orientation="horizontal", color=BLUE, alpha=0.75)
    side.axhline(0, color=BLACK, linestyle="--", linewidth=1.2)
    side.tick_params(labelleft=False)
    _finish(side, "", xlabel="songs (%)")
    _legend(figure, axes, 4)
    return figure


def _running(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Centres (m,) and the 10, 50, 90 % quantiles (3, m) of y in up to 60 windows over the rows in the order of x."""
    order = np.argsort(x, kind="stable")
    width = min(len(x), max(100, len(x) // 20))
    starts = np.unique(np.linspace(0, len(x) - width, 60).astype(int))
    windows = [order[start : start + width] for start in starts]
    # Windows inside one run of equal predictions have the same centre; the first of them stands for all.
    centre, first = np.unique([x[window].mean().round(9) for window in windows], return_index=True)
    quantiles = [np.quantile(y[windows[index]], [0.1, 0.5, 0.9]) for index in first]
    return centre, np.array(quantiles).T


def popularity_histogram(target: ArrayLike, prediction: ArrayLike) -> Figure:
    """Distribution of the truth and of the predictions in the same bins of 5 points from 0 to 100.

    Predictions are means, and so narrower than the truth: a model that explains the share R2 of the variance spreads by
    about sqrt(R2) of the truth's standard deviation. Predictions beyond the scale count in the end bins.

    Args:
        target: (n,) true popularity in points.
        prediction: (n,) predicted popularity in points.

    Raises:
        ValueError: when shapes differ, nothing came, or a value is not finite.
    """
    truth, predicted = _checked(target, prediction)
    edges = np.linspace(0, 100, 21)
    heights = [np.histogram(np.clip(v, 0, 100), bins=edges)[0] * 100 / len(truth) for v in (truth, predicted)]
    figure = _figure("Distribution of true and predicted popularity")
    axes = figure.add_subplot()
    axes.stairs(heights[0], edges, fill=True, color=BLUE, alpha=0.45, label=_moments("true", truth))
    axes.stairs(heights[1], edges, color=ORANGE, linewidth=2.2, label=_moments("predicted", predicted))
    zeros = f",  true popularity exactly 0: {(truth == 0).mean() * 100:.1f} %" if (truth == 0).any() else ""
    _finish(
        axes,
        _rows(len(truth)) + zeros,
        xlabel=UNIT,
        ylabel="songs (%), bins of 5 points",
        xlim=(-1, 101),
        ylim=(0, max(h.max() for h in heights) * 1.08),
    )
    axes.set_xticks(range(0, 101, 10))
    _legend(figure, axes, 2)
    return figure


def _moments(name: str, values: Floats) -> str:
    return f"{name}: mean {values.mean():.1f}, standard deviation {values.std():.1f}"


def calibration(target: ArrayLike, probabilities: ArrayLike, edges: ArrayLike) -> Figure:
    """Calibration of predicted histograms: probability integral transform (left) and interval coverage (right).

    Left: the randomised transform (fixed seed) should be uniform. A U says that the distributions are too narrow, a
    hump that they are too wide, a slope that they are biased. Right: a central interval of nominal 80 % should hold
    80 % of the songs; below the diagonal intervals are too narrow. Grey: where a calibrated model lies with probability
    95 %, each bar and each point on its own (binomial). Formulas: :mod:`popularity.calibration`.

    Args:
        target: (n,) true popularity, 0..100 points.
        probabilities: (n, bins) predicted histogram of each song, rows that sum to 1.
        edges: (bins + 1,) bin edges in points; they may reach past 0 and 100.

    Raises:
        ValueError: when shapes do not fit, nothing came, a value is not finite, a target lies outside 0..100, or a row
            is no distribution.
    """
    transform = probability_integral_transform(target, probabilities, edges)
    count = len(transform)
    bars = 20 if count >= 1000 else 10
    figure = _figure("Calibration of the predicted distributions", width=8.2, height=4.2)
    left, right = figure.subplots(1, 2)

    cuts = np.linspace(0, 1, bars + 1)
    heights = np.histogram(transform, bins=cuts)[0] * 100 / count
    band = np.array(binom.interval(0.95, count, 1 / bars)) * 100 / count
    left.stairs(heights, cuts, fill=True, color=BLUE, alpha=0.45)
    left.stairs(heights, cuts, color=BLUE, linewidth=1)
    left.axhspan(band[0], band[1], color=GREY, alpha=0.35, linewidth=0)
    left.axhline(100 / bars, color=BLACK, linestyle="--", linewidth=1.2)
    _finish(
        left,
        "flat: calibrated,  U: too narrow,  hump: too wide,  slope: biased",
        xlabel="predicted probability of at most the true popularity",
        ylabel="songs (%)",
        xlim=(0, 1),
        ylim=(0, max(heights.max(), band[1]) * 1.08),
    )

    grid = np.linspace(0, 1, 101)[1:-1]
    low, high = np.array(binom.interval(0.95, count, grid)) * 100 / count
    right.fill_between(grid * 100, low, high, color=GREY, alpha=0.35, linewidth=0, label="calibrated: 95 % range")
    right.plot([0, 100], [0, 100], color=BLACK, linestyle="--", linewidth=1.2, label="calibrated")
    observed = interval_coverage(transform, NOMINAL) * 100
    right.plot(np.multiply(NOMINAL, 100), observed, color=ORANGE, marker="o", linewidth=1.8, label="observed")
    _finish(
        right,
        f"80 % interval holds {observed[NOMINAL.index(0.8)]:.1f} % of songs,  {_rows(count)}",
        xlabel="nominal share of the central interval (%)",
        ylabel="songs inside it (%)",
        xlim=(0, 100),
        ylim=(-2, 102),
    )
    ticks = range(0, 101, 20)
    right.set(xticks=ticks, yticks=ticks)
    _legend(figure, right, 3)
    return figure
