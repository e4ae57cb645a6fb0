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

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SEGMENT = 32  # tokens between two kept states
CACHE_ELEMENTS = 1 << 19  # elements of a scratch buffer: three of 2 MiB stay within a core's share of the caches
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
    """Buffers for the states of one sub-batch and segment, used again and again, each with its list of tokens."""

    def __init__(self, like: Tensor, count: int, samples: int, tokens: int, states: int) -> None:
        self._rest = (states, like.shape[-1])
        self._flat = [like.new_empty(samples * tokens * states * like.shape[-1]) for _ in range(count)]
        self._shaped: dict[tuple[int, int], list[tuple[Tensor, tuple[Tensor, ...]]]] = {}

    def shaped(self, samples: int, tokens: int) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
        """The buffers as (samples, tokens, n, d), and their views (samples, n, d) by token."""
        if (samples, tokens) not in self._shaped:
            shape = (samples, tokens, *self._rest)
            buffers = [flat[: math.prod(shape)].view(shape) for flat in self._flat]
            self._shaped[samples, tokens] = [(buffer, buffer.unbind(1)) for buffer in buffers]
        return self._shaped[samples, tokens]


def _fill_states(
    decay: tuple[Tensor, tuple[Tensor, ...]],
    h: tuple[Tensor, tuple[Tensor, ...]],
    delta: Tensor,
    delta_x: Tensor,
    A: Tensor,
    B: Tensor,
    start: Tensor,
) -> None:
    """Compute decays and states of one segment into two buffers of ``_Scratch``."""
    torch.mul(delta.unsqueeze(2), A, out=decay[0])
    decay[0].exp_()
    torch.mul(delta_x.unsqueeze(2), B.unsqueeze(3), out=h[0])
    previous = start
    for by_token, state in zip(decay[1], h[1], strict=True):
        previous = state.addcmul_(by_token, previous)


def _raw_delta(inputs: ScanInputs) -> Tensor:
    return inputs.delta if inputs.bias is None else inputs.delta + inputs.bias


def _delta(inputs: ScanInputs) -> Tensor:
    return F.softplus(_raw_delta(inputs)) if inputs.softplus else _raw_delta(inputs)


def _rows_of(inputs: ScanInputs, rows: slice) -> ScanInputs:
    x, delta, A, B, C, D, z, bias, softplus = inputs
    return ScanInputs(x[rows], delta[rows], A, B[rows], C[rows], D, None if z is None else z[rows], bias, softplus)


def _scan_rows(
    inputs: ScanInputs, delta: Tensor, tokens: int, scratch: _Scratch, y: Tensor, starts: Tensor | None
) -> None:
    """Write one sub-batch's C h into ``y`` and, if wanted, the first states of all segments but one into ``starts``."""
    x, _, A, B, C, *_ = inputs
    (m, length, channels), states = x.shape, A.shape[0]
    delta_x = delta * x
    start = x.new_zeros(())  # a product with it all the same: infinity times 0 is not a number
    segments = -(-length // tokens)
    for segment in range(segments):
        span = slice(segment * tokens, min((segment + 1) * tokens, length))
        s = span.stop - span.start
        decay, (h, hs) = scratch.shaped(m, s)
        _fill_states(decay, (h, hs), delta[:, span], delta_x[:, span], A, B[:, span], start)
        contracted = torch.bmm(C[:, span].reshape(m * s, 1, states), h.view(m * s, states, channels))
        y[:, span] = contracted.view(m, s, channels)
        if segment + 1 < segments:
            start = hs[-1].clone()
            if starts is not None:
                starts[:, segment] = start


def scan_forward(inputs: ScanInputs, save: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Scan with softplus, skip and gate.

    Args:
        inputs: What to read.
        save: Whether a backward pass will follow.

    Returns:
        y (b, l, d) and, if ``save``, what ``scan_backward`` wants back: the segments' first states, delta
        after softplus and, with a gate, y before it.
    """
    x, A, z = inputs.x, inputs.A, inputs.z
    batch, length, channels = x.shape
    samples, tokens = _plan(x, A.shape[0])
    y = x.new_empty(x.shape)
    kept = [x.new_empty(x.shape) for _ in range(1 if z is None else 2)] if save else []
    starts = x.new_empty(batch, -(-length // tokens) - 1 if save else 0, A.shape[0], channels)
    scratch = _Scratch(x, 2, samples, tokens, A.shape[0])
    for first in range(0, batch, samples):
        rows = slice(first, min(first + samples, batch))
        part = _rows_of(inputs, rows)
        delta = _delta(part)
        out = y[rows]
        _scan_rows(part, delta, tokens, scratch, out, starts[rows] if save else None)
        if part.D is not None:
            out.addcmul_(part.x, part.D)
        if save:
            kept[0][rows] = delta
        if part.z is not None:
            if save:
                kept[1][rows] = out
            out.mul_(F.silu(part.z))
    return y, (starts, *kept) if save else ()


def scan_backward(
    inputs: ScanInputs, saved: tuple[Tensor, ...], dout: Tensor, grads: ScanGradients
) -> ParameterGradients:
    """Write the gradients of the token-wise inputs into ``grads`` and return those of the parameters."""
    x, A, D, bias = inputs.x, inputs.A, inputs.D, inputs.bias
    samples, tokens = _plan(x, A.shape[0])
    scratch = _Scratch(x, 3, samples, tokens, A.shape[0])
    summed = ParameterGradients(
        torch.zeros_like(A),
        None if D is None else torch.zeros_like(D),
        None if bias is None else torch.zeros_like(bias),
    )
    for first in range(0, x.shape[0], samples):
        rows = slice(first, min(first + samples, x.shape[0]))
        written = ScanGradients(*(None if grad is None else grad[rows] for grad in grads))  # type: ignore[arg-type]
        kept = tuple(tensor[rows] for tensor in saved)
        _backward_rows(_rows_of(inputs, rows), kept, dout[rows], written, summed, tokens, scratch)
    return summed


def _backward_rows(
    inputs: ScanInputs,
    saved: tuple[Tensor, ...],
    dout: Tensor,
    grads: ScanGradients,
    summed: ParameterGradients,
    tokens: int,
    scratch: _Scratch,
) -> None:
    """As ``scan_backward`` for one sub-batch, in whose size everything stays in the cache; adds to ``summed``."""
    x, _, A, B, C, D, z, _, softplus = inputs
    m, length, channels = x.shape
    states = A.shape[0]
    starts, delta = saved[:2]
    dy = dout
    if z is not None and grads.z is not None:
        torch.ops.aten.silu_backward.grad_input(dout * saved[2], z, grad_input=grads.z)
        dy = dout * F.silu(z)
    delta_x = delta * x
    ddelta_x, ddelta = x.new_empty(x.shape), x.new_empty(x.shape)
    zero = x.new_zeros(())
    carry = None
    for segment in reversed(range(-(-length // tokens))):
        span = slice(segment * tokens, min((segment + 1) * tokens, length))
        s = span.stop - span.start
        here = (slice(None), span)
        (decay, decays), (h, hs), (dh, dhs) = scratch.shaped(m, s)
        start = starts[:, segment - 1] if segment else zero
        _fill_states((decay, decays), (h, hs), delta[here], delta_x[here], A, B[here], start)
        torch.mul(dy[here].unsqueeze(2), C[here].unsqueeze(3), out=dh)
        if carry is not None:
            dhs[-1].add_(carry)
        for t in range(s - 2, -1, -1):
            dhs[t].addcmul_(decays[t + 1], dhs[t + 1])
        carry = decays[0] * dhs[0] if segment else None
        flat = (m * s, states, channels)
        # a row times a matrix: the matrix times a column takes three times as long
        row = (m * s, 1, channels)
        grads.C[here] = torch.bmm(dy[here].reshape(row), h.view(flat).transpose(1, 2)).view(m, s, states)
        grads.B[here] = torch.bmm(delta_x[here].reshape(row), dh.view(flat).transpose(1, 2)).view(m, s, states)
        contracted = torch.bmm(B[here].reshape(m * s, 1, states), dh.view(flat))
        ddelta_x[here] = contracted.view(m, s, channels)
        # gradient of delta A: dh * decay * previous h
        decay.mul_(dh)
        decay[:, 1:].mul_(h[:, :-1])
        decays[0].mul_(start)
        torch.mul(decay, A, out=h)
        ddelta[here] = h.sum(2)
        summed.A.add_(decay.mul_(delta[here].unsqueeze(2)).sum((0, 1)))
    ddelta.addcmul_(ddelta_x, x)
    torch.mul(ddelta_x, delta, out=grads.x)
    if D is not None and summed.D is not None:
        grads.x.addcmul_(dy, D)
        summed.D.add_((dy * x).sum((0, 1)))
    if softplus:
        ddelta = torch.ops.aten.softplus_backward(ddelta, _raw_delta(inputs), 1, 20)
    grads.delta.copy_(ddelta)
    if summed.bias is not None:
        summed.bias.add_(ddelta.sum((0, 1)))


def scan_plain(inputs: ScanInputs) -> Tensor:
    """The same result as a graph of ordinary operations, one step per token: for compilers, exporters and tracers."""
    x, _, A, B, C, D, z, _, _ = inputs
    delta = _delta(inputs)
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
