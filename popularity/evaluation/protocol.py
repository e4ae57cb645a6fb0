"""What is compared and how: the folds, the models and the list of jobs."""

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
from popularity.evaluation.entries import build, completed
from popularity.evaluation.folds import Fold, draw_fold

#: Goes up when the same settings give other results because the judging has changed, or what a model does beyond them.
VERSION = 2
#: Cut-offs that depend on the training songs: name -> quantile of their popularity.
QUANTILES = {"median": 0.5, "top_quarter": 0.75}
#: Stands for all cut-offs in a job of a regressor with a distribution, which needs one fit for all.
ALL = "all"

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """One model on one fold.

    Attributes:
        model: its name.
        repeat: which drawing of the folds.
        fold: which fold.
        cutoff: for hit prediction the cut-off, or `ALL`; empty for popularity.
    """

    model: str
    repeat: int
    fold: int
    cutoff: str = ""

    def path(self, folder: Path, suffix: str = ".json") -> Path:
        """The file of its result in the folder of a comparison."""
        stem = f"hit-{self.cutoff}-" if self.cutoff else ""
        return folder / "jobs" / self.model / f"{stem}r{self.repeat}-f{self.fold}{suffix}"

    def __str__(self) -> str:
        hits = f" hits {self.cutoff}" if self.cutoff else ""
        return f"{self.model}{hits}, repeat {self.repeat}, fold {self.fold}"


@dataclass(frozen=True)
class Protocol:
    """A comparison, in plain types that travel to worker processes.

    Attributes:
        source: name of the data.
        fingerprint: SHA-256 of the song table.
        deduplicate: whether duplicates were removed.
        split: how test songs are held out.
        folds: folds of a repeat; `time` has one less.
        repeats: drawings of the folds.
        seed: repeat r draws its folds from seed + r.
        models: name -> kind and settings.
        limits: name -> repeats, of models that have fewer than the others.
        hits: as `models`, for hit prediction.
        hit_limits: as `limits`, for hit prediction.
        cutoffs: a hit has at least this popularity: a number, or a name of `QUANTILES`.
    """

    source: str
    fingerprint: str
    deduplicate: bool
    split: SplitKind
    folds: int
    repeats: int
    seed: int
    models: dict[str, Settings]
    limits: dict[str, int] = field(default_factory=dict)
    hits: dict[str, Settings] = field(default_factory=dict)
    hit_limits: dict[str, int] = field(default_factory=dict)
    cutoffs: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """What all results of one folder share."""
        keys = ("source", "fingerprint", "deduplicate", "split", "folds", "seed")
        return {"version": VERSION} | {key: getattr(self, key) for key in keys}

    def folds_of(self, model: str, *, hits: bool = False) -> list[tuple[int, int]]:
        """(repeat, fold) of each job of a model."""
        limits = self.hit_limits if hits else self.limits
        repeats = min(self.repeats, limits.get(model, self.repeats))
        # the oldest songs are never test songs, and no seed changes what is older than what
        folds, repeats = (self.folds - 1, 1) if self.split == "time" else (self.folds, repeats)
        return [(repeat, fold) for repeat in range(repeats) for fold in range(folds)]

    def draw(self, songs: pd.DataFrame, repeat: int, fold: int) -> Fold:
        """Hold out a fold of the songs."""
        return draw_fold(songs, self.split, folds=self.folds, repeat=repeat, fold=fold, seed=self.seed)

    def settings(self, job: Job) -> Settings:
        """The settings of a job's model."""
        return (self.hits if job.cutoff else self.models)[job.model]

    def build(self, job: Job) -> Any:
        """Make a job's model: an `Entry`, or for a cut-off of its own a `HitEntry`.

        Raises:
            InputError: unknown kind or setting, or a package is missing.
        """
        settings = dict(self.settings(job))
        return build(job.model, settings.pop("kind"), settings)

    def jobs(self, chosen: Collection[str] | None = None, *, hits: bool = True) -> list[Job]:
        """The jobs of these models: a fold for all models before the next fold, popularity before hits.

        Without names: all jobs that there can be; without ``hits`` none of theirs. Nothing is imported then, but a
        model of hits has jobs for each cut-off and one for all of them, of which only one kind is ever run.

        Raises:
            InputError: a model cannot be made.
        """
        names = {*self.models, *self.hits} if chosen is None else chosen
        found = [
            (repeat, fold, place, Job(name, repeat, fold))
            for place, name in enumerate(self.models)
            if name in names
            for repeat, fold in self.folds_of(name)
        ]
        of_hits = [
            (repeat, fold, place, Job(name, repeat, fold, cutoff))
            for place, name in enumerate(self.hits)
            if name in names and hits
            for cutoff in ((*self.cutoffs, ALL) if chosen is None else self.cutoffs_of(name))
            for repeat, fold in self.folds_of(name, hits=True)
        ]
        return [job for *_, job in sorted(found, key=lambda row: row[:3]) + sorted(of_hits, key=lambda row: row[:3])]

    def cutoffs_of(self, name: str) -> tuple[str, ...]:
        """The cut-offs for which a model of hits has jobs of its own."""
        return self.cutoffs if hasattr(self.build(Job(name, 0, 0, ALL)), "fit_probability") else (ALL,)

    def config_hash(self, job: Job) -> str:
        """SHA-256 of all settings of a job's model, defaults and the content of its config files included."""
        settings, cutoffs = completed(self.settings(job)), self.cutoffs if job.cutoff == ALL else ()
        text = json.dumps([VERSION, settings, _contents(settings), cutoffs], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def _contents(settings: Settings) -> dict[str, str]:
    """Path -> SHA-256 of each config file that the settings name, members included."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if key == "configs":
            for path in value:
                try:
                    found[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
                except OSError as error:
                    raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        elif isinstance(value, Mapping):
            found |= _contents(value)
    return found
