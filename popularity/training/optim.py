"""Which parameters decay, and how the learning rate moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class AdamW(torch.optim.AdamW):
    """``torch.optim.AdamW`` that counts its steps at once for all parameters on a CPU, where that is fused.

    It keeps the name, by which curves of learning rates are called. PyTorch adds 1 to a number of each parameter, by
    half a dozen operations each: more than the step itself costs a small network.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._counted: tuple[list[Tensor], Tensor] | None = None  # the numbers of steps, and what they are views of

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """As that of ``torch.optim.AdamW``."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._plain():
            self._count()
            for group in self.param_groups:
                self._step_of(group)
        else:
            super().step()
        return loss

    def _plain(self) -> bool:
        """Whether it is as in nearly every step: all parameters on the CPU with gradients, and stepped before."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        usual = all(
            group["fused"] and type(group["lr"]) is float and not group["amsgrad"] and not group["maximize"]
            for group in self.param_groups
        )
        return usual and all(
            parameter.grad is not None and parameter.is_cpu and self.state.get(parameter) for parameter in parameters
        )

    def _count(self) -> None:
        states = [self.state[parameter] for group in self.param_groups for parameter in group["params"]]
        if self._counted is None or any(a is not b["step"] for a, b in zip(self._counted[0], states, strict=True)):
            together = torch.stack([state["step"] for state in states])  # the first time, and after a checkpoint
            self._counted = [*together.unbind()], together
            for state, step in zip(states, self._counted[0], strict=True):
                state["step"] = step
        self._counted[1].add_(1)

    def _step_of(self, group: dict[str, Any]) -> None:
        parameters = group["params"]
        if not parameters:
            return
        states = [self.state[parameter] for parameter in parameters]
        averages, squares, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        beta1, beta2 = group["betas"]
        torch._fused_adamw_(
            parameters, [parameter.grad for parameter in parameters], averages, squares, [], steps,
            lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"],
            amsgrad=False, maximize=False,
        )  # fmt: skip


def decay_groups(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters with and without weight decay: matrices decay; norms, biases and what a block marks do not."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        leaf = name.rsplit(".", 1)[-1]
        marked = getattr(parameter, "_no_weight_decay", False)  # ``A_log`` and ``D``, as in mamba_ssm
        free = parameter.ndim < 2 or marked or leaf == "missing" or leaf.endswith("bias")
        (kept if free else decayed).append(parameter)
    return decayed, kept


def rate_factor(step: int, *, warmup: int, total: float, cosine: bool) -> float:
    """Learning rate of a step over its peak: linear warm-up, then constant or a half cosine to 0 at ``total`` steps.

    Args:
        step: from 0 on.
        warmup: steps of warm-up.
        total: steps of the whole run; infinite for a run without an end, which then stays at its peak.
        cosine: decay to 0.
    """
    rise = min(1.0, (step + 1) / max(1, warmup))
    if not cosine or math.isinf(total):
        return rise
    return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total))))


@torch.no_grad()
def clip_together(parameters: Sequence[Tensor], most: float) -> None:
    """Scale gradients so that their common norm is at most ``most``, as ``torch.nn.utils.clip_grad_norm_`` does.

    On a CPU that function costs a small network a twentieth of its step, for it visits the gradients one by one.
    """
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    kinds = {(grad.device.type, grad.dtype) for grad in grads}
    if kinds != {("cpu", torch.float32)}:
        torch.nn.utils.clip_grad_norm_(parameters, most)
        return
    factor = most / (float(torch.cat([grad.flatten() for grad in grads]).norm()) + 1e-6)
    if not factor >= 1:  # also where it is no number
        torch._foreach_mul_(grads, factor)
