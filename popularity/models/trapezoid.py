"""The scan of Mamba-3: trapezoidal steps, states that rotate, several inputs and outputs; in plain PyTorch.

Glossary of shapes: ``b`` batch, ``l`` tokens, ``h`` heads, ``r`` inputs and outputs of a head (rank; 1 is SISO, more is
MIMO), ``p`` channels of a head (headdim), ``n`` states of a channel (d_state), ``s`` angles, ``c`` chunks.

The recurrence is that of Lahoti et al., "Mamba-3" (2026, arXiv 2603.15569), "exponential-trapezoidal discretization";
H is (p, n), x (p, r), B and C are (n, r), and ``share`` is their lambda::

    H[t] = alpha H[t-1] + beta x[t-1] B[t-1]' + gamma x[t] B[t]'        y[t] = H[t] C[t] + D x[t]
    alpha = exp(log_decay[t])        beta = (1 - share[t]) dt[t] alpha        gamma = share[t] dt[t]

A complex state is a real one whose B and C are turned by all angles up to their token (their "RoPE trick"): `rotate`.
An input enters at its own token with gamma and at the next one with beta, which decays like the rest of the state. So
each input has one weight for all later tokens, and the dual form of Mamba-2 holds but for its diagonal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from popularity.models.ssd import CHUNK, segment_indicator


def turning_order(states: int, angles: int, halves: bool) -> Tensor:
    """Order of states in which first members of pairs that turn come first, then second members, then the others.

    Only products of B and C are used, so that any order will do that is the same for both.

    Args:
        states: ``n``.
        angles: ``s``, pairs that turn.
        halves: State i is paired with state i + n / 2 instead of states 2 i and 2 i + 1.

    Returns:
        (n,), integers.
    """
    numbers = torch.arange(states)
    first, second = (numbers[: states // 2], numbers[states // 2 :]) if halves else (numbers[0::2], numbers[1::2])
    return torch.cat([first[:angles], second[:angles], first[angles:], second[angles:]])


def rotate(states: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs of states by an angle each.

    Args:
        states: (..., n), of B or C in `turning_order`.
        angles: (..., s), in radians.

    Returns:
        (..., n).
    """
    count = angles.shape[-1]
    first, second, others = states.split([count, count, states.shape[-1] - 2 * count], -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos, others], -1)


def trapezoid(
    C: Tensor, B: Tensor, x: Tensor, log_decay: Tensor, dt: Tensor, share: Tensor, chunk: int = CHUNK
) -> Tensor:
    """Scan of Mamba-3 without skip and gate: the dual form for at most ``chunk`` tokens, else blocks of ``chunk``.

    The order of the arguments is that of ``mamba3_siso_combined`` of ``mamba_ssm``: Q, K, V, ADT, DT, Trap. A NaN
    token reaches all tokens of its chunk and all later ones, in its own sequence only.

    Args:
        C: Output matrix with its bias, turned, (b, h, l, r, n).
        B: Input matrix with its bias, turned, (b, h, l, r, n).
        x: Input, (b, h, l, r, p).
        log_decay: A dt, (b, h, l), not positive.
        dt: Step sizes, (b, h, l), not negative.
        share: Share of a step that its own input has, (b, h, l), from 0 to 1; the one before has the rest.
        chunk: Tokens of a block.

    Returns:
        (b, h, l, r, p).

    Raises:
        ValueError: The shapes do not agree, or ``chunk`` is not positive.
    """
    steps, length = x.shape[:3], x.shape[2]
    wanted = {
        "C": (C, (*x.shape[:4], B.shape[-1])),
        "B": (B, (*x.shape[:4], B.shape[-1])),
        "log_decay": (log_decay, steps),
        "dt": (dt, steps),
        "share": (share, steps),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor.shape != shape:
            raise ValueError(f"{name}: expected shape {tuple(shape)} for x {tuple(x.shape)}, got {tuple(tensor.shape)}")
    if chunk < 1:
        raise ValueError(f"chunk: expected a positive integer, got {chunk!r}")
    now = share * dt
    later = now + F.pad(dt - now, (0, 1))[..., 1:]
    if length <= chunk:
        return _dual(C, B, x, log_decay, now, later)[0]
    return _chunked(C, B, x, log_decay, now, later, chunk)


def _dual(C: Tensor, B: Tensor, x: Tensor, log_decay: Tensor, now: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
    """The dual form: y = (L * C B' * weights) x, L the exponentials of segment sums.

    Args:
        C: And B, x, log_decay as for `trapezoid`.
        now: Weights of the inputs at their own tokens, (b, h, l).
        later: Their weights at later tokens, before they decay, (b, h, l).

    Returns:
        y (b, h, l, r, p), and L (b, h, l, l), which is 0 above its diagonal.
    """
    batch, heads, length, rank, width = x.shape
    future = x.new_full((length, length), -math.inf).triu(1).flatten()
    decay = torch.addmm(future, log_decay.flatten(0, 1), segment_indicator(length, x)).exp()
    decay = decay.view(batch, heads, length, length)
    diagonal = torch.eye(length, dtype=torch.bool, device=x.device)
    weights = torch.where(diagonal, now.unsqueeze(2), decay * later.unsqueeze(2))
    C, B, x = (tensor.flatten(2, 3) for tensor in (C, B, x))
    products = torch.matmul(C, B.mT).view(batch, heads, length, rank, length, rank)
    mixing = products * weights.view(batch, heads, length, 1, length, 1)
    y = torch.matmul(mixing.view(batch, heads, length * rank, length * rank), x)
    return y.view(batch, heads, length, rank, width), decay


def _chunked(C: Tensor, B: Tensor, x: Tensor, log_decay: Tensor, now: Tensor, later: Tensor, chunk: int) -> Tensor:
    """The block decomposition of Dao & Gu (2024), section 6: the dual form in each, states in between."""
    batch, heads, length = x.shape[:3]
    chunks = -(-length // chunk)
    after = chunks * chunk - length  # empty tokens at the end: their steps are 0
    wide = (F.pad(tensor, (0, 0, 0, 0, 0, after)).unflatten(2, (chunks, chunk)) for tensor in (C, B, x))
    C, B, x = (tensor.flatten(1, 2) for tensor in wide)  # chunks are treated like heads
    narrow = (
        F.pad(tensor, (0, after)).unflatten(2, (chunks, chunk)).flatten(1, 2) for tensor in (log_decay, now, later)
    )
    log_decay, now, later = narrow
    y, decay = _dual(C, B, x, log_decay, now, later)
    # what each chunk adds to the states at its end, (b, h, c, n, p)
    scaled = x * (decay[:, :, -1] * later).view(*later.shape, 1, 1)
    added = torch.matmul(B.flatten(2, 3).mT, scaled.flatten(2, 3)).unflatten(1, (heads, chunks))
    since_start = log_decay.cumsum(2).exp()
    through = since_start[..., -1].view(batch, heads, chunks, 1, 1).unbind(2)
    starts = [torch.zeros_like(added[:, :, 0])]
    for passed, new in zip(through[:-1], added.unbind(2)[:-1], strict=True):
        starts.append(torch.addcmul(new, passed, starts[-1]))
    start = torch.stack(starts, 2).flatten(1, 2)
    inherited = torch.matmul(C.flatten(2, 3), start).view(x.shape) * since_start.view(*later.shape, 1, 1)
    out: Tensor = (y + inherited).unflatten(1, (heads, chunks)).flatten(2, 3)[:, :, :length]
    return out
