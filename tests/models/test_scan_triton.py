"""The Triton kernels without a GPU: run by Triton's interpreter, and built for a GPU but not run."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# In a process of its own: Triton decides when it is imported whether it interprets.
INTERPRET = """
import json
import torch
from popularity.models import scan, scan_triton
from popularity.models.mamba import Mamba

scan_triton.PROGRAMS = 2  # so that a program takes several sequences in turn
generator = torch.Generator().manual_seed(0)
worst = {}

def normal(*shape):
    return torch.randn(*shape, generator=generator)

def compare(name, got, exact):
    pairs = zip(got, exact, strict=True)
    worst[name] = max(float((a.detach().double() - b.detach()).norm() / b.detach().norm()) for a, b in pairs)

def run(function, inputs, dout):
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    y = function(*inputs)
    return [y, *torch.autograd.grad(y, inputs, dout.to(y.dtype))]

def scan_all(*inputs):
    return scan.selective_scan(*inputs, delta_softplus=True)

def scan_few(u, delta, A, B, C):
    return scan.selective_scan(u, delta.abs(), A, B, C)

for batch, dim, length, states in ((3, 20, 19, 5), (1, 1, 1, 1), (1, 9, 16, 33)):
    inputs = [
        normal(batch, dim, length), normal(batch, dim, length) - 2, -normal(dim, states).abs(),
        normal(batch, states, length), normal(batch, states, length), normal(dim), normal(batch, dim, length),
        0.1 * normal(dim),
    ]
    assert scan.implementation(inputs[0], states) == "triton"
    for function, count in ((scan_all, 8), (scan_few, 5)):
        dout = normal(batch, dim, length)
        exact = run(function, [tensor.double() for tensor in inputs[:count]], dout)
        compare(f"{function.__name__} {batch} {dim} {length} {states}", run(function, inputs[:count], dout), exact)

block = Mamba(12, 5)
exact = Mamba(12, 5).double()
exact.load_state_dict(block.state_dict())
u, dout = normal(2, 18, 12), normal(2, 18, 12)
for module in (block, exact):
    dtype = module.D.dtype
    module.inputs = [u.to(dtype).requires_grad_(), *module.parameters()]
    module.y = module(module.inputs[0])
    module.grads = torch.autograd.grad(module.y, module.inputs, dout.to(dtype))
compare("block", [block.y, *block.grads], [exact.y, *exact.grads])
print(json.dumps(worst))
"""


@pytest.fixture(scope="module", autouse=True)
def _triton() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")


@pytest.mark.slow
def test_values_and_gradients_under_the_interpreter() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "POPULARITY_SCAN": "triton"}
    done = subprocess.run([sys.executable, "-c", INTERPRET], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    worst = json.loads(done.stdout)
    assert len(worst) == 7
    assert max(worst.values()) < 3e-6, worst


@pytest.mark.slow
@pytest.mark.parametrize("gated", [True, False])
def test_kernels_can_be_built_for_a_gpu(gated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the interpreter accepts, the compiler may refuse; it needs no GPU."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from popularity.models import scan_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for kernel in (scan_triton._forward, scan_triton._backward):
        signature = {name: "*fp32" if name.endswith("_ptr") else "i32" for name in kernel.arg_names}
        values: dict[str, Any] = {"SOFTPLUS": True, "GATED": gated, "SEGMENT": 16, "N": 16, "BLOCK": 32, "STAGES": 2}
        if "SAVE" in signature:
            values["SAVE"] = True
        if not gated:
            values |= {name: None for name in ("z_ptr", "dz_ptr") if name in signature}
        signature |= dict.fromkeys(values, "constexpr")
        source = ASTSource(fn=kernel, signature=signature, constexprs=values)
        built = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": 1})
        assert ".entry " + kernel.__name__ in built.asm["ptx"]


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module ``scan`` with Triton asked for; whether Triton works is found out anew."""
    from popularity.models import scan, scan_triton  # noqa: F401  imported before the interpreter is asked for

    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv(scan.VARIABLE, "triton")
    forget = scan._triton_works.cache_clear
    forget()
    scan._announce.cache_clear()
    yield scan
    forget()


def test_where_triton_cannot_build_a_kernel_another_implementation_serves(
    interpreted: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def fail() -> None:
        raise RuntimeError("Failed to find C compiler\nmore")

    monkeypatch.setattr("popularity.models.scan_triton.try_out", fail)
    with caplog.at_level(logging.INFO, logger="popularity"):
        for _ in range(2):
            assert interpreted.implementation(torch.zeros(1, 1, 1), 1) == "torch"
    assert caplog.messages == [
        "selective scan: Triton cannot be used (RuntimeError: Failed to find C compiler)",
        "selective scan: plain PyTorch",
    ]


def test_what_the_kernels_do_not_take_goes_to_plain_pytorch(interpreted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(interpreted, "_triton_works", lambda: True)
    x = torch.zeros(1, 1, 1)
    assert interpreted.implementation(x, 256) == "triton"
    assert interpreted.implementation(x, 257) == "torch"
    assert interpreted.implementation(x.double(), 16) == "torch"
    monkeypatch.delenv("TRITON_INTERPRET")
    assert interpreted.implementation(x, 16) == "torch"  # a CPU tensor


def test_without_triton_it_cannot_be_forced(interpreted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from popularity.errors import InputError

    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert not interpreted._triton_works()
    with pytest.raises(InputError, match="POPULARITY_SCAN=triton: Triton is not installed"):
        interpreted.implementation(torch.zeros(1, 1, 1), 1)
