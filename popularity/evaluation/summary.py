"""From the results of jobs to tables: per song, per fold, per model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from popularity.errors import InputError
from popularity.evaluation.jobs import read_arrays, read_result
from popularity.evaluation.paired import compare, compare_hits, ranked, repeated_folds, song_intervals
from popularity.evaluation.protocol import Job, Protocol
from popularity.io import write_atomically
from popularity.metrics import CLASSIFICATION, REGRESSION

#: The columns of summary.csv.
SUMMARY = (
    "model",
    "folds",
    "mse",
    "mse_sd",
    "rmse",
    "mae",
    "r2",
    "spearman",
    "ratio_to_reference",
    "difference",
    "p_value",
    "wins",
    "seconds",
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
        hit_summary: a row per model of hits and cut-off.
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
        for field in fields(self):
            table = getattr(self, field.name)
            plain = field.name in ("summary", "differences", "hit_summary", "repeated_folds")
            for kind in ("csv", "parquet") if field.name == "folds" else ("csv",) if plain else ("parquet",):
                path = folder / f"{field.name}.{kind}"
                if table.empty:
                    path.unlink(missing_ok=True)
                elif kind == "csv":
                    with write_atomically(path) as file:
                        table.to_csv(file, index=False, float_format="%.6g", lineterminator="\n")
                else:
                    with write_atomically(path, binary=True) as file:
                        table.to_parquet(file, index=False)


def done(protocol: Protocol, jobs: Iterable[Job], folder: Path) -> dict[Job, dict[str, Any]]:
    """The results of the jobs that have ended well, in the order of the jobs."""
    found = ((job, read_result(protocol, job, folder)) for job in jobs)
    return {job: result for job, result in found if result is not None and not result["error"]}


def tabulate(
    protocol: Protocol,
    songs: pd.DataFrame,
    jobs: Iterable[Job],
    folder: Path,
    reference: str,
    against: str | None = None,
) -> Tables:
    """Make all tables from the results in a folder.

    Args:
        protocol: the comparison.
        songs: the whole song table.
        jobs: those whose results count, if there are any.
        folder: of the comparison.
        reference: the model that the others are compared with.
        against: another one; models of hits are compared with it, or with the reference if only that predicts hits.
    """
    results = done(protocol, jobs, folder)
    plain = {job: result for job, result in results.items() if not job.cutoff}
    folds = pd.DataFrame([_fold_row(job, result) for job, result in plain.items()], columns=_FOLDS)
    predictions = _predictions(plain, folder)
    differences = compare(folds, reference)
    if not differences.empty:
        differences = differences.join(song_intervals(predictions, songs, reference, protocol.seed), on="model")
    marked = {job: result for job, result in results.items() if job.cutoff}
    hit_folds = pd.DataFrame(
        [_hit_row(job, result, cutoff) for job, result in marked.items() for cutoff in result["hits"]],
        columns=_HIT_FOLDS,
    )
    compared = next((name for name in (against, reference) if name in protocol.hits), None)
    opposite = against if against is not None and against in set(folds["model"]) else reference
    return Tables(
        summary=summarise(folds, differences),
        differences=differences,
        folds=folds,
        predictions=predictions,
        hit_summary=summarise_hits(hit_folds, compared),
        hit_folds=hit_folds,
        hits=_hits(marked, songs, folder),
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
    scores = ["value", "threshold", "hits", *CLASSIFICATION, "seconds"]
    keys = ["cutoff", "model"]
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
        InputError: they were not, so that results of different runs have been mixed.
    """
    for (repeat, fold), part in predictions.groupby(["repeat", "fold"]):
        rows = part.groupby("model", observed=True)["row"].agg(lambda of_model: tuple(sorted(of_model)))
        if rows.nunique() > 1:
            raise InputError(f"repeat {repeat}, fold {fold}: {' and '.join(rows.index[:2])} were tested on other songs")


def _fold_row(job: Job, result: dict[str, Any]) -> dict[str, Any]:
    scores = {name: _number(result["metrics"][name]) for name in REGRESSION}
    where = {"model": job.model, "repeat": job.repeat, "fold": job.fold}
    songs = {key: result[key] for key in ("songs_train", "songs_test")}
    # of the processor: what else a machine did meanwhile is no cost of the model
    return {**where, **scores, "seconds": result["cpu_seconds"], **songs, "code": result["versions"]["popularity"]}


def _hit_row(job: Job, result: dict[str, Any], cutoff: str) -> dict[str, Any]:
    found = result["hits"][cutoff]
    scores = {name: _number(found.get(name)) for name in ("value", "threshold", "hits", *CLASSIFICATION)}
    where = {"model": job.model, "cutoff": cutoff, "repeat": job.repeat, "fold": job.fold}
    # a job that serves all cut-offs counts once: its seconds are shared out
    more = {"seconds": result["cpu_seconds"] / len(result["hits"]), "skipped": found.get("skipped")}
    more |= {key: result[key] for key in ("songs_train", "songs_test")}
    return {**where, **scores, **more, "code": result["versions"]["popularity"]}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _predictions(results: dict[Job, dict[str, Any]], folder: Path) -> pd.DataFrame:
    parts = []
    for job in results:
        arrays = read_arrays(job, folder)
        order = np.argsort(arrays["rows"])
        columns = {"model": job.model, "repeat": job.repeat, "fold": job.fold}
        songs = {"row": arrays["rows"][order], "prediction": arrays["prediction"][order]}
        parts.append(pd.DataFrame(columns | songs))
    return _stack(parts, [*_KEYS, "row", "prediction"])


def _hits(results: dict[Job, dict[str, Any]], songs: pd.DataFrame, folder: Path) -> pd.DataFrame:
    popularity = songs["popularity"].to_numpy(np.float64)
    parts = []
    for job, result in results.items():
        arrays = read_arrays(job, folder)
        order = np.argsort(arrays["rows"])
        rows = arrays["rows"][order]
        for cutoff, scores in result["hits"].items():
            if scores.get("skipped"):
                continue
            columns = {"model": job.model, "cutoff": cutoff, "repeat": job.repeat, "fold": job.fold, "row": rows}
            found = {"probability": arrays[f"chance_{cutoff}"][order], "hit": popularity[rows] >= scores["value"]}
            parts.append(pd.DataFrame(columns | found | {"threshold": scores["threshold"]}))
    return _stack(parts, ["model", "cutoff", "repeat", "fold", "row", "probability", "hit", "threshold"])


def _stack(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return table.astype({name: "category" for name in ("model", "cutoff") if name in table})[columns]
