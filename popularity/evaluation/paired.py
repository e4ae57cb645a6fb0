"""Paired comparisons: two models on the same folds and songs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from popularity.evaluation.significance import Paired, cluster_bootstrap, corrected_t_test, first_artists


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
        rows.append(
            {
                "model": model,
                "reference": reference,
                "folds": found.folds,
                "ratio_to_reference": mse.mean() / other.mean() if other.mean() > 0 else np.nan,
                "difference": found.difference,
                "low": found.low,
                "high": found.high,
                "p_value": found.p_value,
                "wins": found.wins,
            }
        )
    columns = ["model", "reference", "folds", "ratio_to_reference", "difference", "low", "high", "p_value", "wins"]
    return ranked(pd.DataFrame(rows, columns=columns))


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with the best ratio first; models on fewer folds after the others, since theirs is of other folds.

    Args:
        table: `folds, ratio_to_reference` and what else there is; `mse`, if there, decides where there is no ratio.
    """
    keys = ["folds", "ratio_to_reference", *(name for name in ("mse",) if name in table)]
    order = [False] + [True] * (len(keys) - 1)
    return table.sort_values(keys, ascending=order, kind="stable", ignore_index=True)


def song_intervals(predictions: pd.DataFrame, songs: pd.DataFrame, reference: str, seed: int) -> pd.DataFrame:
    """Bootstrap intervals over songs, clustered by first artist, of the difference of MSE to the reference.

    All predictions of a song count, one per repeat, on the folds that a model and the reference both have.

    Args:
        predictions: `model, repeat, fold, row, prediction`.
        songs: the whole song table.
        reference: name of a model.
        seed: of the drawings.

    Returns:
        `song_low, song_high` by model.
    """
    truth = songs["popularity"].to_numpy(np.float64)
    keys = ["repeat", "fold", "row"]
    table = predictions.assign(error=(predictions["prediction"] - truth[predictions["row"]]) ** 2)
    base = table.loc[table["model"] == reference, [*keys, "error"]].rename(columns={"error": "base"})
    both = table.merge(base, on=keys)
    models = list(dict.fromkeys(both["model"].astype("str")))
    place = both["model"].astype("str").map({model: index for index, model in enumerate(models)}).to_numpy()
    sums, counts = (np.zeros((len(songs), len(models))) for _ in range(2))
    np.add.at(sums, (both["row"].to_numpy(), place), (both["error"] - both["base"]).to_numpy())
    np.add.at(counts, (both["row"].to_numpy(), place), 1)
    low, high = cluster_bootstrap(sums, counts, first_artists(songs), seed=seed)
    return pd.DataFrame({"song_low": low, "song_high": high}, index=pd.Index(models, name="model"))


def compare_hits(hit_folds: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Paired differences of AUROC to the reference at each cut-off, over the folds that a model and the reference have.

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
    """Compare apart what was tested on the same songs in several repeats and what was tested on others.

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
        own numbers of folds. No row where no fold is repeated; where all are, nothing of others.
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
