"""What a network is: it is built for the sizes of its inputs, and gives raw outputs for a head.

An own network is a class whose first two arguments are ``inputs`` and ``outputs``. All others are settings for configs
(``model.net: {class_path: my_package.MyNet, init_args: {width: 64}}``) and flags (``--model.net.width 64``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn

from popularity.errors import InputError
from popularity.features.base import Inputs

#: Builds a network ``forward(batch) -> (M, B, outputs)`` or ``(B, outputs)``. If it has an attribute ``members``, an
#: ``nn.ModuleList``, gradients are clipped for each of them alone.
NetworkFactory = Callable[[Inputs, int], nn.Module]


def require_inputs(network: nn.Module, inputs: Inputs, name: str, encoder: str) -> None:
    """Refuse an encoder that does not give what a network reads.

    Args:
        network: the network.
        inputs: of the encoder.
        name: field of ``inputs`` that must not be 0.
        encoder: class of a suitable encoder, for the message.

    Raises:
        InputError: the sizes do not go together.
    """
    if not getattr(inputs, name):
        raise InputError(f"model.net {type(network).__name__}: expected data.encoder {encoder}, got another encoder")


def require_ranges(*, at_least_one: Mapping[str, int], shares: Mapping[str, float] = MappingProxyType({})) -> None:
    """Refuse settings out of range.

    Args:
        at_least_one: name to a value that must be 1 or more.
        shares: name to a value that must be at least 0 and below 1.

    Raises:
        InputError: the first setting that is out of range.
    """
    for name, value in at_least_one.items():
        if value < 1:
            raise InputError(f"model.net.{name}: expected at least 1, got {value}")
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise InputError(f"model.net.{name}: expected at least 0 and below 1, got {share}")
