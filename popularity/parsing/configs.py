"""The configs that the package ships, by name: ``--config mamba`` works from any folder."""

from __future__ import annotations

import importlib.resources
import itertools
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import yaml

from popularity.errors import InputError

_FLAGS = ("-c", "--config")
#: Depth of a config, and aliases in it: more than anybody writes.
_MOST = 50
#: LibYAML where PyYAML was built with it: a config is looked at several times before it is parsed.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def config_folder() -> Path:
    """The folder of the shipped configs: inside the installed package, or beside it in a checkout."""
    package = Path(str(importlib.resources.files("popularity")))
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def shipped_configs() -> list[str]:
    """Names of the shipped configs, such as ``mamba`` and ``ablations/no_history``."""
    folder = config_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def shipped_config(name: str) -> Path | None:
    """The file of a shipped config; ``None`` if there is none of this name."""
    return config_folder() / f"{name}.yaml" if name in shipped_configs() else None


def resolve_config(text: str) -> str:
    """The path of a config file that is given by path or by the name of a shipped one; a path that exists wins.

    Raises:
        InputError: neither a file nor a shipped config, or a file that is made to fill the memory.
    """
    if text.startswith("{"):  # settings in place of a file may be longer than a path can be
        refuse_bomb(text)
        return text
    if os.path.isfile(text):
        refuse_bomb(Path(text))
        return text
    path = shipped_config(text)
    if path is None:
        names = ", ".join(shipped_configs())
        raise InputError(f"--config {text}: expected a YAML file or one of the shipped configs {names}")
    return str(path)


def resolve_flags(argv: Sequence[str]) -> list[str]:
    """A command line with its config files in front, each by its path: flags win over files wherever they stand.

    jsonargparse, left alone, lets whatever stands last win.

    Args:
        argv: a command line; a verb or another bare word at its beginning stays there.

    Raises:
        InputError: as :func:`resolve_config`.
    """
    bare = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    words, files, flags = iter(argv[len(bare) :]), list[str](), list[str]()
    for word in words:
        flag, equals, value = word.partition("=")
        if flag not in _FLAGS:
            flags.append(word)
        elif equals:
            files.append(f"{flag}={resolve_config(value)}")
        else:
            files += [word, *(resolve_config(following) for following in itertools.islice(words, 1))]
    return [*bare, *files, *flags]


def refuse_bomb(source: Path | str) -> None:
    """Refuse YAML of a few lines that unfolds to gigabytes, or that is nested until Python gives up.

    Args:
        source: a file, or the text itself. If it cannot be read, its reader says what is wrong.

    Raises:
        InputError: it is made to do harm.
    """
    depth = aliases = 0
    try:
        with open(source, encoding="utf-8") if isinstance(source, Path) else nullcontext(source) as file:
            for event in yaml.parse(file, _LOADER):
                aliases += isinstance(event, yaml.AliasEvent)
                depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
                if max(depth, aliases) > _MOST:
                    kind = "nested more deeply" if depth > _MOST else "with more aliases"
                    where = source if isinstance(source, Path) else "--config"
                    raise InputError(f"{where}: expected settings, got YAML that is {kind} than {_MOST} times")
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return
