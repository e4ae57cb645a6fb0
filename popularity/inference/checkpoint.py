"""Reading checkpoints: tensors and plain types only."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch

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
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise InputError(
                f"{path}: refused: it holds code, a checkpoint of this project holds tensors alone"
            ) from error
        raise InputError(f"{path}: not a checkpoint, or damaged") from error
    except (RuntimeError, EOFError, BadZipFile, ValueError, KeyError, OSError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: not a checkpoint, or damaged") from error
    if not isinstance(checkpoint, dict) or "_extra_state" not in checkpoint.get("state_dict", {}):
        raise InputError(f"{path}: a checkpoint, but not one that `popularity fit` wrote")
    return checkpoint
