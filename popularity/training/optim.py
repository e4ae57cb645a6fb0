"""Which parameters decay, and how the learning rate moves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def decay_groups(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters with and without weight decay: matrices decay; norms, all biases, ``A_log`` and ``D`` do not."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        leaf = name.rsplit(".", 1)[-1]
        free = parameter.ndim < 2 or leaf in ("A_log", "D", "missing") or leaf.endswith("bias")
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
