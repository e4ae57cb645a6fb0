"""Refusals in one line: settings out of range, and checkpoints that do not go with the data or model at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from popularity.errors import InputError


def check_same_data(checkpoint: Mapping[str, Any], fitted_on: Mapping[str, Any]) -> None:
    """Refuse to go on with a fit on other data than it began with.

    Args:
        checkpoint: as it was saved.
        fitted_on: fingerprint of today's data (``PopularityDataModule.fingerprint``).

    Raises:
        InputError: what has changed.
    """
    before = checkpoint["state_dict"]["_extra_state"]["fitted_on"]
    changed = [key for key, value in before.items() if key != "source" and fitted_on.get(key) != value]
    if changed:
        told = ", ".join(f"{key} {before[key]} -> {fitted_on.get(key)}" for key in changed[:3])
        raise InputError(f"--ckpt_path: this checkpoint was trained on other data ({told}); start a new run instead")


def check_same_model(checkpoint: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse to go on with a fit under other model settings: the checkpoint's would silently win.

    Args:
        checkpoint: as it was saved.
        settings: the model's part of the config.

    Raises:
        InputError: what differs.
    """
    for name, value in checkpoint.get("hyper_parameters", {}).items():
        if name in settings and settings[name] != value:
            raise InputError(
                f"--ckpt_path: this checkpoint was trained with model.{name} {value}, here it is {settings[name]}; "
                "go on with the settings that the run began with, or start a new one"
            )


def check_held_out(checkpoint: Mapping[str, Any], scored_on: Mapping[str, Any]) -> None:
    """Refuse to score a checkpoint on the songs of its own source split in another way: it was trained on some of them.

    Args:
        checkpoint: as it was saved.
        scored_on: fingerprint of the data to score on.

    Raises:
        InputError: what differs.
    """
    fitted = checkpoint["state_dict"]["_extra_state"]["fitted_on"]
    if scored_on["source"] != fitted["source"] and scored_on["sha256"] != fitted["sha256"]:
        return
    for key in ("deduplicate", "split", "folds", "fold", "split_seed", "validation", "sha256"):
        if fitted[key] != scored_on[key]:
            raise InputError(
                f"--ckpt_path: trained with {key} {fitted[key]}, to be scored with {key} {scored_on[key]}: "
                "songs that it was trained on may be among those it would be scored on"
            )


def check_settings(given: dict[str, Any]) -> None:
    """One clear line for a hyper-parameter outside its range."""
    for name in (
        "width",
        "layers",
        "d_state",
        "d_conv",
        "expand",
        "quantile_bins",
        "histogram_bins",
        "members",
        "drawn_histories",
    ):
        if given[name] < 1:
            raise InputError(f"model.{name} must be at least 1, got {given[name]}")
    for name in ("dropout", "feature_dropout"):
        if not 0 <= given[name] < 1:
            raise InputError(f"model.{name} must be at least 0 and below 1, got {given[name]}")
    for name in ("hide_history", "thin_history"):
        if not 0 <= given[name] <= 1:
            raise InputError(f"model.{name} must be from 0 to 1, got {given[name]}")
    for name in ("weight_decay", "warmup_steps", "history", "retrieved"):
        if given[name] < 0:
            raise InputError(f"model.{name} must be at least 0, got {given[name]}")
    for name in ("learning_rate", "histogram_sigma"):
        if not given[name] > 0:
            raise InputError(f"model.{name} must be above 0, got {given[name]}")
