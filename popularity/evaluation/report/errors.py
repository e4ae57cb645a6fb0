"""Where models err: predicted against true, residuals, bands of popularity, known songs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy import stats

from popularity.evaluation.report.intervals import clustered_half_width
from popularity.evaluation.report.style import (
    BLACK,
    DENSITY,
    GREY,
    LIGHT,
    ORANGE,
    Look,
    figure,
    finish,
    legend,
)

BANDS = tuple(f"{low}–{100 if low == 90 else low + 9}" for low in range(0, 100, 10))
KNOWN = ("0", "1", "2–3", "4–7", "8–15", "16+")
_CELLS = np.arange(-0.5, 102, 2)  # cut between whole numbers: popularity is whole
_KNOWN_FROM = np.array([1, 2, 4, 8, 16])


def band_of(popularity: np.ndarray) -> np.ndarray:
    """Number of the band of ten points of each popularity; 100 belongs to the last."""
    return np.minimum(popularity // 10, 9).astype(np.int64)


def known_group(known: np.ndarray) -> np.ndarray:
    """Number of the group in ``KNOWN`` of each count of known songs.

    >>> known_group(np.array([0, 1, 3, 4, 15, 16])).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    return np.searchsorted(_KNOWN_FROM, known, side="right")


def grouped_errors(predictions: pd.DataFrame, group: np.ndarray, artists: np.ndarray) -> pd.DataFrame:
    """Mean squared error and mean error of each model in each group of predictions.

    Args:
        predictions: ``model, row, residual``.
        group: (rows of `predictions`,) number of the group.
        artists: (songs,) number of each song's artist: their songs err together.

    Returns:
        ``model, group, predictions, songs, mse, mse_half, bias, bias_half``; `songs` counts a song once however often
        it was tested; halves are those of 95 % intervals clustered by artist.
    """
    rows = []
    for (model, number), part in predictions.groupby([predictions["model"], group], sort=True):
        residual, clusters = part["residual"].to_numpy(), artists[part["row"].to_numpy()]
        rows.append(
            {
                "model": model,
                "group": int(number),
                "predictions": len(part),
                "songs": part["row"].nunique(),
                "mse": float((residual**2).mean()),
                "mse_half": clustered_half_width(residual**2, clusters),
                "bias": float(residual.mean()),
                "bias_half": clustered_half_width(residual, clusters),
            }
        )
    return pd.DataFrame(rows)


def _lines(axes: Axes, table: pd.DataFrame, value: str, looks: Mapping[str, Look]) -> None:
    """Draw a line per model over the groups, a little beside each other so that intervals can be told apart."""
    for place, (model, look) in enumerate(looks.items()):
        part = table[table["model"] == model]
        shift = 0.1 * (place - (len(looks) - 1) / 2)
        axes.errorbar(
            part["group"] + shift, part[value], yerr=part[f"{value}_half"].fillna(0), label=model, color=look.colour,
            marker=look.marker, linestyle=look.dash, markersize=5.5, linewidth=1.6, elinewidth=1.2,
        )  # fmt: skip


def _songs_below(axes: Axes, table: pd.DataFrame, names: tuple[str, ...], xlabel: str, column: str) -> None:
    counts = table.groupby("group")[column].max().reindex(range(len(names)), fill_value=0)
    axes.bar(counts.index, counts, color=LIGHT, edgecolor=GREY, linewidth=0.6, width=0.8)
    for place, count in counts.items():
        axes.annotate(f"{count:,}", (place, count), (0, 2), textcoords="offset points", ha="center", fontsize=9.5)
    axes.set_xticks(range(len(names)), names)
    finish(axes, xlabel=xlabel, ylabel="songs" if column == "songs" else "predictions", yticks=[])
    axes.set_ylim(0, 1.3 * max(1, counts.max()))
    axes.spines[["left"]].set_visible(False)


def error_by_band(table: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw typical error (RMSE) and mean error over bands of true popularity, and how many songs each holds.

    Args:
        table: what :func:`grouped_errors` returns for :func:`band_of`.
        looks: the models to draw.
    """
    drawn = figure(7.2)
    error, bias, songs = drawn.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.3))
    root = np.sqrt(table["mse"])
    # the delta method carries the interval of the square over to its root
    rooted = table.assign(rmse=root, rmse_half=table["mse_half"] / np.where(root > 0, 2 * root, np.nan))
    _lines(error, rooted, "rmse", looks)
    finish(error, grid="y", ylabel="typical error (RMSE)", ylim=(0, None))
    _lines(bias, table, "bias", looks)
    bias.axhline(0, color=GREY, linewidth=1)
    finish(bias, grid="y", ylabel="predicted − true (points)")
    _songs_below(songs, table, BANDS, "true popularity", "songs")
    songs.tick_params(axis="x", labelrotation=45)
    legend(drawn, error)
    return drawn


def error_by_known_songs(table: pd.DataFrame, looks: Mapping[str, Look], reference: str) -> Figure:
    """Draw squared error, and its ratio to the reference's, over the number of known songs of the credited artists.

    Args:
        table: what :func:`grouped_errors` returns for :func:`known_group`.
        looks: the models to draw.
        reference: the model that the ratio is to; where the table lacks it, the ratio is not drawn.
    """
    base = table[table["model"] == reference].set_index("group")["mse"]
    has_ratio = len(base) > 0 and len(looks) > 1
    drawn = figure(6.8 if has_ratio else 4.8)
    panels = drawn.subplots(3 if has_ratio else 2, 1, sharex=True, height_ratios=(3, 3, 1.3) if has_ratio else (3, 1.3))
    _lines(panels[0], table, "mse", looks)
    finish(panels[0], grid="y", ylabel="squared error (points²)", ylim=(0, None))
    if has_ratio:
        below = base.reindex(table["group"]).to_numpy()
        ratio = table.assign(ratio=table["mse"] / np.where(below > 0, below, np.nan), ratio_half=np.nan)
        _lines(panels[1], ratio, "ratio", looks)
        finish(panels[1], grid="y", ylabel=f"as a share of {reference}'s")
    _songs_below(panels[-1], table, KNOWN, "known songs of the credited artists", "predictions")
    legend(drawn, panels[0])
    return drawn


def cell_counts(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Count predictions in cells of two by two points, (cells of predicted, cells of true popularity)."""
    return np.histogram2d(predicted.clip(0, 100), truth, bins=(_CELLS, _CELLS))[0]


def predicted_against_true(truth: np.ndarray, predicted: np.ndarray) -> Figure:
    """Draw counted cells of true over predicted popularity, the diagonal, and the mean truth by tenths of predictions.

    Args:
        truth: (n,) true popularity.
        predicted: (n,) predicted popularity.
    """
    drawn = figure(5.2)
    axes = drawn.add_subplot()
    counts = cell_counts(truth, predicted)
    # rasterised: thousands of cells make the page heavy
    axes.pcolormesh(
        _CELLS, _CELLS, np.ma.masked_equal(counts.T, 0), cmap=DENSITY, norm=LogNorm(1, max(2.0, counts.max())),
        rasterized=True,
    )  # fmt: skip
    axes.plot([0, 100], [0, 100], color=BLACK, linestyle="--", linewidth=1.2)
    tenths = reliability(predicted, truth, 10)
    axes.plot(tenths["predicted"], tenths["true"], color=ORANGE, marker="o", markersize=5.5, linewidth=2)
    finish(axes, xlabel="predicted popularity", ylabel="true popularity", xlim=(0, 101), ylim=(0, 101), aspect="equal")
    return drawn


def reliability(predicted: np.ndarray, truth: np.ndarray, bins: int) -> pd.DataFrame:
    """Mean prediction and mean truth in bins of about equal counts, by order of the predictions; ties stay together.

    Returns:
        ``predicted, true, count``, at most `bins` rows.
    """
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, predicted, side="left")
    frame = pd.DataFrame({"predicted": predicted, "true": np.asarray(truth, dtype=np.float64), "place": place})
    grouped = frame.groupby("place")
    return grouped[["predicted", "true"]].mean().assign(count=grouped.size()).reset_index(drop=True)


def residual_histogram(residuals: Mapping[str, np.ndarray], looks: Mapping[str, Look]) -> Figure:
    """Draw the share of songs by prediction error, an outline per model.

    Args:
        residuals: model to (n,) predicted minus true.
        looks: how each model is drawn.
    """
    drawn = figure(4.4)
    axes = drawn.add_subplot()
    edges = np.arange(-100, 101, 5)
    for model, values in residuals.items():
        share = 100 * np.histogram(values, edges)[0] / len(values)
        axes.stairs(share, edges, label=model, color=looks[model].colour, linestyle=looks[model].dash, linewidth=1.8)
    axes.axvline(0, color=GREY, linewidth=1)
    widest = max(float(np.abs(values).max(initial=1)) for values in residuals.values())
    finish(
        axes, grid="y", xlabel="predicted − true (points)", ylabel="% of predictions, per 5 points",
        xlim=(-min(100, widest + 5), min(100, widest + 5)), ylim=(0, None),
    )  # fmt: skip
    legend(drawn, axes)
    return drawn


def residual_quantiles(residuals: Mapping[str, np.ndarray], looks: Mapping[str, Look]) -> Figure:
    """Draw quantiles of the standardised errors over those of a normal distribution (QQ).

    Args:
        residuals: model to (n,) predicted minus true.
        looks: how each model is drawn.
    """
    drawn = figure(4.8)
    axes = drawn.add_subplot()
    shares = np.concatenate([[0.001, 0.0025, 0.005], np.linspace(0.01, 0.99, 50), [0.995, 0.9975, 0.999]])
    normal = stats.norm.ppf(shares)
    for model, values in residuals.items():
        spread = values.std()
        if spread > 0:
            own = np.quantile((values - values.mean()) / spread, shares)
            axes.plot(normal, own, label=model, color=looks[model].colour, linestyle=looks[model].dash, linewidth=1.8)
    axes.plot(normal[[0, -1]], normal[[0, -1]], color=GREY, linestyle="--", linewidth=1, label="normal")
    finish(axes, grid="both", xlabel="if errors were normal (sd)", ylabel="as they are (sd)")
    legend(drawn, axes)
    return drawn
