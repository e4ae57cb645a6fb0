"""Selective scan in plain PyTorch: any device, any float type, little memory (glossary of shapes: ``scan_inputs.py``).

The recurrence is Gu & Dao, "Mamba" (2023), equations 2a, 2b and 4 with the simplified discretisation of its code::

    h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] x[t]        y[t] = C[t] h[t] + D x[t]

The ``b x l x n x d`` states never exist at once: they are made for one sub-batch, token by token in buffers that fit
the cache, and recomputed in the backward pass, one segment at a time, from the states kept at the segments' starts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from popularity.models.scan_inputs import ParameterGradients, ScanGradients, ScanInputs

SEGMENT = 32  # tokens between two kept states
CACHE_ELEMENTS = 1 << 16  # elements of one token's states: a handful of such buffers stay within a core's own cache
ACCELERATOR_ELEMENTS = 1 << 20  # a launch costs more than a cache miss there


def _plan(x: Tensor, states: int) -> tuple[int, int]:
    """Samples of a sub-batch and tokens of a segment: one token's states of a sub-batch fit the cache."""
    batch, length, channels = x.shape
    limit = CACHE_ELEMENTS if x.device.type == "cpu" else ACCELERATOR_ELEMENTS
    tokens = min(length, SEGMENT)
    return max(1, min(batch, limit // (states * channels))), tokens


class _Scratch:
    """Buffers for one sub-batch and segment, used again and again: tokens first, so that each token's part is whole.

    Views of them are made once as well: making one takes as long as some thousand multiplications.

    Args:
        like: A tensor (b, l, d) of the type and on the device wanted.
        samples: Largest sub-batch.
        tokens: Largest segment.
        states: n.
    """

    def __init__(self, like: Tensor, samples: int, tokens: int, states: int) -> None:
        self._like, self._sizes = like, {"m": samples, "s": tokens, "n": states, "d": like.shape[-1]}
        self.one, self.ones = like.new_ones(()), like.new_ones(samples, 1, states)
        self._flat: dict[str, Tensor] = {}
        self._views: dict[tuple[str, str, int, int], Tensor] = {}
        self._parts: dict[tuple[str, int, int, int], tuple[Tensor, ...]] = {}

    def get(self, name: str, shape: str, samples: int, tokens: int = 1) -> Tensor:
        """The buffer ``name`` for as many samples and tokens; its shape in letters, as in "smnd"."""
        key = (name, shape, samples, tokens)
        if key not in self._views:
            if name not in self._flat:
                self._flat[name] = self._like.new_empty(math.prod(self._sizes[letter] for letter in shape))
            sizes = self._sizes | {"m": samples, "s": tokens}
            wanted = [sizes[letter] for letter in shape]
            self._views[key] = self._flat[name][: math.prod(wanted)].view(wanted)
        return self._views[key]

    def by_sample(self, name: str, last: str, samples: int, tokens: int) -> Tensor:
        """The buffer ``name`` seen as (m, s, d) or (m, s, n), as inputs and gradients are."""
        key = (name, "by sample", samples, tokens)
        if key not in self._views:
            self._views[key] = self.get(name, "sm" + last, samples, tokens).transpose(0, 1)
        return self._views[key]

    def by_token(self, name: str, last: str, samples: int, tokens: int, dim: int) -> tuple[Tensor, ...]:
        """The same buffer as one (m, d) or (m, n) per token, with an axis of one at ``dim``."""
        key = (name, samples, tokens, dim)
        if key not in self._parts:
            self._parts[key] = self.get(name, "sm" + last, samples, tokens).unsqueeze(dim + 1).unbind(0)
        return self._parts[key]

    def states(self, samples: int, tokens: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The buffer "hs" as one (m, n, d) per token, and as one (m, d, n)."""
        key, other = ("hs", samples, tokens, 1), ("hs", samples, tokens, 2)
        if key not in self._parts:
            whole = self.get("hs", "smnd", samples, tokens)
            self._parts[key], self._parts[other] = whole.unbind(0), whole.transpose(2, 3).unbind(0)
        return self._parts[key], self._parts[other]


def _segment_of(inputs: ScanInputs, rows: slice, span: slice) -> ScanInputs:
    x, delta, A, B, C, D, z, bias, softplus = inputs
    z = None if z is None else z[rows, span]
    return ScanInputs(x[rows, span], delta[rows, span], A, B[rows, span], C[rows, span], D, z, bias, softplus)


def scan_forward(inputs: ScanInputs, save: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Scan with softplus, skip and gate.

    Args:
        inputs: What to read.
        save: Whether a backward pass will follow.

    Returns:
        y (b, l, d) and, if ``save``, what ``scan_backward`` wants back: the segments' first states, delta
        after softplus and, with a gate, y before it.
    """
    x, A = inputs.x, inputs.A
    batch, length, channels = x.shape
    samples, tokens = _plan(x, A.shape[0])
    y = x.new_empty(x.shape)
    deltas = x.new_empty(x.shape) if save else None
    ungated = x.new_empty(x.shape) if save and inputs.z is not None else None
    starts = x.new_empty(batch, -(-length // tokens) - 1 if save else 0, A.shape[0], channels)
    scratch = _Scratch(x, samples, tokens, A.shape[0])
    for first in range(0, batch, samples):
        rows = slice(first, min(first + samples, batch))
        h = scratch.get("h", "mnd", rows.stop - rows.start)
        h.zero_()  # a product with it all the same: infinity times 0 is not a number
        for begin in range(0, length, tokens):
            span = slice(begin, min(begin + tokens, length))
            if save and begin:
                starts[rows, begin // tokens - 1] = h
            part = _segment_of(inputs, rows, span)
            delta = _delta(part, scratch)
            if deltas is not None:
                deltas[rows, span] = delta
            h, read = _scan_segment(part, delta, h, scratch)
            before = y[rows, span] if ungated is None else ungated[rows, span]
            if part.D is None:
                before.copy_(read)
            else:
                torch.addcmul(read, part.x, part.D, out=before)
            if part.z is not None:
                gate = scratch.get("gate", "msd", *read.shape[:2])
                torch.mul(before, torch.ops.aten.silu.out(part.z, out=gate), out=y[rows, span])
    saved = (starts, deltas, ungated) if save else ()
    return y, tuple(tensor for tensor in saved if tensor is not None)


def _delta(part: ScanInputs, scratch: _Scratch) -> Tensor:
    """A segment's delta after bias and softplus, (m, s, d), in the buffer "delta"."""
    m, s = part.x.shape[:2]
    delta = scratch.by_sample("delta", "d", m, s)
    raw = part.delta if part.bias is None else torch.add(part.delta, part.bias, out=delta)
    return torch.ops.aten.softplus.out(raw, 1, 20, out=delta) if part.softplus else delta.copy_(raw)


def _scan_segment(part: ScanInputs, delta: Tensor, h: Tensor, scratch: _Scratch) -> tuple[Tensor, Tensor]:
    """Go on from the states ``h`` through one segment; return the states at its end and C h, (m, s, d)."""
    m, s = part.x.shape[:2]
    torch.mul(delta, part.x, out=scratch.by_sample("delta_x", "d", m, s))
    scratch.by_sample("B", "n", m, s).copy_(part.B)
    scratch.by_sample("C", "n", m, s).copy_(part.C)
    deltas, delta_xs = (scratch.by_token(name, "d", m, s, 1) for name in ("delta", "delta_x"))
    columns, rows = scratch.by_token("B", "n", m, s, 2), scratch.by_token("C", "n", m, s, 1)
    outs = scratch.by_token("read", "d", m, s, 1)
    decay, new = scratch.get("decay", "mnd", m), scratch.get("new", "mnd", m)
    if h is new:
        new = scratch.get("h", "mnd", m)
    for t in range(s):
        torch.mul(deltas[t], part.A, out=decay).exp_()
        h, new = torch.mul(delta_xs[t], columns[t], out=new).addcmul_(decay, h), h
        torch.bmm(rows[t], h, out=outs[t])
    return h, scratch.by_sample("read", "d", m, s)


def scan_backward(
    inputs: ScanInputs, saved: tuple[Tensor, ...], dout: Tensor, grads: ScanGradients
) -> ParameterGradients:
    """Write the gradients of the token-wise inputs into ``grads`` and return those of the parameters."""
    x, A, D, bias = inputs.x, inputs.A, inputs.D, inputs.bias
    batch, length, _ = x.shape
    samples, tokens = _plan(x, A.shape[0])
    scratch = _Scratch(x, samples, tokens, A.shape[0])
    summed = ParameterGradients(
        torch.zeros_like(A),
        None if D is None else torch.zeros_like(D),
        None if bias is None else torch.zeros_like(bias),
    )
    starts, *kept = saved
    zero = x.new_zeros(())  # a product with it all the same: infinity times 0 is not a number
    for first in range(0, batch, samples):
        rows = slice(first, min(first + samples, batch))
        dh, dA = (scratch.get(name, "mnd", rows.stop - rows.start).zero_() for name in ("dh", "dA"))
        for begin in reversed(range(0, length, tokens)):
            span = slice(begin, min(begin + tokens, length))
            start = starts[rows, begin // tokens - 1] if begin else zero
            written = ScanGradients(*(None if grad is None else grad[rows, span] for grad in grads))  # type: ignore[arg-type]
            part, (delta, *ungated) = _segment_of(inputs, rows, span), [tensor[rows, span] for tensor in kept]
            scratch.by_sample("delta", "d", *delta.shape[:2]).copy_(delta)
            _gate_backward(part, ungated, dout[rows, span], written, scratch)
            _backward_segment(part, start, dh, dA, scratch)
            _inputs_backward(part, written, summed, scratch)
        summed.A.add_(dA.sum(0))
    return summed


def _gate_backward(
    part: ScanInputs, ungated: Sequence[Tensor], dout: Tensor, grads: ScanGradients, scratch: _Scratch
) -> None:
    """Write a segment's gradient of y before the gate into the buffer "dy", and that of the gate."""
    m, s = part.x.shape[:2]
    dy = scratch.by_sample("dy", "d", m, s)
    if part.z is None or grads.z is None:
        dy.copy_(dout)
        return
    sigmoid, silu, slope = (scratch.get(name, "msd", m, s) for name in ("sigmoid", "silu", "slope"))
    torch.mul(part.z, torch.sigmoid(part.z, out=sigmoid), out=silu)
    torch.mul(dout, silu, out=dy)
    torch.sub(scratch.one, sigmoid, out=slope)
    torch.addcmul(sigmoid, silu, slope, out=slope)
    torch.mul(slope.mul_(ungated[0]), dout, out=grads.z)


def _backward_segment(part: ScanInputs, start: Tensor, dh: Tensor, dA: Tensor, scratch: _Scratch) -> None:
    """Recompute one segment's states, then go backwards through its tokens.

    Reads the buffers "delta" and "dy"; carries ``dh`` on, adds to ``dA`` and leaves the gradients of B, C, delta x and,
    through the decay, of delta in the buffers "to_B", "to_C", "to_x" and "to_delta".
    """
    A = part.A
    m, s = part.x.shape[:2]
    torch.mul(scratch.by_sample("delta", "d", m, s), part.x, out=scratch.by_sample("delta_x", "d", m, s))
    scratch.by_sample("B", "n", m, s).copy_(part.B)
    scratch.by_sample("C", "n", m, s).copy_(part.C)
    deltas, delta_xs, dys = (scratch.by_token(name, "d", m, s, 1) for name in ("delta", "delta_x", "dy"))
    columns, c_columns = (scratch.by_token(name, "n", m, s, 2) for name in ("B", "C"))
    b_rows = scratch.by_token("B", "n", m, s, 1)
    to_B, to_C = (scratch.by_token(name, "n", m, s, 1) for name in ("to_B", "to_C"))
    to_x, to_delta = (scratch.by_token(name, "d", m, s, 1) for name in ("to_x", "to_delta"))
    hs, flipped = scratch.states(m, s)
    decay = scratch.get("decay", "mnd", m)
    product = decay  # one after the other: with one buffer more the cache would overflow
    ones = scratch.ones[:m]
    previous = start
    for t in range(s):
        torch.mul(deltas[t], A, out=decay).exp_()
        previous = torch.mul(delta_xs[t], columns[t], out=hs[t]).addcmul_(decay, previous)
    dh_flipped = dh.transpose(1, 2)
    for t in reversed(range(s)):
        dh.addcmul_(dys[t], c_columns[t])
        # a row times a matrix: the matrix times a column takes three times as long
        torch.bmm(dys[t], flipped[t], out=to_C[t])
        torch.bmm(delta_xs[t], dh_flipped, out=to_B[t])
        torch.bmm(b_rows[t], dh, out=to_x[t])
        # recomputed: those of all tokens would not fit the cache
        torch.mul(deltas[t], A, out=decay).exp_()
        dh.mul_(decay)  # what the token before inherits
        torch.mul(dh, hs[t - 1] if t else start, out=product)  # gradient of delta A
        dA.addcmul_(product, deltas[t])
        torch.bmm(ones, product.mul_(A), out=to_delta[t])  # a sum over n, in half the time of a sum


def _inputs_backward(part: ScanInputs, grads: ScanGradients, summed: ParameterGradients, scratch: _Scratch) -> None:
    """From the buffers that ``_backward_segment`` left to the gradients of a segment's inputs."""
    m, s = part.x.shape[:2]
    delta, dy, to_x, to_delta = (scratch.by_sample(name, "d", m, s) for name in ("delta", "dy", "to_x", "to_delta"))
    spare = scratch.get("silu", "msd", m, s)
    grads.B.copy_(scratch.by_sample("to_B", "n", m, s))
    grads.C.copy_(scratch.by_sample("to_C", "n", m, s))
    torch.mul(to_x, delta, out=grads.x)
    if part.D is not None and summed.D is not None:
        grads.x.addcmul_(dy, part.D)
        summed.D.add_(torch.mul(dy, part.x, out=spare).sum((0, 1)))
    to_delta.addcmul_(to_x, part.x)
    if part.softplus:
        raw = part.delta if part.bias is None else torch.add(part.delta, part.bias, out=spare)
        torch.mul(to_delta, torch.sigmoid(raw, out=spare), out=grads.delta)
    else:
        grads.delta.copy_(to_delta)
    if summed.bias is not None:
        summed.bias.add_(grads.delta.sum((0, 1)))


def scan_plain(inputs: ScanInputs) -> Tensor:
    """The same result as a graph of ordinary operations, one step per token: for compilers, exporters and tracers."""
    x, _, A, B, C, D, z, _, _ = inputs
    delta = inputs.delta if inputs.bias is None else inputs.delta + inputs.bias
    if inputs.softplus:
        delta = F.softplus(delta)
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
