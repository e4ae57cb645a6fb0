"""The whole Mamba-2 block in one C++ call, with the interface of ``mamba2_torch.py`` and for sequences of any length.

The kernels take whole vectors: the channels of each head, the states and the steps are padded with zeros. Kept for the
backward pass are the first projection and, of sequences longer than ``CHUNK``, the states between chunks.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from popularity.models.kernel_library import CHUNK, Mamba2Call, call, pointer, round_up, threads


class _Layout(NamedTuple):
    """Sizes as the kernels see them, and where numbers come from when parameters become what the kernels read."""

    headdim: int
    states: int
    steps: int
    inner: int
    row: int  # of the projection: z, then x, B and C, which the convolution is over, then dt
    shapes: tuple[tuple[int, ...], ...]  # of what the kernels read: w_in, conv, conv_bias, dt_bias, A, D, w_out
    own: tuple[tuple[int, ...], ...]  # of the block's own
    padded: Tensor  # places in the block's own numbers, one after the other and a 0 behind them
    taken: Tensor  # places of the block's own numbers in the gradients that the kernels add up


@cache
def _layout(heads: int, headdim: int, states: int, width: int, taps: int) -> _Layout:
    wide, steps, padded = round_up(headdim), round_up(heads), round_up(states)
    inner = heads * wide
    mixed = inner + 2 * padded
    row = inner + mixed + steps
    x = (wide * torch.arange(heads, device="cpu").unsqueeze(1) + torch.arange(headdim, device="cpu")).flatten()
    B, dt = inner + torch.arange(states, device="cpu"), inner + mixed + torch.arange(heads, device="cpu")
    xbc = torch.cat([x, B, B + padded])
    rows = torch.cat([x, inner + xbc, dt])
    shapes = ((row, width), (taps, mixed), (mixed,), (steps,), (steps,), (steps,), (width, inner))
    own = ((len(rows), width), (len(xbc), 1, taps), (len(xbc),), (heads,), (heads,), (heads,), (width, len(x)))
    w_in, conv, conv_bias, *by_head, w_out = _places(own)
    none, head = sum(map(math.prod, own)), torch.arange(heads, device="cpu")
    sources = [
        _spread(w_in, row, rows, none),
        _spread(conv.squeeze(1), mixed, xbc, none).t(),
        _spread(conv_bias, mixed, xbc, none),
        *(_spread(part, steps, head, none) for part in by_head),
        _spread(w_out.t(), inner, x, none).t(),
    ]
    w_in, conv, conv_bias, *by_head, w_out = _places(
        ((width, row), *shapes[1:])
    )  # as the kernels add up: w_in's turned
    taken = [w_in.t()[rows], conv.t()[xbc], conv_bias[xbc], *(part[head] for part in by_head), w_out[:, x]]
    indices = [torch.cat([part.flatten() for part in parts]) for parts in (sources, taken)]
    return _Layout(wide, padded, steps, inner, row, shapes, own, *indices)


def _places(shapes: tuple[tuple[int, ...], ...]) -> list[Tensor]:
    """Numbers 0, 1, ... in arrays of these shapes."""
    sizes = [*map(math.prod, shapes)]
    parts = torch.arange(sum(sizes), device="cpu").split(sizes)
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _layout_of(tensors: tuple[Tensor, ...]) -> _Layout:
    u, conv, heads, inner = tensors[0], tensors[2], tensors[6].shape[0], tensors[7].shape[0]
    return _layout(heads, inner // heads, (conv.shape[0] - inner) // 2, u.shape[2], conv.shape[2])


def _spread(places: Tensor, size: int, to: Tensor, fill: int) -> Tensor:
    """``fill`` along the first dimension, and the rows of ``places`` at ``to``."""
    spread = places.new_full((size, *places.shape[1:]), fill)
    spread[to] = places
    return spread


def _parts(numbers: Tensor, shapes: tuple[tuple[int, ...], ...]) -> list[Tensor]:
    parts = numbers.split([*map(math.prod, shapes)])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _weights(tensors: tuple[Tensor, ...], layout: _Layout) -> list[Tensor]:
    """What the kernels read, in the order of ``Mamba2Call``: padded, A from its logarithm, the norm in ``w_out``."""
    u, w_in, conv, conv_bias, dt_bias, A_log, D, norm, w_out = tensors
    own = (w_in, conv, conv_bias, dt_bias, A_log.exp().neg_(), D, w_out * norm, D.new_zeros(1))
    numbers = torch.cat([part.flatten() for part in own]).index_select(0, layout.padded)
    return [u.contiguous(), *_parts(numbers, layout.shapes)]


def _call_for(weights: list[Tensor], keep: Tensor | None, heads: int, channels: int, layout: _Layout) -> Mamba2Call:
    u, w_in, conv, conv_bias, dt_bias, A, D, w_out = weights
    (batch, length, width), taps = u.shape, conv.shape[0]
    return Mamba2Call(
        batch, length, width, heads, layout.headdim, layout.states, layout.steps, taps, threads(batch), channels,
        *(pointer(tensor) for tensor in (u, keep, w_in, conv, conv_bias, dt_bias, A, D, w_out)),
    )  # fmt: skip


def block_forward(tensors: tuple[Tensor, ...], keep: Tensor | None, save: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """As ``mamba2_torch.block_forward``, for float32 on the CPU and what ``kernel_library.takes``."""
    u, _, _, _, _, _, D, norm, _ = tensors
    (batch, length, width), layout = u.shape, _layout_of(tensors)
    weights, keep = _weights(tensors, layout), None if keep is None else keep.contiguous()
    arguments = _call_for(weights, keep, D.shape[0], norm.shape[0], layout)
    out, projected = u.new_empty(batch, length, round_up(width)), u.new_empty(batch, length, layout.row)
    kept = u.new_empty(batch, (length - 1) // CHUNK, layout.states * layout.inner) if save else None
    for name, tensor in (("out", out), ("projected", projected), ("kept", kept)):
        setattr(arguments, name, pointer(tensor))
    call("popularity_mamba2_forward", arguments)
    return out[..., :width].contiguous(), () if kept is None else (projected, kept, *weights[1:])


def block_backward(
    tensors: tuple[Tensor, ...], keep: Tensor | None, saved: tuple[Tensor, ...], dout: Tensor, want_du: bool
) -> tuple[Tensor | None, ...]:
    """As ``mamba2_torch.block_backward``."""
    u, _, _, _, _, _, D, norm, w_out = tensors
    (batch, length, width), heads, layout = u.shape, D.shape[0], _layout_of(tensors)
    projected, kept, *padded = saved
    weights, keep = [u.contiguous(), *padded], None if keep is None else keep.contiguous()
    arguments = _call_for(weights, keep, heads, norm.shape[0], layout)
    dout = dout.contiguous()
    du = dout.new_empty(batch, length, round_up(width)) if want_du else None
    sums = dout.new_zeros(arguments.threads, sum(map(math.prod, layout.shapes)))
    for name, tensor in (("projected", projected), ("kept", kept), ("dout", dout), ("du", du), ("sums", sums)):
        setattr(arguments, name, pointer(tensor))
    call("popularity_mamba2_backward", arguments)
    total = sums[0] if len(sums) == 1 else sums.sum(0)
    dw_in, dconv, dconv_bias, ddt_bias, dA, dD, dfolded = _parts(total.index_select(0, layout.taken), layout.own)
    return (
        None if du is None else du[..., :width],
        dw_in,
        dconv,
        dconv_bias,
        ddt_bias,
        dA * weights[5][:heads],  # A = -exp(A_log) is its own derivative
        dD,
        (dfolded * w_out).sum(0),
        dfolded * norm,
    )
