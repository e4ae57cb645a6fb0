"""The embedding of songs in one C++ call, forward and backward, which leaves out the padding of histories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from popularity.models import kernel_library
from popularity.models.dropout import random_bits, threshold
from popularity.models.kernel_library import CHANNELS, EmbeddingCall, call, pointer, threads

if TYPE_CHECKING:
    from popularity.models.embedding import SongEmbedding


class _Dropped(NamedTuple):
    """What dropout leaves of an array: elements whose ``bits`` are at least ``threshold``, times ``scale``."""

    bits: Tensor | None = None
    threshold: int = 0
    scale: float = 1.0

    @staticmethod
    def sampled(size: int, p: float, training: bool) -> _Dropped:
        """Sampled as ``popularity.models.dropout.dropout`` does."""
        return _Dropped(random_bits(size), threshold(p), 1 / (1 - p)) if training and p > 0 else _Dropped()


class _Inputs(NamedTuple):
    """What has no gradient."""

    known: Tensor
    role: Tensor
    song: Tensor
    codes: Tensor
    of_song: _Dropped
    of_hidden: _Dropped


def takes(song: Tensor, weight: Tensor) -> bool:
    """Whether the kernels can take these vectors and this ``(hidden, S)`` weight of the first layer."""
    return (
        kernel_library.takes(song, states=1)
        and song.dtype == weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and weight.shape[0] % CHANNELS == 0
        and not (torch.is_grad_enabled() and song.requires_grad)
        and not torch.is_autocast_enabled("cpu")
    )


def embed(module: SongEmbedding, known: Tensor, role: Tensor, song: Tensor, category: Tensor) -> Tensor:
    """What ``module`` makes of songs, with the same random numbers as in plain PyTorch; 0 at padding.

    Args:
        module: whose parameters are used.
        known: ``(K, S)``.
        role: ``(K,)``, below 0 at padding.
        song: ``(B, S)``.
        category: ``(K + B, C)`` of both.

    Returns:
        ``(K + B, d)``.
    """
    rows, hidden = len(category), module.vector.out_features
    of_song = _Dropped.sampled(rows * song.shape[1], module.feature_dropout, module.training)
    codes = module.codes(category).contiguous()
    of_hidden = _Dropped.sampled(rows * hidden, module.out[1].p, module.training)  # type: ignore[arg-type]
    inputs = _Inputs(known.contiguous(), role.contiguous(), song.contiguous(), codes, of_song, of_hidden)
    out: Any = module.out[2]
    parameters = (module.vector.weight, module.vector.bias, module.category.weight, out.weight, out.bias)
    if torch.is_grad_enabled() and module.vector.weight.requires_grad:
        function: Any = _Embedding  # its ``apply`` has no types
        embedded: Tensor = function.apply(inputs, *parameters)
        return embedded
    return _forward(inputs, parameters, None)


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, *parameters):  # type: ignore[no-untyped-def]
        kept = parameters[0].new_empty(len(inputs.codes), parameters[0].shape[0])
        ctx.inputs = inputs
        ctx.save_for_backward(kept, *parameters)
        return _forward(inputs, parameters, kept)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dout):  # type: ignore[no-untyped-def]
        kept, *parameters = ctx.saved_tensors
        return None, *_backward(ctx.inputs, tuple(parameters), kept, dout.contiguous())


def _call_for(inputs: _Inputs, parameters: tuple[Tensor, ...], kept: Tensor | None) -> EmbeddingCall:
    _, _, table, w_out, _ = parameters
    (known, size), (rows, categories) = inputs.known.shape, inputs.codes.shape
    (width, hidden), of_song, of_hidden = w_out.shape, inputs.of_song, inputs.of_hidden
    arrays = (inputs.known, inputs.song, inputs.codes, inputs.role, of_song.bits, of_hidden.bits)
    return EmbeddingCall(
        known, rows, size, categories, hidden, width, threads(rows), *map(pointer, arrays),
        of_song.threshold, of_hidden.threshold, of_song.scale, of_hidden.scale, *map(pointer, parameters),
        pointer(kept), codes_of_all=len(table),
    )  # fmt: skip


def _forward(inputs: _Inputs, parameters: tuple[Tensor, ...], kept: Tensor | None) -> Tensor:
    arguments = _call_for(inputs, parameters, kept)
    out = parameters[0].new_empty(arguments.rows, arguments.width)
    arguments.out = pointer(out)
    call("popularity_embedding_forward", arguments)
    return out


def _backward(inputs: _Inputs, parameters: tuple[Tensor, ...], kept: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
    arguments = _call_for(inputs, parameters, kept)
    size, hidden, codes, width = arguments.size, arguments.hidden, arguments.codes_of_all, arguments.width
    sizes = (size * hidden, hidden, codes * hidden, width * hidden, width)
    sums = dout.new_zeros(arguments.threads, sum(sizes))
    arguments.dout, arguments.sums = pointer(dout), pointer(sums)
    call("popularity_embedding_backward", arguments)
    w_in, b_in, table, w_out, b_out = (sums.sum(0) if len(sums) > 1 else sums[0]).split(sizes)
    return w_in.view(size, hidden).t(), b_in, table.view(codes, hidden), w_out.view(width, hidden), b_out
