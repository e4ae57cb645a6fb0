"""The tables in the folder of a comparison, read again, and what the report derives from them.

A `row` is a row number of the song table. Residuals are true minus predicted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from popularity.data.credits import credits
from popularity.data.groups import first_artist_numbers
from popularity.errors import InputError
from popularity.evaluation.tables import FILES, ResultTables
from popularity.metrics.intervals import clustered_half_width

PREFERRED = ("mamba", "lightgbm", "tabm")  # shown in pictures of songs wherever they were compared
_AT_ONCE = 1_000  # songs whose pairs with known songs are in memory: a busy artist has thousands of songs


@dataclass(frozen=True)
class Results:
    """A comparison as its folder holds it: what ``protocol.json`` says, and the tables that are there and have rows."""

    protocol: dict[str, Any]
    tables: ResultTables

    @property
    def reference(self) -> str | None:
        """The model that others are compared with."""
        return str(self.tables["differences"]["reference"].iloc[0]) if "differences" in self.tables else None

    def focus(self) -> list[str]:
        """At most four models that pictures of songs show, best first: the best, some preferred ones, the reference.

        Only those on as many folds as any: errors on 10 and on 25 folds do not belong in one picture.
        """
        if not {"summary", "predictions", "songs"} <= self.tables.keys():
            return []
        summary = self.tables["summary"]
        models = summary.loc[summary["folds"] == summary["folds"].max(), "model"].tolist()
        wanted = dict.fromkeys([models[0], self.reference, *PREFERRED, *models])
        return sorted([name for name in wanted if name in models][:4], key=models.index)


def read_results(folder: Path) -> Results:
    """Read the tables of a comparison, any of which may be absent but for the summaries.

    Raises:
        InputError: There is no summary, or a table cannot be read.
    """
    tables = {}
    names = [f"{name}.{endings[0]}" for name, endings in FILES.items()]
    for path in [folder / name for name in (*names, "published_results.csv") if (folder / name).is_file()]:
        try:
            table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype={"cutoff": "str"})
        except (ValueError, OSError) as error:  # pyarrow's errors are both
            raise InputError(f"{path}: cannot be read as a table: {str(error).splitlines()[0]}") from error
        if len(table):
            tables[path.stem] = table.astype(dict.fromkeys({"model", "cutoff", "reference"}.intersection(table), "str"))
    if not {"summary", "hit_summary"} & tables.keys():
        raise InputError(f"{folder}: expected summary.csv or hit_summary.csv of a comparison, found neither")
    path = folder / "protocol.json"
    return Results(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}, tables)


def song_errors(results: Results, models: Sequence[str]) -> pd.DataFrame:
    """Return the predictions of these models with ``truth`` and ``residual`` (true minus predicted)."""
    table = results.tables["predictions"].query("model in @models").reset_index(drop=True)
    truth = results.tables["songs"]["popularity"].to_numpy(np.float64)[table["row"]]
    return table.assign(truth=truth, residual=truth - table["prediction"])


def fold_rows(results: Results) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """Return rows of training and of test songs by (repeat, fold); under `time` training songs are the older ones."""
    songs, parts = results.tables["songs"], {}
    for (repeat, fold), part in results.tables["predictions"].groupby(["repeat", "fold"]):
        test = np.unique(part["row"])
        train = np.setdiff1d(np.arange(len(songs)), test)
        if results.protocol.get("split") == "time":
            train = np.flatnonzero(songs["release_date"] < songs["release_date"].iloc[test].min())
        parts[int(repeat), int(fold)] = (train, test)
    return parts


def known_songs(results: Results) -> pd.DataFrame:
    """Return ``repeat, fold, row, known``: how many training songs share a credited name with each test song."""
    names = pd.Series(credits(results.tables["songs"])).explode().dropna()
    codes, distinct = pd.factorize(names)
    shape = (len(results.tables["songs"]), max(len(distinct), 1))
    credited = csr_array((np.ones(len(codes), np.int32), (names.index.to_numpy(), codes)), shape=shape)
    found = []
    for (repeat, fold), (train, test) in fold_rows(results).items():
        of_train = csr_array(credited[train].T)
        parts = np.split(test, range(_AT_ONCE, len(test), _AT_ONCE))
        counts = [np.diff((credited[part] @ of_train).indptr) for part in parts]
        found.append(pd.DataFrame({"repeat": repeat, "fold": fold, "row": test, "known": np.concatenate(counts)}))
    return pd.concat(found, ignore_index=True)


def grouped_errors(errors: pd.DataFrame, groups: np.ndarray, songs: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Errors of each model in each group of predictions: of :func:`song_errors`, n rows with (n,) numbers of groups.

    Returns:
        ``model, group, predictions, songs, mse, mse_half, residual, residual_half, rmse, rmse_half``, and ``ratio`` of
        mean squared errors to the reference's; a half is half the width of a 95 % interval clustered by artist. `songs`
        counts a song once, however often it was tested.
    """
    artists, rows = first_artist_numbers(songs), []
    for (model, group), part in errors.groupby([errors["model"], groups]):
        row = {"model": model, "group": group, "predictions": len(part), "songs": part["row"].nunique()}
        for name, values in (("mse", part["residual"] ** 2), ("residual", part["residual"])):
            half = clustered_half_width(values.to_numpy(), artists[part["row"]])
            row |= {name: values.mean(), f"{name}_half": half}
        rows.append(row)
    table = pd.DataFrame(rows)
    table["rmse"] = np.sqrt(table["mse"])
    table["rmse_half"] = table["mse_half"] / (2 * table["rmse"].where(table["rmse"] > 0))  # the delta method
    base = table[table["model"] == reference].set_index("group")["mse"]
    return table.assign(ratio=table["mse"] / table["group"].map(base))
