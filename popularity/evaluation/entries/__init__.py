"""The models that are compared, each a small entry of its own; a kind is imported when it is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from popularity.errors import InputError
from popularity.evaluation.folds import Outcome, Task

_ENTRIES = "popularity.evaluation.entries"

#: kind -> (module, what makes the entry from its settings)
KINDS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("mean", "artist_mean", "linear", "forward"), (f"{_ENTRIES}.simple", "")),
    **dict.fromkeys(("ridge", "lasso", "splines", "knn", "svr"), (f"{_ENTRIES}.families", "")),
    **dict.fromkeys(("forest", "extra_trees", "adaboost"), (f"{_ENTRIES}.families", "")),
    **dict.fromkeys(("lightgbm", "xgboost", "catboost"), (f"{_ENTRIES}.boosting", "")),
    **dict.fromkeys(("mlp", "tabm", "realmlp"), (f"{_ENTRIES}.neural", "")),
    "network": (f"{_ENTRIES}.network", "Network"),
    "stack": (f"{_ENTRIES}.stack", "Stack"),
    # of hits: fit_probability instead of fit_predict
    **dict.fromkeys(("logistic", "lda", "qda", "svm", "tree", "bagging"), (f"{_ENTRIES}.classifiers", "")),
    **{
        f"{name}_classifier": (f"{_ENTRIES}.classifiers", name)
        for name in ("forest", "adaboost", "lightgbm", "xgboost")
    },
}


class Entry(Protocol):
    """A model of popularity."""

    def fit_predict(self, task: Task) -> Outcome:
        """Fit to the training songs and predict the test songs."""


class HitEntry(Protocol):
    """A model of whether a song is a hit."""

    def fit_probability(self, task: Task, hit: np.ndarray) -> np.ndarray:
        """P(hit) of the test songs (n_test,), fitted to the training songs with the labels ``hit`` (n_train,)."""


def reads(kind: str, settings: Mapping[str, Any]) -> str:
    """What a kind is told of a song: ``nothing``, ``artist``, ``audio`` (the 13 columns), ``everything`` in the file.

    A stack reads what its members read.
    """
    if kind in ("mean", "artist_mean", "linear", "forward"):
        return {"mean": "nothing", "artist_mean": "artist"}.get(kind, "audio")
    if kind == "stack":
        found = {reads(one["kind"], one) for one in settings["of"].values()}
        return found.pop() if len(found) == 1 else "everything"
    if kind not in KINDS:
        return "everything"  # nobody has said that it reads less
    module, maker = KINDS[kind]
    make = getattr(import_module(module), maker or kind)
    if kind == "network":
        model = (
            make(**{key: settings[key] for key in ("configs", "overrides") if key in settings}).config.get("model")
            or {}
        )
        audio = model.get("audio_only") or model.get("architecture") == "single_token"
        return "audio" if audio else "everything"
    return str(settings.get("information", inspect.signature(make).parameters["information"].default))


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a model, its kind among them, with the kind's defaults for those not given; of a stack's members too.

    The settings of a kind that nobody knows stay as they are.
    """
    found = dict(settings)
    if isinstance(members := found.get("of"), Mapping):
        found["of"] = {name: completed(one) for name, one in members.items()}
    if (kind := found.get("kind")) in KINDS:
        module, maker = KINDS[kind]
        known = inspect.signature(getattr(import_module(module), maker or kind)).parameters
        for name, parameter in known.items():
            if parameter.default is not inspect.Parameter.empty:
                found.setdefault(name, parameter.default)
    return found


def check_use(name: str, kind: str, entry: Entry | HitEntry, *, hits: bool) -> None:
    """Tell before the first job whether a model can do what it is asked.

    Raises:
        InputError: it predicts hits where popularity is asked, or gives no chances where hits are.
    """
    regressor = hasattr(entry, "fit_predict")
    if not hits and not regressor:
        raise InputError(f"model {name}: kind {kind} predicts hits alone, describe it under hits.models")
    if hits and regressor and kind in KINDS and kind != "network":  # another's kind may well have a distribution
        raise InputError(f"hits.models: model {name}: kind {kind} gives no chances, expected a classifier or a network")


def build(name: str, kind: str, settings: Mapping[str, Any]) -> Entry | HitEntry:
    """Make the model ``name`` of a kind.

    Raises:
        InputError: unknown kind or setting, a value that a setting cannot have, or a package is missing.
    """
    if kind not in KINDS:
        raise InputError(f"model {name}: kind must be one of {', '.join(sorted(KINDS))}, but is {kind!r}")
    module, maker = KINDS[kind]
    make = getattr(import_module(module), maker or kind)
    known = inspect.signature(make).parameters
    for setting in settings:
        if setting not in known:
            expected = f"expected one of {', '.join(known)}" if known else "it has none"
            raise InputError(f"model {name}: kind {kind} has no setting {setting!r}, {expected}")
    for setting, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and setting not in settings:
            raise InputError(f"model {name}: kind {kind} needs the setting {setting!r}")
    try:
        entry: Entry | HitEntry = make(**settings)
    except InputError as error:
        raise InputError(f"model {name}: {error}") from error
    return entry
