"""The Mamba-3 block: projection, norms and rotation of B and C, trapezoidal scan, gate, projection; no convolution."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.models import mamba3_torch
from popularity.models.mamba import STEP_FLOOR, STEP_RANGE
from popularity.models.mamba2 import Gain
from popularity.models.mamba2_torch import EPSILON
from popularity.models.scan import announce_plain, needs_plain_graph
from popularity.models.ssd import CHUNK
from popularity.models.trapezoid import rotate, trapezoid, turning_order

TWICE = "the Mamba-3 block has no second derivative: create_graph=True is not supported"


class _Mamba3Function(torch.autograd.Function):
    """The whole block, with the gradients of ``mamba3_torch``."""

    @staticmethod
    def forward(ctx, order, floor, *tensors):  # type: ignore[no-untyped-def]
        out, saved = mamba3_torch.block_forward(tensors, order, floor, True)
        ctx.floor = floor
        ctx.save_for_backward(order, *tensors, *saved)
        return out

    @staticmethod
    def backward(ctx, dout):  # type: ignore[no-untyped-def]
        if torch.is_grad_enabled():
            raise RuntimeError(TWICE)
        order, *rest = ctx.saved_tensors
        tensors, saved = tuple(rest[:9]), tuple(rest[9:])
        want_du = ctx.needs_input_grad[2]
        return None, None, *mamba3_torch.block_backward(tensors, order, ctx.floor, saved, dout, want_du)


class ScanParts(NamedTuple):
    """What the scan reads; shapes as in ``trapezoid.py``.

    Attributes:
        gate: z, (b, l, h, r, p).
        x: Input, (b, h, l, r, p).
        CB: C and B with their biases, before they turn, (2, b, h, l, r, n).
        log_decay: A dt, (b, h, l).
        dt: Step sizes, (b, h, l).
        share: Share of a step that its own input has, (b, h, l).
        turn: Angles of one step, (b, h, l, s).
    """

    gate: Tensor
    x: Tensor
    CB: Tensor
    log_decay: Tensor
    dt: Tensor
    share: Tensor
    turn: Tensor


class Mamba3(nn.Module):
    """Mamba-3 block of Lahoti et al. (2026), with the parameters' names and shapes of ``mamba_ssm.modules.mamba3``.

    As there, the states that turn together are neighbours, or half of all states apart if ``is_mimo``.

    Args:
        d_model: Width of the tokens.
        d_state: States per channel.
        expand: Channels of the scan per channel of the tokens.
        headdim: Channels of a head; must divide ``expand * d_model``.
        ngroups: Groups of heads that share B and C but for their biases; must divide the number of heads.
        rope_fraction: Share of the states that turn, 0.5 or 1.
        dt_min: Least step size at the start, which is log-uniform.
        dt_max: Largest step size at the start.
        dt_init_floor: Smaller steps at the start are raised to it.
        A_floor: Least -A.
        is_outproj_norm: Whether heads are normalised before the gate.
        is_mimo: Whether heads have several inputs and outputs.
        mimo_rank: Their number.

    Raises:
        ValueError: ``headdim`` or ``ngroups`` does not divide what it must divide, ``rope_fraction`` is neither 0.5 nor
            1, or there are too few states for a pair that turns.

    Shape:
        (batch, length, d_model) -> (batch, length, d_model)
    """

    order: Tensor

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        expand: int = 2,
        headdim: int = 64,
        ngroups: int = 1,
        rope_fraction: float = 0.5,
        dt_min: float = STEP_RANGE[0],
        dt_max: float = STEP_RANGE[1],
        dt_init_floor: float = STEP_FLOOR,
        A_floor: float = 1e-4,
        is_outproj_norm: bool = False,
        is_mimo: bool = False,
        mimo_rank: int = 4,
    ) -> None:
        super().__init__()
        self.d_model, self.d_state, self.headdim, self.ngroups = d_model, d_state, headdim, ngroups
        self.A_floor, self.is_mimo, self.rank = A_floor, is_mimo, mimo_rank if is_mimo else 1
        self.d_inner = expand * d_model
        if self.d_inner % headdim:
            raise ValueError(f"headdim: expected a divisor of expand * d_model = {self.d_inner}, got {headdim!r}")
        self.nheads = self.d_inner // headdim
        if self.nheads % ngroups:
            raise ValueError(f"ngroups: expected a divisor of the {self.nheads} heads, got {ngroups!r}")
        if rope_fraction not in (0.5, 1.0):
            raise ValueError(f"rope_fraction: expected 0.5 or 1, got {rope_fraction!r}")
        self.num_angles = int(d_state * rope_fraction) // 2
        if self.num_angles < 1:
            raise ValueError(f"d_state: expected at least {2 / rope_fraction:.0f}, got {d_state!r}")
        # z, x, (B, C), (dt, A, trap), angles
        self.sizes = [self.d_inner, self.d_inner, 2 * self.rank * ngroups * d_state, 3 * self.nheads, self.num_angles]
        self.in_proj = nn.Linear(d_model, sum(self.sizes), bias=False)
        step = torch.empty(self.nheads).uniform_(math.log(dt_min), math.log(dt_max)).exp_().clamp_(min=dt_init_floor)
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
        self.B_bias = nn.Parameter(torch.ones(self.nheads, self.rank, d_state))
        self.C_bias = nn.Parameter(torch.ones(self.nheads, self.rank, d_state))
        self.B_norm, self.C_norm = Gain(d_state), Gain(d_state)
        if is_mimo:
            by_rank = (self.nheads, self.rank, headdim)
            self.mimo_x = nn.Parameter(torch.full(by_rank, 1 / self.rank))
            self.mimo_z = nn.Parameter(torch.ones(by_rank))
            self.mimo_o = nn.Parameter(torch.full(by_rank, 1 / self.rank))
        self.D = nn.Parameter(torch.ones(self.nheads))
        self.norm = Gain(self.d_inner) if is_outproj_norm else None
        self._simple = not is_mimo and not is_outproj_norm and ngroups == 1  # mamba3_torch takes it
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self.register_buffer("order", turning_order(d_state, self.num_angles, halves=is_mimo), persistent=False)
        for parameter in (self.dt_bias, self.D):
            parameter._no_weight_decay = True  # type: ignore[attr-defined]

    def block_parameters(self) -> tuple[Tensor, ...]:
        """The parameters in the order in which ``mamba3_torch`` takes them; without a norm and of SISO."""
        return (
            self.in_proj.weight, self.dt_bias, self.B_bias, self.C_bias, self.B_norm.weight, self.C_norm.weight, self.D,
            self.out_proj.weight,
        )  # fmt: skip

    def forward(self, u: Tensor) -> Tensor:
        """Read a batch of sequences.

        Args:
            u: (batch, length, d_model).

        Returns:
            (batch, length, d_model) in the type of ``u``. Half precision, also by autocast, is computed in float32.

        Raises:
            ValueError: The shape of ``u`` is wrong.
            RuntimeError: The backward pass is called with ``create_graph=True``, for up to 32 tokens of SISO.
        """
        if u.dim() != 3 or u.shape[2] != self.d_model:
            raise ValueError(f"u: expected shape (batch, length, {self.d_model}), got {tuple(u.shape)}")
        work = u.dtype if u.dtype == torch.float64 else torch.float32
        with torch.autocast(u.device.type, enabled=False):
            if not torch.compiler.is_compiling():
                announce_plain("Mamba-3 block")
                if self._simple and u.shape[1] <= CHUNK and not needs_plain_graph(u):
                    return self._by_hand(u, work)
            p = {name: parameter.to(work) for name, parameter in self.named_parameters()}
            parts = self._before_scan(u.to(work), p)
            C, B = rotate(parts.CB, parts.turn.cumsum(2).unsqueeze(3)).unbind(0)
            y = trapezoid(C, B, parts.x, parts.log_decay, parts.dt, parts.share)
            return self._after_scan(y, parts, p).to(u.dtype)

    def _by_hand(self, u: Tensor, work: torch.dtype) -> Tensor:
        """The block with the gradients of ``mamba3_torch``."""
        tensors = tuple(tensor.to(work) for tensor in (u, *self.block_parameters()))
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            function: Any = _Mamba3Function  # its ``apply`` has no types
            out: Tensor = function.apply(self.order, self.A_floor, *tensors)
        else:
            out = mamba3_torch.block_forward(tensors, self.order, self.A_floor, False)[0]
        return out.to(u.dtype)

    def _before_scan(self, u: Tensor, p: dict[str, Tensor]) -> ScanParts:
        """What the scan reads of tokens (b, l, d_model); ``p`` are the parameters by name."""
        z, x, BC, per_head, angles = F.linear(u, p["in_proj.weight"]).split(self.sizes, 2)
        gate, x = (part.unflatten(2, (self.nheads, 1, self.headdim)) for part in (z, x))
        if self.is_mimo:
            gate, x = gate * p["mimo_z"], x * p["mimo_x"]
        raw, A, trap = per_head.unflatten(2, (3, self.nheads)).permute(2, 0, 3, 1).contiguous()
        dt = F.softplus(raw + p["dt_bias"].unsqueeze(1))
        A = -F.softplus(A).clamp(min=self.A_floor)
        turn = (math.pi * angles.tanh()).unsqueeze(1) * dt.unsqueeze(3)
        return ScanParts(gate, x.transpose(1, 2), self._matrices(BC, p), A * dt, dt, trap.sigmoid(), turn)

    def _matrices(self, BC: Tensor, p: dict[str, Tensor]) -> Tensor:
        """C and B, normalised, for each head with its bias, (2, b, h, l, r, n), from B and C in (b, l, 2 r g n).

        Their states are in the order that `rotate` takes.
        """
        shape = (2, self.rank, self.ngroups, 1, self.d_state)
        normed = F.rms_norm(BC.unflatten(2, shape), (self.d_state,), eps=EPSILON).permute(2, 0, 4, 5, 1, 3, 6).flip(0)
        weight = torch.stack([p["C_norm.weight"], p["B_norm.weight"]]).view(2, 1, 1, 1, 1, 1, self.d_state)
        bias = torch.stack([p["C_bias"], p["B_bias"]]).view(2, 1, self.ngroups, -1, 1, self.rank, self.d_state)
        return torch.addcmul(bias, normed, weight).flatten(2, 3)[..., self.order]

    def _after_scan(self, y: Tensor, parts: ScanParts, p: dict[str, Tensor]) -> Tensor:
        """Skip, norm, gate and second projection of the scan's output (b, h, l, r, p)."""
        y = (y + p["D"][:, None, None, None] * parts.x).transpose(1, 2)
        if self.norm is not None:
            y = F.rms_norm(y, (self.headdim,), eps=EPSILON) * p["norm.weight"].view(self.nheads, 1, self.headdim)
        y = y * F.silu(parts.gate)
        if self.is_mimo:
            y = y * p["mimo_o"]
        return F.linear(y.sum(3).flatten(2), p["out_proj.weight"])

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """State before the first token, for ``step``: sums of angles, the scan's states, and the last B and x.

        Returns:
            Zeros of shapes (batch, nheads, angles), (batch, nheads, d_state, headdim), (batch, nheads, rank, d_state)
            and (batch, nheads, rank, headdim).
        """
        last = ((self.num_angles,), (self.d_state, self.headdim), (self.rank, self.d_state), (self.rank, self.headdim))
        angles, scan, B, x = (self.D.new_zeros(batch, self.nheads, *shape) for shape in last)
        return angles, scan, B, x

    @torch.no_grad()
    def step(self, u: Tensor, angles: Tensor, scan: Tensor, last_B: Tensor, last_x: Tensor) -> Tensor:
        """Read one more token of each sequence: the recurrence at the top of ``trapezoid.py``.

        Args:
            u: (batch, d_model).
            angles: (batch, nheads, angles), changed in place, as are the others.
            scan: (batch, nheads, d_state, headdim).
            last_B: (batch, nheads, rank, d_state).
            last_x: (batch, nheads, rank, headdim).

        Returns:
            (batch, d_model), equal to what ``forward`` gives for this token. No gradient flows.
        """
        p: dict[str, Tensor] = dict(self.named_parameters())
        parts = self._before_scan(u.unsqueeze(1), p)
        angles.add_(parts.turn.squeeze(2)).remainder_(2 * math.pi)
        C, B = rotate(parts.CB.squeeze(3), angles.unsqueeze(2)).unbind(0)
        x, now = parts.x.squeeze(2), (parts.dt * parts.share).unsqueeze(3)
        scan.add_((parts.dt.unsqueeze(3) - now) * (last_B.mT @ last_x)).mul_(parts.log_decay.exp().unsqueeze(3))
        scan.add_(now * (B.mT @ x))
        last_B.copy_(B)
        last_x.copy_(x)
        return self._after_scan((C @ scan).unsqueeze(2), parts, p).squeeze(1)
