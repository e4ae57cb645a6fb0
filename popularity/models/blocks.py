"""Residual Mamba blocks, and the settings in which the members of one model differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from popularity.errors import InputError
from popularity.models.dropout import Dropout
from popularity.models.mamba import Mamba
from popularity.models.mamba2 import Mamba2
from popularity.models.mamba3 import Mamba3
from popularity.models.network import require_ranges
from popularity.models.norm import RMSNorm

BlockName = Literal["mamba", "mamba2", "mamba3", "none"]

#: Sequences have a dozen tokens: heads start with a memory of that length instead of thousands of tokens.
_SHORT: dict[str, Any] = {"dt_min": 0.01, "dt_max": 0.3}
_SHORT_A: dict[str, Any] = {"A_init_range": (0.5, 4.5)}  # of Mamba-2 alone: Mamba-3 computes A from the tokens
_TURNING = 4  # states of which Mamba-3 turns a pair


@dataclass(frozen=True)
class MemberConfig:
    """What one member of a model is made of.

    Attributes:
        block: what mixes the tokens: ``mamba`` (S6), ``mamba2`` (SSD), ``mamba3`` or ``none``.
        width: ``d``, width of the tokens.
        layers: residual blocks.
        d_state: state size of the scan.
        d_conv: taps of the causal convolution; ``mamba3`` has none.
        expand: inner width of a block over ``d``.
        bidirectional: read in both directions.
        dropout: of hidden layers.
        feature_dropout: share of the inputs that training hides.
        interaction_dropout: of products of features.

    Raises:
        InputError: a setting is out of range.
    """

    block: BlockName
    width: int
    layers: int
    d_state: int
    d_conv: int
    expand: int
    bidirectional: bool
    dropout: float = 0.0
    feature_dropout: float = 0.0
    interaction_dropout: float = 0.0

    def __post_init__(self) -> None:
        require_ranges(
            at_least_one={name: value for name, value in vars(self).items() if type(value) is int},
            shares={name: value for name, value in vars(self).items() if name.endswith("dropout")},
        )


def member_configs(members: int, **settings: Any) -> list[MemberConfig]:
    """Configurations of a model's members.

    Args:
        members: number of members.
        settings: those of `MemberConfig`. A tuple or list has a value for each member, and begins again where there are
            more members; anything else holds for all of them.

    Raises:
        InputError: a setting is out of range.
    """
    require_ranges(at_least_one={"members": members})
    for name, value in settings.items():
        if isinstance(value, list | tuple) and not value:
            raise InputError(f"model.net.{name}: expected a value, or one for each member, got an empty list")
    return [
        MemberConfig(
            **{
                name: value[number % len(value)] if isinstance(value, list | tuple) else value
                for name, value in settings.items()
            }
        )
        for number in range(members)
    ]


def rows_of(place: Tensor) -> Tensor:
    """Rows of the tokens ``(B L, d)`` that places ``(..., B, L)`` within each sequence stand for, ``(..., B L)``."""
    start = place.shape[-1] * torch.arange(place.shape[-2], device=place.device)
    return (place + start.unsqueeze(1)).flatten(-2)


def reordered(x: Tensor, rows: Tensor, back: Tensor) -> Tensor:
    """The tokens ``(B, L, d)`` in the order of ``rows`` ``(B L,)``, whose inverse is ``back``.

    By whole rows: on a CPU ``torch.gather`` takes three times as long.
    """
    if torch.compiler.is_compiling():
        return x.flatten(0, 1).index_select(0, rows).view_as(x)
    function: Any = _Reordered  # its ``apply`` has no types
    out: Tensor = function.apply(x, rows, back)
    return out


class _Reordered(torch.autograd.Function):
    """Its gradient is a choice of rows too; PyTorch, which cannot know that, would add them up one by one."""

    @staticmethod
    def forward(ctx, x, rows, back):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(rows, back)
        return x.flatten(0, 1).index_select(0, rows).view(x.shape)

    @staticmethod
    def backward(ctx, dout):  # type: ignore[no-untyped-def]
        rows, back = ctx.saved_tensors
        return reordered(dout, back, rows), None, None


class DirectedBlock(nn.Module):
    """Pre-norm residual block, ``x + dropout(mix(rms_norm(x)))``, in one direction or two.

    The two directions have weights of their own and see the same normalised input; the sum of their outputs is scaled.

    Args:
        config: of the member.
        scale: of the sum of both directions.
    """

    def __init__(self, config: MemberConfig, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.norm = RMSNorm(config.width, eps=1e-5)
        self.forward_mamba = _mixer(config)
        self.backward_mamba = _mixer(config) if config.bidirectional else None
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, reverse: Tensor) -> Tensor:
        """``(B, L, d)`` to ``(B, L, d)``; ``reverse`` ``(B L,)`` has the rows of each sequence from its end."""
        normed = self.norm(x)
        mixed = self.forward_mamba(normed)
        if self.backward_mamba is not None:
            backward = reordered(self.backward_mamba(reordered(normed, reverse, reverse)), reverse, reverse)
            mixed = (mixed + backward) * self.scale
        out: Tensor = x + self.dropout(mixed)
        return out


def _mixer(config: MemberConfig) -> nn.Module:
    if config.block == "none":
        return nn.Identity()
    sizes: dict[str, Any] = {"d_state": config.d_state, "expand": config.expand}
    if config.block == "mamba":
        return Mamba(config.width, d_conv=config.d_conv, **sizes)
    sizes["headdim"] = math.gcd(16, config.expand * config.width)  # divides any width
    if config.block == "mamba2":
        return Mamba2(config.width, d_conv=config.d_conv, **sizes, **_SHORT, **_SHORT_A)
    if config.d_state < _TURNING:
        raise InputError(f"model.net.d_state: expected at least {_TURNING} for block mamba3, got {config.d_state}")
    return Mamba3(config.width, **sizes, **_SHORT)
