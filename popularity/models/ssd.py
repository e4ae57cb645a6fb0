"""State space duality: the scan of Mamba-2 as matrix products, in plain PyTorch.

Glossary of shapes: ``b`` batch, ``l`` tokens, ``h`` heads, ``p`` channels of a head (headdim), ``g`` groups of heads
that share B and C (ngroups), ``n`` states of a channel (d_state), ``c`` chunks.

The recurrence is Dao & Gu, "Transformers are SSMs" (2024), equation 2 with one A per head and the simplified
discretisation of its code; H is (p, n), x a column of p, B and C columns of n::

    H[t] = exp(dt[t] A) H[t-1] + dt[t] x[t] B[t]'        y[t] = H[t] C[t] + D x[t]
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 32  # longer chunks make the segment sums expensive, shorter ones the states


def segment_indicator(length: int, like: Tensor) -> Tensor:
    """The 0/1 matrix (l, l * l) that turns logs of decays into segment sums; entry [r, (t, s)] is s < r <= t."""
    lower = like.new_ones(length, length).tril()
    return (lower.t().unsqueeze(2) * lower.tril(-1).unsqueeze(1)).flatten(1)


def segment_sums(a: Tensor) -> Tensor:
    """Sums of ``a[s + 1 : t + 1]`` at [t, s], and 0 above the diagonal: Dao & Gu (2024), listing 1.

    Terms of one sign are added and never subtracted, so a long past costs a short segment no accuracy.

    Args:
        a: (..., l).

    Returns:
        (..., l, l).
    """
    length = a.shape[-1]
    flat = a.reshape(math.prod(a.shape[:-1]), length)
    return torch.mm(flat, segment_indicator(length, a)).view(*a.shape, length)


def ssd(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, chunk: int = CHUNK) -> Tensor:
    """Scan of Mamba-2: the dual form for at most ``chunk`` tokens, else blocks of ``chunk`` joined by their states.

    A NaN token reaches all tokens of its chunk and all later ones, in its own sequence only.

    Args:
        x: Input, (b, l, h, p).
        dt: Step sizes, (b, l, h), not negative; a token with a step of 0 does not affect the others.
        A: (h,), negative.
        B: Input matrix, (b, l, g, n); g divides h.
        C: Output matrix, (b, l, g, n).
        D: Skip, (h,).
        chunk: Tokens of a block.

    Returns:
        (b, l, h, p) in the type of ``x``. Half-precision inputs are computed in float32.

    Raises:
        ValueError: The shapes do not agree, or ``chunk`` is not positive.
    """
    (batch, length, heads, _), (groups, states) = x.shape, B.shape[2:]
    wanted = {
        "dt": (dt, (batch, length, heads)),
        "A": (A, (heads,)),
        "B": (B, (batch, length, groups, states)),
        "C": (C, (batch, length, groups, states)),
        "D": (D, (heads,)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name}: expected shape {shape} for x {tuple(x.shape)}, got {tuple(tensor.shape)}")
    if groups < 1 or heads % groups:
        raise ValueError(f"B: expected a number of groups that divides the {heads} heads of x, got {groups}")
    if chunk < 1:
        raise ValueError(f"chunk: expected a positive integer, got {chunk!r}")
    work = x.dtype if x.dtype == torch.float64 else torch.float32
    with torch.autocast(x.device.type, enabled=False):
        wide, dt, A, B, C = (tensor.to(work) for tensor in (x, dt, A, B, C))
        y = _quadratic(wide, dt, A, B, C)[0] if length <= chunk else _chunked(wide, dt, A, B, C, chunk)
        if D is not None:
            y = y + D.to(work).unsqueeze(1) * wide
    return y.to(x.dtype)


def _quadratic(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """The dual form, Dao & Gu (2024), section 5: y = (L * C B' * dt) x with L the exponentials of segment sums.

    Returns:
        y (b, l, h, p) and L (b, h, l, l), which is 1 above its diagonal, where C B' is cut off.
    """
    (batch, length, heads, _), groups = x.shape, B.shape[2]
    steps = dt.transpose(1, 2)
    decay = segment_sums(steps * A.unsqueeze(1)).exp()
    weights = torch.matmul(C.transpose(1, 2), B.permute(0, 2, 3, 1)).tril()
    by_group = decay.view(batch, groups, heads // groups, length, length) * weights.unsqueeze(2)
    mixing = by_group.view(batch, heads, length, length) * steps.unsqueeze(2)
    return torch.matmul(mixing, x.transpose(1, 2)).transpose(1, 2), decay


def _chunked(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk: int) -> Tensor:
    """The block decomposition of Dao & Gu (2024), section 6: the dual form in each, states in between."""
    (batch, length, heads, width), (groups, states) = x.shape, B.shape[2:]
    chunks, per = -(-length // chunk), heads // groups
    if length % chunk:  # empty tokens at the end: their steps are 0
        after = chunks * chunk - length
        x, B, C = (F.pad(tensor, (0, 0, 0, 0, 0, after)) for tensor in (x, B, C))
        dt = F.pad(dt, (0, 0, 0, after))
    x, dt, B, C = (tensor.reshape(batch * chunks, chunk, *tensor.shape[2:]) for tensor in (x, dt, B, C))
    y, decay = _quadratic(x, dt, A, B, C)
    # what each chunk adds to the states at its end, (b, c, h, n, p)
    to_end = decay[:, :, -1].transpose(1, 2) * dt
    scaled = (x * to_end.unsqueeze(3)).view(batch * chunks, chunk, groups, per * width).transpose(1, 2)
    added = torch.matmul(B.permute(0, 2, 3, 1), scaled).view(batch, chunks, groups, states, per, width)
    since_start = (dt * A).cumsum(1).exp()
    through = since_start[:, -1].view(batch, chunks, groups, 1, per, 1).unbind(1)
    starts = [torch.zeros_like(added[:, 0])]
    for passed, new in zip(through[:-1], added.unbind(1)[:-1], strict=True):
        starts.append(torch.addcmul(new, passed, starts[-1]))
    start = torch.stack(starts, 1).view(batch * chunks, groups, states, per * width)
    inherited = torch.matmul(C.transpose(1, 2), start).transpose(1, 2).reshape(x.shape)
    return (y + inherited * since_start.unsqueeze(3)).reshape(batch, chunks * chunk, heads, width)[:, :length]
