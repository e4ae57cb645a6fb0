"""A fit suits itself to its songs: what depends on the file follows from the number of songs, or from held-out songs.

How many epochs are right depends on how many songs there are. Which strength of regularisation is right differs from
file to file too, but the songs that can be held out hardly ever tell: a choice by their errors did worse than the mean
of a strongly and a lightly regularised network (docs/model.md), which the members of the default network are. Held-out
songs, by the rule of the split, keep a member alone that is clearly better than the mean, and calibrate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jsonargparse import Namespace
from torch import Tensor

from popularity.data.groups import group_numbers
from popularity.data.mapped import part_of, taken
from popularity.data.splits import Split, SplitKind, inner_folds, make_split
from popularity.errors import InputError
from popularity.models.calibration import Calibration, variance
from popularity.models.heads import Head
from popularity.training.rules import EPOCHS, RULED, USUAL, by_rule, told_of

#: Fewer held-out songs say too little.
_LEAST_HELD_OUT = 20
#: Standard errors by which a member alone must be better than the mean of all.
_CLEARLY = 3.0


@dataclass(frozen=True)
class Choice:
    """What was chosen for a fit, and why.

    Attributes:
        settings: dotted names to chosen values; empty if nothing was open.
        calibration: learned on the held-out songs; None without a held-out part.
        errors: mean squared error on the held-out songs, of each member and of their mean.
        held_out: number of these songs.
        reason: why nothing could be held out, if so.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    errors: dict[str, float] = field(default_factory=dict)
    held_out: int = 0
    reason: str = ""

    def lines(self) -> list[str]:
        """What to tell the user."""
        lines = [f"{told}, by the number of training songs"] if (told := told_of(self.settings)) else []
        if self.reason:
            lines.append(f"not calibrated: {self.reason}")
        if self.errors:
            errors = ", ".join(f"{name} {error:.2f}" for name, error in self.errors.items())
            kept = "one member is clearly better than the mean, and is kept" if self.single else "all members are kept"
            lines.append(f"MSE on {self.held_out:,} held-out training songs: {errors}; {kept}")
        if self.calibration is not None:
            lines.append(f"calibration on {self.held_out:,} held-out training songs: {self.calibration}")
        return lines

    @property
    def single(self) -> bool:
        """Whether a single member was chosen."""
        return any(name.endswith(".members") for name in self.settings)


@dataclass(frozen=True)
class Tried:
    """A network that was fitted without the held-out songs, and what it says of these ``n`` songs.

    Attributes:
        head: of the network.
        raw: ``(members, n, outputs)``.
        known: ``(n,)`` known songs by each song's artist; None where the network reads none.
        tree: ``(n,)`` predictions of boosted trees that were fitted without these songs too; None where there are none.
    """

    head: Head
    raw: Tensor
    known: Tensor | None = None
    tree: Tensor | None = None


#: Fits a config to the training part of a split, and predicts its validation part.
Try = Callable[[Namespace, Split], Tried]


def settled(config: Namespace, epochs: int) -> Namespace:
    """The config with nothing left to choose, for searches, which choose themselves: one value for each setting.

    Args:
        config: of a fit. Where its members differ, the first member alone is left.
        epochs: where it gives no number.
    """
    closed: dict[str, Any] = {"choice.members": False, "choice.calibrate": False}
    if config.trainer.max_epochs is None:
        closed[EPOCHS] = epochs
    closed |= {name: value for name, value in by_rule(config, USUAL).items() if name != EPOCHS}
    net = config.model.net.get("init_args") or {}
    if net.get("mlp_width") or any(isinstance(value, list | tuple) for value in net.values()):
        closed |= member_settings(config, 0)
    return with_settings(config, closed)


def chosen_before(config: Namespace, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What an interrupted fit had chosen, for the fit that goes on; what rules chose gives way to what is given now."""
    given = {name for name in RULED if config.get(name) is not None}
    return {name: value for name, value in chosen.items() if name not in given}


def with_settings(config: Namespace, settings: Mapping[str, Any]) -> Namespace:
    """A copy of a config with some values replaced, by their names in the config."""
    changed: Namespace = config.clone()
    for key, value in settings.items():
        changed[key] = value
    return changed


def hold_out(songs: pd.DataFrame, kind: SplitKind, share: float, seed: int) -> Split | None:
    """Training songs parted by the rule of their split: to fit to, and to judge by.

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
            split = _largest_variety(songs, kind, folds, seed)
        except InputError:
            continue
        if len(split.test) >= _LEAST_HELD_OUT and len(split.train) >= _LEAST_HELD_OUT:
            return Split(train=split.train, validation=split.test, test=split.test[:0], undated=split.undated)
    return None


def _largest_variety(songs: pd.DataFrame, kind: SplitKind, folds: int, seed: int) -> Split:
    """The first fold; of folds that keep groups together the one with most groups: a huge one says little of others."""
    if kind in ("random", "time"):
        return make_split(songs, kind, folds=folds, fold=0, seed=seed, validation=0)
    numbers = group_numbers(songs, kind)
    found = inner_folds(songs, kind, folds, seed)
    if not found:
        raise InputError(f"split {kind}: too few groups to hold some out")
    train, held_out = max(found, key=lambda fold: len(np.unique(numbers[fold[1]])))
    return Split(train, train[:0], held_out)


def member_names(config: Namespace) -> list[str]:
    """What the members of a network are called, in their order."""
    net = config.model.net.get("init_args") or {}
    names = [f"member {number}" for number in range(1, int(net.get("members", 1)) + 1)]
    return [*names, "MLP"] if net.get("mlp_width") else names


def member_settings(config: Namespace, member: int) -> dict[str, Any]:
    """Settings by which a network has this member alone: of settings with a value for each member, its own.

    Args:
        config: of the fit.
        member: its place in `member_names`.
    """
    net = config.model.net.init_args
    if member_names(config)[member] == "MLP":
        return {"model.net.init_args.members": 0, "data.samples": 1}
    alone = {"model.net.init_args.mlp_width": 0} if "mlp_width" in net else {}
    own = {name: value[member % len(value)] for name, value in net.items() if isinstance(value, list | tuple)}
    return {"model.net.init_args.members": 1, "data.samples": 1, **alone} | {
        f"model.net.init_args.{name}": value for name, value in own.items()
    }


def clearly_better(errors: np.ndarray, groups: np.ndarray) -> int | None:
    """The best member, if it is better than the mean of all by more than chance.

    Args:
        errors: ``(members + 1, n)`` squared errors on held-out songs, those of the mean last.
        groups: ``(n,)`` number of each song's group, such as its artist: songs of a group err alike.
    """
    best = int(errors[:-1].mean(1).argmin())
    gain = errors[-1] - errors[best]
    error = variance(torch.from_numpy(gain - gain.mean()), torch.from_numpy(groups)) ** 0.5 / len(gain)
    return best if gain.mean() > _CLEARLY * error else None


def choose(config: Namespace, songs: pd.DataFrame, split: Split, fit_without: Try) -> Choice:
    """Choose epochs where the config leaves them open, and members, and calibrate.

    Args:
        config: of the fit.
        songs: the whole song table.
        split: whose training songs are used, and no others.
        fit_without: how a network is fitted without the held-out songs.
    """
    train, kind = taken(songs, split.train), config.data.split
    settings = by_rule(config, len(train))
    names = member_names(config)
    several = config.choice.members and len(names) > 1
    if not several and not config.choice.calibrate:
        return Choice(settings)
    parts = hold_out(train, kind, config.choice.share, config.data.split_seed)
    if parts is None:
        reason = f"the {len(train):,} training songs are too few to hold some out by the rule {kind}"
        return Choice(settings, reason=reason)
    rows = Split(split.train[parts.train], split.train[parts.validation], split.test[:0])
    held_out = part_of(songs, rows.validation)
    truth = held_out["popularity"].to_numpy(np.float64, copy=True)
    groups = np.arange(len(truth)) if kind == "time" else group_numbers(held_out, kind)
    tried = fit_without(with_settings(config, settings), rows)
    raw, found = tried.raw.cpu(), {}
    mean = tried.head.mix(raw)
    if several and len(raw) == len(names):  # an own network may show its mean alone
        predicted = np.stack([tried.head.predict(one).double().numpy() for one in (*raw, mean)])
        errors = (predicted - truth) ** 2
        found = dict(zip((*names, "mean"), errors.mean(1).tolist(), strict=True))
        member = clearly_better(errors, groups)
        if member is not None:
            settings, mean = {**settings, **member_settings(config, member)}, raw[member]
    calibration = Calibration() if config.choice.calibrate else None
    if calibration is not None:
        truths, numbers = torch.from_numpy(truth), torch.from_numpy(groups)
        calibration.learn(tried.head, mean, truths, numbers, known=tried.known, tree=tried.tree)
    return Choice(settings, calibration, found, len(truth))
