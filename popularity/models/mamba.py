"""The Mamba block: projection, causal convolution, selective scan, gate, projection."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.models import mamba_cpp, mamba_torch, scan_cuda
from popularity.models.scan import TWICE, implementation, needs_plain_graph, not_compiled

STEP_RANGE = (1e-3, 1e-1)  # delta at the start is log-uniform in it (Gu & Dao 2023, section 3.6)
STEP_FLOOR = 1e-4


class DepthwiseConv(nn.Module):
    """Parameters of a causal depthwise convolution, shaped and initialised like those of ``nn.Conv1d``."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        bound = taps**-0.5
        self.weight = nn.Parameter(torch.empty(channels, 1, taps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))


class _MambaFunction(torch.autograd.Function):
    """The whole block with its gradients written by hand, by the functions of ``mamba_torch`` or ``mamba_cpp``."""

    @staticmethod
    def forward(ctx, kernels, *tensors):  # type: ignore[no-untyped-def]
        out, saved = kernels.block_forward(tensors, True)
        ctx.kernels = kernels
        ctx.save_for_backward(*tensors, *saved)
        return out

    @staticmethod
    def backward(ctx, dout):  # type: ignore[no-untyped-def]
        if torch.is_grad_enabled():
            raise RuntimeError(TWICE)
        saved = ctx.saved_tensors
        return None, *ctx.kernels.block_backward(saved[:10], saved[10:], dout, ctx.needs_input_grad[1])


@not_compiled
def _block(u: Tensor, parameters: tuple[Tensor, ...]) -> Tensor:
    """The block with the implementation chosen for ``u``."""
    work = u.dtype if u.dtype == torch.float64 else torch.float32
    with torch.autocast(u.device.type, enabled=False):
        tensors = [tensor.to(work) for tensor in (u, *parameters)]
        name = implementation(tensors[0], states=tensors[7].shape[1], conv=tensors[2])
        if name == "cuda":
            return scan_cuda.block(tensors).to(u.dtype)
        kernels: Any = mamba_torch
        if name == "cpp":
            kernels, tensors = mamba_cpp, mamba_cpp.prepare(tensors)
        if name == "triton":
            from popularity.models import mamba_triton

            kernels = mamba_triton
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            function: Any = _MambaFunction  # its ``apply`` has no types
            out: Tensor = function.apply(kernels, *tensors)
        else:
            out = kernels.block_forward(tuple(tensors), False)[0]
        return out.to(u.dtype)


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

    def block_parameters(self) -> tuple[Tensor, ...]:
        """The parameters in the order in which the implementations of the block take them."""
        return (
            self.in_proj.weight, self.conv1d.weight, self.conv1d.bias, self.x_proj.weight, self.dt_proj.weight,
            self.dt_proj.bias, self.A_log, self.D, self.out_proj.weight,
        )  # fmt: skip

    def forward(self, u: Tensor) -> Tensor:
        """Read a batch of sequences.

        Args:
            u: (batch, length, d_model).

        Returns:
            (batch, length, d_model) in the type of ``u``. Half precision, also by autocast, is computed in float32.

        Raises:
            ValueError: The shape of ``u`` is wrong.
            RuntimeError: The backward pass is called with ``create_graph=True``.
        """
        if u.dim() != 3 or u.shape[2] != self.d_model:
            raise ValueError(f"u: expected shape (batch, length, {self.d_model}), got {tuple(u.shape)}")
        if needs_plain_graph(u):
            return mamba_torch.block_plain((u, *self.block_parameters()))
        return _block(u, self.block_parameters())

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        """State before the first token, for ``step``: the convolution's last inputs and the scan's states.

        Returns:
            Zeros of shapes (batch, d_inner, d_conv) and (batch, d_inner, d_state).
        """
        conv_state = self.A_log.new_zeros(batch, self.d_inner, self.d_conv)
        return conv_state, self.A_log.new_zeros(batch, self.d_inner, self.d_state)

    @torch.no_grad()
    def step(self, u: Tensor, conv_state: Tensor, scan_state: Tensor) -> Tensor:
        """Read one more token of each sequence: Gu & Dao (2023), equations 2a and 2b, one step at a time.

        Args:
            u: (batch, d_model).
            conv_state: (batch, d_inner, d_conv), changed in place.
            scan_state: (batch, d_inner, d_state), changed in place.

        Returns:
            (batch, d_model), equal to what ``forward`` gives for this token. No gradient flows.
        """
        x, z = self.in_proj(u).chunk(2, -1)
        conv_state.copy_(conv_state.roll(-1, -1))
        conv_state[..., -1] = x
        x = F.silu((conv_state * self.conv1d.weight.squeeze(1)).sum(-1) + self.conv1d.bias)
        delta, B, C = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], -1)
        delta = F.softplus(self.dt_proj(delta)).unsqueeze(2)
        decay = torch.exp(delta * -torch.exp(self.A_log))
        scan_state.mul_(decay).add_(delta * B.unsqueeze(1) * x.unsqueeze(2))
        y = (scan_state * C.unsqueeze(1)).sum(-1) + self.D * x
        out: Tensor = self.out_proj(y * F.silu(z))
        return out
