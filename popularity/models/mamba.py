"""The Mamba block: projection, causal convolution, selective scan, gate, projection."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.models import scan_torch
from popularity.models.scan import TWICE, implementation, needs_plain_graph
from popularity.models.scan_torch import ScanGradients, ScanInputs

STEP_RANGE = (1e-3, 1e-1)  # delta at the start is log-uniform in it (Gu & Dao 2023, section 3.6)
STEP_FLOOR = 1e-4


class DepthwiseConv(nn.Module):
    """Parameters of a causal depthwise convolution, shaped and initialised as those of ``nn.Conv1d``."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        bound = taps**-0.5
        self.weight = nn.Parameter(torch.empty(channels, 1, taps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))


class _MambaFunction(torch.autograd.Function):
    """The whole block with its gradients written by hand: few operations, few saved tensors."""

    @staticmethod
    def forward(ctx, u, w_in, conv_weight, conv_bias, w_x, w_dt, bias, A_log, D, w_out):  # type: ignore[no-untyped-def]
        (batch, length, width), (channels, rank) = u.shape, w_dt.shape
        tokens = batch * length
        flat_u = u.reshape(tokens, width)
        xz = torch.mm(flat_u, w_in.t()).view(batch, length, 2 * channels)
        taps = conv_weight.view(channels, -1).t().contiguous()
        xc, conv_saved = scan_torch.conv_silu_forward(xz[..., :channels], taps, conv_bias)
        projected = torch.mm(xc.view(tokens, channels), w_x.t())
        delta = torch.mm(projected[:, :rank], w_dt.t())
        A = -torch.exp(A_log).t().contiguous()
        save = any(ctx.needs_input_grad)
        inputs = _scan_inputs(xz, xc, projected, delta, A, D, bias, rank)
        y, scan_saved = scan_torch.scan_forward(inputs, save)
        if save:
            ctx.split = len(conv_saved)
            ctx.save_for_backward(
                flat_u, xz, xc, projected, delta, y, A, taps, w_in, conv_bias, w_x, w_dt, bias, D, w_out,
                *conv_saved, *scan_saved,
            )  # fmt: skip
        return torch.mm(y.view(tokens, channels), w_out.t()).view(batch, length, -1)

    @staticmethod
    def backward(ctx, dout):  # type: ignore[no-untyped-def]
        if torch.is_grad_enabled():
            raise RuntimeError(TWICE)
        flat_u, xz, xc, projected, delta, y, A, taps, w_in, conv_bias, w_x, w_dt, bias, D, w_out, *saved = (
            ctx.saved_tensors
        )
        (batch, length, channels), (states, _), rank = xc.shape, A.shape, w_dt.shape[1]
        tokens = batch * length
        flat_dout = dout.reshape(tokens, -1)
        d_w_out = torch.mm(flat_dout.t(), y.view(tokens, channels))
        dy = torch.mm(flat_dout, w_out).view(batch, length, channels)
        dxz, dprojected = torch.empty_like(xz), torch.empty_like(projected)
        dxc, ddelta = torch.empty_like(xc), torch.empty_like(xc)
        dp = dprojected.view(batch, length, -1)
        grads = ScanGradients(dxc, ddelta, dp[..., rank : rank + states], dp[..., rank + states :], dxz[..., channels:])
        inputs = _scan_inputs(xz, xc, projected, delta, A, D, bias, rank)
        summed = scan_torch.scan_backward(inputs, tuple(saved[ctx.split :]), dy, grads)
        flat_ddelta, flat_dxc = ddelta.view(tokens, channels), dxc.view(tokens, channels)
        torch.mm(flat_ddelta, w_dt, out=dprojected[:, :rank])
        d_w_dt = torch.mm(flat_ddelta.t(), projected[:, :rank])
        d_w_x = torch.mm(dprojected.t(), xc.view(tokens, channels))
        flat_dxc.addmm_(dprojected, w_x)
        d_taps, d_conv_bias = scan_torch.conv_silu_backward(
            xz[..., :channels], taps, conv_bias, tuple(saved[: ctx.split]), dxc, dxz[..., :channels]
        )
        flat_dxz = dxz.view(tokens, 2 * channels)
        d_w_in = torch.mm(flat_dxz.t(), flat_u)
        du = torch.mm(flat_dxz, w_in).view(batch, length, -1) if ctx.needs_input_grad[0] else None
        d_A_log = (summed.A * A).t().contiguous()  # A = -exp(A_log) is its own derivative
        d_conv = d_taps.t().contiguous().view(channels, 1, -1)
        return du, d_w_in, d_conv, d_conv_bias, d_w_x, d_w_dt, summed.bias, d_A_log, summed.D, d_w_out


def _scan_inputs(
    xz: Tensor, xc: Tensor, projected: Tensor, delta: Tensor, A: Tensor, D: Tensor, bias: Tensor, rank: int
) -> ScanInputs:
    """Views of the block's tensors as the scan reads them; ``projected`` holds delta's factors, B and C in a row."""
    batch, length, channels = xc.shape
    p, states = projected.view(batch, length, -1), A.shape[0]
    B, C = p[..., rank : rank + states], p[..., rank + states :]
    return ScanInputs(xc, delta.view(batch, length, channels), A, B, C, D, xz[..., channels:], bias, True)


class Mamba(nn.Module):
    """Mamba block of Gu & Dao (2023), section 3.4, with the parameters' names and shapes of ``mamba_ssm.Mamba``.

    Args:
        d_model: Width of the tokens.
        d_state: States per channel.
        d_conv: Taps of the causal convolution.
        expand: Channels of the scan per channel of the tokens.
        dt_rank: Rank of the projection to delta; "auto" is ceil(d_model / 16).

    Shape:
        (batch, length, d_model) -> (batch, length, d_model)
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        self.d_model, self.d_state, self.d_conv = d_model, d_state, d_conv
        self.d_inner = expand * d_model
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == "auto" else dt_rank
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv1d = DepthwiseConv(self.d_inner, d_conv)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(self.d_inner, 1))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        low, high = (math.log(step) for step in STEP_RANGE)
        step = torch.empty(self.d_inner).uniform_(low, high).exp_().clamp_(min=STEP_FLOOR)
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
        for parameter in (self.A_log, self.D, self.dt_proj.bias):
            parameter._no_weight_decay = True  # type: ignore[attr-defined]

    def _parameters_in_order(self) -> tuple[Tensor, ...]:
        return (
            self.in_proj.weight, self.conv1d.weight, self.conv1d.bias, self.x_proj.weight, self.dt_proj.weight,
            self.dt_proj.bias, self.A_log, self.D, self.out_proj.weight,
        )  # fmt: skip

    def forward(self, u: Tensor) -> Tensor:
        """Read a batch of sequences.

        Args:
            u: (batch, length, d_model).

        Returns:
            (batch, length, d_model) in the type of ``u``. Under autocast, and in half precision, float32 is computed.
        """
        work = u.dtype if u.dtype == torch.float64 else torch.float32
        with torch.autocast(u.device.type, enabled=False):
            tensors = [tensor.to(work) for tensor in (u, *self._parameters_in_order())]
            implementation(u)
            plain = needs_plain_graph() or u.numel() == 0
            out = self._plain(*tensors) if plain else _MambaFunction.apply(*tensors)
            return out.to(u.dtype)

    def _plain(
        self, u: Tensor, w_in: Tensor, conv_weight: Tensor, conv_bias: Tensor, w_x: Tensor, w_dt: Tensor, bias: Tensor,
        A_log: Tensor, D: Tensor, w_out: Tensor,
    ) -> Tensor:  # fmt: skip
        """The same block as a graph of ordinary operations."""
        length = u.shape[1]
        x, z = F.linear(u, w_in).chunk(2, -1)
        padded = F.pad(x, (0, 0, self.d_conv - 1, 0))
        taps = conv_weight.squeeze(1).t()
        x = F.silu(conv_bias + sum(padded[:, k : k + length] * taps[k] for k in range(self.d_conv)))
        delta, B, C = F.linear(x, w_x).split([self.dt_rank, self.d_state, self.d_state], -1)
        A = -torch.exp(A_log).t()
        y = scan_torch.scan_plain(ScanInputs(x, F.linear(delta, w_dt), A, B, C, D, z, bias, True))
        return F.linear(y, w_out)
