"""What an encoder reads from a checkpoint, checked: a number that is none would make every prediction one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from popularity.errors import InputError


def checked(name: str, value: Any, shape: Sequence[int] | None = None, *, gaps: bool = False) -> Tensor:
    """A tensor of a checkpoint, on the CPU.

    Args:
        name: of the part, for the message.
        value: the tensor, or plain numbers.
        shape: that it must have, if that is known.
        gaps: NaN is allowed: something is missing.

    Raises:
        InputError: it holds NaN or infinity, or has another shape.
    """
    found = value.cpu() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    if shape is not None and tuple(found.shape) != tuple(shape):
        raise InputError(f"expected shape {tuple(shape)} of {name}, got {tuple(found.shape)}")
    if not (~found.isinf() if gaps else found.isfinite()).all():
        raise InputError(f"expected finite numbers, got NaN or infinity in {name}")
    return found


def checked_codes(name: str, codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Codes of categories in a checkpoint, on the CPU.

    Args:
        name: of the part, for the message.
        codes: ``(n, C)``.
        sizes: ``C`` numbers of codes, the unknown (0) included.

    Raises:
        InputError: a category has no such code.
    """
    found = codes.cpu()
    for column, size in zip(found.T, sizes, strict=True):
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) < size:
            raise InputError(f"expected codes from 0 to {size - 1}, got others in {name}")
    return found


def checked_terms(name: str, terms: Sequence[str], most: int | None = None) -> list[str]:
    """A vocabulary of a checkpoint.

    Args:
        name: of the part, for the message.
        terms: each once.
        most: maximum number of them.

    Raises:
        InputError: there are more, or one stands there twice.
    """
    found = list(terms)
    if len(set(found)) < len(found) or (most is not None and len(found) > most):
        raise InputError(f"expected {'' if most is None else f'at most {most} '}different terms in {name}")
    return found
