"""Pictures of single songs: predicted against true, residuals, distribution, calibration.

`target` and `prediction` are (n,) true and predicted popularity in points. ValueError where their shapes differ, there
are no values, or a value is not finite.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from popularity.metrics import NOMINAL, interval_coverage, probability_integral_transform
from popularity.plots.style import BLACK, BLUE, DENSITY, GREY, ORANGE, finish, legend, new_figure

DOTS = 3000  # up to here a dot per song; above, songs are counted in cells
UNIT = "popularity (0-100 points)"

Floats = NDArray[np.float64]


def _checked(target: ArrayLike, prediction: ArrayLike) -> tuple[Floats, Floats]:
    """Return both as (n,) float64; ValueError where they do not fit together or a value cannot be plotted."""
    truth, predicted = np.asarray(target, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != predicted.shape or truth.size == 0:
        raise ValueError(
            f"expected a target and a prediction of one shape (n,), n > 0, got {truth.shape} and {predicted.shape}"
        )
    for name, values in (("target", truth), ("prediction", predicted)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: expected finite values, got {int((~np.isfinite(values)).sum())} that are not")
    return truth, predicted


def _cloud(figure: Figure, axes: Axes, beside: Axes, x: Floats, y: Floats, x_edges: Floats, y_edges: Floats) -> None:
    """Plot a dot per song; for many songs, counts in cells, with a colour bar to the right of the axes `beside`.

    Rasterised: a vector file with thousands of marks is large and slow to open.
    """
    if len(x) <= DOTS:
        alpha = float(np.clip(12 / np.sqrt(len(x)), 0.25, 0.8))
        axes.scatter(x, y, s=14, color=BLUE, alpha=alpha, linewidths=0, label="one song", rasterized=len(x) > 300)
        return
    counts = np.histogram2d(x, y, bins=(x_edges, y_edges))[0]
    cells = np.ma.masked_equal(counts.T, 0)
    norm = LogNorm(1, max(2.0, counts.max()))
    mesh = axes.pcolormesh(x_edges, y_edges, cells, cmap=DENSITY, norm=norm, rasterized=True)
    fraction = 0.04 if beside is axes else 0.16
    figure.colorbar(mesh, ax=beside, label="songs in a cell", format="{x:,.0f}", fraction=fraction)


def predicted_against_true(
    target: ArrayLike, prediction: ArrayLike, title: str = "Predicted against true popularity"
) -> Figure:
    """Plot true over predicted popularity, the identity, and the mean truth in tenths of the predictions.

    A model without bias has that mean on the identity: songs predicted at 40 are at 40 on average. The note gives
    R2 = 1 - sum (y - f)^2 / sum (y - mean y)^2 and RMSE = sqrt(mean (y - f)^2). Error bars are 1.96 standard errors
    long on each side. Tenths are cut in the order of the predictions; equal predictions are never separated.
    Predictions outside -10..110 are counted in the note, not plotted.
    """
    truth, predicted = _checked(target, prediction)
    figure = new_figure(5.4, title)
    axes = figure.add_subplot()
    low, high = max(-10.0, min(-2.0, predicted.min() - 2)), min(110.0, max(102.0, predicted.max() + 2))
    # popularity is whole: cells two points high, cut between whole numbers, hold two values each
    _cloud(figure, axes, axes, predicted, truth, np.arange(low, high + 2, 2), np.arange(-0.5, 102, 2))
    axes.plot([low, high], [low, high], color=BLACK, linestyle="--", linewidth=1.2, label="predicted = true")

    means = _means(predicted, truth)
    label = "mean truth, by tenths of the predictions"
    style: dict[str, Any] = {"color": ORANGE, "marker": "o", "markersize": 5, "linewidth": 1.8, "capsize": 3}
    axes.errorbar(means["x"], means["y"], yerr=means["half"], label=label, **style)
    spread = float(((truth - truth.mean()) ** 2).sum())
    squares = float(((truth - predicted) ** 2).sum())
    r2 = f"R² = {round(1 - squares / spread, 3) + 0.0:.3f}" if spread > 0 else "R² undefined (one true value)"
    note = f"{r2},  RMSE = {np.sqrt(squares / len(truth)):.2f} points,  n = {len(truth):,}"
    if beyond := int(((predicted < low) | (predicted > high)).sum()):
        note += f",  {beyond:,} beyond the axis"
    labels = {"xlabel": f"predicted {UNIT}", "ylabel": f"true {UNIT}", "aspect": "equal"}
    finish(axes, note, xlim=(low, high), ylim=(-2, 102), **labels)
    legend(figure, axes)
    return figure


def _means(x: Floats, y: Floats) -> pd.DataFrame:
    """Mean ``x``, mean ``y`` and its 1.96 standard errors ``half`` in ten groups of x, fewer for less than 50 songs."""
    if len(x) < 5:
        return pd.DataFrame({"x": [], "y": [], "half": []})
    tenths = pd.qcut(x, min(10, len(x) // 5), labels=False, duplicates="drop")
    groups = pd.DataFrame({"x": x, "y": y}).groupby(np.nan_to_num(tenths))  # not a number: all predictions are equal
    return groups.mean().assign(half=1.96 * groups["y"].sem().fillna(0))


def residuals(target: ArrayLike, prediction: ArrayLike, title: str = "Residuals") -> Figure:
    """Plot residuals (true minus predicted) over predictions, a running median and 10-90 % band; beside, their spread.

    Above the zero line a song is more popular than predicted. The running quantiles are those of windows of a twentieth
    of the songs, at least 100, in the order of their predictions (none where one window holds all songs or all
    predictions are equal). Dotted: the ends of the scale, where the truth is 0 or 100; no song is beyond them.
    """
    truth, predicted = _checked(target, prediction)
    residual = truth - predicted
    figure = new_figure(4.6, title)
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
    running = _running(predicted, residual)
    if len(running) > 1:
        axes.plot(running["x"], running[0.5], color=ORANGE, linewidth=2.2, label="running median")
        axes.plot(running["x"], running[0.1], color=ORANGE, linewidth=1.4, linestyle="--", label="10-90 % band")
        axes.plot(running["x"], running[0.9], color=ORANGE, linewidth=1.4, linestyle="--")
    note = f"mean {residual.mean():+.2f},  standard deviation {residual.std():.2f} points,  n = {len(truth):,}"
    labels = {"xlabel": f"predicted {UNIT}", "ylabel": "true minus predicted (points)"}
    finish(axes, note, xlim=(left, right), ylim=(-extent, extent), **labels)
    share = np.full(len(residual), 100 / len(residual))
    side.hist(residual, bins=list(steps[::2]), weights=share, orientation="horizontal", color=BLUE, alpha=0.75)
    side.axhline(0, color=BLACK, linestyle="--", linewidth=1.2)
    finish(side, xlabel="songs (%)")
    side.tick_params(labelleft=False)
    legend(figure, axes)
    return figure


def _running(x: Floats, y: Floats) -> pd.DataFrame:
    """Mean ``x`` and the 10, 50, 90 % quantiles of y in up to 60 windows over the songs in the order of x."""
    width = min(len(x), max(100, len(x) // 20))
    windows = pd.DataFrame({"x": x, "y": y}).sort_values("x", kind="stable", ignore_index=True)
    rolling = windows.rolling(width, step=max(1, -(-(len(x) - width) // 59)))
    table = pd.DataFrame({"x": rolling["x"].mean().round(9)} | {q: rolling["y"].quantile(q) for q in (0.1, 0.5, 0.9)})
    return table.dropna().drop_duplicates("x")  # windows inside one run of equal predictions


def popularity_histogram(target: ArrayLike, prediction: ArrayLike) -> Figure:
    """Plot the distributions of the truth and of the predictions in the same bins of 5 points from 0 to 100.

    Predictions are means, and so narrower than the truth: the standard deviation of a model that explains the share R2
    of the variance is about sqrt(R2) times that of the truth. Predictions outside the scale count in the end bins.
    """
    truth, predicted = _checked(target, prediction)
    edges = np.linspace(0, 100, 21)
    heights = [np.histogram(np.clip(v, 0, 100), bins=edges)[0] * 100 / len(truth) for v in (truth, predicted)]
    figure = new_figure(4.6, "Distribution of true and predicted popularity")
    axes = figure.add_subplot()
    axes.stairs(heights[0], edges, fill=True, color=BLUE, alpha=0.45, label=_moments("true", truth))
    axes.stairs(heights[1], edges, color=ORANGE, linewidth=2.2, label=_moments("predicted", predicted))
    zeros = f",  true popularity exactly 0: {(truth == 0).mean() * 100:.1f} %" if (truth == 0).any() else ""
    top = max(h.max() for h in heights) * 1.08
    limits: dict[str, Any] = {"xlim": (-1, 101), "ylim": (0, top)}
    finish(axes, f"n = {len(truth):,}{zeros}", xlabel=UNIT, ylabel="songs (%), bins of 5 points", **limits)
    axes.set_xticks(range(0, 101, 10))
    legend(figure, axes)
    return figure


def _moments(name: str, values: Floats) -> str:
    return f"{name}: mean {values.mean():.1f}, sd {values.std():.1f}"


def calibration(target: ArrayLike, probabilities: ArrayLike, edges: ArrayLike, *, stacked: bool = False) -> Figure:
    """Plot the calibration of predicted histograms: probability integral transform (left), interval coverage (right).

    Left: the randomised transform (fixed seed) should be uniform. A U means that the distributions are too narrow, a
    hump that they are too wide, a slope that they are biased. Right: a central interval of nominal 80 % should hold
    80 % of the songs; below the diagonal the intervals are too narrow. Grey: where a calibrated model lies with
    probability 95 %, for each bar and each point on its own (binomial).

    Args:
        target: (n,) true popularity, 0..100 points.
        probabilities: (n, bins) predicted histogram of each song, rows that sum to 1.
        edges: (bins + 1,) bin edges in points; they may reach beyond 0 and 100.
        stacked: The second panel below the first, without a title: for a page that is read on a phone.

    Raises:
        ValueError: Shapes do not fit, there are no values, a value is not finite, a target is outside 0..100, or a row
            is not a distribution.
    """
    transform = probability_integral_transform(target, probabilities, edges)
    count = len(transform)
    bars = 20 if count >= 1000 else 10
    if stacked:
        figure = new_figure(7.6)
        left, right = figure.subplots(2, 1)
    else:
        figure = new_figure(4.2, "Calibration of the predicted distributions", width=8.2)
        left, right = figure.subplots(1, 2)

    cuts = np.linspace(0, 1, bars + 1)
    heights = np.histogram(transform, bins=cuts)[0] * 100 / count
    band = np.array(binom.interval(0.95, count, 1 / bars)) * 100 / count
    left.stairs(heights, cuts, fill=True, color=BLUE, alpha=0.45)
    left.stairs(heights, cuts, color=BLUE, linewidth=1)
    left.axhspan(band[0], band[1], color=GREY, alpha=0.35, linewidth=0)
    left.axhline(100 / bars, color=BLACK, linestyle="--", linewidth=1.2)
    note = "flat: calibrated,  U: too narrow,  hump: too wide,  slope: biased"
    labels = {"xlabel": "probability of at most the true popularity", "ylabel": "songs (%)"}
    finish(left, note, xlim=(0, 1), ylim=(0, max(heights.max(), band[1]) * 1.08), **labels)

    grid = np.linspace(0, 1, 101)[1:-1]
    low, high = np.array(binom.interval(0.95, count, grid)) * 100 / count
    right.fill_between(grid * 100, low, high, color=GREY, alpha=0.35, linewidth=0, label="calibrated: 95 % range")
    right.plot([0, 100], [0, 100], color=BLACK, linestyle="--", linewidth=1.2, label="calibrated")
    observed = interval_coverage(transform, NOMINAL) * 100
    right.plot(np.multiply(NOMINAL, 100), observed, color=ORANGE, marker="o", linewidth=1.8, label="observed")
    note = f"80 % interval holds {observed[NOMINAL.index(0.8)]:.1f} % of songs,  n = {count:,}"
    labels = {"xlabel": "nominal share of the central interval (%)", "ylabel": "songs inside it (%)"}
    ticks = range(0, 101, 20)
    finish(right, note, xlim=(0, 100), ylim=(-2, 102), xticks=ticks, yticks=ticks, **labels)
    legend(figure, right, 2 if stacked else 3)
    return figure
