"""The whole Mamba block in one C++ call: projections, convolution, scan and gate, cache-sized tile by tile.

Kept for the backward pass are the input, the first projection and, at every 16th token or later, the states: nothing as
large as channels times states times tokens, and half of what a chain of operations would keep.
"""

from __future__ import annotations

import torch
from torch import Tensor

from popularity.models.kernel_library import CHANNELS, BlockCall, call, interval, pad, pointer, threads


def prepare(tensors: list[Tensor]) -> list[Tensor]:
    """The block's input and parameters as the kernels read them: contiguous, d_inner padded to whole vectors."""
    u, w_in, conv, conv_bias, w_x, w_dt, bias, A_log, D, w_out = tensors
    channels = D.shape[0]
    if channels % CHANNELS:
        w_in = pad(w_in.view(2, channels, -1), 1).flatten(0, 1)
        conv, conv_bias, w_x, w_dt = pad(conv, 0), pad(conv_bias, 0), pad(w_x, 1), pad(w_dt, 0)
        bias, A_log, D, w_out = pad(bias, 0), pad(A_log, 0), pad(D, 0), pad(w_out, 1)
    return [tensor.contiguous() for tensor in (u, w_in, conv, conv_bias, w_x, w_dt, bias, A_log, D, w_out)]


def _transformed(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """What the kernels read instead of the parameters: taps and A with channels last."""
    u, w_in, conv, conv_bias, w_x, w_dt, bias, A_log, D, w_out = tensors
    taps = conv.view(conv.shape[0], -1).t().contiguous()
    return [u, w_in, taps, conv_bias, w_x, w_dt, bias, -torch.exp(A_log).t().contiguous(), D, w_out]


def _call_for(weights: list[Tensor]) -> BlockCall:
    u, _, taps, _, _, w_dt, _, A, _, _ = weights
    (batch, length, width), (states, channels) = u.shape, A.shape
    return BlockCall(
        batch, length, width, channels, states, w_dt.shape[1], taps.shape[0], interval(states), threads(batch),
        *(pointer(weight) for weight in weights),
    )  # fmt: skip


def block_forward(tensors: tuple[Tensor, ...], save: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run the block on prepared tensors.

    Args:
        tensors: u (b, l, width) and the parameters in the order of ``Mamba.block_parameters``.
        save: Whether a backward pass will follow.

    Returns:
        The output (b, l, width) and what ``block_backward`` wants back.
    """
    weights = _transformed(tensors)
    arguments = _call_for(weights)
    batch, length, width = tensors[0].shape
    channels, states = arguments.channels, arguments.states
    out = tensors[0].new_empty(batch, length, width + -width % CHANNELS)
    xz = out.new_empty(batch, length, 2 * channels)
    factors = arguments.rank + 2 * states
    projected = out.new_empty(batch, length, factors + -factors % CHANNELS)
    kept = out.new_empty(batch, (length - 1) // arguments.interval, states, channels) if save else None
    for name, tensor in (("out", out), ("xz", xz), ("projected", projected), ("kept", kept)):
        setattr(arguments, name, pointer(tensor))
    call("popularity_block_forward", arguments)
    return out[..., :width].contiguous(), () if kept is None else (xz, projected, kept)


def block_backward(
    tensors: tuple[Tensor, ...], saved: tuple[Tensor, ...], dout: Tensor, want_du: bool
) -> tuple[Tensor | None, ...]:
    """Gradients of ``tensors``, in their order; the first is None unless wanted."""
    weights = _transformed(tensors)
    arguments = _call_for(weights)
    xz, projected, kept = saved
    dout = dout.contiguous()
    width, channels, states, rank, taps = (
        getattr(arguments, name) for name in ("width", "channels", "states", "rank", "taps")
    )
    du = dout.new_empty(*dout.shape[:2], width + -width % CHANNELS) if want_du else None
    rows = (width * 2, taps, 1, rank + 2 * states, rank, 1, states, 1, width)
    sums = dout.new_zeros(arguments.threads, sum(rows), channels)
    for name, tensor in (
        ("xz", xz), ("projected", projected), ("kept", kept), ("dout", dout), ("du", du), ("sums", sums),
    ):  # fmt: skip
        setattr(arguments, name, pointer(tensor))
    call("popularity_block_backward", arguments)
    w_in, conv, conv_bias, w_x, w_dt, bias, A, D, w_out = sums.sum(0).split(rows)
    return (
        None if du is None else du[..., :width],
        w_in.view(width, 2 * channels).t(),
        conv.t().unsqueeze(1),
        conv_bias[0],
        w_x,
        w_dt.t(),
        bias[0],
        (A * weights[7]).t(),  # A = -exp(A_log) is its own derivative
        D[0],
        w_out,
    )
