"""The Mamba-3 block for short sequences, with its gradients written by hand: few operations, few copies.

SISO with one group and without a norm of heads. Shapes as in ``trapezoid.py``, with ``b`` sequences of ``l`` tokens;
``d`` is h p (d_inner). Tokens come last where states, which are few, would; B and C are one tensor. The order of
channels in the first projection is z (d), x (d), B (n), C (n), dt (h), A (h), trap (h), angles (s).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from popularity.models.mamba2_torch import EPSILON
from popularity.models.ssd import segment_indicator


def _turn(states: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Turn the pairs of B and C (2, b, h, n, l) in place, by angles whose cosines are (b, h, s, l)."""
    count = cos.shape[2]
    first, second = states[..., :count, :], states[..., count : 2 * count, :]
    moved = first * sin
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).add_(moved)


def block_forward(
    tensors: tuple[Tensor, ...], order: Tensor, floor: float, save: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run the block.

    Args:
        tensors: u (b, l, width) and the parameters in the order of ``Mamba3.block_parameters``.
        order: (n,), states in the order in which they are used: first members of pairs, second members, the others.
        floor: Least -A.
        save: Whether a backward pass will follow.

    Returns:
        The output (b, l, width) and what ``block_backward`` wants back.
    """
    u, w_in, dt_bias, B_bias, C_bias, B_norm, C_norm, D, w_out = tensors
    (batch, length, _), heads, inner, states = u.shape, D.shape[0], w_out.shape[1], len(order)
    by_head = (batch, length, heads, inner // heads)
    sizes = [inner, inner, 2 * states, 3 * heads, w_in.shape[0] - 2 * inner - 2 * states - 3 * heads]
    projected = torch.mm(u.reshape(batch * length, -1), w_in.t()).view(batch, length, -1)
    z, x, matrices, per_head, angles = projected.split(sizes, 2)
    # steps (b, h, l) and angles (b, h, s, l)
    raw = per_head.view(batch, length, 3, heads).permute(2, 0, 3, 1).contiguous()
    raw[0] += dt_bias.unsqueeze(1)
    dt, A = F.softplus(raw[:2]).unbind(0)
    A = A.clamp_(min=floor)
    share = raw[2].sigmoid()
    now = share * dt
    later = now.clone()
    later[..., :-1] += dt[..., 1:] - now[..., 1:]
    tanh = angles.tanh().transpose(1, 2).contiguous()
    upper = u.new_ones(length, length).triu_()
    turned = torch.matmul(dt.unsqueeze(2) * tanh.unsqueeze(1), upper * math.pi)
    cos, sin = turned.cos(), turned.sin_()
    # B and C, (2, b, n, l), then (2, b, h, n, l)
    matrices = matrices.view(batch, length, 2, states)
    scale = torch.linalg.vector_norm(matrices, dim=3).square_().div_(states).add_(EPSILON).rsqrt_()
    normed = (matrices * scale.unsqueeze(3)).permute(2, 0, 3, 1)[:, :, order].contiguous()
    gains = torch.stack([B_norm, C_norm])[:, order].view(2, 1, 1, states, 1)
    biases = torch.stack([B_bias, C_bias]).view(2, heads, states)[..., order].view(2, 1, heads, states, 1)
    BC = torch.addcmul(biases, normed.unsqueeze(2), gains)
    _turn(BC, cos, sin)
    # the dual form
    x = x.view(by_head).transpose(1, 2).contiguous()
    segments = segment_indicator(length, u)
    future = u.new_full((length, length), -math.inf).triu_().flatten()
    weights = torch.addmm(future, (A * dt).view(batch * heads, length), segments, alpha=-1).exp_()
    weights = weights.view(batch, heads, length, length).mul_(later.unsqueeze(2))
    weights.diagonal(dim1=2, dim2=3).copy_(now)
    mixing = torch.matmul(BC[1].mT, BC[0])
    own = mixing.diagonal(dim1=2, dim2=3).clone()
    mixing.mul_(weights)
    mixing.diagonal(dim1=2, dim2=3).add_(D.unsqueeze(1))  # the skip
    y = torch.matmul(mixing, x)
    gate = F.silu(z)
    gated = torch.mul(y.transpose(1, 2), gate.view(by_head), out=u.new_empty(by_head)).view(batch * length, inner)
    saved = (
        projected, raw, dt, A, share, later, tanh, upper, cos, sin, scale, normed, gains, BC, x, segments, weights, own,
        mixing, y, gate, gated,
    )  # fmt: skip
    return torch.mm(gated, w_out.t()).view(u.shape), saved if save else ()


def block_backward(
    tensors: tuple[Tensor, ...], order: Tensor, floor: float, saved: tuple[Tensor, ...], dout: Tensor, want_du: bool
) -> tuple[Tensor | None, ...]:
    """Gradients of ``tensors``, in their order; the first is None unless wanted."""
    u, w_in, _, B_bias, _, _, _, _, w_out = tensors
    (
        projected, raw, dt, A, share, later, tanh, upper, cos, sin, scale, normed, gains, BC, x, segments, weights, own,
        mixing, y, gate, gated,
    ) = saved  # fmt: skip
    (batch, heads, length, width), inner, states = x.shape, gate.shape[2], len(order)
    tokens, by_head = batch * length, (batch, length, heads, width)
    sizes = [inner, inner, 2 * states, 3 * heads, tanh.shape[1]]
    dprojected = torch.empty_like(projected)
    dz, dx, dmatrices, dper_head, dangles = dprojected.split(sizes, 2)
    # second projection and gate
    flat = dout.reshape(tokens, -1)
    dgated = torch.mm(flat, w_out).view(by_head)
    dgate = (dgated * y.transpose(1, 2)).view(gate.shape)
    torch.ops.aten.silu_backward.grad_input(dgate, projected[..., :inner], grad_input=dz)
    dy = torch.mul(dgated.transpose(1, 2), gate.view(by_head).transpose(1, 2), out=torch.empty_like(x))
    # the dual form
    dx.view(by_head).copy_(torch.matmul(mixing.mT, dy).transpose(1, 2))
    dmixing = torch.matmul(dy, x.mT.contiguous())
    dproducts = dmixing * weights
    diagonal = dmixing.diagonal(dim1=2, dim2=3)
    dD, dnow = diagonal.sum((0, 2)), diagonal * own
    diagonal.zero_()
    dlogs = dmixing.mul_(mixing)  # times the gradients of the weights, which are exponentials times ``later``
    dlater = dlogs.sum(2).div_(later.clamp_min(torch.finfo(later.dtype).tiny))
    dlog_decay = torch.mm(dlogs.view(batch * heads, length * length), segments.t()).view(dt.shape)
    dBC = torch.empty_like(BC)
    torch.matmul(BC[1], dproducts, out=dBC[0])
    torch.matmul(BC[0], dproducts.mT, out=dBC[1])
    # angles
    count = tanh.shape[1]
    first, second = slice(0, count), slice(count, 2 * count)
    dturned = (dBC[..., second, :] * BC[..., first, :]).addcmul_(dBC[..., first, :], BC[..., second, :], value=-1)
    dturn = torch.matmul(dturned.sum(0), upper.t() * math.pi)
    _turn(dBC, cos, -sin)
    dtanh = (dturn * dt.unsqueeze(2)).sum(1)
    dangles.copy_(torch.ops.aten.tanh_backward(dtanh, tanh).transpose(1, 2))
    # norms and biases
    dbiases = dBC.sum((1, 4))
    dscaled = dBC.sum(2)
    dgains = (dscaled * normed).sum((1, 3))
    dnormed = dscaled.mul_(gains.squeeze(2))
    dnormed.addcmul_(normed, (dnormed * normed).mean(2, keepdim=True), value=-1)
    dnormed.mul_(scale.permute(2, 0, 1).unsqueeze(2))
    back = order.argsort()
    dmatrices.view(batch, length, 2, states).copy_(dnormed[:, :, back].permute(1, 3, 0, 2))
    # steps
    draw = torch.empty_like(raw)
    dnow.add_(dlater)
    dbefore = F.pad(dlater[..., :-1], (1, 0))
    ddt = (dturn * tanh.unsqueeze(1)).sum(2).add_(dbefore).addcmul_(dlog_decay, A, value=-1)
    dnow.sub_(dbefore)
    ddt.addcmul_(dnow, share)
    dA = (dlog_decay * dt).neg_().masked_fill_(A.le(floor), 0)
    draw[0] = torch.ops.aten.softplus_backward(ddt, raw[0], 1, 20)
    draw[1] = torch.ops.aten.softplus_backward(dA, raw[1], 1, 20)
    draw[2] = torch.ops.aten.sigmoid_backward(dnow.mul_(dt), share)
    dper_head.view(batch, length, 3, heads).copy_(draw.permute(1, 3, 0, 2))
    # first projection
    dprojected = dprojected.view(tokens, -1)
    (dB_norm, dC_norm), (dB_bias, dC_bias) = dgains[..., back], dbiases[..., back].view(2, *B_bias.shape)
    return (
        torch.mm(dprojected, w_in).view(u.shape) if want_du else None,
        torch.mm(dprojected.t(), u.reshape(tokens, -1)),
        draw[0].sum((0, 2)),
        dB_bias,
        dC_bias,
        dB_norm,
        dC_norm,
        dD,
        torch.mm(flat.t(), gated),
    )
