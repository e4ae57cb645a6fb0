"""Our Mamba-3 block against mamba-ssm's, on a CPU: ``python benchmarks/mamba3_check.py FOLDER``.

FOLDER is the unpacked source of mamba-ssm, which ``MAMBA_SKIP_CUDA_BUILD=TRUE pip download mamba-ssm==2.3.2.post1
--no-deps --no-build-isolation --no-binary :all:`` fetches; einops and Triton must be installed. Its Triton kernels for
SISO run in Triton's interpreter, in float32 instead of bfloat16, and with exact functions instead of approximations for
GPUs. Its kernels for MIMO need a GPU: there only names and shapes of parameters are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.models.mamba3 import Mamba3

ROOT = "mamba_ssm.ops.triton"
SIZES = {"d_model": 32, "d_state": 16, "headdim": 16}
SISO: tuple[dict[str, Any], ...] = ({}, {"is_outproj_norm": True}, {"ngroups": 2}, {"rope_fraction": 1.0})
MIMO: tuple[dict[str, Any], ...] = ({"is_mimo": True}, {"is_mimo": True, "mimo_rank": 2, "is_outproj_norm": True})
LENGTHS = (1, 17, 50)
TOLERANCE = 2e-6  # of the largest output


@triton.jit
def cos_approx(x):  # noqa: D103
    return tl.cos(x)


@triton.jit
def sin_approx(x):  # noqa: D103
    return tl.sin(x)


@triton.jit
def sigmoid_approx(x):  # noqa: D103
    return tl.sigmoid(x)


@triton.jit
def tanh_approx(x):  # noqa: D103
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def sech2_approx(x):  # noqa: D103
    return 4 * tl.sigmoid(2 * x) * tl.sigmoid(-2 * x)


@triton.jit
def silu(x):  # noqa: D103
    return x * tl.sigmoid(x)


class RMSNorm(nn.Module):
    """mamba-ssm's norm by groups, before the gate, in plain PyTorch."""

    def __init__(self, size: int, eps: float = 1e-5, group_size: int | None = None, **_: Any) -> None:
        super().__init__()
        self.weight, self.eps, self.group = nn.Parameter(torch.ones(size)), eps, group_size or size

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """Shapes are kept."""
        y = F.rms_norm(x.unflatten(-1, (-1, self.group)), (self.group,), eps=self.eps).flatten(-2) * self.weight
        return y if z is None else y * F.silu(z)


class Untuned:
    """A kernel with the first of its configurations."""

    def __init__(self, kernel: Any, configs: list[Any]) -> None:
        self.kernel, self.settings = kernel, configs[0].kwargs

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        def run(*arguments: Any, **settings: Any) -> None:
            settings = self.settings | settings
            self.kernel[grid(settings) if callable(grid) else grid](*arguments, **settings)

        return run


def module(name: str, **content: Any) -> None:
    """Put a module in the place of one that needs a GPU."""
    found = ModuleType(name)
    found.__dict__.update(content)
    sys.modules[name] = found


def theirs(folder: str) -> type[nn.Module]:
    """The class ``Mamba3`` of mamba-ssm, fit for a CPU."""
    module("mamba_ssm", __path__=[os.path.join(folder, "mamba_ssm")])
    functions = (cos_approx, sin_approx, sigmoid_approx, tanh_approx, sech2_approx, silu)
    module(f"{ROOT}.mamba3.utils", **{function.__name__: function for function in functions})
    module(f"{ROOT}.layernorm_gated", RMSNorm=RMSNorm)
    triton.autotune = lambda configs, key, **_: lambda kernel: Untuned(kernel, configs)
    triton.set_allocator = lambda allocate: None
    torch.cuda.device = lambda index: contextlib.nullcontext()  # type: ignore[assignment,misc]
    from mamba_ssm.modules import mamba3
    from mamba_ssm.ops.triton.mamba3 import angle_dt, mamba3_siso_fwd

    def siso(Q: Tensor, Angles: Tensor, DT: Tensor, chunk_size: int, **more: Any) -> Tensor:
        """The kernels that ``mamba3_siso_combined`` calls, without its rounding to bfloat16."""
        tensors = {name: tensor.contiguous() for name, tensor in more.items() if isinstance(tensor, Tensor)}
        turned = angle_dt.angle_dt_fwd(Angles.contiguous(), DT.contiguous(), chunk_size=chunk_size)
        turned = turned[0] if isinstance(turned, tuple) else turned
        inputs = {"Q": Q.contiguous(), "Angles": turned, "DT": DT.contiguous(), "D": None, "Z": None} | tensors
        return mamba3_siso_fwd.mamba3_siso_fwd(**inputs, chunk_size=chunk_size)[0]

    mamba3.mamba3_siso_combined, mamba3.mamba3_mimo_combined = siso, siso
    return mamba3.Mamba3


def main() -> None:
    """Compare, print, exit 1 if outputs differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="unpacked source of mamba-ssm")
    Theirs = theirs(parser.parse_args().folder)
    torch.manual_seed(0)
    worst = 0.0
    for options in (*SISO, *MIMO):
        wanted, ours = Theirs(**SIZES, **options, chunk_size=16), Mamba3(**SIZES, **options)
        with torch.no_grad():
            for parameter in wanted.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
            wanted.dt_bias.add_(3)  # larger steps
        ours.load_state_dict(wanted.state_dict())
        print(options, "state dict loads")
        for length in LENGTHS if options in SISO else ():
            u = torch.randn(2, length, SIZES["d_model"])
            with torch.no_grad():
                y = wanted(u)
                difference = float((ours(u) - y).abs().max() / y.abs().max())
            print(f"  {length} tokens: largest difference over largest output {difference:.1e}", flush=True)
            worst = max(worst, difference)
    if not worst < TOLERANCE:
        raise SystemExit(f"expected differences below {TOLERANCE:.0e}, got {worst:.1e}")


if __name__ == "__main__":
    main()
