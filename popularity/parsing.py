"""Flags and YAML: errors in one line with "did you mean", and the configs that the package ships."""

from __future__ import annotations

import difflib
import importlib.resources
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from popularity.errors import InputError

if TYPE_CHECKING:
    _Base = ArgumentParser
else:
    _Base = object

#: What people try -> the flags it may stand for; the first that the verb has is suggested.
GUESSES: dict[str, tuple[str, ...]] = {
    "checkpoint": ("ckpt_path",),
    "ckpt": ("ckpt_path",),
    "weights": ("ckpt_path",),
    "resume": ("ckpt_path",),
    "epochs": ("trainer.max_epochs",),
    "gpus": ("trainer.devices",),
    "device": ("trainer.accelerator",),
    "lr": ("model.learning_rate",),
    "seed": ("seed_everything",),
    "data": ("data.predict_source", "data.source", "source"),
    "dataset": ("data.predict_source", "data.source", "source"),
    "file": ("data.predict_source", "data.source", "source"),
    "input": ("data.predict_source", "data.source", "source"),
    "songs": ("data.predict_source", "data.source", "source"),
    "out": ("output",),
    "o": ("output",),
    "model": ("config",),
}
#: The same by the ending of a value, which says more than the flag.
ENDINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((".csv", ".tsv", ".parquet", ".zip", ".gz"), GUESSES["data"]),
    **dict.fromkeys((".yaml", ".yml"), ("config",)),
    ".ckpt": GUESSES["checkpoint"],
}
_CONFIG_FLAGS = ("-c", "--config")
_PLAIN_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true/false",
    "str": "text",
    "list": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}


def one_line(message: str, limit: int = 400) -> str:
    """Fold a message into one line of at most ``limit`` characters."""
    text = " ".join(message.split())
    return text if len(text) <= limit else f"{text[:limit]} ..."


def program() -> str:
    """How this program was started, for help texts: ``popularity`` or ``python -m popularity``."""
    return "popularity" if Path(sys.argv[0]).stem == "popularity" else "python -m popularity"


# --- shipped configs --------------------------------------------------------------------------------------------------


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
    """The path of a config file given by path or by the name of a shipped one; a path that exists wins.

    Raises:
        InputError: neither a file nor a shipped config.
    """
    if text.lstrip().startswith("{") or Path(text).is_file():  # a mapping in the place of a file
        return text
    shipped = shipped_config(text)
    if shipped is None:
        names = ", ".join(shipped_configs())
        raise InputError(f"--config {text}: expected a YAML file or one of the shipped configs {names}")
    return str(shipped)


def with_shipped_configs(argv: Sequence[str]) -> list[str]:
    """A command line with the value of each ``-c`` and ``--config`` resolved."""
    resolved: list[str] = []
    for word in argv:
        flag, equals, value = word.partition("=")
        if resolved and resolved[-1] in _CONFIG_FLAGS:
            resolved.append(resolve_config(word))
        elif equals and flag in _CONFIG_FLAGS:
            resolved.append(f"{flag}={resolve_config(value)}")
        else:
            resolved.append(word)
    return resolved


# --- the parser -------------------------------------------------------------------------------------------------------


class ErrorsInOneLine(_Base):
    """Mixin for jsonargparse's parsers: raises `InputError` where they print usage and leave the process.

    Put it before the parser's class: ``class Parser(ErrorsInOneLine, LightningArgumentParser)``. Flags cannot be
    abbreviated: ``--fold 3`` must not pass for ``--folds 3``. The name of a shipped config may stand for its file.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "prog": program(), **kwargs})

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]
        """Parse a command line.

        Raises:
            InputError: whatever is wrong with it, in one line.
        """
        given = list(sys.argv[1:] if args is None else args)
        self._check_groups(given)
        if "--config" in self._option_string_actions:
            given = with_shipped_configs(given)
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
        raise InputError(self._in_plain_english(message)) from ex

    def _check_groups(self, given: Sequence[str]) -> None:
        """Refuse ``--data songs.csv``: the flag of a group reads a YAML file with the settings of the group."""
        for word, following in zip(given, [*given, ""][1:], strict=True):
            flag, equals, value = word.partition("=")
            value = value if equals else following
            if not flag.startswith("--") or flag[2:] not in self._groups:
                continue
            if not value.startswith("{") and Path(value).suffix not in (".yaml", ".yml", ".json"):
                hint = self._did_you_mean(flag, value)
                raise InputError(f"{flag}: expected a YAML file with settings, got {value or 'nothing'!r}{hint}")

    def _check_settings(self, config: Namespace) -> None:
        """Refuse the unknown settings of a file while it is known which file it is."""
        for key, value in config.items():
            parts = key.split(".")
            heads = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
            if key in self._groups:
                raise InputError(f"{key}: expected settings, got {value!r}")
            if not any(f"--{head}" in self._option_string_actions and head not in self._groups for head in heads):
                raise InputError(f"unknown setting {key}{self._did_you_mean(key)}")

    def _in_plain_english(self, message: str) -> str:
        text = re.sub(r"NestedArg\(key='.*?', val=(?:'(.*?)'|(.*?))\)", r"\1\2", one_line(message, limit=10_000))
        if found := re.fullmatch(r"unrecognized arguments: (\S+) ?(.*)", text):
            word, rest = found.groups()
            if not word.startswith("-"):
                return f"unexpected argument {word!r}{self._did_you_mean('', word)}"
            flag, _, value = word.partition("=")
            return f"unknown flag {flag}{self._did_you_mean(flag, value or rest.split(' ')[0])}"
        if found := re.search(r"(?:Group '(.+)' does not accept o|^O|'.+' does not accept o)ption '(.+?)'", text):
            key = ".".join(filter(None, found.groups()))
            return f"unknown setting {key}{self._did_you_mean(key)}"
        if found := re.fullmatch(r"argument (?:-\w/)?(-[\w.-]+)\S*: expected (?:one|at least one) argument", text):
            return f"{found[1]}: expected a value"
        if found := re.match(r'Parser key "(.+?)": (.*)', text):
            return one_line(self._about_value(found[1], found[2]))
        if found := re.fullmatch("Unexpected config: ?(.*)", text):
            return f"expected settings, got {one_line(found[1], limit=60) or 'an empty file'!r}"
        if found := re.fullmatch(r'Problems parsing config: (.*) in "<unicode string>", (.*)', text):
            return f"expected valid YAML: {found[1]}, {found[2]}"
        if text.startswith("the following arguments are required: "):
            return f"expected {text.removeprefix('the following arguments are required: ')} (see {self._help()})"
        return one_line(text)

    def _about_value(self, key: str, text: str) -> str:
        """What is wrong with the value of a key, of which jsonargparse tells every type that it tried."""
        if found := re.search(r"Option '(.+?)' is not accepted", text):
            return f"unknown setting {key}.{found[1]}{self._did_you_mean(f'{key}.{found[1]}')}"
        if found := re.search(r'Parser key "(.+?)": Expected an? (.+?)\. Got value: (.+?)(?: - | Given value|$)', text):
            return f"--{key}.{found[1]}: expected {_plain_type(found[2])}, got {found[3]!r}"
        if found := re.fullmatch(r"Expected an? (.+?)\. Got value: (.*)", text):
            return f"--{key}: expected {_plain_type(found[1])}, got {found[2]!r}"
        if found := re.search(r"Subtypes: \[(.+?)\] Errors: .* Given value: (.*)", text):
            return f"--{key}: expected {_plain_type(found[1])}, got {found[2]!r}"
        return f"--{key}: {text}"

    def _did_you_mean(self, flag: str, value: str = "") -> str:
        """``; did you mean --data.source?``, or where to look."""
        name = flag.lstrip("-")
        known = self._names()
        ending = Path(value).suffix if not value.startswith("-") else ""
        candidates = [
            *ENDINGS.get(ending, ()),
            *(one for one in known if _last(one) == _last(name)),
            *GUESSES.get(name, ()),
            *_closest(name, known),
        ]
        if self.prog.split()[-1] != "predict":  # elsewhere nobody means the songs to predict
            candidates = [one for one in candidates if one != "data.predict_source"]
        found = next((one for one in candidates if one in known and one != name), None)
        if found is None:
            return f" (see {self._help()})"
        if not flag:
            return f"; did you mean --{found} {value}?"
        return f"; did you mean {'--' if flag.startswith('-') else ''}{found}?"

    @property
    def _groups(self) -> Collection[str]:
        return self.groups or {}

    def _help(self) -> str:
        return f"{self.prog.replace(' [options]', '')} --help"

    def _names(self) -> list[str]:
        """Names of all flags, with those of the settings of networks and other objects."""
        nested = (key.replace(".init_args", "").removesuffix(".class_path") for key, _ in self.get_defaults().items())
        flags = (flag.lstrip("-") for flag in self._option_string_actions if flag.startswith("--"))
        return list(dict.fromkeys([*(flag for flag in flags if flag not in self._groups), *nested]))


class Parser(ErrorsInOneLine, ArgumentParser):
    """The parser of verbs that have nothing of Lightning in them."""


def _last(name: str) -> str:
    return name.rsplit(".", maxsplit=1)[-1]


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _closest(name: str, known: Iterable[str]) -> list[str]:
    """The name whose last part is most like that of ``name``, if it is like it; of several, the most similar one."""

    def likeness(one: str) -> tuple[float, float]:
        return _ratio(_last(name), _last(one)), _ratio(name, one)

    best = max(known, key=likeness, default="")
    return [best] if likeness(best)[0] >= 0.75 else []


def _plain_type(types: str) -> str:
    """Types as jsonargparse prints them, in words: ``<class 'int'>, <class 'NoneType'>`` is a whole number or null."""
    words: list[str] = []
    pattern = r"(?:typing\.)?Literal\[(.+?)\]|<class '(.+?)'>|([\w.]+(?:\[.*?\])?)"
    for choices, name, other in re.findall(pattern, types):
        if choices:
            words += re.findall(r"'(.*?)'", choices) or [choices]
        else:
            short = _last(name or other.partition("[")[0])
            words.append(_PLAIN_TYPES.get(short, short))
    *first, final = dict.fromkeys(words) or [types]
    return f"{', '.join(first)} or {final}" if first else final
