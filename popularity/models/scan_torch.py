"""Selective scan and causal convolution in plain PyTorch: any device, any float type, little memory.

Glossary of shapes, here and in ``scan_cpp.py``: ``b`` batch, ``l`` tokens, ``d`` channels (d_inner), ``n`` states
(d_state), ``k`` taps of the convolution (d_conv). All tensors are token-major, channels last: ``(b, l, d)``. ``A``
comes transposed, ``(n, d)``.

The recurrence is Gu & Dao, "Mamba" (2023), equations 2a, 2b and 4 with the simplified discretisation of its code::

    h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] x[t]        y[t] = C[t] h[t] + D x[t]

The ``b x l x n x d`` states never exist at once: they are made for one sub-batch and one segment of tokens at a time,
in buffers that fit the cache, and made again in the backward pass from the states kept at the segments' starts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SEGMENT = 32  # tokens between two kept states
CACHE_ELEMENTS = 1 << 18  # elements of a scratch buffer: three of 1 MiB stay within a core's L2 and its share of L3
ACCELERATOR_ELEMENTS = 1 << 24  # a launch costs more than a cache miss there


class ScanInputs(NamedTuple):
    """What a scan reads. ``delta`` is raw: ``bias`` and softplus come on top of it."""

    x: Tensor  # (b, l, d)
    delta: Tensor  # (b, l, d)
    A: Tensor  # (n, d)
    B: Tensor  # (b, l, n)
    C: Tensor  # (b, l, n)
    D: Tensor | None  # (d,)
    z: Tensor | None  # (b, l, d)
    bias: Tensor | None  # (d,)
    softplus: bool


class ScanGradients(NamedTuple):
    """Where a backward pass writes: tensors of the inputs' shapes, of any strides."""

    x: Tensor
    delta: Tensor
    B: Tensor
    C: Tensor
    z: Tensor | None


class ParameterGradients(NamedTuple):
    """Gradients summed over batch and tokens: of ``A`` (n, d), ``D`` (d,) and ``bias`` (d,)."""

    A: Tensor
    D: Tensor | None
    bias: Tensor | None


def conv_silu_forward(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Causal depthwise convolution, then SiLU.

    Args:
        x: (b, l, d).
        weight: (k, d); ``weight[k - 1]`` multiplies the current token.
        bias: (d,).

    Returns:
        The result and its input to SiLU, (b, l, d) each.
    """
    taps, length = weight.shape[0], x.shape[1]
    before = torch.addcmul(bias, x, weight[-1])
    for lag in range(1, min(taps, length)):
        before[:, lag:].addcmul_(x[:, :-lag], weight[-1 - lag])
    return F.silu(before), before


def conv_silu_backward(x: Tensor, weight: Tensor, before: Tensor, dout: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
    """Write the gradient of ``x`` into ``dx`` and return those of ``weight`` (k, d) and ``bias`` (d,)."""
    taps, length = weight.shape[0], x.shape[1]
    ds = torch.ops.aten.silu_backward(dout, before)
    torch.mul(ds, weight[-1], out=dx)
    dweight = torch.zeros_like(weight)
    dweight[-1] = (ds * x).sum((0, 1))
    for lag in range(1, min(taps, length)):
        dx[:, :-lag].addcmul_(ds[:, lag:], weight[-1 - lag])
        dweight[-1 - lag] = (ds[:, lag:] * x[:, :-lag]).sum((0, 1))
    return dweight, ds.sum((0, 1))


def _plan(x: Tensor, states: int) -> tuple[int, int]:
    """Samples of a sub-batch and tokens of a segment, so that one buffer of states fits the cache."""
    batch, length, channels = x.shape
    limit = CACHE_ELEMENTS if x.device.type == "cpu" else ACCELERATOR_ELEMENTS
    tokens = min(length, SEGMENT, max(8, limit // (states * channels)))
    return max(1, min(batch, limit // (tokens * states * channels))), tokens


class _Scratch:
    """Buffers for the states of one sub-batch and segment, ``(sub-batch, tokens, n, d)``, used again and again."""

    def __init__(self, like: Tensor, count: int, samples: int, tokens: int, states: int) -> None:
        self._rest = (states, like.shape[-1])
        self._flat = [like.new_empty(samples * tokens * states * like.shape[-1]) for _ in range(count)]

    def shaped(self, samples: int, tokens: int) -> list[Tensor]:
        shape = (samples, tokens, *self._rest)
        size = samples * tokens * self._rest[0] * self._rest[1]
        return [flat[:size].view(shape) for flat in self._flat]


def _states(
    decay: Tensor, h: Tensor, delta: Tensor, delta_x: Tensor, A: Tensor, B: Tensor, start: Tensor | None
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Fill ``decay`` and ``h`` (both (b, l, n, d)) for one segment; return both as lists over its tokens."""
    torch.mul(delta.unsqueeze(2), A, out=decay)
    decay.exp_()
    torch.mul(delta_x.unsqueeze(2), B.unsqueeze(3), out=h)
    decays, hs = decay.unbind(1), h.unbind(1)
    hs[0].addcmul_(decays[0], A.new_zeros(()) if start is None else start)  # 0, too: infinity times it is not a number
    for t in range(1, len(hs)):
        hs[t].addcmul_(decays[t], hs[t - 1])
    return decays, hs


def _discretised(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Delta before and after softplus, (b, l, d) each."""
    raw = inputs.delta if inputs.bias is None else inputs.delta + inputs.bias
    return raw, F.softplus(raw) if inputs.softplus else raw


def scan_forward(inputs: ScanInputs, save: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Scan with softplus, skip and gate.

    Args:
        inputs: What to read.
        save: Whether a backward pass will follow.

    Returns:
        y (b, l, d) and, if ``save``, what ``scan_backward`` wants back: the segments' first states and, with a
        gate, y before it.
    """
    x, _, A, B, C, D, z, _, _ = inputs
    batch, length, channels = x.shape
    states = A.shape[0]
    _, delta = _discretised(inputs)
    delta_x = delta * x
    samples, tokens = _plan(x, states)
    segments = -(-length // tokens)
    y = x.new_empty(x.shape)
    starts = x.new_empty(batch, segments - 1 if save else 0, states, channels)
    scratch = _Scratch(x, 2, samples, tokens, states)
    for first in range(0, batch, samples):
        rows = slice(first, min(first + samples, batch))
        start = None
        for segment in range(segments):
            span = slice(segment * tokens, min((segment + 1) * tokens, length))
            m, s = rows.stop - rows.start, span.stop - span.start
            decay, h = scratch.shaped(m, s)
            _, hs = _states(decay, h, delta[rows, span], delta_x[rows, span], A, B[rows, span], start)
            contracted = torch.bmm(C[rows, span].reshape(m * s, 1, states), h.view(m * s, states, channels))
            y[rows, span] = contracted.view(m, s, channels)
            if segment + 1 < segments:
                start = hs[-1].clone()
                if save:
                    starts[rows, segment] = start
    if D is not None:
        y.addcmul_(x, D)
    if z is None:
        return y, (starts,) if save else ()
    if save:
        return y * F.silu(z), (starts, y)
    return y.mul_(F.silu(z)), ()


def scan_backward(
    inputs: ScanInputs, saved: tuple[Tensor, ...], dout: Tensor, grads: ScanGradients
) -> ParameterGradients:
    """Write the gradients of the token-wise inputs into ``grads`` and return those of the parameters."""
    x, _, A, B, C, D, z, bias, softplus = inputs
    batch, length, channels = x.shape
    states = A.shape[0]
    starts = saved[0]
    raw, delta = _discretised(inputs)
    dy = dout
    if z is not None and grads.z is not None:
        torch.ops.aten.silu_backward.grad_input(dout * saved[1], z, grad_input=grads.z)
        dy = dout * F.silu(z)
    delta_x = delta * x
    ddelta_x, ddelta = x.new_empty(x.shape), x.new_empty(x.shape)
    dA = torch.zeros_like(A)
    samples, tokens = _plan(x, states)
    scratch = _Scratch(x, 3, samples, tokens, states)
    for first in range(0, batch, samples):
        rows = slice(first, min(first + samples, batch))
        m, carry = rows.stop - rows.start, None
        for segment in reversed(range(-(-length // tokens))):
            span = slice(segment * tokens, min((segment + 1) * tokens, length))
            s = span.stop - span.start
            here = (rows, span)
            decay, h, dh = scratch.shaped(m, s)
            start = starts[rows, segment - 1] if segment else None
            decays, _ = _states(decay, h, delta[here], delta_x[here], A, B[here], start)
            torch.mul(dy[here].unsqueeze(2), C[here].unsqueeze(3), out=dh)
            dhs = dh.unbind(1)
            if carry is not None:
                dhs[-1].add_(carry)
            for t in range(s - 2, -1, -1):
                dhs[t].addcmul_(decays[t + 1], dhs[t + 1])
            carry = decays[0] * dhs[0] if segment else None
            flat = (m * s, states, channels)
            grads.C[here] = torch.bmm(h.view(flat), dy[here].reshape(m * s, channels, 1)).view(m, s, states)
            grads.B[here] = torch.bmm(dh.view(flat), delta_x[here].reshape(m * s, channels, 1)).view(m, s, states)
            contracted = torch.bmm(B[here].reshape(m * s, 1, states), dh.view(flat))
            ddelta_x[here] = contracted.view(m, s, channels)
            # gradient of delta A: dh * decay * previous h
            decay.mul_(dh)
            decay[:, 1:].mul_(h[:, :-1])
            if start is None:
                decays[0].zero_()
            else:
                decays[0].mul_(start)
            torch.mul(decay, A, out=h)
            ddelta[here] = h.sum(2)
            dA += decay.mul_(delta[here].unsqueeze(2)).sum((0, 1))
    ddelta.addcmul_(ddelta_x, x)
    torch.mul(ddelta_x, delta, out=grads.x)
    if D is not None:
        grads.x.addcmul_(dy, D)
    if softplus:
        ddelta = torch.ops.aten.softplus_backward(ddelta, raw, 1, 20)
    grads.delta.copy_(ddelta)
    return ParameterGradients(
        dA,
        None if D is None else (dy * x).sum((0, 1)),
        None if bias is None else ddelta.sum((0, 1)),
    )


def scan_plain(inputs: ScanInputs) -> Tensor:
    """The same result as a graph of ordinary operations, one step per token: for compilers, exporters and tracers."""
    x, _, A, B, C, D, z, _, _ = inputs
    _, delta = _discretised(inputs)
    decays = torch.exp(delta.unsqueeze(2) * A).unbind(1)
    added = ((delta * x).unsqueeze(2) * B.unsqueeze(3)).unbind(1)
    h = torch.zeros_like(x[:, :1].unsqueeze(2) * A).squeeze(1)
    ys = []
    for decay, add, c in zip(decays, added, C.unbind(1), strict=True):
        h = decay * h + add
        ys.append((h * c.unsqueeze(2)).sum(1))
    y = torch.stack(ys, 1) if ys else torch.zeros_like(x)
    if D is not None:
        y = y + x * D
    return y if z is None else y * F.silu(z)
