"""From the results of runs to tables: per song, per fold, per model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from popularity.errors import InputError
from popularity.evaluation.protocol import Run
from popularity.evaluation.runs import Result
from popularity.evaluation.significance import compare, compare_hits, ranked, repeated_folds, song_intervals
from popularity.io import write_atomically
from popularity.metrics import CLASSIFICATION, REGRESSION

#: The columns of summary.csv.
SUMMARY = (
    *("model", "folds", "mse", "mse_sd", "rmse", "mae", "r2", "spearman"),
    *("ratio_to_reference", "difference", "p_value", "wins", "seconds"),
)
_KEYS = ["model", "repeat", "fold"]
_FOLDS = [*_KEYS, *REGRESSION, "seconds", "songs_train", "songs_test", "code"]
_HIT_FOLDS = [
    *["model", "cutoff", "repeat", "fold", "value", "threshold", "hits"],
    *[*CLASSIFICATION, "seconds", "songs_train", "songs_test", "skipped", "code"],
]


@dataclass(frozen=True)
class Tables:
    """All tables of a comparison.

    Attributes:
        summary: a row per model, best ratio to the reference first.
        differences: a row per model: paired differences of MSE to the reference, with intervals.
        folds: a row per model and fold; `code` is the version of this package that made it.
        predictions: a row per model, fold and test song.
        hit_summary: a row per cut-off and model of hits.
        hit_folds: a row per model of hits, cut-off and fold.
        hits: a row per model of hits, cut-off, fold and test song.
        repeated_folds: a row per model, where several repeats test the same songs: how it does on these and on others.
    """

    summary: pd.DataFrame
    differences: pd.DataFrame
    folds: pd.DataFrame
    predictions: pd.DataFrame
    hit_summary: pd.DataFrame
    hit_folds: pd.DataFrame
    hits: pd.DataFrame
    repeated_folds: pd.DataFrame

    def write(self, folder: Path) -> None:
        """Write each table that has rows: those with a row per song or fold as Parquet, the others as CSV.

        `folds` is written as both: a small file without songs, from which anybody can repeat the paired tests.
        """
        for name in (field.name for field in fields(self)):
            table = getattr(self, name)
            as_csv = name in ("summary", "differences", "hit_summary", "repeated_folds")
            for kind in ("csv", "parquet") if name == "folds" else ("csv",) if as_csv else ("parquet",):
                path = folder / f"{name}.{kind}"
                if table.empty:
                    path.unlink(missing_ok=True)
                elif kind == "csv":
                    with write_atomically(path) as file:
                        table.to_csv(file, index=False, float_format="%.6g", lineterminator="\n")
                else:
                    with write_atomically(path, binary=True) as file:
                        table.to_parquet(file, index=False)


def tabulate(
    results: Mapping[Run, Result], songs: pd.DataFrame, *, reference: str, against: str | None = None, seed: int = 0
) -> Tables:
    """Make all tables.

    Args:
        results: of the runs that have ended well.
        songs: the whole song table.
        reference: the model that the others are compared with.
        against: another one; models of hits are compared with it, or with the reference if only that predicts hits.
        seed: of the bootstrap.

    Raises:
        InputError: models were tested on other songs than each other.
    """
    plain = {run: result for run, result in results.items() if not run.hits}
    marked = {run: result for run, result in results.items() if run.hits}
    folds = pd.DataFrame(
        [_row(run, result, **result.facts["metrics"]) for run, result in plain.items()], columns=_FOLDS
    )
    told = [_songs(run, result, prediction=result.arrays["prediction"]) for run, result in plain.items()]
    predictions = _stack(told, [*_KEYS, "row", "prediction"])
    check_folds(predictions)
    differences = compare(folds, reference)
    if not differences.empty:
        differences = differences.join(song_intervals(predictions, songs, reference, seed), on="model")
    hit_folds = pd.DataFrame([row for run, one in marked.items() for row in _hit_rows(run, one)], columns=_HIT_FOLDS)
    popularity = songs["popularity"].to_numpy(np.float64)
    hits = [part for run, result in marked.items() for part in _hits(run, result, popularity)]
    compared = next((name for name in (against, reference) if name in set(hit_folds["model"])), None)
    opposite = against if against is not None and against in set(folds["model"]) else reference
    return Tables(
        summary=summarise(folds, differences),
        differences=differences,
        folds=folds,
        predictions=predictions,
        hit_summary=summarise_hits(hit_folds, compared),
        hit_folds=hit_folds,
        hits=_stack(hits, ["model", "cutoff", "repeat", "fold", "row", "probability", "hit", "threshold"]),
        repeated_folds=repeated_folds(predictions, folds, opposite),
    )


def summarise(folds: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """One row per model with the columns `SUMMARY`: means over its folds, `seconds` of CPU per fold too.

    `mse_sd` is the standard deviation over folds; `ratio_to_reference`, `difference`, `p_value` and `wins` come from
    the folds that the model and the reference both have.
    """
    grouped = folds.groupby("model", sort=False)
    means = grouped[["mse", "rmse", "mae", "r2", "spearman", "seconds"]].mean()
    means["folds"], means["mse_sd"] = grouped.size(), grouped["mse"].std()
    paired = differences.set_index("model")[["ratio_to_reference", "difference", "p_value", "wins"]]
    table = means.join(paired).reset_index()
    table["wins"] = table["wins"].astype("Int64")
    return ranked(table)[list(SUMMARY)]


def summarise_hits(hit_folds: pd.DataFrame, reference: str | None = None) -> pd.DataFrame:
    """One row per cut-off and model of hits: means over the folds that were not skipped, and how many were.

    Where all were skipped there are 0 folds and no scores. With a reference also what :func:`compare_hits` gives.
    """
    scores, keys = ["value", "threshold", "hits", *CLASSIFICATION, "seconds"], ["cutoff", "model"]
    asked = hit_folds[hit_folds["skipped"].isna()]
    grouped = asked.groupby(keys, sort=False)
    skipped = hit_folds["skipped"].notna().groupby([hit_folds[key] for key in keys], sort=False).sum()
    table = grouped[scores].mean().reindex(skipped.index)
    table.insert(0, "folds", grouped.size().reindex(skipped.index).fillna(0).astype(int))
    table.insert(table.columns.get_loc("auroc") + 1, "auroc_sd", grouped["auroc"].std())
    table.insert(1, "skipped", skipped.astype(int))
    if reference is not None:
        table = table.join(compare_hits(asked, reference)).astype({"wins": "Int64"})
    order = {cutoff: place for place, cutoff in enumerate(dict.fromkeys(hit_folds["cutoff"]))}
    return table.reset_index().sort_values(
        ["cutoff", "auroc"],
        key=lambda column: column.map(order) if column.name == "cutoff" else -column,
        kind="stable",
        ignore_index=True,
    )


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


def _row(run: Run, result: Result, **more: Any) -> dict[str, Any]:
    facts = {key: result.facts[key] for key in ("songs_train", "songs_test")}
    # of the processor: what else a machine did meanwhile is no cost of the model
    facts |= {"seconds": result.facts["cpu_seconds"], "code": result.facts["versions"]["popularity"]}
    missing = {key: float("nan") for key, value in more.items() if value is None and key != "skipped"}
    return {"model": run.model, "repeat": run.repeat, "fold": run.fold, **facts, **more, **missing}


def _hit_rows(run: Run, result: Result) -> list[dict[str, Any]]:
    found = result.facts["scores"]
    seconds = result.facts["cpu_seconds"] / len(found)  # a run serves all cut-offs: its cost is shared out
    return [_row(run, result, cutoff=cutoff, **{**scores, "seconds": seconds}) for cutoff, scores in found.items()]


def _songs(run: Run, result: Result, **columns: Any) -> pd.DataFrame:
    """A row per test song, in the order of the song table."""
    where = {"model": run.model, "repeat": run.repeat, "fold": run.fold, "row": result.arrays["rows"]}
    return pd.DataFrame({**where, **columns}).sort_values("row", ignore_index=True)


def _hits(run: Run, result: Result, popularity: np.ndarray) -> list[pd.DataFrame]:
    truth = popularity[result.arrays["rows"]]
    return [
        _songs(
            run, result, cutoff=cutoff, probability=result.arrays[f"chance_{cutoff}"], hit=truth >= scores["value"],
            threshold=scores["threshold"],
        )
        for cutoff, scores in result.facts["scores"].items()
        if not scores.get("skipped")
    ]  # fmt: skip


def _stack(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return table.astype({name: "category" for name in ("model", "cutoff") if name in table})[columns]
