"""Is one model better than another: paired tests over folds, intervals over songs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats

from popularity.data.credits import artist_names

#: Samples of the bootstrap, and the share of them that an interval holds.
SAMPLES, LEVEL = 10_000, 0.95
_CHUNK = 5_000_000  # random numbers held at once


@dataclass(frozen=True)
class Paired:
    """A paired comparison over J folds.

    Attributes:
        folds: J.
        difference: mean of the differences.
        low: lower end of the `LEVEL` interval of the difference; NaN for one fold.
        high: its upper end.
        p_value: two-sided; NaN for one fold.
        wins: folds with a difference below 0.
    """

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

    Args:
        differences: (J,) metric of a model minus that of the other on the same songs.
        test_to_train: test songs over training songs.
    """
    count, mean = len(differences), float(np.mean(differences))
    wins = int(np.sum(differences < 0))
    if count < 2:
        return Paired(count, mean, np.nan, np.nan, np.nan, wins)
    error = float(np.sqrt((1 / count + test_to_train) * np.var(differences, ddof=1)))
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * error
    # the same difference on each fold is none, or one beyond doubt
    ratio = abs(mean) / error if error > 0 else (0.0 if mean == 0 else np.inf)
    p_value = float(2 * stats.t.sf(ratio, count - 1))
    return Paired(count, mean, mean - half, mean + half, p_value, wins)


def compare(folds: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Paired differences of MSE to the reference, over the folds that a model and the reference both have.

    Args:
        folds: `model, repeat, fold, mse, songs_train, songs_test`.
        reference: name of a model; compared with itself it has a difference of 0 and no p-value.

    Returns:
        `model, reference, folds, ratio_to_reference, difference, low, high, p_value, wins` in the order of
        :func:`ranked`, for the models that share a fold with the reference.
    """
    base = folds.loc[folds["model"] == reference, ["repeat", "fold", "mse"]].rename(columns={"mse": "base"})
    rows = []
    for model, part in folds.merge(base, on=["repeat", "fold"]).groupby("model", sort=False):
        mse, other = part["mse"].to_numpy(), part["base"].to_numpy()
        found = corrected_t_test(mse - other, float((part["songs_test"] / part["songs_train"]).mean()))
        if model == reference:
            found = Paired(len(part), 0.0, np.nan, np.nan, np.nan, 0)
        ratio = mse.mean() / other.mean() if other.mean() > 0 else np.nan
        rows.append({"model": model, "reference": reference, "ratio_to_reference": ratio, **asdict(found)})
    columns = ["model", "reference", "folds", "ratio_to_reference", "difference", "low", "high", "p_value", "wins"]
    return ranked(pd.DataFrame(rows, columns=columns))


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with the best ratio first; models on fewer folds last, since their ratio is of other folds.

    Args:
        table: `folds, ratio_to_reference` and other columns; `mse`, if there, decides where there is no ratio.
    """
    keys = ["folds", "ratio_to_reference", *(name for name in ("mse",) if name in table)]
    order = [False] + [True] * (len(keys) - 1)
    return table.sort_values(keys, ascending=order, kind="stable", ignore_index=True)


def compare_hits(hit_folds: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Paired differences of AUROC to the reference at each cut-off, over the folds that both have.

    Args:
        hit_folds: `model, cutoff, repeat, fold, auroc, songs_train, songs_test`.
        reference: name of a model of hits; it has no differences.

    Returns:
        `reference, auroc_difference` (above 0: better than the reference), `auroc_low, auroc_high` and `p_value` of the
        corrected test, `wins` (folds with a difference above 0) by `cutoff, model`.
    """
    keys = ["cutoff", "repeat", "fold"]
    base = hit_folds.loc[hit_folds["model"] == reference, [*keys, "auroc"]].rename(columns={"auroc": "base"})
    both = hit_folds[hit_folds["model"] != reference].merge(base, on=keys).dropna(subset=["auroc", "base"])
    rows = []
    for (cutoff, model), part in both.groupby(["cutoff", "model"], sort=False):
        share = float((part["songs_test"] / part["songs_train"]).mean())
        found = corrected_t_test((part["base"] - part["auroc"]).to_numpy(), share)  # its wins are values below 0
        ends = (-found.high, -found.low, found.p_value, found.wins)
        rows.append((cutoff, model, reference, -found.difference, *ends))
    columns = ["reference", "auroc_difference", "auroc_low", "auroc_high", "p_value", "wins"]
    return pd.DataFrame(rows, columns=["cutoff", "model", *columns]).set_index(["cutoff", "model"])


def repeated_folds(predictions: pd.DataFrame, folds: pd.DataFrame, against: str) -> pd.DataFrame:
    """Compare separately what was tested on the same songs in several repeats and what was tested on others.

    Under a rule of groups a large group may fill a fold of its own whatever the seed: its folds are one test many times
    over. Their differences come with no interval, since their training and test songs are the same. A group that is
    smaller than a fold, filled up with other songs from repeat to repeat, is not noticed.

    Args:
        predictions: `model, repeat, fold, row`.
        folds: `model, repeat, fold, mse, songs_train, songs_test`.
        against: the model that the others are compared with.

    Returns:
        `model, against, tests` (distinct ones among the repeated folds), `songs` (in a repeated fold, on average),
        `folds_repeated, mse_repeated, difference_repeated`, `folds_others, mse_others, difference_others, low_others,
        high_others, p_others`, the model that is furthest ahead on the others first; a model of fewer repeats has its
        own numbers of folds. No row where no fold is repeated.
    """
    songs = folds.drop_duplicates(["repeat", "fold"])[["model", "repeat", "fold"]].merge(predictions)
    tested = songs.groupby(["repeat", "fold"])["row"].agg(lambda rows: tuple(sorted(rows)))
    again = tested[tested.duplicated(keep=False)]
    columns = ["model", "against", "tests", "songs"]
    columns += [f"{name}_repeated" for name in ("folds", "mse", "difference")]
    columns += [f"{name}_others" for name in ("folds", "mse", "difference", "low", "high", "p")]
    if again.empty or against not in set(folds["model"]):
        return pd.DataFrame(columns=columns)
    here = pd.MultiIndex.from_frame(folds[["repeat", "fold"]]).isin(again.index)
    parts = []
    for part in (folds[here], folds[~here]):
        found = compare(part, against).set_index("model").rename(columns={"p_value": "p"})
        parts.append(found.assign(mse=part.groupby("model", sort=False)["mse"].mean()))
    there, others = parts
    both = there.add_suffix("_repeated").join(others.add_suffix("_others"), how="left")
    both = both.fillna({"folds_others": 0}).astype({"folds_others": int})
    both = both.sort_values(["difference_others", "difference_repeated"], kind="stable")
    of_all = {"against": against, "tests": again.nunique(), "songs": round(again.map(len).mean())}
    return both.assign(**of_all).reset_index()[columns]


def song_intervals(predictions: pd.DataFrame, songs: pd.DataFrame, reference: str, seed: int) -> pd.DataFrame:
    """Bootstrap intervals over songs, clustered by first artist, of the difference of MSE to the reference.

    All predictions of a song count, one per repeat, on the folds that a model and the reference both have.

    Args:
        predictions: `model, repeat, fold, row, prediction`.
        songs: the whole song table.
        reference: name of a model.
        seed: of the bootstrap.

    Returns:
        `song_low, song_high` by model.
    """
    truth = songs["popularity"].to_numpy(np.float64)
    keys = ["repeat", "fold", "row"]
    table = predictions.assign(error=(predictions["prediction"] - truth[predictions["row"]]) ** 2)
    base = table.loc[table["model"] == reference, [*keys, "error"]].rename(columns={"error": "base"})
    both = table.merge(base, on=keys)
    place, models = pd.factorize(both["model"].astype("str"))
    sums, counts = (np.zeros((len(songs), len(models))) for _ in range(2))
    np.add.at(sums, (both["row"].to_numpy(), place), (both["error"] - both["base"]).to_numpy())
    np.add.at(counts, (both["row"].to_numpy(), place), 1)
    low, high = cluster_bootstrap(sums, counts, first_artists(songs), seed=seed)
    return pd.DataFrame({"song_low": low, "song_high": high}, index=pd.Index(models, name="model"))


def first_artists(songs: pd.DataFrame) -> np.ndarray:
    """The number of each song's first artist (n,), 0 to the number of artists - 1; without one, a number of its own."""
    codes = pd.factorize(np.array([names[0] if names else None for names in artist_names(songs)], dtype=object))[0]
    missing = codes < 0
    codes[missing] = codes.max(initial=-1) + 1 + np.arange(missing.sum())
    return np.asarray(codes)


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
        samples: how many.

    Returns:
        Lower and upper ends (m,) of the `LEVEL` intervals of sum(values) / sum(weights).
    """
    count = int(clusters.max()) + 1
    sums, sizes = (np.zeros((count, values.shape[1])) for _ in range(2))
    np.add.at(sums, clusters, values)
    np.add.at(sizes, clusters, weights)
    rng = np.random.default_rng(seed)
    means = []
    step = max(1, _CHUNK // count)
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        chosen = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(chosen.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        total = times @ sizes
        means.append(np.divide(times @ sums, total, out=np.full_like(total, np.nan), where=total > 0))
    low, high = np.nanquantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high
