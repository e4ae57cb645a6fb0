"""Selective scan and causal convolution in plain PyTorch: any device, any float type, little memory.

Glossary of shapes, here and in ``scan_cpp.py``: ``b`` batch, ``l`` tokens, ``d`` channels (d_inner), ``n`` states
(d_state), ``k`` taps of the convolution (d_conv). All tensors are token-major, channels last: ``(b, l, d)``. ``A``
comes transposed, ``(n, d)``.

The recurrence is Gu & Dao, "Mamba" (2023), equations 2a, 2b and 4 with the simplified discretisation of its code::

    h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] x[t]        y[t] = C[t] h[t] + D x[t]

The ``b x l x n x d`` states never exist at once: they are made for one sub-batch, token by token in buffers that fit
the cache, and made again in the backward pass, one segment at a time, from the states kept at the segments' starts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SEGMENT = 32  # tokens between two kept states
CACHE_ELEMENTS = 1 << 16  # elements of one token's states: a handful of such buffers stay within a core's own cache
ACCELERATOR_ELEMENTS = 1 << 20  # a launch costs more than a cache miss there


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
    """Samples of a sub-batch and tokens of a segment: one token's states of a sub-batch fit the cache."""
    batch, length, channels = x.shape
    limit = CACHE_ELEMENTS if x.device.type == "cpu" else ACCELERATOR_ELEMENTS
    tokens = min(length, SEGMENT)
    return max(1, min(batch, limit // (states * channels))), tokens


class _Scratch:
    """Buffers for one sub-batch and segment, used again and again: tokens first, so that each token's part is whole.

    Args:
        like: A tensor (b, l, d) of the type and on the device wanted.
        samples: Largest sub-batch.
        tokens: Largest segment.
        states: n.
    """

    def __init__(self, like: Tensor, samples: int, tokens: int, states: int) -> None:
        self._like, self._sizes = like, {"m": samples, "s": tokens, "n": states, "d": like.shape[-1]}
        self._flat: dict[str, Tensor] = {}
        self._shaped: dict[tuple[str, int, int], Tensor] = {}

    def get(self, name: str, shape: str, samples: int, tokens: int = 1) -> Tensor:
        """The buffer ``name`` for as many samples and tokens; its shape in letters, as in "smnd"."""
        key = (name, samples, tokens)
        if key not in self._shaped:
            if name not in self._flat:
                self._flat[name] = self._like.new_empty(math.prod(self._sizes[letter] for letter in shape))
            sizes = self._sizes | {"m": samples, "s": tokens}
            wanted = [sizes[letter] for letter in shape]
            self._shaped[key] = self._flat[name][: math.prod(wanted)].view(wanted)
        return self._shaped[key]


def _by_token(tensor: Tensor, dim: int) -> tuple[Tensor, ...]:
    """(m, s, k) as one (m, k) per token, with an axis of one at ``dim``."""
    return tensor.unsqueeze(dim + 1).unbind(1)


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
    m, length, _ = x.shape
    decay, h, new = (scratch.get(name, "mnd", m) for name in ("decay", "h", "new"))
    h.zero_()  # a product with it all the same: infinity times 0 is not a number
    deltas, delta_xs = _by_token(delta, 1), _by_token(delta * x, 1)
    columns, rows = _by_token(B, 2), _by_token(C, 1)
    for first in range(0, length, tokens):
        span = range(first, min(first + tokens, length))
        if starts is not None and first:
            starts[:, first // tokens - 1] = h
        read = scratch.get("read", "smd", m, len(span))
        for out, t in zip(read.unsqueeze(2).unbind(0), span, strict=True):
            torch.mul(deltas[t], A, out=decay).exp_()
            h, new = torch.mul(delta_xs[t], columns[t], out=new).addcmul_(decay, h), h
            torch.bmm(rows[t], h, out=out)
        y[:, first : span.stop] = read.transpose(0, 1)


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
    scratch = _Scratch(x, samples, tokens, A.shape[0])
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
    scratch = _Scratch(x, samples, tokens, A.shape[0])
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
    m, length, _ = x.shape
    starts, delta = saved[:2]
    dy = dout
    if z is not None and grads.z is not None:
        torch.ops.aten.silu_backward.grad_input(dout * saved[2], z, grad_input=grads.z)
        dy = dout * F.silu(z)
    delta_x = delta * x
    ddelta = x.new_empty(x.shape)
    zero = x.new_zeros(())  # a product with it all the same: infinity times 0 is not a number
    dh, dA, decay = (scratch.get(name, "mnd", m) for name in ("dh", "dA", "decay"))
    product = decay  # one after the other: with four buffers of this size the cache would overflow
    dh.zero_()
    dA.zero_()
    deltas, delta_xs, dys = _by_token(delta, 1), _by_token(delta_x, 1), _by_token(dy, 1)
    columns, b_rows, c_columns = _by_token(B, 2), _by_token(B, 1), _by_token(C, 2)
    to_delta = ddelta.unbind(1)
    for first in reversed(range(0, length, tokens)):
        span = range(first, min(first + tokens, length))
        size = len(span)
        start = starts[:, first // tokens - 1] if first else zero
        hs = scratch.get("hs", "smnd", m, size).unbind(0)
        previous = start
        for h, t in zip(hs, span, strict=True):
            torch.mul(deltas[t], A, out=decay).exp_()
            previous = torch.mul(delta_xs[t], columns[t], out=h).addcmul_(decay, previous)
        to_B, to_C = (scratch.get(name, "smn", m, size) for name in ("to_B", "to_C"))
        to_x = scratch.get("to_x", "smd", m, size)
        outs = zip(*(found.unsqueeze(2).unbind(0) for found in (to_C, to_B, to_x)), strict=True)
        for_token = list(zip(hs, outs, strict=True))
        flipped = dh.transpose(1, 2)
        for i in reversed(range(size)):
            t = first + i
            h, (out_C, out_B, out_x) = for_token[i]
            dh.addcmul_(dys[t], c_columns[t])
            # a row times a matrix: the matrix times a column takes three times as long
            torch.bmm(dys[t], h.transpose(1, 2), out=out_C)
            torch.bmm(delta_xs[t], flipped, out=out_B)
            torch.bmm(b_rows[t], dh, out=out_x)
            # made again: those of all tokens would not fit the cache
            torch.mul(deltas[t], A, out=decay).exp_()
            dh.mul_(decay)  # what the token before inherits
            torch.mul(dh, hs[i - 1] if i else start, out=product)  # gradient of delta A
            dA.addcmul_(product, deltas[t])
            torch.sum(product.mul_(A), 1, out=to_delta[t])
        part = slice(first, span.stop)
        grads.B[:, part], grads.C[:, part] = to_B.transpose(0, 1), to_C.transpose(0, 1)
        ddelta_x = to_x.transpose(0, 1)
        ddelta[:, part].addcmul_(ddelta_x, x[:, part])
        torch.mul(ddelta_x, delta[:, part], out=grads.x[:, part])
    summed.A.add_(dA.sum(0))
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
