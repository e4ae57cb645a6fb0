"""What jsonargparse says of a command line, in one line of plain English, and the flag that was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from popularity.errors import one_line

_SONGS = ("data.predict_source", "data.source", "source")
#: What people try -> the flags that it may stand for; the first that the verb has is suggested.
GUESSES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("checkpoint", "ckpt", "weights", "resume"), ("ckpt_path",)),
    **dict.fromkeys(("data", "dataset", "file", "input", "songs"), _SONGS),
    **dict.fromkeys(("o", "out", "output_file"), ("output",)),
    "device": ("trainer.accelerator",),
    "epochs": ("trainer.max_epochs",),
    "gpus": ("trainer.devices",),
    "lr": ("model.learning_rate",),
    "model": ("models", "config"),
}
#: The same by the ending of the value, which says more than the flag, unless that is for the output.
ENDINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((".csv", ".tsv", ".parquet", ".zip", ".gz"), _SONGS),
    **dict.fromkeys((".yaml", ".yml"), ("config",)),
    ".ckpt": ("ckpt_path",),
}
#: How like each other names must be for one to be suggested for the other: `difflib`'s ratio.
_ALIKE = 0.75
#: How like a flag's whole name, for the value not to be asked.
_SLIP = 0.83
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true/false",
    "str": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "NoneType": "null",
    "PositiveInt": "a whole number of at least 1",
    "NonNegativeInt": "a whole number of at least 0",
    "PositiveFloat": "a number above 0",
    "NonNegativeFloat": "a number of at least 0",
    "ClosedUnitInterval": "a number from 0 to 1",
    "OpenUnitInterval": "a number above 0 and below 1",
    "Share": "a number above 0 and at most 0.5",
}


def suggest(name: str, known: Sequence[str], value: str = "") -> str | None:
    """The flag that a wrong one stands for.

    Args:
        name: without the dashes in front; may be empty if there is a value alone.
        known: names of the flags there are.
        value: that was given to the flag.
    """
    if value.startswith("-"):  # the next flag
        value = ""
    abbreviated = [one for one in known if name and one.startswith(name)]
    guesses = GUESSES.get(name, ())
    candidates = [
        *(one for one in known if _ratio(name, one) >= _SLIP),  # two letters that changed places, say
        *(ENDINGS.get(Path(value).suffix, ()) if "output" not in guesses else ()),
        *guesses,
        *(abbreviated if len(abbreviated) == 1 else ()),
        *_closest(name, known),
    ]
    return next((one for one in candidates if one in known and one != name), None)


def plain_english(message: str, did_you_mean: Callable[[str, str], str]) -> str:
    """An error of jsonargparse in one line.

    Args:
        message: as jsonargparse or argparse words it.
        did_you_mean: from a flag or the name of a setting, and its value, to what is said behind the message.
    """
    text = one_line(message, limit=10_000)
    text = re.sub(r"NestedArg\(key='.*?', val=(?:'(.*?)'|(.*?))\)", r"\1\2", text)
    if found := re.fullmatch(r"unrecognized arguments: (\S+) ?(.*)", text):
        word, rest = found.groups()
        if not word.startswith("-"):
            return f"unexpected argument {word!r}{did_you_mean('', word)}"
        flag, _, value = word.partition("=")
        return f"unknown flag {flag}{did_you_mean(flag, value or rest.split(' ')[0])}"
    if found := re.search(r"(?:Group '(.+)' does not accept o|^O|'.+' does not accept o)ption '(.+?)'", text):
        key = ".".join(filter(None, found.groups()))
        return f"unknown setting {key}{did_you_mean(key, '')}"
    if found := re.fullmatch(r"argument (?:-\w/)?(-[\w.-]+)\S*: expected (?:one|at least one) argument", text):
        return f"{found[1]}: expected a value"
    if found := re.match(r'Parser key "(.+?)": (.*)', text):
        return one_line(_about_value(found[1], found[2], did_you_mean))
    if found := re.fullmatch("Unexpected config: ?(.*)", text):
        return f"expected settings, got {one_line(found[1], limit=60) or 'an empty file'!r}"
    if found := re.fullmatch(r'Problems parsing config: (.*) in "<unicode string>", (.*)', text):
        return f"expected valid YAML: {found[1]}, {found[2]}"
    if found := re.fullmatch("the following arguments are required: (.*)", text):
        return f"expected {found[1]}{did_you_mean('', '')}"
    return one_line(text)


def _about_value(key: str, text: str, did_you_mean: Callable[[str, str], str]) -> str:
    """What is wrong with the value of a key; jsonargparse tells what each type of a union has against it."""
    if found := re.search(r"Option '(.+?)' is not accepted", text):
        return f"unknown setting {key}.{found[1]}{did_you_mean(f'{key}.{found[1]}', '')}"
    inner = r'Parser key "(.+?)": Expected an? (.+?)\. Got value: (.+?)(?:\. Got value| - | Given value|$)'
    if found := re.search(inner, text):
        return f"--{key}.{found[1]}: expected {_plain_type(found[2])}, got {found[3]!r}"
    inner = r'Parser key "(.+?)": .*?Subtypes: \[(.+?)\] Errors: .*? Given value: (.+?)(?:\. Got value|$)'
    if found := re.search(inner, text):
        return f"--{key}.{found[1]}: expected {_plain_type(found[2])}, got {found[3]!r}"
    if found := re.fullmatch(r"Expected an? (.+?)\. Got value: (.*)", text):
        return f"--{key}: expected {_plain_type(found[1])}, got {found[2]!r}"
    restricted = r"Not of type (\w+): (?:.*, not '(\w+)'|(?:.*?: )?'?(.+?)'?(?: does not conform to restriction .*)?)"
    if found := re.fullmatch(restricted, text):
        got = _plain_type(found[2]) if found[2] else repr(found[3])
        return f"--{key}: expected {_plain_type(found[1])}, got {got}"
    if found := re.search(r"Subtypes: \[(.+?)\] Errors: .* Given value: (.*)", text):
        return f"--{key}: expected {_plain_type(found[1])}, got {found[2]!r}"
    if found := re.search(r"expects a function or a callable class: (No module named .+?)\. Got value", text):
        return f"--{key}: expected a class by its name or import path: {found[1]}"
    if found := re.fullmatch(r"Expected a dot import path string: (.*)", text):
        return f"--{key}: expected a class by its name or import path, got {found[1]!r}"
    return f"--{key}: {text}"


def _plain_type(types: str) -> str:
    """Types as jsonargparse prints them, in words: ``<class 'int'>, <class 'NoneType'>`` is a whole number or null."""
    words: list[str] = []
    pattern = r"(?:typing\.)?Literal\[(.+?)\]|<class '(.+?)'>|([\w.]+(?:\[.*?\])?)"
    for choices, name, other in re.findall(pattern, types):
        if choices:
            words += re.findall(r"'(.*?)'", choices) or [choices]
        else:
            short = _last(name or other.partition("[")[0])
            words.append(_TYPES.get(short, short))
    *first, final = dict.fromkeys(words) or [types]
    return f"{', '.join(first)} or {final}" if first else final


def _last(name: str) -> str:
    return name.rsplit(".", maxsplit=1)[-1]


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _closest(name: str, known: Sequence[str]) -> list[str]:
    """The name whose last part is most like that of ``name``, if it is like it; of several, the most similar one."""
    best = max(known, key=lambda one: (_ratio(_last(name), _last(one)), _ratio(name, one)), default="")
    return [best] if _ratio(_last(name), _last(best)) >= _ALIKE else []
