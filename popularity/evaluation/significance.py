"""Is one model better than another: paired tests over folds, intervals over songs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats

from popularity.data.albums import first_artists
from popularity.data.groups import own_group_where_missing

#: Samples of the bootstrap, and the share of them that an interval holds.
SAMPLES, LEVEL = 10_000, 0.95
_CHUNK = 5_000_000  # random numbers held at once
_FOLD = ["repeat", "fold"]


@dataclass(frozen=True)
class Paired:
    """Mean of paired differences over J folds, with its interval and p-value (NaN for one fold), and folds below 0."""

    folds: int
    difference: float
    low: float
    high: float
    p_value: float
    wins: int


def corrected_t_test(differences: np.ndarray, test_to_train: float) -> Paired:
    r"""Corrected resampled t-test (Nadeau & Bengio, 2003, section 3, with the K-fold form of Bouckaert & Frank, 2004).

    Folds share training songs, so their differences are correlated and :math:`s^2 / J` is far too small. The test
    takes :math:`(1 / J + n_{test} / n_{train}) s^2` as the variance of the mean of J = folds x repeats differences, and
    the t-distribution with J - 1 degrees of freedom.

    `differences` are (J,) metrics of a model minus those of the other on the same songs.
    """
    count, mean = len(differences), float(np.mean(differences))
    wins = int(np.sum(differences < 0))
    if count < 2:
        return Paired(count, mean, np.nan, np.nan, np.nan, wins)
    error = float(np.sqrt((1 / count + test_to_train) * np.var(differences, ddof=1)))
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * error
    # the same difference on each fold is none, or one beyond doubt
    ratio = abs(mean) / error if error > 0 else (0.0 if mean == 0 else np.inf)
    return Paired(count, mean, mean - half, mean + half, float(2 * stats.t.sf(ratio, count - 1)), wins)


def _beside(table: pd.DataFrame, reference: str, keys: Sequence[str], metric: str) -> pd.DataFrame:
    """The rows with the reference's metric of the same `keys` as ``base``; rows without one are left out."""
    base = table.loc[table["model"] == reference, [*keys, metric]].rename(columns={metric: "base"})
    return table.merge(base, on=list(keys))


def _test(folds: pd.DataFrame, differences: pd.Series) -> Paired:
    return corrected_t_test(differences.to_numpy(), float((folds["songs_test"] / folds["songs_train"]).mean()))


def compare(folds: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Paired differences of MSE to the reference, over the folds that a model and the reference both have.

    The interval of the ratio r = mean(a) / mean(b) is the corrected one of a - r b over mean(b): the delta method.
    Compared with itself the reference has a difference of 0, no intervals and no p-value.

    Args:
        folds: `model, repeat, fold, mse, songs_train, songs_test`.
        reference: name of a model.

    Returns:
        `model, reference, folds, ratio_to_reference, difference, low, high, p_value, wins, ratio_low, ratio_high` in
        the order of :func:`ranked`, for the models that share a fold with the reference.
    """
    rows = []
    for model, part in _beside(folds, reference, _FOLD, "mse").groupby("model", sort=False):
        mean = float(part["base"].mean()) or np.nan
        ratio = part["mse"].mean() / mean
        around = _test(part, part["mse"] - ratio * part["base"])
        row = {"model": model, "reference": reference, "ratio_to_reference": ratio}
        row |= asdict(_test(part, part["mse"] - part["base"]))
        rows.append(row | {"ratio_low": ratio + around.low / mean, "ratio_high": ratio + around.high / mean})
    columns = ["model", "reference", "folds", "ratio_to_reference", "difference", "low", "high", "p_value", "wins"]
    table = pd.DataFrame(rows, columns=[*columns, "ratio_low", "ratio_high"])
    table.loc[table["model"] == reference, ["low", "high", "p_value", "ratio_low", "ratio_high"]] = np.nan
    return ranked(table)


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with the best ratio (then `mse`) first; models on fewer folds last: their ratio is of other folds."""
    keys = [name for name in ("ratio_to_reference", "mse") if name in table]
    table = table.sort_values(keys, kind="stable")
    return table.sort_values("folds", ascending=False, kind="stable", ignore_index=True)


def compare_hits(hit_folds: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Paired differences of AUROC to the reference at each cut-off, over the folds that both have.

    Args:
        hit_folds: `model, cutoff, repeat, fold, auroc, songs_train, songs_test`.
        reference: name of a model of hits; it has no row.

    Returns:
        `reference, auroc_difference` (above 0: better), `auroc_low, auroc_high, p_value, wins` by `cutoff, model`.
    """
    both = _beside(hit_folds, reference, ["cutoff", *_FOLD], "auroc").dropna(subset=["auroc", "base"])
    rows = []
    for key, part in both[both["model"] != reference].groupby(["cutoff", "model"], sort=False):
        found = _test(part, part["base"] - part["auroc"])  # its wins are values below 0
        rows.append((*key, reference, -found.difference, -found.high, -found.low, found.p_value, found.wins))
    columns = ["reference", "auroc_difference", "auroc_low", "auroc_high", "p_value", "wins"]
    return pd.DataFrame(rows, columns=["cutoff", "model", *columns]).set_index(["cutoff", "model"])


def repeated_folds(predictions: pd.DataFrame, folds: pd.DataFrame, against: str) -> pd.DataFrame:
    """Compare separately what was tested on the same songs in several repeats and what was tested on others.

    Under a rule of groups a large group may fill a fold of its own whatever the seed: its folds are one test many times
    over. Their differences come with no interval, since their training and test songs are the same. A group that is
    smaller than a fold, filled up with other songs from repeat to repeat, is not noticed.

    Args:
        predictions: `model, repeat, fold, row`.
        folds: as :func:`compare` takes them.
        against: the model that the others are compared with.

    Returns:
        `model, against, tests` (distinct ones among the repeated folds), `songs` (in a repeated fold, on average),
        `folds_repeated, mse_repeated, difference_repeated`, `folds_others, mse_others, difference_others, low_others,
        high_others, p_others`, the model that is furthest ahead on the others first; a model of fewer repeats has its
        own numbers of folds. No row where no fold is repeated.
    """
    songs = folds.drop_duplicates(_FOLD)[["model", *_FOLD]].merge(predictions)
    tested = songs.groupby(_FOLD)["row"].agg(lambda rows: tuple(sorted(rows)))
    again = tested[tested.duplicated(keep=False)]
    columns = ["model", "against", "tests", "songs"]
    columns += [f"{name}_repeated" for name in ("folds", "mse", "difference")]
    columns += [f"{name}_others" for name in ("folds", "mse", "difference", "low", "high", "p")]
    if again.empty or against not in set(folds["model"]):
        return pd.DataFrame(columns=columns)
    here = pd.MultiIndex.from_frame(folds[_FOLD]).isin(again.index)
    there, others = (
        compare(part, against)
        .set_index("model")
        .rename(columns={"p_value": "p"})
        .assign(mse=part.groupby("model", sort=False)["mse"].mean())
        for part in (folds[here], folds[~here])
    )
    both = there.add_suffix("_repeated").join(others.add_suffix("_others"), how="left")
    both = both.fillna({"folds_others": 0}).astype({"folds_others": int})
    both = both.sort_values(["difference_others", "difference_repeated"], kind="stable")
    of_all = {"against": against, "tests": again.nunique(), "songs": round(again.map(len).mean())}
    return both.assign(**of_all).reset_index()[columns]


def song_intervals(predictions: pd.DataFrame, songs: pd.DataFrame, reference: str, seed: int) -> pd.DataFrame:
    """Bootstrap intervals over songs, clustered by first artist, of the difference of MSE to the reference.

    All predictions of a song count, one per repeat, on the folds that a model and the reference both have.

    Returns:
        `song_low, song_high` by model, from `model, repeat, fold, row, prediction` and the whole song table.
    """
    truth = songs["popularity"].to_numpy(np.float64)
    table = predictions.assign(error=(predictions["prediction"] - truth[predictions["row"]]) ** 2)
    both = _beside(table, reference, [*_FOLD, "row"], "error")
    place, models = pd.factorize(both["model"].astype("str"))
    sums, counts = (np.zeros((len(songs), len(models))) for _ in range(2))
    np.add.at(sums, (both["row"].to_numpy(), place), (both["error"] - both["base"]).to_numpy())
    np.add.at(counts, (both["row"].to_numpy(), place), 1)
    low, high = cluster_bootstrap(sums, counts, own_group_where_missing(first_artists(songs)), seed=seed)
    return pd.DataFrame({"song_low": low, "song_high": high}, index=pd.Index(models, name="model"))


def cluster_bootstrap(
    values: np.ndarray, weights: np.ndarray, clusters: np.ndarray, *, seed: int = 0, samples: int = SAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile intervals of means over songs when clusters of songs are sampled with replacement.

    All columns see the same samples. The interval says what other songs would have given the fitted models; what other
    training songs would have made of the models is for the t-test to say.

    Args:
        values: (n, m) sums of a quantity per song, such as of a difference of squared errors over repeats.
        weights: (n, m) how many terms each sum has, 0 where a song was not predicted.
        clusters: (n,) number of each song's cluster, 0 to C - 1.
        seed: of the samples.
        samples: number of samples.

    Returns:
        Lower and upper ends (m,) of the `LEVEL` intervals of sum(values) / sum(weights).
    """
    count = int(clusters.max()) + 1
    sums, sizes = (np.zeros((count, values.shape[1])) for _ in range(2))
    np.add.at(sums, clusters, values)
    np.add.at(sizes, clusters, weights)
    rng, means, step = np.random.default_rng(seed), [], max(1, _CHUNK // count)
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        chosen = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(chosen.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        total = times @ sizes
        means.append(np.divide(times @ sums, total, out=np.full_like(total, np.nan), where=total > 0))
    low, high = np.nanquantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high
