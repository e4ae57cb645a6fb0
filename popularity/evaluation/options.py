"""The flags of ``compare``, and how they and a config file become a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from popularity.data.songs import load_songs
from popularity.errors import InputError
from popularity.evaluation.hits import parse_cutoff
from popularity.evaluation.protocol import Data, Options, Protocol
from popularity.parsing import Parser
from popularity.program import program


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
class Comparison:
    """A command line that can be carried out: with all models of the config, of which the `chosen` are to be run.

    `understood` are lines on what the loader understood of the file; `hits`: whether runs of hits are to be done.
    """

    protocol: Protocol
    songs: pd.DataFrame
    understood: list[str]
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
    asked = described = config.models
    if isinstance(asked, str):  # names on the command line took the place of the descriptions: read those again
        described = parser.parse_args([f"--config={path}" for path in config.config or []]).models
    data = Data(**vars(config.data))
    options = Options(**{field.name: config[field.name] for field in fields(Options)})
    if not isinstance(described, dict) or not described:
        raise InputError("compare needs a config that describes models: -c compare")
    classifiers = config.hits.models or {}
    cutoffs = tuple(dict.fromkeys(parse_cutoff(value) for value in config.hits.cutoffs or []))
    if classifiers and not cutoffs:
        raise InputError("hits.models: expected hits.cutoffs as well, such as [50, 75, median]")
    if twice := described.keys() & classifiers.keys():
        raise InputError(f"hits.models: {min(twice)} is the name of another model")
    every = {name: dict(settings) for name, settings in {**described, **classifiers}.items()}
    limits = _limits(every)
    for flag, name in (("reference", options.reference), ("against", options.against)):
        if name is not None and name not in described:
            raise InputError(f"--{flag} {name}: expected one of {', '.join(described)}")
    chosen = [name.strip() for name in asked.split(",")] if isinstance(asked, str) else list(every)
    if unknown := [name for name in chosen if name not in every]:
        raise InputError(f"--models: expected some of {', '.join(every)}, got {unknown[0]!r}")
    cache = Path(data.cache_dir) if data.cache_dir else None
    table = load_songs(data.source, cache_dir=cache, deduplicate=data.deduplicate, columns=data.columns)
    protocol = Protocol(
        **{**vars(data), **vars(options)},
        fingerprint=table.fingerprint,
        models={name: every[name] for name in described},
        classifiers={name: every[name] for name in classifiers},
        limits=limits,
        cutoffs=cutoffs,
    )
    return Comparison(protocol, table.songs, table.report.lines(), frozenset(chosen), config.hits.run)


def _limits(models: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Check the names, and take ``repeats``, which no result depends on, out of the settings."""
    found = {}
    for name, settings in models.items():
        plain = isinstance(name, str) and name and not name.startswith(".")  # YAML reads some names as numbers
        if not plain or any(one in str(name) for one in "/\\,"):
            raise InputError(f"models: expected a name that a folder can have, without commas, got {name!r}")
        repeats = settings.pop("repeats", None)
        if repeats is None:
            continue
        if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
            raise InputError(f"model {name}: repeats: expected a whole number of at least 1, got {repeats!r}")
        found[name] = repeats
    return found
