"""Reading checkpoints: tensors and plain values only, written by this version of this project."""

from __future__ import annotations

import json
import logging
import pickle
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from popularity.data.sources import locate
from popularity.errors import InputError, one_line
from popularity.features.mapped import MAPPED
from popularity.inference.checkpoint_classes import check_classes
from popularity.io import is_whole
from popularity.remote import address_of
from popularity.training.checkpoints import LAST
from popularity.training.datamodule import CHECKPOINT_FORMAT, PopularityDataModule
from popularity.training.fit import read_config, shared_parser
from popularity.training.instantiate import instantiate
from popularity.training.loggers import last_checkpoints, newer_run
from popularity.training.module import PopularityModule
from popularity.training.tensorboard import flat

#: What a checkpoint of any version of this project holds, and what one to go on from holds as well.
_PARTS = ("state_dict", "hyper_parameters", "datamodule_hyper_parameters")
_OF_TRAINING = ("optimizer_states", "lr_schedulers", "loops", "callbacks")
#: What the data module keeps in a checkpoint.
_OF_DATA = {"encoder": dict, "fingerprint": dict, "columns": list}

log = logging.getLogger(__name__)


class DamagedError(InputError):
    """The file may have been a checkpoint once."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of this project, on the CPU.

    Raises:
        InputError: no such file, one that holds code (``weights_only=True`` refuses it), or one that another project or
            another version of this one wrote. It is a `DamagedError` if the file is not a checkpoint at all, if it is
            cut off, or if a single bit of it has changed.
    """
    path = locate(str(path)) if address_of(path) is not None else Path(path)
    if not path.exists():
        raise InputError(f"{path}: expected a checkpoint, there is no such file")
    if not path.is_file():
        raise InputError(f"{path}: expected a checkpoint, got {'a directory' if path.is_dir() else 'a pipe or device'}")
    checkpoint = _load(path)
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(part), dict) for part in _PARTS):
        raise InputError(f"{path}: expected a checkpoint that `popularity fit` wrote, got one of another program")
    _check_depth(path, [checkpoint[part] for part in _PARTS[1:]])
    data = checkpoint.get("PopularityDataModule")
    data = data if isinstance(data, dict) else {}
    found = data.get("format", 1)  # version 0.1 wrote no number
    if found != CHECKPOINT_FORMAT:
        raise InputError(
            f"{path}: expected a checkpoint of format {CHECKPOINT_FORMAT}, got format {found}: "
            "another version of popularity wrote it; use that version, or train again"
        )
    for name, kind in _OF_DATA.items():
        if not isinstance(data.get(name), kind):
            raise InputError(f"{path}: expected a checkpoint with the {name} of its data, got one without")
    return checkpoint


def _check_depth(path: Path, settings: Any) -> None:
    try:
        json.dumps(settings, default=str)
    except (RecursionError, ValueError) as error:  # too deep, or in a circle
        raise InputError(f"{path}: expected a checkpoint with settings, got some that are nested too deeply") from error


def _load(path: Path) -> Any:
    try:
        packed = zipfile.is_zipfile(path)
        if packed and not is_whole(path):
            raise DamagedError(f"{path}: expected a checkpoint, got another kind of file or a damaged one (checksums)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on how the file was pickled; what is wrong with it raises
            # the pages of a large one are read when they are needed
            mapped = packed and path.stat().st_size > MAPPED
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        if packed:
            return checkpoint
        raise ValueError("of PyTorch before 1.6, without checksums")
    except pickle.UnpicklingError as error:
        if "unsupported global" in str(error).lower():
            raise InputError(f"{path}: expected a checkpoint of tensors and plain values, got one with code") from error
        raise DamagedError(f"{path}: expected a checkpoint, got another kind of file or a damaged one") from error
    except (
        *(RuntimeError, EOFError, zipfile.BadZipFile, ValueError, KeyError, OSError, AttributeError, IndexError),
        *(TypeError, AssertionError, OverflowError, MemoryError),
    ) as error:
        raise DamagedError(f"{path}: expected a checkpoint, got another kind of file or a damaged one") from error


def load_checkpoint(
    path: str | Path, *, classes: Collection[str] = ()
) -> tuple[PopularityModule, PopularityDataModule]:
    """Module and data of a checkpoint, ready to predict; the songs that it was trained on are not loaded.

    Args:
        path: of the file.
        classes: import paths of classes outside of this package that it may name, as an own network.

    Raises:
        InputError: as :func:`read_checkpoint`, the checkpoint does not go with this version, or it names other classes.
    """
    checkpoint = read_checkpoint(path)
    check_classes(path, checkpoint, classes)
    try:
        config = read_config([json.dumps({"model": checkpoint["hyper_parameters"], "data": data_settings(checkpoint)})])
    except InputError as error:
        raise InputError(f"{path}: does not go with this version ({error})") from error
    built = instantiate(shared_parser(), config)
    check_fits(path, checkpoint, built.model)
    built.model.load_state_dict(checkpoint["state_dict"])
    load_data(path, checkpoint, built.data)
    return built.model.eval(), built.data


def load_data(path: str | Path, checkpoint: Mapping[str, Any], data: PopularityDataModule) -> None:
    """Restore the data module of a checkpoint.

    Raises:
        InputError: its encoder is not one of this version, or holds numbers that are none.
    """
    try:
        data.load_state_dict(checkpoint["PopularityDataModule"])
    except InputError as error:
        raise InputError(f"{path}: its encoder: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: its encoder does not go with this version ({one_line(repr(error))})") from error


def named_checkpoint(verb: str, config: Any) -> tuple[str, dict[str, Any]] | None:
    """Path and content of the checkpoint that a command names, if any; ``last`` is the newest run of its name.

    If that run's last checkpoint is damaged, the one before it is taken, and a line says so.

    Raises:
        InputError: there is none where the verb needs one, it is neither a file nor ``last``, or it cannot be read;
            or a fit would go on with an earlier run than the newest.
    """
    path = config.get("ckpt_path")
    if path is None:
        if verb != "fit":
            raise InputError(f"{verb} needs a trained model: give --ckpt_path CHECKPOINT")
        return None
    if path == "best" or str(path).startswith("hpc"):
        raise InputError(f"--ckpt_path: expected a file, or `last` for the newest run of --name, got {path}")
    if path != "last":
        return str(path), read_checkpoint(path)
    runs = Path(config.log_dir) / config.name
    first, *others = last_checkpoints(runs)
    if (newer := newer_run(first, runs)) is not None:
        found = f"{newer} has no checkpoint yet, that of the run before it is {first}"
        if verb == "fit":
            raise InputError(f"--ckpt_path last: {found}; name it to go on with that run")
        _say(f"warning: {found}; using that")
    problem = "" if first.name == LAST else f"{first.with_name(LAST)}: there is no such file"
    try:
        checkpoint = read_checkpoint(first)
    except DamagedError as error:
        if not others:
            raise
        problem, first = str(error), others[0]
        checkpoint = read_checkpoint(first)
    if problem:
        _say(f"warning: {problem}; using the one before it, {first.name}, saved after epoch {checkpoint['epoch'] - 1}")
    return str(first), checkpoint


@rank_zero_only
def _say(line: str) -> None:
    log.warning(line)


def check_complete(path: str, checkpoint: Mapping[str, Any]) -> None:
    """Refuse to go on with a fit from weights alone.

    Raises:
        InputError: the first part that is missing.
    """
    for part in _OF_TRAINING:
        if part not in checkpoint:
            raise InputError(
                f"{path}: expected a checkpoint to go on from, got the weights alone, without {part} "
                "(--checkpoint.save_weights_only)"
            )


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
        InputError: the first part that is missing, unknown or of another shape, or that holds NaN or infinity.
    """
    expected, found = _shapes(model.state_dict()), _shapes(checkpoint["state_dict"])
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise InputError(
                f"{path}: does not fit this version's network: {name}: "
                f"expected {expected.get(name, 'nothing')}, got {found.get(name, 'nothing')}"
            )
    for name, value in checkpoint["state_dict"].items():
        if isinstance(value, Tensor) and not value.isfinite().all():
            raise InputError(f"{path}: expected finite weights, got NaN or infinity in {name}")


def _shapes(state: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        for name, value in state.items()
    }
