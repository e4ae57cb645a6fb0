"""What the sections of the page draw from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from popularity.evaluation.report import errors, hits
from popularity.evaluation.report.intervals import compare_ratios
from popularity.evaluation.report.style import MOST, Look, looks
from popularity.evaluation.report.tables import LeftOut, Tables
from popularity.evaluation.significance import first_artists


@dataclass(frozen=True)
class Comparison:
    """What the sections draw from; what several of them need is computed once.

    Attributes:
        tables: the folder's tables and the songs.
        reference: the model that others are compared with.
        focus: the models that plots of single songs show.
    """

    tables: Tables
    reference: str
    focus: tuple[str, ...]

    @cached_property
    def looks(self) -> dict[str, Look]:
        """How the models in focus are drawn."""
        return looks(self.focus, self.reference)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Every model beside the reference, on the folds that both have; intervals over songs where they are given."""
        scores = compare_ratios(self.tables.table("folds.parquet"), self.reference)
        if scores.empty:
            raise LeftOut(f"the reference {self.reference} has no fold in folds.parquet")
        try:
            given = self.tables.table("differences.csv")
        except LeftOut:
            return scores
        ends = ["song_low", "song_high"]
        if not {"reference", *ends} <= set(given) or set(given["reference"]) != {self.reference}:
            return scores
        return scores.join(given.set_index("model")[ends], on="model")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Predictions of the models in focus, with truth and residual, for the folds that all of these have."""
        found = self.tables.predictions(list(self.focus))
        folds = found[["model", "repeat", "fold"]].drop_duplicates().groupby(["repeat", "fold"]).size()
        shared = folds.index[folds == found["model"].nunique()]
        if shared.empty:
            raise LeftOut(f"{', '.join(self.focus)} have no fold in common")
        return found[found.set_index(["repeat", "fold"]).index.isin(shared)].reset_index(drop=True)

    @cached_property
    def drawn(self) -> dict[str, Look]:
        """The models in focus that have predictions."""
        present = set(self.predictions["model"])
        return {model: look for model, look in self.looks.items() if model in present}

    @cached_property
    def by_known(self) -> pd.DataFrame:
        """Errors of the models in focus by the number of known songs."""
        joined = self.predictions.merge(self.tables.known_songs(), on=["repeat", "fold", "row"], validate="many_to_one")
        if not joined["known"].any():
            raise LeftOut(f"no artist of a test song is known in any fold of the split {self.tables.split}")
        return errors.grouped_errors(
            joined, errors.known_group(joined["known"].to_numpy()), first_artists(self.tables.songs)
        )

    @cached_property
    def hits(self) -> pd.DataFrame:
        """Hit predictions at the one cut-off that curves are drawn for: the one nearest to a quarter of hits."""
        table = self.tables.table("hits.parquet")
        rates = table.groupby("cutoff")["hit"].mean()
        chosen = str((rates - 0.25).abs().sort_index().idxmin())
        return table[table["cutoff"] == chosen].reset_index(drop=True)

    @cached_property
    def hit_scores(self) -> pd.DataFrame:
        """AUROC and average precision at that cut-off."""
        scores = hits.fold_scores(self.hits)
        if scores.empty:
            raise LeftOut(f"no fold holds both hits and others at the cut-off {self.hits['cutoff'].iloc[0]}")
        return scores

    @cached_property
    def hit_looks(self) -> dict[str, Look]:
        """The best hit models and those in focus, at most six, best first; one in focus looks as it does elsewhere."""
        names = self.hit_scores["model"].tolist()
        kept = [name for name in names if name in self.focus][:MOST]
        kept += [name for name in names if name not in kept][: MOST - len(kept)]
        return looks([name for name in names if name in kept], self.reference, self.looks)

    @property
    def hit_words(self) -> str:
        """The cut-off in words."""
        return hits.cutoff_name(self.hits["cutoff"].iloc[0])
