"""The models of a comparison, made from their settings in the config.

A model is one of: ``baseline`` (a row of `popularity.evaluation.baselines`), ``class_path`` (an own scikit-learn
regressor), ``configs`` (a network of this project), or for hits alone ``classifier``.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np

from popularity.errors import InputError
from popularity.evaluation.baselines import BASELINES, Baseline
from popularity.evaluation.classifiers import CLASSIFIERS, Balance, fit_probability
from popularity.evaluation.estimators import maker
from popularity.evaluation.fitting import fit_baseline
from popularity.evaluation.folds import Outcome, Rows, Task
from popularity.features.prepared import prepared
from popularity.features.tabular import FeatureSet


@dataclass(frozen=True)
class Model:
    """A model of popularity, or of hits alone."""

    feature_set: str  # what it reads of a song: ``nothing``, ``artist``, ``audio`` or ``everything``
    settings: dict[str, Any]  # all that its results depend on, defaults included
    budget: str = ""  # what it may try inside the training songs, in words
    #: Fits to the training songs of a task and predicts its test songs; None: it predicts hits alone.
    fit_predict: Callable[[Task], Outcome] | None = None
    #: From rows and the labels of the training songs to P(hit) of the test songs.
    fit_probability: Callable[[Rows, np.ndarray], np.ndarray] | None = None


def build_model(name: str, settings: Mapping[str, Any]) -> Model:
    """Make the model ``name``.

    Raises:
        InputError: unknown settings, values that they cannot have, or a missing package.
    """
    makers: dict[str, Callable[..., Model]] = {"baseline": _baseline, "class_path": _own, "configs": _network}
    makers["classifier"] = _classifier
    found = [key for key in makers if key in settings]
    if len(found) != 1:
        raise InputError(f"model {name}: expected one of {', '.join(makers)}, got {' and '.join(found) or 'none'}")
    known = inspect.signature(makers[found[0]]).parameters
    if unknown := [key for key in settings if key not in known]:
        raise InputError(f"model {name}: expected settings among {', '.join(known)}, got {unknown[0]!r}")
    try:
        return makers[found[0]](**settings)
    except InputError as error:
        raise InputError(f"model {name}: {error}") from error


def _one_of(name: str, value: object, expected: Sequence[str]) -> None:
    if value not in expected:
        raise InputError(f"{name}: expected one of {', '.join(expected)}, got {value!r}")


def check_count(name: str, value: object, least: int) -> None:
    """Raise InputError unless a setting is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def _installed(package: str, how: str = "'.[baselines]' in the project's folder") -> None:
    if package and find_spec(package) is None:
        raise InputError(f"{package} is not installed: pip install {how}")


def _baseline(
    baseline: str, feature_set: str | None = None, trials: int | None = None, weights: str | None = None
) -> Model:
    _one_of("baseline", baseline, list(BASELINES))
    row, size = BASELINES[baseline], None
    fixed = {"feature_set": row.fixed_features, "trials": not (row.space or row.bagged), "weights": not row.weights}
    for setting, value in (("feature_set", feature_set), ("trials", trials), ("weights", weights)):
        if value is not None and fixed[setting]:
            raise InputError(f"the baseline {baseline} has no setting {setting}")
    if row.weights:
        _installed(row.package, how=row.package)
        path = Path(os.path.expanduser(str(weights)))
        if weights is None or not path.is_file():
            raise InputError(f"weights: expected the file of {row.package}'s weights, got {weights!r}")
        row, size = replace(row, defaults={**row.defaults, "model_path": str(path)}), path.stat().st_size
    _installed(row.package)
    return _tabular(baseline, row, feature_set, row.trials if trials is None else trials, size)


def _tabular(name: str, row: Baseline, feature_set: str | None, trials: int = 0, more: object = None) -> Model:
    if feature_set is not None:
        _one_of("feature_set", feature_set, get_args(FeatureSet))
    check_count("trials", trials, 0)
    reads = feature_set or row.feature_set
    of_row = {key: str(getattr(row, key)) for key in ("defaults", "space", "members", "trees")}
    settings = {"name": name, "feature_set": reads, "trials": trials, "more": more, **of_row}
    fit = partial(fit_baseline, row, None if row.whole_songs else reads, trials)
    return Model(reads, settings, f"{trials} trials" if trials else "", fit)


def _own(
    class_path: str, init_args: Mapping[str, Any] | None = None, feature_set: str = "audio", prepare: bool = True
) -> Model:
    """A regressor of scikit-learn's kind; with `prepare` false it is given missing values as NaN."""
    make = maker(str(class_path), prepared if prepare else None, **(init_args or {}))
    try:
        make({}, 0)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"class_path: cannot import {class_path!r}: {error}") from error
    except TypeError as error:
        raise InputError(f"class_path {class_path}: {error}") from error
    return _tabular(class_path, Baseline(make), feature_set, more=[init_args or {}, prepare])


def _network(configs: Sequence[str], overrides: Mapping[str, Any] | None = None) -> Model:
    # Lightning takes seconds to import, which no other model needs
    from popularity.evaluation.network import fit_network, network_reads, network_settings

    overrides = overrides or {}
    settings = network_settings(configs, overrides)
    return Model(network_reads(configs, overrides), settings, fit_predict=partial(fit_network, configs, overrides))


def _classifier(classifier: str, feature_set: str | None = None, balance: str | None = None) -> Model:
    _one_of("classifier", classifier, list(CLASSIFIERS))
    row = CLASSIFIERS[classifier]
    reads, balance = feature_set or row.feature_set, balance or row.balance
    _one_of("feature_set", reads, get_args(FeatureSet))
    _one_of("balance", balance, [one for one in get_args(Balance) if row.weighable or one != "weights"])
    _installed(row.package)
    settings = {"classifier": classifier, "feature_set": reads, "balance": balance}
    return Model(reads, settings, fit_probability=partial(fit_probability, row, balance))
