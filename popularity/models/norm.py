"""``torch.nn.RMSNorm``, in C++ where that is faster: PyTorch runs it as many small operations on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from popularity.models import kernel_library
from popularity.models.kernel_library import NormCall, call, pointer, threads
from popularity.models.scan import kernels_wanted, needs_plain_graph


class RMSNorm(nn.RMSNorm):
    """As ``torch.nn.RMSNorm`` over the last dimension."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        weight = self.weight
        if torch.compiler.is_compiling() or needs_plain_graph(x) or not self._kernels_take(x):
            return super().forward(x)
        function: Any = _Norm  # its ``apply`` has no types
        out: Tensor = function.apply(x, weight, self.eps)
        return out

    def _kernels_take(self, x: Tensor) -> bool:
        able = kernel_library.takes(x, states=1) and x.dtype == self.weight.dtype == torch.float32
        able = able and self.weight.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        return kernels_wanted(able)


def _call_for(x: Tensor, weight: Tensor, epsilon: float) -> NormCall:
    rows = x.numel() // len(weight)
    return NormCall(rows, len(weight), threads(rows), epsilon, pointer(x), pointer(weight))


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, epsilon):  # type: ignore[no-untyped-def]
        x, out = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
        ctx.save_for_backward(x, weight)
        ctx.epsilon = epsilon
        arguments = _call_for(x, weight, epsilon)
        arguments.out = pointer(out)
        call("popularity_norm_forward", arguments)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dout):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        arguments, dout = _call_for(x, weight, ctx.epsilon), dout.contiguous()
        dx, sums = torch.empty_like(x), x.new_zeros(arguments.threads, len(weight))
        for name, tensor in (("dout", dout), ("dx", dx), ("sums", sums)):
            setattr(arguments, name, pointer(tensor))
        call("popularity_norm_backward", arguments)
        return dx, sums.sum(0), None
