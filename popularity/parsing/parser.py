"""jsonargparse's parser, which raises one line instead of printing a page of usage."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from jsonargparse import ArgumentParser, Namespace

from popularity.errors import InputError
from popularity.parsing.configs import resolve_flags
from popularity.parsing.messages import plain_english, suggest
from popularity.parsing.short_flags import add_short_flags
from popularity.program import program

_Options = TypeVar("_Options")

# defaults of classes that a config may name, such as that of Lightning's Timer
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


class Parser(ArgumentParser):
    """Raises `InputError` where jsonargparse's parsers print usage and leave the process.

    Put it before another class of parsers: ``class Parser(parsing.Parser, LightningArgumentParser)``. Flags cannot be
    abbreviated: ``--fold 3`` must not pass for ``--folds 3``. The name of a shipped config may stand for its file, and
    flags win over config files. All verbs share the names of :data:`popularity.parsing.short_flags.SHORT`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "prog": program(), **kwargs})

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]
        """Parse a command line.

        Raises:
            InputError: whatever is wrong with it, in one line.
        """
        given = list(sys.argv[1:] if args is None else args)
        add_short_flags(self._option_string_actions, self._verb)
        self._check_groups(given)
        if "--config" in self._option_string_actions:
            given = resolve_flags(given)
        config: Namespace = super().parse_args(given, *more, **kwargs)
        return config

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Namespace:
        """Parse a config file; what is wrong with it names the file."""
        try:
            config: Namespace = super().parse_path(path, *args, **kwargs)
            self._check_settings(config)
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: expected a YAML file, got a binary file") from error
        except InputError as error:
            raise InputError(f"{path}: {str(error).removeprefix('--')}") from error
        return config

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message in one line of plain English."""
        if not self.exit_on_error:  # a parser inside of jsonargparse, which tries one type after the other
            super().error(message, ex)
        head, required, names = message.partition("arguments are required: ")
        if required:  # jsonargparse names flags without their dashes
            flags = (f"--{name}" if f"--{name}" in self._option_string_actions else name for name in names.split(", "))
            message = head + required + ", ".join(flags)
        raise InputError(plain_english(message, self._did_you_mean)) from ex

    @property
    def _verb(self) -> str:
        return self.prog.removesuffix(" [options]").split()[-1]

    @property
    def _groups(self) -> set[str]:
        """Names with settings below them, such as ``data``; not those that take a class, such as ``model.net``."""
        flags = [flag[2:] for flag in self._option_string_actions if not flag.endswith(".help")]
        return {name for name in self.groups or {} if any(flag.startswith(f"{name}.") for flag in flags)}

    def _check_groups(self, given: Sequence[str]) -> None:
        """Refuse ``--data songs.csv``: the flag of a group reads a YAML file with the settings of the group."""
        groups = self._groups
        for word, following in zip(given, [*given, ""][1:], strict=True):
            flag, equals, value = word.partition("=")
            value = value if equals else following
            if not flag.startswith("--") or flag[2:] not in groups:
                continue
            if not value.startswith("{") and Path(value).suffix not in (".yaml", ".yml", ".json"):
                hint = self._did_you_mean(flag, value)
                raise InputError(f"{flag}: expected a YAML file with settings, got {value or 'nothing'!r}{hint}")

    def _check_settings(self, config: Namespace) -> None:
        """Refuse the unknown settings of a file while it is known which file it is."""
        groups = self._groups
        for key, value in config.items():
            parts = key.split(".")
            heads = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
            if key in groups:
                raise InputError(f"{key}: expected settings, got {value!r}")
            if not any(f"--{head}" in self._option_string_actions and head not in groups for head in heads):
                raise InputError(f"unknown setting {key}{self._did_you_mean(key)}")

    def _did_you_mean(self, flag: str, value: str = "") -> str:
        """``; did you mean --data.source?``, or where to look."""
        known = self._names()
        if self._verb != "predict":  # elsewhere nobody means the songs to predict
            known = [one for one in known if one != "data.predict_source"]
        found = suggest(flag.lstrip("-"), known, value) if flag or value else None
        if found is None:
            return f" (see {self.prog.replace(' [options]', '')} --help)"
        if not flag:
            return f"; did you mean --{found} {value}?"
        return f"; did you mean {'--' if flag.startswith('-') else ''}{found}?"

    def _names(self) -> list[str]:
        """Names of all flags, with those of the settings of networks and other objects."""
        flags = [flag.lstrip("-") for flag in self._option_string_actions if flag.startswith("--")]
        settings = [key.replace(".init_args", "").removesuffix(".class_path") for key, _ in self.get_defaults().items()]
        groups = self._groups
        return [name for name in dict.fromkeys([*flags, *settings]) if name not in groups]


def options_of(kind: type[_Options], config: Namespace) -> _Options:
    """The settings of a dataclass that was given to ``add_class_arguments``."""
    return kind(**{one.name: config[one.name] for one in fields(kind)})  # type: ignore[arg-type]
