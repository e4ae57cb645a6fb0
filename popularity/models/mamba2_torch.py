"""The Mamba-2 block for short sequences, with its gradients written by hand: few operations, few copies.

Shapes as in ``ssd.py``, with one group (``g`` is 1): ``b`` batch, ``l`` tokens, ``h`` heads, ``p`` channels of a head,
``n`` states; ``d`` is h p (d_inner), ``k`` taps of the convolution. The order of channels in the first projection is
z (d), x (d), B (n), C (n), dt (h).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from popularity.models.conv_torch import conv_silu_backward, conv_silu_forward
from popularity.models.ssd import segment_indicator

EPSILON = 1e-5  # of the gated RMSNorm
SMALL_PRODUCT = 400  # multiplications below which PyTorch's batched product on CPUs leaves BLAS for plain loops


def _small(left: Tensor, right: Tensor) -> bool:
    return left.shape[2] * left.shape[3] * right.shape[3] < SMALL_PRODUCT and left.device.type == "cpu"


def _mix(mixing: Tensor, x: Tensor) -> Tensor:
    """(b, h, l, l) times (b, h, l, p), head by head; when those are tiny, all heads of a sequence as one product."""
    if not _small(mixing, x):
        return torch.matmul(mixing, x)
    batch, heads, length, width = x.shape
    blocks = mixing.new_zeros(batch, heads, length, heads, length)
    blocks.diagonal(dim1=1, dim2=3).copy_(mixing.permute(0, 2, 3, 1))
    square = blocks.view(batch, heads * length, heads * length)
    return torch.bmm(square, x.view(batch, heads * length, width)).view(x.shape)


def _compare(left: Tensor, right: Tensor) -> Tensor:
    """(b, h, l, p) times the transpose of (b, h, l, p), which BLAS takes more slowly than a transposed copy."""
    transposed = right.mT
    return torch.matmul(left, transposed if _small(left, transposed) else transposed.contiguous())


def block_forward(tensors: tuple[Tensor, ...], keep: Tensor | None, save: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run the block.

    Args:
        tensors: u (b, l, width) and the parameters in the order of ``Mamba2.block_parameters``.
        keep: (b, l), 0 at tokens without a step (whose u is 0), else 1; or None.
        save: Whether a backward pass will follow.

    Returns:
        The output (b, l, width) and what ``block_backward`` wants back.
    """
    u, w_in, conv, conv_bias, dt_bias, A_log, D, norm, w_out = tensors
    (batch, length, _), heads, inner = u.shape, D.shape[0], norm.shape[0]
    by_head = (batch, length, heads, inner // heads)
    states = (conv.shape[0] - inner) // 2
    projected = torch.mm(u.reshape(batch * length, -1), w_in.t()).view(batch, length, -1)
    z, xbc, raw = projected.split([inner, inner + 2 * states, heads], 2)
    taps = conv.view(conv.shape[0], -1).t().contiguous()
    xbc, before = conv_silu_forward(xbc, taps, conv_bias)
    x = xbc[..., :inner].view(by_head).transpose(1, 2).contiguous()
    bc = xbc[..., inner:]
    raw = (raw + dt_bias).transpose(1, 2).contiguous()
    dt = F.softplus(raw)
    if keep is not None:
        dt.mul_(keep.unsqueeze(1))
    A = -torch.exp(A_log)
    logs = (dt * A.unsqueeze(1)).view(batch * heads, length)
    segments = segment_indicator(length, u)
    decay = torch.mm(logs, segments).view(batch, heads, length, length).exp_()
    weights = torch.bmm(bc[..., states:], bc[..., :states].mT).tril_().unsqueeze(1)
    decay_weights = decay * weights if save else decay
    decay_dt = decay.mul_(dt.unsqueeze(2))
    mixing = decay_dt * weights
    mixing.diagonal(dim1=2, dim2=3).add_(D.unsqueeze(1))  # the skip
    y = _mix(mixing, x)
    gate = F.silu(z)
    gated = u.new_empty(by_head)
    torch.mul(y.transpose(1, 2), gate.view(by_head), out=gated)
    gated = gated.view(batch, length, inner)
    # one factor per token commutes with the product: RMSNorm divides its narrower result
    scale = torch.linalg.vector_norm(gated, dim=2, keepdim=True).square_().div_(inner).add_(EPSILON).rsqrt_()
    unscaled = torch.mm(gated.view(batch * length, inner), (w_out * norm).t()).view(batch, length, -1)
    saved = (
        projected, taps, before, x, bc, raw, dt, A, segments, decay_weights, decay_dt, mixing, y, gate, gated, scale,
        unscaled,
    )  # fmt: skip
    return unscaled * scale, saved if save else ()


def block_backward(
    tensors: tuple[Tensor, ...], keep: Tensor | None, saved: tuple[Tensor, ...], dout: Tensor, want_du: bool
) -> tuple[Tensor | None, ...]:
    """Gradients of ``tensors``, in their order; the first is None unless wanted."""
    u, w_in, _, _, _, _, _, norm, w_out = tensors
    (
        projected, taps, before, x, bc, raw, dt, A, segments, decay_weights, decay_dt, mixing, y, gate, gated, scale,
        unscaled,
    ) = saved  # fmt: skip
    (batch, heads, length, width), inner, tokens = x.shape, norm.shape[0], x.shape[0] * x.shape[2]
    by_head, states = (batch, length, heads, width), bc.shape[2] // 2
    # norm and second projection
    flat = (dout * scale).view(tokens, -1)
    dfolded = torch.mm(flat.t(), gated.view(tokens, inner))
    dgated = torch.mm(flat, w_out * norm).view(batch, length, inner)
    dscale = (dout * unscaled).sum(2, keepdim=True).mul_(scale.pow(3)).div_(-inner)
    dgated = dgated.addcmul_(gated, dscale).view(by_head)
    # gate
    dprojected = torch.empty_like(projected)
    z, before_conv, _ = projected.split([inner, inner + 2 * states, heads], 2)
    dz, dbefore_conv, draw = dprojected.split([inner, inner + 2 * states, heads], 2)
    dgate = (dgated * y.transpose(1, 2)).view(batch, length, inner)
    torch.ops.aten.silu_backward.grad_input(dgate, z, grad_input=dz)
    dy = torch.empty_like(x)
    torch.mul(dgated.transpose(1, 2), gate.view(by_head).transpose(1, 2), out=dy)
    # the dual form
    dx, dmixing = _mix(mixing.mT, dy), _compare(dy, x)
    dD = dmixing.diagonal(dim1=2, dim2=3).sum((0, 2))
    dweights = (decay_dt * dmixing).sum(1).tril_()
    dlogs = dmixing.mul_(decay_weights)
    ddt = dlogs.sum(2)
    dlogs.mul_(dt.unsqueeze(2))
    da = torch.mm(dlogs.view(batch * heads, length * length), segments.t()).view(dt.shape)
    ddt.addcmul_(da, A.unsqueeze(1))
    if keep is not None:
        ddt.mul_(keep.unsqueeze(1))
    draw_by_head = torch.ops.aten.softplus_backward(ddt, raw, 1, 20)
    draw.copy_(draw_by_head.transpose(1, 2))
    dxbc = torch.empty_like(before)
    dxbc[..., :inner].view(by_head).copy_(dx.transpose(1, 2))
    dxbc[..., inner : inner + states] = torch.bmm(dweights.mT, bc[..., states:])
    dxbc[..., inner + states :] = torch.bmm(dweights, bc[..., :states])
    # convolution and first projection
    dtaps, dconv_bias = conv_silu_backward(before_conv, taps, before, dxbc, dbefore_conv)
    dprojected = dprojected.view(tokens, -1)
    return (
        torch.mm(dprojected, w_in).view(u.shape) if want_du else None,
        torch.mm(dprojected.t(), u.reshape(tokens, -1)),
        dtaps.t().unsqueeze(1),
        dconv_bias,
        draw_by_head.sum((0, 2)),
        (da * dt).sum((0, 2)).mul_(A),  # A = -exp(A_log) is its own derivative
        dD,
        (dfolded * w_out).sum(0),
        dfolded * norm,
    )
