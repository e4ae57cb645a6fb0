"""What the audio columns say: correlations, coefficients of a linear model, permutation importance."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from popularity.data.schema import AUDIO
from popularity.evaluation.report.style import BLACK, BLUE, DIVERGING, GREY, ORANGE, SMALL, figure, finish
from popularity.evaluation.report.tables import LeftOut, Tables


def usable(songs: pd.DataFrame) -> list[str]:
    """Return the audio columns that hold more than one value.

    Raises:
        LeftOut: there is none.
    """
    columns = [name for name in AUDIO if songs[name].nunique() > 1]
    if not columns:
        raise LeftOut("no audio column of the song table varies")
    return columns


def correlations(songs: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of the audio columns and popularity, (columns + 1, columns + 1), popularity first."""
    columns = [*(["popularity"] if songs["popularity"].nunique() > 1 else []), *usable(songs)]
    return songs[columns].corr(method="spearman")


def correlation_map(table: pd.DataFrame) -> Figure:
    """Draw correlations as a triangle of coloured cells.

    Args:
        table: what :func:`correlations` returns.
    """
    drawn = figure(5.9)
    axes = drawn.add_subplot()
    count = len(table)
    hidden = np.triu(np.ones((count, count), dtype=bool), k=1)
    picture = axes.imshow(np.ma.masked_array(table.to_numpy(), hidden), cmap=DIVERGING, vmin=-1, vmax=1)
    for place in range(1, count):  # pale gaps between the cells
        axes.axhline(place - 0.5, color="white", linewidth=1)
        axes.axvline(place - 0.5, color="white", linewidth=1)
    names = [name.replace("_", " ") for name in table]
    axes.set_xticks(range(count), names, rotation=90)
    axes.set_yticks(range(count), names)
    finish(axes)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = drawn.colorbar(picture, ax=axes, location="bottom", fraction=0.04, pad=0.02, aspect=40)
    bar.set_label("rank correlation", fontsize=SMALL)
    bar.set_ticks([-1, -0.5, 0, 0.5, 1])
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)
    return drawn


def coefficients(tables: Tables) -> pd.DataFrame:
    """Fit ordinary least squares on the 13 audio columns to the training songs of every fold.

    All columns are standardised, so that a coefficient is in points of popularity per standard deviation of its column;
    the predictions are those of the baseline that standardises five of them. Missing values become the mean.

    Returns:
        ``feature, mean, low, high, lowest, highest`` over the folds, largest absolute mean first. low to high: the
        95 % interval of the delete-d jackknife (Shao & Wu, 1989, "A General Theory for Jackknife Variance Estimation"):
        coefficients of folds, which share most songs, differ far less than those of other songs would, and their
        variance is scaled by training songs over left-out songs.
    """
    songs, columns = tables.songs, usable(tables.songs)
    features, truth = songs[columns].to_numpy(), songs["popularity"].to_numpy()
    found, shares = [], []
    for test in tables.test_rows().values():
        train = tables.train_rows(test)
        model = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), LinearRegression())
        found.append(model.fit(features[train], truth[train])[-1].coef_)
        shares.append(len(test) / len(train))
    values = np.array(found)
    half = 1.96 * np.sqrt(values.var(axis=0) / float(np.mean(shares)))
    table = pd.DataFrame(
        {
            "feature": columns,
            "mean": values.mean(axis=0),
            "low": values.mean(axis=0) - half,
            "high": values.mean(axis=0) + half,
            "lowest": values.min(axis=0),
            "highest": values.max(axis=0),
        }
    )
    return table.sort_values("mean", key=np.abs, ascending=False, ignore_index=True)


def importance(tables: Tables, repeats: int = 5) -> pd.DataFrame:
    """Measure how much worse a quick model gets when a column is shuffled.

    The quick model is scikit-learn's histogram gradient boosting with its defaults on the 13 audio columns. It learns
    from the training songs of the folds of the first repeat; the columns are shuffled among the test songs (Breiman,
    2001).

    Returns:
        ``feature, importance`` (rise in squared error, points squared) and ``sd`` over the folds, largest first.
    """
    songs, columns = tables.songs, usable(tables.songs)
    features, truth = songs[columns].to_numpy(), songs["popularity"].to_numpy()
    parts = tables.test_rows()
    first = min(repeat for repeat, _ in parts)
    rises = []
    for (repeat, _), test in parts.items():
        if repeat == first:
            train = tables.train_rows(test)
            model = HistGradientBoostingRegressor(random_state=0).fit(features[train], truth[train])
            shuffled = permutation_importance(
                model, features[test], truth[test], scoring="neg_mean_squared_error", n_repeats=repeats, random_state=0
            )
            rises.append(shuffled.importances_mean)
    values = np.array(rises)
    table = pd.DataFrame({"feature": columns, "importance": values.mean(axis=0), "sd": values.std(axis=0)})
    return table.sort_values("importance", ascending=False, ignore_index=True)


def _rows(names: list[str], xlabel: str, values: pd.Series, halves: pd.Series, colours: list[str]) -> Figure:
    drawn = figure(0.9 + 0.27 * len(names))
    axes = drawn.add_subplot()
    places = range(len(names))
    axes.barh(places, values, color=colours, height=0.62)
    axes.errorbar(values, places, xerr=halves.fillna(0), fmt="none", ecolor=BLACK, elinewidth=1.4, capsize=3)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(places, [name.replace("_", " ") for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    finish(axes, grid="x", xlabel=xlabel)
    axes.tick_params(axis="y", length=0)
    return drawn


def coefficient_bars(table: pd.DataFrame) -> Figure:
    """Draw what :func:`coefficients` returns."""
    colours = [BLUE if mean > 0 else ORANGE for mean in table["mean"]]
    return _rows(
        table["feature"].tolist(),
        "points per standard deviation",
        table["mean"],
        table["high"] - table["mean"],
        colours,
    )


def importance_bars(table: pd.DataFrame) -> Figure:
    """Draw what :func:`importance` returns."""
    colours = [BLUE] * len(table)
    label = "rise in squared error (points²)"
    return _rows(table["feature"].tolist(), label, table["importance"], table["sd"], colours)
