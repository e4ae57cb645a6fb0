"""From the results of runs to tables: per song, per fold, per model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from popularity.errors import InputError
from popularity.evaluation.protocol import Protocol, Run
from popularity.evaluation.runs import Result
from popularity.evaluation.significance import compare, compare_hits, ranked, repeated_folds, song_intervals
from popularity.io import write_atomically
from popularity.metrics import CLASSIFICATION, REGRESSION

#: Table -> endings of its files; folds as CSV is small and holds no songs, but all that the paired tests need.
FILES = {
    **dict.fromkeys(("summary", "differences", "hit_summary", "repeated_folds", "intervals"), ("csv",)),
    "folds": ("parquet", "csv"),
    **dict.fromkeys(("predictions", "hit_folds", "hits", "songs"), ("parquet",)),
}
#: The columns of summary.csv.
SUMMARY = (
    *("model", "folds", "mse", "mse_sd", "rmse", "mae", "r2", "spearman", "slope", "mean_residual"),
    *("ratio_to_reference", "difference", "p_value", "wins", "seconds"),
)
_KEYS = ["model", "repeat", "fold"]
_FOLDS = [*_KEYS, *REGRESSION, "seconds", "songs_train", "songs_test", "code"]
_HIT_SCORES = ["value", "threshold", "hits", *CLASSIFICATION, "seconds"]
_HIT_FOLDS = ["model", "cutoff", *_KEYS[1:], *_HIT_SCORES, "songs_train", "songs_test", "skipped", "code"]
_HITS = ["model", "cutoff", *_KEYS[1:], "row", "probability", "hit", "threshold"]

ResultTables = dict[str, pd.DataFrame]


def write_tables(tables: ResultTables, folder: Path) -> None:
    """Write the tables that have rows, and remove the files of those that have none."""
    for name, table in tables.items():
        for ending in FILES[name]:
            path = folder / f"{name}.{ending}"
            if table.empty:
                path.unlink(missing_ok=True)
                continue
            with write_atomically(path, binary=ending == "parquet") as file:
                if ending == "parquet":
                    table.to_parquet(file, index=False)
                else:
                    table.to_csv(file, index=False, float_format="%.6g", lineterminator="\n")


def tabulate(results: Mapping[Run, Result], songs: pd.DataFrame, protocol: Protocol) -> ResultTables:
    """Make all tables by name.

    ``summary`` and ``differences`` have a row per model, best ratio to the reference first; ``folds`` per model and
    fold, with the version of the code that made it; ``predictions`` per model, fold and test song; ``hit_summary``,
    ``hit_folds`` and ``hits`` the same by cut-off; ``repeated_folds`` per model, where repeats test the same songs.

    Args:
        results: of the runs that have ended well.
        songs: the whole song table.
        protocol: models of hits are compared with its `against`, or with its `reference` if only that predicts hits.

    Raises:
        InputError: models were tested on other songs than each other.
    """
    reference, against = protocol.reference, protocol.against
    plain = [(run, result) for run, result in results.items() if not run.hits]
    marked = [(run, result) for run, result in results.items() if run.hits]
    folds = pd.DataFrame([_row(*one) | one[1].facts["metrics"] for one in plain], columns=_FOLDS)
    folds = folds.astype(dict.fromkeys(REGRESSION, float))  # a result may say that it has no rank correlation
    predicted = [_songs(run, result, prediction=result.arrays["prediction"]) for run, result in plain]
    predictions = _stack(predicted, [*_KEYS, "row", "prediction"])
    check_folds(predictions)
    folds = folds.join(calibration_lines(predictions, songs), on=_KEYS)
    differences = compare(folds, reference)
    if not differences.empty:
        differences = differences.join(song_intervals(predictions, songs, reference, protocol.seed), on="model")
    hit_folds = pd.DataFrame([row for one in marked for row in _hit_rows(*one)], columns=_HIT_FOLDS)
    popularity = songs["popularity"].to_numpy(np.float64)
    hits = _stack([part for one in marked for part in _hits(*one, popularity)], _HITS)
    compared = next((name for name in (against, reference) if name in set(hit_folds["model"])), None)
    opposite = against if against is not None and against in set(folds["model"]) else reference
    return {
        "summary": summarise(folds, differences),
        "differences": differences,
        "folds": folds,
        "predictions": predictions,
        "hit_summary": summarise_hits(hit_folds, compared),
        "hit_folds": hit_folds,
        "hits": hits,
        "repeated_folds": repeated_folds(predictions, folds, opposite),
    }


def summarise(folds: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """One row per model with the columns `SUMMARY`: means over its folds, `seconds` of CPU per fold too.

    `mse_sd` is the standard deviation over folds; `ratio_to_reference`, `difference`, `p_value` and `wins` come from
    the folds that the model and the reference both have.
    """
    grouped = folds.groupby("model", sort=False)
    means = grouped[["mse", "rmse", "mae", "r2", "spearman", "slope", "mean_residual", "seconds"]].mean()
    means["folds"], means["mse_sd"] = grouped.size(), grouped["mse"].std()
    paired = differences.set_index("model")[["ratio_to_reference", "difference", "p_value", "wins"]]
    return ranked(means.join(paired).reset_index().astype({"wins": "Int64"}))[list(SUMMARY)]


def summarise_hits(hit_folds: pd.DataFrame, reference: str | None = None) -> pd.DataFrame:
    """One row per cut-off and model of hits: means over the folds that were not skipped, and how many were.

    Where all were skipped there are 0 folds and no scores. With a reference also what :func:`compare_hits` gives.
    """
    keys = ["cutoff", "model"]
    asked = hit_folds[hit_folds["skipped"].isna()]
    grouped = asked.groupby(keys, sort=False)
    counts = hit_folds.groupby(keys, sort=False)[["skipped"]].count()
    counts.insert(0, "folds", grouped.size())
    table = counts.fillna({"folds": 0}).astype(int).join(grouped[_HIT_SCORES].mean())
    table.insert(table.columns.get_loc("auroc") + 1, "auroc_sd", grouped["auroc"].std())
    if reference is not None:
        table = table.join(compare_hits(asked, reference)).astype({"wins": "Int64"})
    order = pd.Index(hit_folds["cutoff"].unique())
    table = table.reset_index().sort_values("auroc", ascending=False, kind="stable")
    return table.sort_values("cutoff", key=order.get_indexer, kind="stable", ignore_index=True)


def calibration_lines(predictions: pd.DataFrame, songs: pd.DataFrame) -> pd.DataFrame:
    """The line of the truth on the prediction in each fold, by model, repeat and fold.

    Returns:
        ``slope``, 1 where a point more in the prediction is a point more in the truth, nothing for a constant, and
        ``mean_residual``, true minus predicted in points.
    """
    truth = songs["popularity"].to_numpy(np.float64)[predictions["row"]]
    table = predictions[[*_KEYS, "prediction"]].assign(truth=truth).astype({"model": str})
    grouped = table.groupby(_KEYS)
    means = grouped.transform("mean")
    table["square"] = (table["prediction"] - means["prediction"]) ** 2
    table["product"] = (table["prediction"] - means["prediction"]) * (table["truth"] - means["truth"])
    sums = grouped[["prediction", "truth", "square", "product"]].mean()
    slope = (sums["product"] / sums["square"]).where(sums["square"] > 1e-12)
    return pd.DataFrame({"slope": slope, "mean_residual": sums["truth"] - sums["prediction"]})


def check_folds(predictions: pd.DataFrame) -> None:
    """Make sure that all models were tested on the same songs of each fold.

    Raises:
        InputError: they were not, so that results of different comparisons have been mixed.
    """
    for (repeat, fold), part in predictions.groupby(["repeat", "fold"]):
        rows = part.groupby("model", observed=True)["row"].agg(lambda of_model: tuple(sorted(of_model)))
        if rows.nunique() > 1:
            names = " and ".join(rows.index[:2])
            raise InputError(f"repeat {repeat}, fold {fold}: {names} were tested on different songs")


def _row(run: Run, result: Result) -> dict[str, Any]:
    facts = {key: result.facts[key] for key in ("songs_train", "songs_test")}
    # of the processor: what else a machine did meanwhile is no cost of the model
    facts |= {"seconds": result.facts["cpu_seconds"], "code": result.facts["versions"]["popularity"]}
    return {"model": run.model, "repeat": run.repeat, "fold": run.fold, **facts}


def _hit_rows(run: Run, result: Result) -> list[dict[str, Any]]:
    row, found = _row(run, result), result.facts["scores"]
    row["seconds"] /= len(found)  # a run serves all cut-offs: its cost is shared out
    return [row | {"cutoff": cutoff} | scores for cutoff, scores in found.items()]


def _songs(run: Run, result: Result, **columns: Any) -> pd.DataFrame:
    """A row per test song, in the order of the song table."""
    where = {"model": run.model, "repeat": run.repeat, "fold": run.fold, "row": result.arrays["rows"]}
    return pd.DataFrame({**where, **columns}).sort_values("row", ignore_index=True)


def _hits(run: Run, result: Result, popularity: np.ndarray) -> list[pd.DataFrame]:
    asked = {cutoff: scores for cutoff, scores in result.facts["scores"].items() if "skipped" not in scores}
    found = []
    for cutoff, scores in asked.items():
        columns = {"cutoff": cutoff, "threshold": scores["threshold"], "probability": result.arrays[f"chance_{cutoff}"]}
        found.append(_songs(run, result, **columns, hit=popularity[result.arrays["rows"]] >= scores["value"]))
    return found


def _stack(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return table.astype({name: "category" for name in ("model", "cutoff") if name in table})[columns]
