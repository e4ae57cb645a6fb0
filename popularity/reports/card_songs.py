"""How good one checkpoint is on songs that it has not seen: metrics, intervals, groups of songs, examples.

Intervals of 95 % say what other songs would have given the same network: songs by the same first-named artist count as
one observation. A residual is true minus predicted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from popularity.data.groups import first_artist_numbers
from popularity.evaluation.coverage import BANDS
from popularity.evaluation.results import grouped_errors
from popularity.inference.distribution import SHARES, Prediction, interval
from popularity.inference.predictor import predict_songs
from popularity.inference.table import Wanted, prediction_table
from popularity.inference.watched import watched
from popularity.metrics import regression_scores
from popularity.metrics.intervals import cluster_bootstrap
from popularity.training.datamodule import PopularityDataModule
from popularity.training.module import PopularityModule
from popularity.training.outputs import known_songs

_SAMPLES = 2_000  # of the bootstrap
_GENRES = 9  # shown by name
_EXAMPLES = 5  # of each kind
#: Metrics in the order of the tables: decimals, and names.
DECIMALS = {"mse": 2, "rmse": 2, "mae": 2, "r2": 3, "spearman": 3, "within_5": 3, "within_10": 3}
NAMES = {
    "mse": "MSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "spearman": "Spearman",
    "within_5": "within 5",
    "within_10": "within 10",
}


@dataclass(frozen=True)
class Judged:
    """Songs with their true and predicted popularity.

    Attributes:
        songs: canonical song table of ``n`` rows with popularity.
        prediction: of these songs.
        known: ``(n,)`` how many known songs by the first-named artist were read, or None for a network without.
    """

    songs: pd.DataFrame
    prediction: Prediction
    known: np.ndarray | None

    @property
    def truth(self) -> np.ndarray:
        """True popularity ``(n,)`` in points."""
        found: np.ndarray = self.songs["popularity"].to_numpy(np.float64)
        return found

    @property
    def residual(self) -> np.ndarray:
        """True minus predicted ``(n,)``."""
        found: np.ndarray = self.truth - self.prediction.mean
        return found

    @property
    def artists(self) -> np.ndarray:
        """Number of the first-named artist ``(n,)``; a song without names is one of its own."""
        return first_artist_numbers(self.songs)

    def inside(self) -> dict[float, tuple[np.ndarray, np.ndarray]]:
        """Share of an interval -> whether songs lie in it, and its width in points; empty without a distribution."""
        if self.prediction.probabilities is None:
            return {}
        ends = {share: interval(self.prediction, share) for share in SHARES}
        return {s: ((low <= self.truth) & (self.truth <= high), high - low) for s, (low, high) in ends.items()}


def judge(module: PopularityModule, data: PopularityDataModule, songs: pd.DataFrame) -> Judged:
    """Predict songs with known popularity.

    Args:
        module: trained.
        data: of the same checkpoint.
        songs: ``n`` songs.
    """
    encoder, encoded = watched(data.encoder)
    options = {"samples": data.hparams["samples"], "batch_size": data.hparams["batch_size"]}
    prediction = predict_songs(module, encoder, songs, **options)
    known = known_songs(data.encoder, encoded)
    return Judged(songs, prediction, None if known is None else known.numpy())


def metrics(judged: Judged, others: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """``metric``, the value and its ``95 %`` interval, and the values of other predictions of the same songs."""
    truth, error = judged.truth, judged.residual
    square, spread = error**2, (truth - truth.mean()) ** 2
    terms = {"mse": square, "mae": np.abs(error), "within_5": np.abs(error) <= 5, "within_10": np.abs(error) <= 10}
    low, high = _ends([*terms.values(), square], judged.artists, [*[np.ones(len(truth))] * len(terms), spread])
    ends = {name: (low[place], high[place]) for place, name in enumerate(terms)}
    ends |= {"rmse": (low[0] ** 0.5, high[0] ** 0.5), "r2": (1 - high[-1], 1 - low[-1])}
    scores = {"this checkpoint": judged.prediction.mean, **others}
    values = {name: regression_scores(prediction, truth) for name, prediction in scores.items()}
    rows = []
    for name, digits in DECIMALS.items():
        row = {"metric": NAMES[name]}
        row |= {who: written(of[name], digits) for who, of in values.items()}
        rows.append(row | {"95 %": written_range(*ends[name], digits) if name in ends else "–"})
    return pd.DataFrame(rows)[["metric", "this checkpoint", "95 %", *others]]


def coverage(judged: Judged) -> pd.DataFrame:
    """``interval``, how many of 100 songs lie ``inside`` and the mean ``width`` in points, with 95 % intervals."""
    rows = []
    for share, (inside, width) in judged.inside().items():
        low, high = _ends([100.0 * inside, width], judged.artists)
        row = {"interval": f"{share:.0%}".replace("%", " %"), "songs inside, %": f"{100 * inside.mean():.1f}"}
        row |= {"inside, 95 %": written_range(low[0], high[0], 1), "mean width": f"{width.mean():.1f}"}
        rows.append(row | {"width, 95 %": written_range(low[1], high[1], 1)})
    return pd.DataFrame(rows)


def groups(judged: Judged) -> dict[str, tuple[list[str], np.ndarray]]:
    """Kind of group -> names of its groups, and the number of each song's group ``(n,)``; those that tell apart."""
    songs, found = judged.songs, {}
    found["true popularity"] = (
        [f"{low}–{100 if low == 90 else low + 9}" for low in range(0, 100, 10)],
        np.minimum(judged.truth // 10, 9).astype(int),
    )
    if judged.known is not None:
        found["known songs by the artist"] = (list(BANDS.values()), np.digitize(judged.known, list(BANDS)[1:]))
    genre = songs["genre"].where(songs["genre"].notna(), "no genre").astype("str")
    names = genre.value_counts().index[:_GENRES].tolist()
    found["genre"] = ([*names, "others"], pd.Index(names).get_indexer(genre) % (len(names) + 1))
    decade = (songs["release_date"].dt.year // 10 * 10).clip(lower=1950)
    years = sorted(decade.dropna().unique().astype(int).tolist())
    labels = ["before 1960" if year == 1950 else f"{year}s" for year in years]
    place = pd.Index(years).get_indexer(decade.fillna(0).astype(int))
    found["release decade"] = ([*labels, "no date"], place % (len(years) + 1))
    return {kind: _filled(*group) for kind, group in found.items() if len(np.unique(group[1])) > 1}


def by_group(judged: Judged, names: Sequence[str], group: np.ndarray) -> pd.DataFrame:
    """Errors of groups of songs as `grouped_errors`, and ``inside 80 %, width_80`` where there are intervals."""
    rows = np.arange(len(group))
    errors = pd.DataFrame({"model": "this checkpoint", "row": rows, "residual": judged.residual})
    table = grouped_errors(errors, group, judged.songs, "this checkpoint")
    if inside := judged.inside():
        within, width = (pd.Series(values).groupby(group).mean() for values in inside[0.8])
        table = table.assign(**{"inside 80 %": 100 * table["group"].map(within), "width_80": table["group"].map(width)})
    return table.assign(name=[names[place] for place in table["group"]])


def examples(judged: Judged, module: PopularityModule, data: PopularityDataModule) -> dict[str, pd.DataFrame]:
    """Tables of the best, typical and worst predictions: song, popularity, interval, known songs, reasons."""
    order = np.argsort(np.abs(judged.residual), kind="stable")
    middle = max(0, len(order) // 2 - _EXAMPLES // 2)
    count = min(_EXAMPLES, max(1, len(order) // 3))
    chosen = {"Best": order[:count], "Typical": order[middle : middle + count], "Worst": order[::-1][:count]}
    rows = np.concatenate([*chosen.values()])
    told = prediction_table(module, data, judged.songs.iloc[rows].reset_index(drop=True), Wanted(reasons=True))
    named = judged.songs.iloc[rows][["title", "artist"]].fillna("unknown")
    table = pd.DataFrame({"song": (named["title"] + " · " + named["artist"].str.replace(";", ", ")).to_numpy()})
    table["true"], table["predicted"] = judged.truth[rows], judged.prediction.mean[rows]
    if judged.prediction.probabilities is not None:
        low, high = interval(judged.prediction, 0.8)
        table["80 % interval"] = [written_range(*ends, 0) for ends in zip(low[rows], high[rows], strict=True)]
    if judged.known is not None:
        table["known songs"] = judged.known[rows]
    table["reasons"] = told["reasons"].to_numpy()
    kind = np.repeat(list(chosen), [len(of) for of in chosen.values()])
    return {f"{what} predictions": table[kind == what] for what in chosen}


def _filled(names: list[str], group: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The groups that have songs, numbered anew."""
    used, numbers = np.unique(group, return_inverse=True)
    return [names[place] for place in used], numbers


def _ends(
    values: Sequence[np.ndarray], artists: np.ndarray, weights: Sequence[np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals of weighted means of columns of ``(n,)`` values."""
    columns = np.stack([np.asarray(column, np.float64) for column in values], axis=1)
    of_each = np.ones_like(columns) if weights is None else np.stack(weights, axis=1)
    return cluster_bootstrap(columns, of_each, artists, samples=_SAMPLES)


def written(value: float, digits: int) -> str:
    """A number as text, a dash for one that is none."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}".replace("-", "\u2212")


def written_range(low: float, high: float, digits: int) -> str:
    """Two ends as text, one dash where they are no numbers."""
    ends = written(low, digits), written(high, digits)
    return ends[0] if ends == ("–", "–") else " to ".join(ends)
