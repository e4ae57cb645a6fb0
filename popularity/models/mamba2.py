"""The Mamba-2 block: projection, causal convolution, state space dual, gated norm, projection."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.models import mamba2_cpp, mamba2_torch
from popularity.models.kernel_library import takes
from popularity.models.mamba import STEP_FLOOR, STEP_RANGE, DepthwiseConv
from popularity.models.mamba2_torch import EPSILON
from popularity.models.scan import block_implementation, needs_plain_graph, not_compiled
from popularity.models.ssd import CHUNK, ssd

TWICE = "the Mamba-2 block has no second derivative: create_graph=True is not supported"


class _Mamba2Function(torch.autograd.Function):
    """The whole block, with the gradients of ``mamba2_torch`` or ``mamba2_cpp``."""

    @staticmethod
    def forward(ctx, kernels, keep, *tensors):  # type: ignore[no-untyped-def]
        out, saved = kernels.block_forward(tensors, keep, True)
        ctx.kernels = kernels
        ctx.save_for_backward(keep, *tensors, *saved)
        return out

    @staticmethod
    def backward(ctx, dout):  # type: ignore[no-untyped-def]
        if torch.is_grad_enabled():
            raise RuntimeError(TWICE)
        keep, *rest = ctx.saved_tensors
        tensors, saved = tuple(rest[:9]), tuple(rest[9:])
        return None, None, *ctx.kernels.block_backward(tensors, keep, saved, dout, ctx.needs_input_grad[2])


@not_compiled
def _implementation(u: Tensor, groups: int, taps: int) -> str:
    """``cpp`` or ``torch``, for a block with this many groups and taps that reads ``u``."""
    return block_implementation("Mamba-2 block", groups == 1 and takes(u, states=1, taps=taps))


@not_compiled
def _by_hand(kernels: Any, u: Tensor, keep: Tensor | None, parameters: tuple[Tensor, ...]) -> Tensor:
    """The block with the gradients of ``kernels``: ``mamba2_torch`` for short sequences or ``mamba2_cpp``."""
    work = u.dtype if u.dtype == torch.float64 else torch.float32
    with torch.autocast(u.device.type, enabled=False):
        tensors = (u, *parameters)
        if any(tensor.dtype != work for tensor in tensors):
            tensors = tuple(tensor.to(work) for tensor in tensors)
        steps = None if keep is None else keep.to(work)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            function: Any = _Mamba2Function  # its ``apply`` has no types
            out: Tensor = function.apply(kernels, steps, *tensors)
        else:
            out = kernels.block_forward(tensors, steps, False)[0]
        return out.to(u.dtype)


def gated_rms_norm(y: Tensor, z: Tensor, weight: Tensor, groups: int) -> Tensor:
    """RMSNorm(y * SiLU(z)) with one mean square per group of channels; all but ``weight`` (d,) are (..., d)."""
    gated = (y * F.silu(z)).unflatten(-1, (groups, -1))
    return F.rms_norm(gated, gated.shape[-1:], eps=EPSILON).flatten(-2) * weight


class Gain(nn.Module):
    """The weight of a norm over ``channels``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))


class Mamba2(nn.Module):
    """Mamba-2 block of Dao & Gu (2024), section 7, with the parameters' names and shapes of ``mamba_ssm.Mamba2``.

    Args:
        d_model: Width of the tokens.
        d_state: States per channel.
        d_conv: Taps of the causal convolution.
        expand: Channels of the scan per channel of the tokens.
        headdim: Channels of a head; must divide ``expand * d_model``.
        ngroups: Groups of heads that share B and C; must divide the number of heads.
        A_init_range: -A at the start is uniform in it.
        dt_min: Least step size at the start, which is log-uniform.
        dt_max: Largest step size at the start.
        dt_init_floor: Smaller steps at the start are raised to it.

    Raises:
        ValueError: ``headdim`` or ``ngroups`` does not divide what it must divide.

    Shape:
        (batch, length, d_model) -> (batch, length, d_model)
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int = 64,
        ngroups: int = 1,
        A_init_range: tuple[float, float] = (1.0, 16.0),
        dt_min: float = STEP_RANGE[0],
        dt_max: float = STEP_RANGE[1],
        dt_init_floor: float = STEP_FLOOR,
    ) -> None:
        super().__init__()
        self.d_model, self.d_state, self.d_conv = d_model, d_state, d_conv
        self.headdim, self.ngroups = headdim, ngroups
        self.d_inner = expand * d_model
        if self.d_inner % headdim:
            raise ValueError(f"headdim: expected a divisor of expand * d_model = {self.d_inner}, got {headdim!r}")
        self.nheads = self.d_inner // headdim
        if self.nheads % ngroups:
            raise ValueError(f"ngroups: expected a divisor of the {self.nheads} heads, got {ngroups!r}")
        self.conv_dim = self.d_inner + 2 * ngroups * d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + self.conv_dim + self.nheads, bias=False)  # z, (x, B, C), dt
        self.conv1d = DepthwiseConv(self.conv_dim, d_conv)
        step = torch.empty(self.nheads).uniform_(math.log(dt_min), math.log(dt_max)).exp_().clamp_(min=dt_init_floor)
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
        self.A_log = nn.Parameter(torch.empty(self.nheads).uniform_(*A_init_range).log_())
        self.D = nn.Parameter(torch.ones(self.nheads))
        self.norm = Gain(self.d_inner)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        for parameter in (self.dt_bias, self.A_log, self.D):
            parameter._no_weight_decay = True  # type: ignore[attr-defined]

    def block_parameters(self) -> tuple[Tensor, ...]:
        """The parameters in the order in which ``mamba2_torch`` and ``mamba2_cpp`` take them."""
        return (
            self.in_proj.weight, self.conv1d.weight, self.conv1d.bias, self.dt_bias, self.A_log, self.D,
            self.norm.weight, self.out_proj.weight,
        )  # fmt: skip

    def forward(self, u: Tensor, keep: Tensor | None = None) -> Tensor:
        """Read a batch of sequences.

        Args:
            u: (batch, length, d_model).
            keep: (batch, length), bool: False at padding before a sequence (or after it), whose content is not read.

        Returns:
            (batch, length, d_model) in the type of ``u``, 0 at padding. The other tokens are as without padding. Half
            precision, also by autocast, is computed in float32.

        Raises:
            ValueError: The shapes do not agree.
            RuntimeError: The backward pass is called with ``create_graph=True``.
        """
        if u.dim() != 3 or u.shape[2] != self.d_model:
            raise ValueError(f"u: expected shape (batch, length, {self.d_model}), got {tuple(u.shape)}")
        if keep is not None:
            if keep.shape != u.shape[:2] or keep.dtype != torch.bool:
                raise ValueError(f"keep: expected bool {tuple(u.shape[:2])}, got {keep.dtype} {tuple(keep.shape)}")
            u = u.masked_fill(~keep.unsqueeze(2), 0)  # no projection has a bias: z and x are 0 there as well
        if not needs_plain_graph(u):
            if _implementation(u, self.ngroups, self.d_conv) == "cpp":
                return _by_hand(mamba2_cpp, u, keep, self.block_parameters())
            if self.ngroups == 1 and u.shape[1] <= CHUNK:
                return _by_hand(mamba2_torch, u, keep, self.block_parameters())
        with torch.autocast(u.device.type, enabled=False):
            return self._plain(u, keep)

    def _plain(self, u: Tensor, keep: Tensor | None) -> Tensor:
        """The block as a graph of ordinary operations: any length, any number of groups, and for compilers."""
        work = u.dtype if u.dtype == torch.float64 else torch.float32
        w_in, conv, conv_bias, dt_bias, A_log, D, norm, w_out = (p.to(work) for p in self.block_parameters())
        length, groups = u.shape[1], self.ngroups * self.d_state
        z, xbc, dt = F.linear(u.to(work), w_in).split([self.d_inner, self.conv_dim, self.nheads], 2)
        padded = F.pad(xbc, (0, 0, self.d_conv - 1, 0))
        before = conv_bias
        for k in range(self.d_conv):
            before = before + padded[:, k : k + length] * conv[:, 0, k]
        x, B, C = F.silu(before).split([self.d_inner, groups, groups], 2)
        dt = F.softplus(dt + dt_bias)
        if keep is not None:
            dt = dt * keep.unsqueeze(2)
        B, C = (part.unflatten(2, (self.ngroups, self.d_state)) for part in (B, C))
        y = ssd(x.unflatten(2, (self.nheads, self.headdim)), dt, -torch.exp(A_log), B, C, D)
        return F.linear(gated_rms_norm(y.flatten(2), z, norm, self.ngroups), w_out).to(u.dtype)

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        """State before the first token, for ``step``: the convolution's last inputs and the scan's states.

        Returns:
            Zeros of shapes (batch, d_inner + 2 ngroups d_state, d_conv) and (batch, nheads, headdim, d_state).
        """
        conv_state = self.A_log.new_zeros(batch, self.conv_dim, self.d_conv)
        return conv_state, self.A_log.new_zeros(batch, self.nheads, self.headdim, self.d_state)

    @torch.no_grad()
    def step(self, u: Tensor, conv_state: Tensor, scan_state: Tensor) -> Tensor:
        """Read one more token of each sequence: the recurrence at the top of ``ssd.py``.

        Args:
            u: (batch, d_model).
            conv_state: (batch, d_inner + 2 ngroups d_state, d_conv), changed in place.
            scan_state: (batch, nheads, headdim, d_state), changed in place.

        Returns:
            (batch, d_model), equal to what ``forward`` gives for this token. No gradient flows.
        """
        z, xbc, dt = self.in_proj(u).split([self.d_inner, self.conv_dim, self.nheads], 1)
        conv_state.copy_(conv_state.roll(-1, -1))
        conv_state[..., -1] = xbc
        xbc = F.silu((conv_state * self.conv1d.weight.squeeze(1)).sum(-1) + self.conv1d.bias)
        x = xbc[:, : self.d_inner].unflatten(1, (self.nheads, self.headdim))
        by_group = xbc[:, self.d_inner :].view(-1, 2, self.ngroups, 1, self.d_state)
        B, C = by_group.expand(-1, -1, -1, self.nheads // self.ngroups, -1).flatten(2, 3).unsqueeze(3).unbind(1)
        dt = F.softplus(dt + self.dt_bias)[..., None, None]
        decay = torch.exp(dt * -torch.exp(self.A_log)[:, None, None])
        scan_state.mul_(decay).add_(dt * x.unsqueeze(3) * B)
        y = (scan_state * C).sum(-1) + self.D.unsqueeze(1) * x
        out: Tensor = self.out_proj(gated_rms_norm(y.flatten(1), z, self.norm.weight, self.ngroups))
        return out
