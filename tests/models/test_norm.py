"""RMSNorm in C++ against PyTorch's own."""

from __future__ import annotations

import pytest

from tests.conftest import Lazy

torch = Lazy("torch")
norm = Lazy("popularity.models.norm")
scan = Lazy("popularity.models.scan")


@pytest.mark.parametrize("name", ["avx512", "avx2", "portable"])
@pytest.mark.parametrize("shape", [(3, 5, 32), (7, 24), (2, 1), (1, 9, 13)])
def test_it_is_what_pytorch_computes(shape: tuple[int, ...], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from popularity.models import kernel_library

    if name not in kernel_library.INSTRUCTION_SETS.get(torch.backends.cpu.get_cpu_capability(), ("portable",)):
        pytest.skip(f"this machine cannot run {name}")
    if kernel_library.load(name) is None:
        pytest.skip(f"the kernels for {name} were not built")
    monkeypatch.setattr(kernel_library, "instruction_set", lambda: name)
    monkeypatch.setenv(scan.VARIABLE, "cpp")
    torch.manual_seed(0)
    found = norm.RMSNorm(shape[-1], eps=1e-5)
    torch.nn.init.normal_(found.weight)
    expected = torch.nn.RMSNorm(shape[-1], eps=1e-5).double()
    expected.load_state_dict(found.state_dict())
    x, dout = torch.randn(shape, requires_grad=True), torch.randn(shape)
    wanted = expected(x.double())
    assert found(x).grad_fn.name() == "_NormBackward"
    torch.testing.assert_close(found(x).double(), wanted, rtol=1e-5, atol=1e-6)
    for a, b in zip(
        torch.autograd.grad(found(x), [x, found.weight], dout),
        torch.autograd.grad(wanted, [x, expected.weight], dout.double()),
        strict=True,
    ):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-5, atol=1e-5)


def test_what_the_kernels_cannot_take_goes_to_pytorch() -> None:
    module, x = norm.RMSNorm(8, eps=1e-5).double(), torch.randn(2, 8, dtype=torch.float64, requires_grad=True)
    assert module(x).grad_fn.name() != "_NormBackward"
