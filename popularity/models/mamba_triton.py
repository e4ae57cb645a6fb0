"""The whole Mamba block on a GPU: projections and convolution by PyTorch, the scan by our Triton kernels."""

from __future__ import annotations

from functools import partial

from popularity.models import mamba_torch, scan_triton

block_forward = partial(mamba_torch.block_forward, scan=scan_triton)
block_backward = partial(mamba_torch.block_backward, scan=scan_triton)
