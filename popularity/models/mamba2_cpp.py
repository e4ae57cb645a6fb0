"""The whole Mamba-2 block in one C++ call, with the interface of ``mamba2_torch.py`` and for sequences of any length.

The kernels take whole vectors: the channels of each head, the states and the steps are padded with zeros. Kept for the
backward pass are the first projection and, of sequences longer than ``CHUNK``, the states between chunks.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from popularity.models.kernel_library import CHUNK, Mamba2Call, call, pointer, round_up, threads


class _Layout(NamedTuple):
    """Sizes as the kernels see them, and where the block's own channels lie among the padded ones."""

    headdim: int
    states: int
    steps: int
    inner: int
    mixed: int  # x, B and C: what the convolution is over
    row: int  # z, then those, then dt
    inner_places: Tensor | slice
    mixed_places: Tensor | slice
    row_places: Tensor | slice


@cache
def _layout(heads: int, headdim: int, states: int) -> _Layout:
    wide, steps, padded = round_up(headdim), round_up(heads), round_up(states)
    inner = heads * wide
    mixed = inner + 2 * padded
    x = (wide * torch.arange(heads, device="cpu").unsqueeze(1) + torch.arange(headdim, device="cpu")).flatten()
    B, dt = inner + torch.arange(states, device="cpu"), inner + mixed + torch.arange(heads, device="cpu")
    xbc = torch.cat([x, B, B + padded])
    places = [_first(x), _first(xbc), _first(torch.cat([x, inner + xbc, dt]))]
    return _Layout(wide, padded, steps, inner, mixed, inner + mixed + steps, *places)


def _first(places: Tensor) -> Tensor | slice:
    """Ascending places as a slice where they are the first ones, which is cheaper to copy."""
    return slice(0, len(places)) if int(places[-1]) == len(places) - 1 else places


def _layout_of(tensors: tuple[Tensor, ...]) -> _Layout:
    conv, heads, inner = tensors[2], tensors[6].shape[0], tensors[7].shape[0]
    return _layout(heads, inner // heads, (conv.shape[0] - inner) // 2)


def _spread(tensor: Tensor, size: int, places: Tensor | slice) -> Tensor:
    """Zeros along the first dimension, and the rows of ``tensor`` at ``places``."""
    if len(tensor) == size:
        return tensor.contiguous()
    spread = tensor.new_zeros(size, *tensor.shape[1:])
    spread[places] = tensor
    return spread


def _weights(tensors: tuple[Tensor, ...], layout: _Layout) -> list[Tensor]:
    """What the kernels read, in the order of ``Mamba2Call``: padded, A from its logarithm, the norm in ``w_out``."""
    u, w_in, conv, conv_bias, dt_bias, A_log, D, norm, w_out = tensors
    by_head = torch.stack([dt_bias, -torch.exp(A_log), D], 1)
    dt_bias, A, D = _spread(by_head, layout.steps, slice(0, len(by_head))).t().contiguous()
    return [
        u.contiguous(),
        _spread(w_in, layout.row, layout.row_places),
        _spread(conv.squeeze(1), layout.mixed, layout.mixed_places).t().contiguous(),
        _spread(conv_bias, layout.mixed, layout.mixed_places),
        dt_bias,
        A,
        D,
        _spread((w_out * norm).t(), layout.inner, layout.inner_places).t().contiguous(),
    ]


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
    u, _, conv, _, _, _, D, norm, w_out = tensors
    (batch, length, width), heads, layout = u.shape, D.shape[0], _layout_of(tensors)
    projected, kept, *padded = saved
    weights, keep = [u.contiguous(), *padded], None if keep is None else keep.contiguous()
    arguments = _call_for(weights, keep, heads, norm.shape[0], layout)
    dout = dout.contiguous()
    du = dout.new_empty(batch, length, round_up(width)) if want_du else None
    inner, mixed, row, steps = layout.inner, layout.mixed, layout.row, layout.steps
    taps = conv.shape[2]
    sizes = (width * row, taps * mixed, mixed, steps, steps, steps, width * inner)
    sums = dout.new_zeros(arguments.threads, sum(sizes))
    for name, tensor in (("projected", projected), ("kept", kept), ("dout", dout), ("du", du), ("sums", sums)):
        setattr(arguments, name, pointer(tensor))
    call("popularity_mamba2_backward", arguments)
    dw_in, dconv, dconv_bias, ddt_bias, dA, dD, dfolded = sums.sum(0).split(sizes)
    dfolded = dfolded.view(width, inner)[:, layout.inner_places]
    return (
        None if du is None else du[..., :width],
        dw_in.view(width, row).t()[layout.row_places],
        dconv.view(taps, mixed).t()[layout.mixed_places].unsqueeze(1),
        dconv_bias[layout.mixed_places],
        ddt_bias[:heads],
        (dA * weights[5])[:heads],  # A = -exp(A_log) is its own derivative
        dD[:heads],
        (dfolded * w_out).sum(0),
        dfolded * norm,
    )
