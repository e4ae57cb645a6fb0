"""What is compared and how: the folds, the models and the list of runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from popularity.data.splits import SplitKind
from popularity.errors import InputError
from popularity.evaluation.folds import Fold, make_fold
from popularity.evaluation.models import Model, build_model

#: Goes up when the same settings give other results because the judging has changed, or what a model does beyond them.
VERSION = 4

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One model on one fold.

    Attributes:
        model: its name.
        repeat: the repeat that the fold belongs to.
        fold: the fold.
        hits: hit prediction, at all cut-offs; otherwise popularity.
    """

    model: str
    repeat: int
    fold: int
    hits: bool = False

    def path(self, folder: Path) -> Path:
        """The file of its result in the folder of a comparison."""
        return folder / "runs" / self.model / f"{'hits-' if self.hits else ''}r{self.repeat}-f{self.fold}.npz"

    def __str__(self) -> str:
        return f"{self.model}{' (hits)' if self.hits else ''}, repeat {self.repeat}, fold {self.fold}"


@dataclass(frozen=True)
class Protocol:
    """A comparison, in plain types that travel to worker processes.

    Attributes:
        source: name of the data.
        fingerprint: SHA-256 of the song table.
        deduplicate: whether duplicates were removed.
        split: how test songs are held out.
        folds: folds of a repeat; `time` has one less.
        repeats: how often the folds are made.
        seed: the folds of repeat r are made with seed + r.
        models: name -> settings of the models of popularity, which predict hits too.
        classifiers: name -> settings of the models of hits alone.
        limits: name -> repeats, of models that have fewer than the others.
        cutoffs: a hit has at least this popularity: a number, or a quantile.
    """

    source: str
    fingerprint: str
    deduplicate: bool
    split: SplitKind
    folds: int
    repeats: int
    seed: int
    models: dict[str, Settings]
    classifiers: dict[str, Settings] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    cutoffs: tuple[str, ...] = ()

    def shared(self) -> dict[str, Any]:
        """What all results of one folder share."""
        keys = ("source", "fingerprint", "deduplicate", "split", "folds", "seed")
        return {"version": VERSION} | {key: getattr(self, key) for key in keys}

    def make_fold(self, songs: pd.DataFrame, repeat: int, fold: int) -> Fold:
        """Hold out a fold of the songs."""
        return make_fold(songs, self.split, folds=self.folds, repeat=repeat, fold=fold, seed=self.seed)

    def build(self, name: str) -> Model:
        """Make a model.

        Raises:
            InputError: unknown settings, or a missing package.
        """
        model = build_model(name, {**self.models, **self.classifiers}[name])
        if (model.fit_predict is None) == (name in self.models):
            raise InputError(
                f"model {name}: expected classifiers under hits.models, and models of popularity under models"
            )
        return model

    def runs(self, chosen: Collection[str] | None = None, *, hits: bool = True) -> list[Run]:
        """The runs of these models, or of all: a fold for all models before the next fold, popularity before hits."""
        names = [name for name in (*self.models, *self.classifiers) if chosen is None or name in chosen]
        of_hits = [(True, name) for name in names if hits and self.cutoffs]
        found = [
            (of_hit, repeat, fold, place, name)
            for place, (of_hit, name) in enumerate([(False, name) for name in names if name in self.models] + of_hits)
            for repeat, fold in self.folds_of(name)
        ]
        return [Run(name, repeat, fold, of_hit) for of_hit, repeat, fold, _, name in sorted(found)]

    def folds_of(self, model: str) -> list[tuple[int, int]]:
        """(repeat, fold) of each run of a model."""
        repeats = min(self.repeats, self.limits.get(model, self.repeats))
        # the oldest songs are never test songs, and no seed changes which songs are older
        folds, repeats = (self.folds - 1, 1) if self.split == "time" else (self.folds, repeats)
        return [(repeat, fold) for repeat in range(repeats) for fold in range(folds)]

    def config_hash(self, run: Run) -> str:
        """SHA-256 of all that a run's result depends on beside songs and folds: settings, defaults, config files."""
        text = json.dumps(
            [VERSION, self.build(run.model).settings, self.cutoffs if run.hits else ()], sort_keys=True, default=str
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def described(self, names: Collection[str]) -> dict[str, dict[str, Any]]:
        """Name -> settings of a model, and what it reads and may try."""
        found = {}
        for name in names:
            model, settings = self.build(name), {**self.models, **self.classifiers}[name]
            found[name] = {"settings": dict(settings), "feature_set": model.feature_set, "budget": model.budget}
            found[name] |= {"balance": model.settings["balance"]} if "balance" in model.settings else {}
        return found
