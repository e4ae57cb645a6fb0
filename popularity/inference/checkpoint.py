"""Reading checkpoints: tensors and plain values only, written by this version of this project."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import lightning
import torch
from torch import Tensor, nn

from popularity.errors import InputError
from popularity.io import write_atomically
from popularity.training.datamodule import CHECKPOINT_FORMAT, PopularityDataModule
from popularity.training.fit import fit_parser, instantiate, read_config
from popularity.training.loggers import last_checkpoint
from popularity.training.module import PopularityModule
from popularity.training.tensorboard import flat

#: What a checkpoint of any version of this project holds.
_PARTS = ("state_dict", "hyper_parameters", "datamodule_hyper_parameters")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of this project, on the CPU.

    Raises:
        InputError: no such file, not a checkpoint, one that holds code (``weights_only=True`` refuses it), or one that
            another project or another version of this one wrote.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: expected a checkpoint, there is no such file")
    if path.is_dir():
        raise InputError(f"{path}: expected a checkpoint, got a directory")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on how the file was pickled; what is wrong with it raises
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "unsupported global" in str(error).lower():
            raise InputError(f"{path}: expected a checkpoint of tensors and plain values, got one with code") from error
        raise InputError(f"{path}: expected a checkpoint, got another kind of file or a damaged one") from error
    except (RuntimeError, EOFError, BadZipFile, ValueError, KeyError, OSError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: expected a checkpoint, got another kind of file or a damaged one") from error
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(part), dict) for part in _PARTS):
        raise InputError(f"{path}: expected a checkpoint that `popularity fit` wrote, got one of another program")
    data = checkpoint.get("PopularityDataModule")
    found = data.get("format", 1) if isinstance(data, dict) else 1  # version 0.1 wrote no number
    if found != CHECKPOINT_FORMAT:
        raise InputError(
            f"{path}: expected a checkpoint of format {CHECKPOINT_FORMAT}, got format {found}: "
            "another version of popularity wrote it; use that version, or train again"
        )
    return checkpoint


def load_checkpoint(path: str | Path) -> tuple[PopularityModule, PopularityDataModule]:
    """Module and data of a checkpoint, ready to predict; the songs that it was trained on are not loaded.

    Raises:
        InputError: as :func:`read_checkpoint`, or the checkpoint does not go with this version.
    """
    checkpoint = read_checkpoint(path)
    try:
        config = read_config([json.dumps({"model": checkpoint["hyper_parameters"], "data": data_settings(checkpoint)})])
    except InputError as error:
        raise InputError(f"{path}: does not go with this version ({error})") from error
    built = instantiate(fit_parser(), config)
    check_fits(path, checkpoint, built.model)
    built.model.load_state_dict(checkpoint["state_dict"])
    built.data.load_state_dict(checkpoint["PopularityDataModule"])
    return built.model.eval(), built.data


def save_checkpoint(path: str | Path, module: PopularityModule, data: PopularityDataModule) -> None:
    """Write what :func:`load_checkpoint` reads, and every verb that scores or predicts; no fit can be resumed from it.

    Raises:
        InputError: the file cannot be written.
    """
    checkpoint: dict[str, Any] = {
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "global_step": 0,
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "datamodule_hyper_parameters": dict(data.hparams),
        type(data).__name__: data.state_dict(),
    }
    module.on_save_checkpoint(checkpoint)
    with write_atomically(path, binary=True) as file:
        torch.save(checkpoint, file)


def checkpoint_path(verb: str, config: Any) -> str | None:
    """Path of the checkpoint that a command names, if any; ``last`` is the newest run of its name.

    Raises:
        InputError: there is none where the verb needs one, or it is neither a file nor ``last``.
    """
    path = config.get("ckpt_path")
    if path is None:
        if verb != "fit":
            raise InputError(f"{verb} needs a trained model: give --ckpt_path CHECKPOINT")
        return None
    if path == "last":
        return str(last_checkpoint(Path(config.log_dir) / config.name))
    if path == "best" or str(path).startswith("hpc"):
        raise InputError(f"--ckpt_path: expected a file, or `last` for the newest run of --name, got {path}")
    return str(path)


def fingerprint_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies the data that a checkpoint was trained on."""
    return dict(checkpoint["PopularityDataModule"]["fingerprint"])


def data_settings(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the data module that a checkpoint was trained with."""
    return dict(checkpoint["datamodule_hyper_parameters"])


def check_same_model(checkpoint: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse to go on with a fit under other model settings: the checkpoint's would silently win.

    Args:
        checkpoint: as it was saved.
        settings: the model's part of the config.

    Raises:
        InputError: what differs.
    """
    before, today = flat(checkpoint["hyper_parameters"]), flat(dict(settings))
    for name, value in before.items():
        if today.get(name) != value:
            raise InputError(
                f"--ckpt_path: this checkpoint was trained with model.{name} {value}, here it is {today.get(name)}; "
                "go on with the settings that the run began with, or start a new one"
            )


def check_fits(path: str | Path, checkpoint: Mapping[str, Any], model: nn.Module) -> None:
    """Refuse a checkpoint whose tensors are not those of the model, as another version of this project writes.

    Args:
        path: where the checkpoint was read, for the message.
        checkpoint: what :func:`read_checkpoint` gave.
        model: built with the checkpoint's hyper-parameters.

    Raises:
        InputError: the first part that is missing, unknown or of another shape.
    """
    expected, found = _shapes(model.state_dict()), _shapes(checkpoint["state_dict"])
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise InputError(
                f"{path}: does not fit this version's network: {name}: "
                f"expected {expected.get(name, 'nothing')}, got {found.get(name, 'nothing')}"
            )


def _shapes(state: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        for name, value in state.items()
    }
