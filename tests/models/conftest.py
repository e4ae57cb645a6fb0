"""The implementations of the S6 scan and block that this machine can run."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["torch", "cpp-avx512", "cpp-avx2", "cpp-portable"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Plain PyTorch or the C++ kernels for one instruction set; forced for the test that asks for it."""
    import torch

    from popularity.models import kernel_library, scan

    name, _, instruction_set = request.param.partition("-")
    if name == "cpp":
        capability = torch.backends.cpu.get_cpu_capability()
        if instruction_set not in kernel_library.INSTRUCTION_SETS.get(capability, ("portable",)):
            pytest.skip(f"this machine cannot run {instruction_set}: {capability}")
        if kernel_library.load(instruction_set) is None:
            pytest.skip(f"the kernels for {instruction_set} were not built")
        monkeypatch.setattr(kernel_library, "instruction_set", lambda: instruction_set)
    monkeypatch.setenv(scan.VARIABLE, name)
    return request.param
