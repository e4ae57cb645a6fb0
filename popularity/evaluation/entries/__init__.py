"""The models that are compared, each an entry of its own; a kind is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from popularity.errors import InputError
from popularity.evaluation.task import Outcome, Task

#: kind -> (module, class)
KINDS = {
    "mean": ("popularity.evaluation.entries.simple", "Mean"),
    "linear": ("popularity.evaluation.entries.simple", "Linear"),
    "logistic": ("popularity.evaluation.entries.simple", "Logistic"),
}


class Entry(Protocol):
    """A model of popularity."""

    def fit_predict(self, task: Task) -> Outcome:
        """Fit to the training songs and predict the test songs."""


class HitEntry(Protocol):
    """A model of whether a song is a hit."""

    def fit_probability(self, task: Task, hit: np.ndarray) -> np.ndarray:
        """P(hit) of the test songs (n_test,), fitted to the training songs with the labels ``hit`` (n_train,)."""


def build(name: str, kind: str, settings: Mapping[str, Any]) -> Entry | HitEntry:
    """Make the model ``name`` of a kind.

    Raises:
        InputError: unknown kind or setting, or a package is missing.
    """
    if kind not in KINDS:
        raise InputError(f"model {name}: kind must be one of {', '.join(sorted(KINDS))}, but is {kind!r}")
    module, label = KINDS[kind]
    try:
        entry: Entry | HitEntry = getattr(import_module(module), label)(**settings)
    except TypeError as error:
        raise InputError(f"model {name}: kind {kind}: {error}") from error
    return entry
