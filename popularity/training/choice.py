"""A fit suits itself to its songs: settings that depend on the file are chosen on songs that are held out.

Which strength of regularisation is right differs from file to file by up to a tenth of the squared error, and no number
known beforehand tells it. A few candidates are therefore fitted to most of the training songs. The rest, held out by
the rule of the split, says which is best, and calibrates it. Then the model is fitted to all training songs. A setting
that is given, in a config or as a flag, is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jsonargparse import Namespace
from torch import Tensor

from popularity.data.groups import group_numbers
from popularity.data.splits import Split, SplitKind, make_split
from popularity.errors import InputError
from popularity.models.calibration import Calibration

#: What a file may need, from strong to light regularisation: dotted names of settings to values. A setting counts where
#: the config leaves it open (null).
CANDIDATES: dict[str, dict[str, float]] = {
    "strong": {
        "model.net.width": 32,
        "model.net.dropout": 0.25,
        "model.net.feature_dropout": 0.35,
        "model.weight_decay": 0.3,
        "data.encoder.thin_history": 0.4,
        "data.encoder.hide_history": 0.05,
    },
    "medium": {
        "model.net.width": 24,
        "model.net.dropout": 0.2,
        "model.net.feature_dropout": 0.25,
        "model.weight_decay": 0.3,
        "data.encoder.thin_history": 0.2,
        "data.encoder.hide_history": 0.0,
    },
    "light": {
        "model.net.width": 24,
        "model.net.dropout": 0.2,
        "model.net.feature_dropout": 0.1,
        "model.weight_decay": 0.1,
        "data.encoder.thin_history": 0.2,
        "data.encoder.hide_history": 0.0,
    },
}
#: Epochs for a number of songs: a larger file needs more steps, but fewer epochs.
_EPOCHS, _SONGS, _FEWEST, _MOST = 30, 3_800, 8, 45
#: Fewer held-out songs say too little to choose by.
_LEAST_HELD_OUT = 20


@dataclass(frozen=True)
class Choice:
    """What was chosen for a fit, and why.

    Attributes:
        settings: dotted names to chosen values; empty if nothing was open.
        calibration: learned on the held-out songs; None without a held-out part.
        errors: mean squared error of each candidate on the held-out songs.
        held_out: number of these songs.
        reason: why nothing could be chosen, if so.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    errors: dict[str, float] = field(default_factory=dict)
    held_out: int = 0
    reason: str = ""

    def lines(self) -> list[str]:
        """What to tell the user."""
        told = ", ".join(f"{name.rpartition('.')[2]} {value:g}" for name, value in self.settings.items())
        if self.reason:
            return [f"nothing was chosen: {self.reason}"]
        lines = []
        if self.errors:
            best = min(self.errors, key=self.errors.__getitem__)
            errors = ", ".join(f"{name} {error:.2f}" for name, error in self.errors.items())
            lines.append(f"chosen on {self.held_out:,} held-out training songs: {best} (MSE: {errors})")
        if told:
            lines.append(f"settings of this fit: {told}")
        if self.calibration is not None:
            lines.append(f"calibration: {self.calibration}")
        return lines


def epochs_for(songs: int) -> int:
    """Epochs of a fit to ``songs`` training songs: inversely proportional to the square root of their number."""
    return round(min(max(_EPOCHS * math.sqrt(_SONGS / max(songs, 1)), _FEWEST), _MOST))


def open_settings(config: Namespace, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the settings that the config has and leaves open, under their names in the config."""
    found = {}
    for name, value in settings.items():
        for key in (name, _in_class(name)):
            if key in config and config[key] is None:
                found[key] = value
    return found


def settled(config: Namespace, epochs: int) -> Namespace:
    """The config with the first candidate's values where it leaves something open, and nothing left to choose.

    For searches, which choose settings themselves.

    Args:
        config: of a fit.
        epochs: where it gives no number.
    """
    first = next(iter(CANDIDATES.values()))
    closed: dict[str, Any] = {**open_settings(config, first), "choice.candidates": None, "choice.calibrate": False}
    if config.trainer.max_epochs is None:
        closed["trainer.max_epochs"] = epochs
    return with_settings(config, closed)


def _in_class(name: str) -> str:
    """``model.net.dropout`` is ``model.net.init_args.dropout`` in a parsed config."""
    head, _, last = name.rpartition(".")
    return f"{head}.init_args.{last}"


def with_settings(config: Namespace, settings: Mapping[str, Any]) -> Namespace:
    """A copy of a config with some values replaced, by their names in the config."""
    changed: Namespace = config.clone()
    for key, value in settings.items():
        changed[key] = value
    return changed


def hold_out(songs: Any, kind: SplitKind, share: float, seed: int) -> Split | None:
    """Training songs parted by the rule of their split: to fit candidates to, and to judge them by.

    Args:
        songs: the training songs, a song table.
        kind: the rule.
        share: of the songs to hold out.
        seed: of the parts.

    Returns:
        A split with an empty test part; None where the songs cannot be split.
    """
    for folds in range(max(2, round(1 / share)), 1, -1):
        try:
            split = make_split(songs, kind, folds=folds, fold=0, seed=seed, validation=0)
        except InputError:
            continue
        if len(split.test) >= _LEAST_HELD_OUT and len(split.train) >= _LEAST_HELD_OUT:
            return Split(train=split.train, validation=split.test, test=split.test[:0], undated=split.undated)
    return None


def distinct(candidates: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The candidates that differ, in their order: flags may have made some equal. At least one, without settings."""
    seen: list[dict[str, Any]] = []
    found = {}
    for name, values in (candidates or {"as configured": {}}).items():
        if values not in seen:
            seen.append(values)
            found[name] = values
    return found


#: Fits a config to the training part of a split and gives the head and, for the validation part, its raw outputs and
#: the numbers of known songs.
FitCandidate = Callable[[Namespace, Split], tuple[Any, Tensor, Tensor | None]]


def choose(config: Namespace, songs: Any, split: Split, fit_candidate: FitCandidate) -> Choice:
    """Choose what the config leaves open, and calibrate.

    Args:
        config: of the fit.
        songs: the whole song table.
        split: whose training songs are used, and no others.
        fit_candidate: how a candidate is fitted.
    """
    train = songs.iloc[split.train]
    settings: dict[str, Any] = {}
    if config.trainer.max_epochs is None and config.trainer.max_steps == -1:
        settings["trainer.max_epochs"] = epochs_for(len(train))
    candidates = {name: open_settings(config, values) for name, values in (config.choice.candidates or {}).items()}
    if not any(candidates.values()) and not config.choice.calibrate:
        return Choice(settings)
    parts = hold_out(train, config.data.split, config.choice.share, config.data.split_seed)
    if parts is None:
        fallback = next(iter(candidates.values()), {})
        reason = f"the {len(train):,} training songs are too few to hold some out by the rule {config.data.split}"
        return Choice({**settings, **fallback}, reason=reason)
    rows = Split(split.train[parts.train], split.train[parts.validation], split.test[:0])
    truth = songs["popularity"].to_numpy(np.float64)[rows.validation]
    found: dict[str, tuple[float, Any, Tensor, Tensor | None]] = {}
    for name, values in distinct(candidates).items():
        head, raw, known = fit_candidate(with_settings(config, {**settings, **values}), rows)
        found[name] = (float(np.mean((head.predict(raw).double().cpu().numpy() - truth) ** 2)), head, raw, known)
    best = min(found, key=lambda name: found[name][0])
    calibration = Calibration() if config.choice.calibrate else None
    if calibration is not None:
        kind = config.data.split
        held_out = songs.iloc[rows.validation].reset_index(drop=True)
        groups = None if kind == "time" else torch.from_numpy(group_numbers(held_out, kind))
        _, head, raw, known = found[best]
        calibration.learn(head, raw.cpu(), torch.from_numpy(truth), groups, known)
    errors = {name: one[0] for name, one in found.items()} if len(found) > 1 else {}
    return Choice({**settings, **candidates.get(best, {})}, calibration, errors, len(truth))
