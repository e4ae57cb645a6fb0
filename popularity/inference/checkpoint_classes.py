"""The classes that a checkpoint names: a checkpoint is data, and imports nothing that the user has not named."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from popularity.errors import InputError
from popularity.features.base import Encoder


def check_classes(path: str | Path, checkpoint: Mapping[str, Any], named: Collection[str] = ()) -> None:
    """Refuse a checkpoint that would import what nobody asked for: a checkpoint is data, and may come from anywhere.

    Args:
        path: where the checkpoint was read, for the message.
        checkpoint: as it was read.
        named: import paths that the user has named. Networks, heads and encoders of this package are always allowed.

    Raises:
        InputError: the first other import path in the settings of the model or the encoder.
    """
    of_data = checkpoint["datamodule_hyper_parameters"]
    settings = {"model": checkpoint["hyper_parameters"], "data.encoder": of_data.get("encoder")}
    for name, value in _texts(settings):
        imports = "." in value or name.endswith(".class_path")
        if imports and value not in named and not _is_ours(value):
            flag = name.removesuffix(".class_path").replace(".init_args", "")
            raise InputError(
                f"{path}: names {value}, which is not part of this package; "
                f"if you know that code and trust it, add --{flag} {value}"
            )


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """All texts within nested settings, by their dotted names."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _texts(one, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list | tuple | set):
        for one in value:
            yield from _texts(one, name)
    elif isinstance(value, str):
        yield name, value


def _is_ours(name: str) -> bool:
    """Whether a name is that of a network, head or encoder which is defined in this package."""
    module, _, attribute = name.rpartition(".")
    if module.partition(".")[0] != "popularity":
        return False
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return False
    if not isinstance(found, type) or found.__module__.partition(".")[0] != "popularity":
        return False
    return issubclass(found, nn.Module | Encoder)
