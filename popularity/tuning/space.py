"""The search space: YAML from config key to Optuna distribution, checked before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from popularity.errors import InputError
from popularity.parsing import Parser, one_line

Space = dict[str, BaseDistribution]

#: What of the Trainer a trial may vary, and what its scores depend on: not where it runs, nor what it logs.
TRAINER = ("max_epochs", "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches", "precision")
#: These say which songs are scored.
_SONGS = ("source", "split", "folds", "fold", "split_seed", "validation", "deduplicate")


def load_space(path: str) -> Space:
    """Read a search space.

    Raises:
        InputError: no such file, no mapping, not a distribution of Optuna, a range that it refuses, or a key that a
            search must not vary.
    """
    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot read the search space: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {one_line(str(error))}") from error
    if not isinstance(given, dict) or not given:
        raise InputError(f"{path}: expected a mapping from config key to distribution, got {given!r}")
    parser = Parser()
    parser.add_argument("--distribution", type=BaseDistribution)
    space = {}
    for key, entry in given.items():
        section, _, name = str(key).partition(".")
        if (section == "data" and name in _SONGS) or (section == "trainer" and name not in TRAINER):
            raise InputError(f"{path}: {key}: a search cannot vary this, trials would not be comparable")
        try:
            parsed = parser.parse_object({"distribution": entry})
            space[str(key)] = parser.instantiate(parsed).distribution
        except (InputError, ValueError, TypeError) as error:
            raise InputError(f"{path}: {key}: expected an Optuna distribution: {one_line(str(error))}") from error
    if len({key.startswith("lightgbm.") for key in space}) > 1:
        raise InputError(f"{path}: keys under lightgbm. search for LightGBM, all others for the network: expected one")
    return space


def edges(distribution: BaseDistribution) -> list[Any]:
    """Values to try before a search: all choices, or both ends of a range and a number between."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    between = low + (distribution.step or 0.618 * (high - low))  # not whole, which a key for whole numbers refuses
    return [low, high, between]


def contains(space: Space, values: dict[str, Any]) -> bool:
    """Whether values, one for each key, lie in the space."""
    try:
        optuna.trial.create_trial(params=values, distributions=space, value=0.0)
    except ValueError:
        return False
    return True
