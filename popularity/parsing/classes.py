"""Which classes a command line chooses, before it is parsed.

When a class replaces another, jsonargparse keeps the settings of the old one that the new one has too. Settings that
nobody gave must not come from another class: `--model.net FeatureTokensMamba` has that class's own width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from popularity.parsing.configs import resolve_flags


def chosen_classes(argv: Sequence[str], keys: Collection[str]) -> dict[str, str]:
    """The class that stands last for each key, in flags and config files.

    Args:
        argv: a command line.
        keys: dotted names of settings that hold a class, such as ``model.net``.

    Returns:
        Key to class; keys that are not in the command line are left out, and so is all that cannot be read, which the
        parser will refuse.
    """
    chosen: dict[str, str] = {}
    words = resolve_flags(argv)
    for flag, following in pairwise([*words, ""]):
        name, equals, value = flag.partition("=")
        value = value if equals else following
        if name in ("-c", "--config"):
            chosen |= _in_config(value, keys)
        elif name.removeprefix("--").removesuffix(".class_path") in keys and name.startswith("--"):
            chosen[name.removeprefix("--").removesuffix(".class_path")] = value
    return chosen


def _in_config(text: str, keys: Collection[str]) -> dict[str, str]:
    try:
        content = yaml.safe_load(text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    found = {}
    for key in keys:
        value: Any = content
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        value = value.get("class_path") if isinstance(value, dict) else value
        if isinstance(value, str):
            found[key] = value
    return found
