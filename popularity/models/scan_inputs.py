"""What a selective scan reads and writes, the same for all implementations.

Glossary of shapes, here and in the implementations: ``b`` batch, ``l`` tokens, ``d`` channels (d_inner), ``n`` states
(d_state). All tensors are token-major, channels last: ``(b, l, d)``. ``A`` is transposed, ``(n, d)``.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class ScanInputs(NamedTuple):
    """What a scan reads. ``delta`` is raw: ``bias`` and softplus come on top of it."""

    x: Tensor  # (b, l, d)
    delta: Tensor  # (b, l, d)
    A: Tensor  # (n, d)
    B: Tensor  # (b, l, n)
    C: Tensor  # (b, l, n)
    D: Tensor | None  # (d,)
    z: Tensor | None  # (b, l, d)
    bias: Tensor | None  # (d,)
    softplus: bool


class ScanGradients(NamedTuple):
    """Where a backward pass writes: tensors of the inputs' shapes, of any strides."""

    x: Tensor
    delta: Tensor
    B: Tensor
    C: Tensor
    z: Tensor | None


class ParameterGradients(NamedTuple):
    """Gradients summed over batch and tokens: of ``A`` (n, d), ``D`` (d,) and ``bias`` (d,)."""

    A: Tensor
    D: Tensor | None
    bias: Tensor | None


class ScanKernels(Protocol):
    """A module with a scan, such as ``scan_torch`` and ``scan_triton``."""

    def scan_forward(self, inputs: ScanInputs, save: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See ``scan_torch.scan_forward``."""

    def scan_backward(
        self, inputs: ScanInputs, saved: tuple[Tensor, ...], dout: Tensor, grads: ScanGradients
    ) -> ParameterGradients:
        """See ``scan_torch.scan_backward``."""
