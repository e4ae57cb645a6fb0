"""The search space: YAML from config key to Optuna distribution, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from popularity.errors import InputError

Space = dict[str, BaseDistribution]

#: These say what is compared, so a search must leave them alone: scores on other songs are not comparable.
_FIXED = ("source", "split", "folds", "fold", "split_seed", "validation", "deduplicate")


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> Any:
        raise ValueError(message) from ex


def load_space(path: str | Path) -> Space:
    """Read a search space.

    Raises:
        InputError: no such file, no mapping, not a distribution of Optuna, or a range that it refuses.
    """
    path = Path(path)
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot read the search space: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {_one_line(error)}") from error
    if not isinstance(given, dict) or not given:
        raise InputError(f"{path}: expected a mapping from config key to distribution, got {given!r}")
    parser = _Parser()
    parser.add_argument("--distribution", type=BaseDistribution)
    space = {}
    for key, entry in given.items():
        if not isinstance(entry, dict) or "class_path" not in entry:
            raise InputError(
                f"{path}: {key}: expected class_path and init_args of an Optuna distribution, got {entry!r}"
            )
        try:
            parsed = parser.parse_object({"distribution": entry})
            space[str(key)] = parser.instantiate_classes(parsed).distribution
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: {key}: {_one_line(error)}") from error
    return space


#: What of the Trainer a trial may vary; devices, loggers and limits stay as they are.
_TRAINER = ("max_epochs", "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches", "precision")


def check_space(path: str, space: Space, parser: ArgumentParser, config: Namespace) -> None:
    """Try the edges of every range on the parser and on the classes of a real fit.

    Args:
        path: of the space, for messages.
        space: what to check.
        parser: the one that reads a fit's config.
        config: settings of the fit, which the space varies one key at a time.

    Raises:
        InputError: a key that no config has or that a search must not vary, a value of the wrong type or outside of the
            choices, a value that the model refuses.
    """
    for key, distribution in space.items():
        section, _, name = key.partition(".")
        if (section == "data" and name in _FIXED) or (section == "trainer" and name and name not in _TRAINER):
            raise InputError(f"{path}: {key}: a search cannot vary this: trials would not be comparable")
        for value in _probes(distribution):
            try:
                varied = with_values(config, {key: value})
                parser.instantiate_classes(parser.parse_object(varied))
            except (InputError, ValueError, TypeError, KeyError) as error:
                raise InputError(f"{path}: {key} = {value!r}: {_one_line(error)}") from error


def with_values(config: Namespace, values: dict[str, Any]) -> Namespace:
    """A copy of a config with dotted keys replaced."""
    copy = config.clone()
    for key, value in values.items():
        copy[key] = value
    return copy


def holds(space: Space, values: dict[str, Any]) -> bool:
    """Whether values, one for each key, lie in the space (a step or a type that does not fit is outside)."""
    for key, distribution in space.items():
        value = values[key]
        if isinstance(distribution, CategoricalDistribution):
            # True == 1 in Python, but not in a config
            if not any(value == choice and type(value) is type(choice) for choice in distribution.choices):
                return False
            continue
        number = int if isinstance(distribution, IntDistribution) else int | float
        if isinstance(value, bool) or not isinstance(value, number):
            return False
        if isinstance(distribution, FloatDistribution | IntDistribution):
            steps = (value - distribution.low) / distribution.step if distribution.step else 0
            if not distribution.low <= value <= distribution.high or abs(steps - round(steps)) > 1e-9:
                return False
    return True


def _probes(distribution: BaseDistribution) -> Iterator[Any]:
    if isinstance(distribution, CategoricalDistribution):
        yield from distribution.choices
    elif isinstance(distribution, FloatDistribution):
        yield distribution.low
        yield distribution.high
        # a number between, which a key that holds whole numbers refuses
        yield distribution.low + (distribution.step or 0.618 * (distribution.high - distribution.low))
    elif isinstance(distribution, IntDistribution):
        yield distribution.low
        yield distribution.high


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
