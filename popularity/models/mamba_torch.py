"""The whole Mamba block in plain PyTorch, with its gradients written by hand: few operations, few kept tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from popularity.models import scan_torch
from popularity.models.conv_torch import conv_silu_backward, conv_silu_forward
from popularity.models.scan_inputs import ScanGradients, ScanInputs, ScanKernels
from popularity.models.scan_torch import scan_plain


def _scan_inputs(
    xz: Tensor, xc: Tensor, projected: Tensor, delta: Tensor, A: Tensor, D: Tensor, bias: Tensor
) -> ScanInputs:
    """Views of the block's tensors as the scan reads them; ``projected`` holds delta's factors, B and C in a row."""
    batch, length, channels = xc.shape
    p, states = projected.view(batch, length, -1), A.shape[0]
    B, C = p[..., -2 * states : -states], p[..., -states:]
    return ScanInputs(xc, delta.view(batch, length, channels), A, B, C, D, xz[..., channels:], bias, True)


def block_forward(
    tensors: tuple[Tensor, ...], save: bool, scan: ScanKernels = scan_torch
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run the block.

    Args:
        tensors: u (b, l, width) and the parameters in the order of ``Mamba.block_parameters``.
        save: Whether a backward pass will follow.
        scan: Module with the scan to use.

    Returns:
        The output (b, l, width) and what ``block_backward`` wants back.
    """
    u, w_in, conv, conv_bias, w_x, w_dt, bias, A_log, D, w_out = tensors
    (batch, length, width), (channels, rank) = u.shape, w_dt.shape
    tokens = batch * length
    xz = torch.mm(u.reshape(tokens, width), w_in.t()).view(batch, length, 2 * channels)
    taps = conv.view(channels, -1).t().contiguous()
    xc, before = conv_silu_forward(xz[..., :channels], taps, conv_bias)
    projected = torch.mm(xc.view(tokens, channels), w_x.t())
    delta = torch.mm(projected[:, :rank], w_dt.t())
    A = -torch.exp(A_log).t().contiguous()
    y, scan_saved = scan.scan_forward(_scan_inputs(xz, xc, projected, delta, A, D, bias), save)
    out = torch.mm(y.view(tokens, channels), w_out.t()).view(batch, length, -1)
    return out, (xz, xc, before, projected, delta, y, A, taps, *scan_saved) if save else ()


def block_backward(
    tensors: tuple[Tensor, ...],
    saved: tuple[Tensor, ...],
    dout: Tensor,
    want_du: bool,
    scan: ScanKernels = scan_torch,
) -> tuple[Tensor | None, ...]:
    """Gradients of ``tensors``, in their order; the first is None unless wanted."""
    u, w_in, _, _, w_x, w_dt, bias, _, D, w_out = tensors
    xz, xc, before, projected, delta, y, A, taps, *scan_saved = saved
    (batch, length, channels), states, rank = xc.shape, A.shape[0], w_dt.shape[1]
    tokens = batch * length
    flat_dout = dout.reshape(tokens, -1)
    dy = torch.mm(flat_dout, w_out).view(batch, length, channels)
    dxz, dprojected = torch.empty_like(xz), torch.empty_like(projected)
    dxc, ddelta = torch.empty_like(xc), torch.empty_like(xc)
    dp = dprojected.view(batch, length, -1)
    grads = ScanGradients(dxc, ddelta, dp[..., rank : rank + states], dp[..., rank + states :], dxz[..., channels:])
    inputs = _scan_inputs(xz, xc, projected, delta, A, D, bias)
    summed = scan.scan_backward(inputs, tuple(scan_saved), dy, grads)
    flat_ddelta = ddelta.view(tokens, channels)
    torch.mm(flat_ddelta, w_dt, out=dprojected[:, :rank])
    dxc.view(tokens, channels).addmm_(dprojected, w_x)
    dtaps, dconv_bias = conv_silu_backward(xz[..., :channels], taps, before, dxc, dxz[..., :channels])
    flat_dxz = dxz.view(tokens, 2 * channels)
    return (
        torch.mm(flat_dxz, w_in).view(batch, length, -1) if want_du else None,
        torch.mm(flat_dxz.t(), u.reshape(tokens, -1)),
        dtaps.t().unsqueeze(1),
        dconv_bias,
        torch.mm(dprojected.t(), xc.view(tokens, channels)),
        torch.mm(flat_ddelta.t(), projected[:, :rank]),
        summed.bias,
        (summed.A * A).t(),  # A = -exp(A_log) is its own derivative
        summed.D,
        torch.mm(flat_dout.t(), y.view(tokens, channels)),
    )


def block_plain(tensors: tuple[Tensor, ...]) -> Tensor:
    """The same block as a graph of ordinary operations, one step per token: for compilers, exporters and tracers."""
    u, w_in, conv, conv_bias, w_x, w_dt, bias, A_log, D, w_out = tensors
    (_, taps), length, (rank, states) = conv.flatten(1).shape, u.shape[1], (w_dt.shape[1], A_log.shape[1])
    x, z = F.linear(u, w_in).chunk(2, -1)
    padded = F.pad(x, (0, 0, taps - 1, 0))
    weight = conv.squeeze(1).t()
    before = conv_bias
    for k in range(taps):
        before = before + padded[:, k : k + length] * weight[k]
    x = F.silu(before)
    delta, B, C = F.linear(x, w_x).split([rank, states, states], -1)
    inputs = ScanInputs(x, F.linear(delta, w_dt), -torch.exp(A_log).t(), B, C, D, z, bias, True)
    return F.linear(scan_plain(inputs), w_out)
