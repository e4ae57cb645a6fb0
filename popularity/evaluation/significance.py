"""Is one model better than another: paired tests over folds, intervals over songs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from popularity.data.groups import first_artist_numbers
from popularity.metrics.intervals import Paired, cluster_bootstrap, corrected_t_test

_FOLD = ["repeat", "fold"]


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
    low, high = cluster_bootstrap(sums, counts, first_artist_numbers(songs), seed=seed)
    return pd.DataFrame({"song_low": low, "song_high": high}, index=pd.Index(models, name="model"))
