"""Reading checkpoints: tensors and plain types only, written by this project, of this network."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from popularity.errors import InputError


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of this project, on the CPU.

    Raises:
        InputError: no such file, not a checkpoint, one that holds code (``weights_only=True`` refuses it), or one of
            another project.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such checkpoint")
    if path.is_dir():
        raise InputError(f"{path}: expected a checkpoint file, this is a directory")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on how the file was pickled; what is wrong with it raises
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "unsupported global" in str(error).lower():
            raise InputError(
                f"{path}: refused: it holds code, a checkpoint of this project holds tensors and plain types alone"
            ) from error
        raise InputError(f"{path}: not a checkpoint, or damaged") from error
    except (RuntimeError, EOFError, BadZipFile, ValueError, KeyError, OSError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: not a checkpoint, or damaged") from error
    parts = ("state_dict", "hyper_parameters", "pytorch-lightning_version")
    ours = isinstance(checkpoint, dict) and all(part in checkpoint for part in parts)
    if not ours or not isinstance(checkpoint["state_dict"], dict) or "_extra_state" not in checkpoint["state_dict"]:
        raise InputError(f"{path}: a checkpoint, but not one that `popularity fit` wrote")
    return checkpoint


def check_fits(path: str | Path, checkpoint: Mapping[str, Any], model: nn.Module) -> None:
    """Refuse a checkpoint whose tensors are not those of the model, as another version of this project writes.

    Args:
        path: where the checkpoint was read, for the message.
        checkpoint: what :func:`read_checkpoint` gave.
        model: built with the checkpoint's hyper-parameters.

    Raises:
        InputError: the first part that is missing, unknown or of another shape.
    """
    expected, came = _shapes(model.state_dict()), _shapes(checkpoint["state_dict"])
    for name in [*expected, *came]:
        if expected.get(name) != came.get(name):
            raise InputError(
                f"{path}: does not fit this version's network: {name}: "
                f"expected {expected.get(name, 'nothing')}, came {came.get(name, 'nothing')}"
            )


def _shapes(state: Mapping[str, Any]) -> dict[str, Any]:
    """Shape of each tensor, and the names inside each part that is none."""
    shapes: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, Mapping):
            # what was learned from data, such as a vocabulary, may be of any size
            shapes |= {f"{name}.{key}": "a value" for key in value if key != "encoder"}
            shapes |= {f"{name}.encoder.{key}": "a value" for key in value.get("encoder", {})}
        else:
            shapes[name] = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    return shapes
