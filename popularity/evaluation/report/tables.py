"""The tables of a comparison, read once, with a reason in words where one is absent."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from popularity.data.credits import credits
from popularity.data.splits import SplitKind
from popularity.errors import InputError

#: The columns that the report reads of each table; other columns are welcome.
COLUMNS: dict[str, tuple[str, ...]] = {
    "predictions.parquet": ("model", "repeat", "fold", "row", "prediction"),
    "folds.parquet": ("model", "repeat", "fold", "mse", "songs_train", "songs_test"),
    "differences.csv": ("model",),
    "summary.csv": ("model", "folds", "mse"),
    "hits.parquet": ("model", "cutoff", "repeat", "fold", "row", "probability", "hit", "threshold"),
    "hit_summary.csv": ("model", "cutoff"),
    "claims.csv": (),
    "repeated_folds.csv": (
        *("model", "against", "songs", "folds_repeated", "mse_repeated", "difference_repeated"),
        *("folds_others", "mse_others", "difference_others", "low_others", "high_others"),
    ),
}


class LeftOut(Exception):
    """A part of the report cannot be shown; the message says why, in words for its reader."""


@dataclass(frozen=True)
class Tables:
    """The folder of a comparison. Every table is read when it is first asked for.

    Attributes:
        folder: where ``folds.parquet`` and the others lie.
        songs: the song table (n rows) that was compared on; a `row` is a row number of it.
        split: the rule by which the folds were drawn.
    """

    folder: Path
    songs: pd.DataFrame
    split: SplitKind = "random"
    _read: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)

    def table(self, name: str) -> pd.DataFrame:
        """Return a table by its file name.

        Raises:
            LeftOut: there is no such file, or it has no rows.
            InputError: it lacks a column, or its rows are not those of the song table.
        """
        if name not in self._read:
            self._read[name] = self._load(name)
        return self._read[name]

    def _load(self, name: str) -> pd.DataFrame:
        path = self.folder / name
        if not path.is_file():
            raise LeftOut(f"{name} is not in the folder of results")
        try:
            table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        except pd.errors.EmptyDataError:
            raise LeftOut(f"{name} is empty") from None
        except (ValueError, OSError) as error:  # pyarrow's errors are both
            raise InputError(f"{path}: cannot be read as a table: {str(error).splitlines()[0]}") from error
        if lacking := [column for column in COLUMNS[name] if column not in table]:
            raise InputError(f"{path}: expected the column {lacking[0]}, found {', '.join(table) or 'none'}")
        if table.empty:
            raise LeftOut(f"{name} has no rows")
        for column in ("model", "cutoff", "reference"):
            if column in table:
                table[column] = table[column].astype("str")
        if "row" in table and not table["row"].between(0, len(self.songs) - 1).all():
            raise InputError(
                f"{path}: expected rows from 0 to {len(self.songs) - 1:,} of the song table, found "
                f"{table['row'].min():,} to {table['row'].max():,}: these songs are not the ones compared"
            )
        return table

    def predictions(self, models: list[str]) -> pd.DataFrame:
        """Return ``model, repeat, fold, row, prediction, truth, residual`` of these models; the residual is predicted
        minus true.

        Raises:
            LeftOut: the table is absent or knows none of the models.
        """
        table = self.table("predictions.parquet")
        chosen = table[table["model"].isin(models)].reset_index(drop=True)
        if chosen.empty:
            raise LeftOut(f"predictions.parquet has no rows of {', '.join(models)}")
        truth = self.songs["popularity"].to_numpy(dtype=np.float64)[chosen["row"].to_numpy()]
        return chosen.assign(truth=truth, residual=chosen["prediction"].to_numpy() - truth)

    def test_rows(self) -> dict[tuple[int, int], np.ndarray]:
        """Return the sorted row numbers of the test songs of each (repeat, fold)."""
        rows = self.table("predictions.parquet")[["repeat", "fold", "row"]].drop_duplicates()
        return {
            (int(repeat), int(fold)): np.sort(part["row"].to_numpy())
            for (repeat, fold), part in rows.groupby(["repeat", "fold"], sort=True)
        }

    def train_rows(self, test: np.ndarray) -> np.ndarray:
        """Return the rows that models could learn from when these were tested: all others, under `time` all older."""
        if self.split == "time":
            days = self.songs["release_date"].to_numpy(dtype="datetime64[us]")
            return np.flatnonzero(days < days[test].min())  # NaT is never smaller
        return np.setdiff1d(np.arange(len(self.songs)), test)

    def known_songs(self) -> pd.DataFrame:
        """Return ``repeat, fold, row, known``: how many training songs share a credited name with each test song.

        Raises:
            LeftOut: there are no predictions, or the songs name nobody.
        """
        parts = self.test_rows()
        names = credits(self.songs)
        if not any(names):
            raise LeftOut("the song table names no artists")
        shared = _share_a_name(names)
        found = []
        for (repeat, fold), test in parts.items():
            train = np.zeros(len(self.songs))
            train[self.train_rows(test)] = 1
            known = (shared @ train)[test].astype(np.int64)
            found.append(pd.DataFrame({"repeat": repeat, "fold": fold, "row": test, "known": known}))
        return pd.concat(found, ignore_index=True)


def _share_a_name(names: list[tuple[str, ...]]) -> csr_array:
    """Return (n, n), 1 where two different songs credit a name in common."""
    rows = np.repeat(np.arange(len(names)), [len(of_song) for of_song in names])
    codes = pd.factorize(np.array([name for of_song in names for name in of_song], dtype=object))[0]
    credited = csr_array((np.ones(len(rows)), (rows, codes)), shape=(len(names), codes.max() + 1))
    shared = csr_array(credited @ credited.T)
    shared.setdiag(0)
    shared.eliminate_zeros()
    shared.data[:] = 1
    return shared
