"""The scan against the paper's equations in float64, for each implementation that this machine can run."""

from __future__ import annotations

import logging
import multiprocessing
import sys
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popularity.errors import InputError
from tests.conftest import Lazy

if TYPE_CHECKING:
    from torch import Tensor

torch = Lazy("torch")
F = Lazy("torch.nn.functional")
kernel_library = Lazy("popularity.models.kernel_library")
scan = Lazy("popularity.models.scan")
scan_cuda = Lazy("popularity.models.scan_cuda")


def reference_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Any = None, z: Any = None, bias: Any = None,
    softplus: bool = False,
) -> Tensor:  # fmt: skip
    """Gu & Dao (2023): equations 2a and 2b with exp(delta A) and delta B for the discrete A and B (equation 4)."""
    delta = delta if bias is None else delta + bias[:, None]
    delta = F.softplus(delta) if softplus else delta
    h = torch.zeros(u.shape[0], *A.shape, dtype=u.dtype)
    ys = []
    for x_t, delta_t, B_t, C_t in zip(u.unbind(2), delta.unbind(2), B.unbind(2), C.unbind(2), strict=True):
        h = torch.exp(delta_t[:, :, None] * A) * h + delta_t[:, :, None] * B_t[:, None, :] * x_t[:, :, None]
        ys.append((C_t[:, None, :] * h).sum(2))
    y = torch.stack(ys, 2)
    y = y if D is None else y + D[:, None] * u
    return y if z is None else y * F.silu(z)


def arguments(
    batch: int = 2, dim: int = 24, length: int = 19, states: int = 5, *, delta: float = -2, A: float = 1, seed: int = 0
) -> list[Tensor]:
    """u, delta, A, B, C, D, z, delta_bias: delta around ``delta`` before softplus, A between 0 and -A."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return [
        normal(batch, dim, length),
        normal(batch, dim, length) + delta,
        -A * torch.rand(dim, states, generator=generator),
        normal(batch, states, length),
        normal(batch, states, length),
        normal(dim),
        normal(batch, dim, length),
        0.1 * normal(dim),
    ]


def distance(got: Tensor, wanted: Tensor) -> float:
    got, wanted = got.detach().double(), wanted.detach()
    return float((got - wanted).norm() / wanted.norm().clamp(min=1e-300))


def with_gradients(function: Any, inputs: list[Tensor], softplus: bool, dout: Tensor) -> tuple[Tensor, ...]:
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    y = function(*inputs, *[None] * (8 - len(inputs)), softplus)
    return y, *torch.autograd.grad(y, inputs, dout.to(y.dtype))


CASES = {
    "plain": {},
    "one of everything": {"batch": 1, "dim": 1, "length": 1, "states": 1},
    "whole vectors": {"dim": 64, "states": 16, "length": 48},
    "odd width": {"dim": 100, "states": 16, "length": 33},
    "many states": {"dim": 16, "states": 64, "length": 150},
    "too many states": {"dim": 16, "states": 65, "length": 20},
    "delta near 0": {"delta": -16, "length": 60},
    "delta huge": {"delta": 100, "length": 40},
    "A tiny": {"A": 1e-6, "length": 300},
    "A huge": {"A": 1e4, "length": 40},
    "long": {"batch": 1, "dim": 16, "length": 4096, "states": 4},
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(implementation: str, case: str) -> None:
    inputs = arguments(**CASES[case])  # type: ignore[arg-type]
    dout = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1))
    got = with_gradients(scan.selective_scan, inputs, True, dout)
    wanted = with_gradients(reference_scan, [tensor.double() for tensor in inputs], True, dout)
    assert distance(got[0], wanted[0]) < 1e-6
    names = ("u", "delta", "A", "B", "C", "D", "z", "bias")
    for name, mine, reference in zip(names, got[1:], wanted[1:], strict=True):
        # a gradient that is all but 0 (of A, where every decay is 0) has nothing for an error to be relative to
        scale = max(float(reference.norm()), 1e-30)
        assert float((mine.double() - reference).norm()) / scale < 1e-5, name


def test_every_width(implementation: str) -> None:
    """Whole vectors of channels, and parts of one."""
    wrong = {}
    for width in range(1, 41):
        inputs = arguments(dim=width, states=1 + width % 21)
        dout = torch.ones_like(inputs[0])
        got = with_gradients(scan.selective_scan, inputs, True, dout)
        wanted = with_gradients(reference_scan, [tensor.double() for tensor in inputs], True, dout)
        errors = [distance(a, b) for a, b in zip(got, wanted, strict=True)]
        if not all(error < 2e-5 for error in errors):
            wrong[width] = errors
    assert not wrong


def test_without_the_optional_arguments(implementation: str) -> None:
    inputs = arguments(delta=0)[:5]
    inputs[1].abs_()
    dout = torch.ones_like(inputs[0])
    got = with_gradients(scan.selective_scan, inputs, False, dout)
    wanted = with_gradients(reference_scan, [tensor.double() for tensor in inputs], False, dout)
    assert distance(got[0], wanted[0]) < 1e-6
    assert max(distance(g, w) for g, w in zip(got[1:], wanted[1:], strict=True)) < 1e-5


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3), dim=st.integers(1, 40), length=st.integers(1, 40), states=st.integers(1, 20),
    delta=st.floats(-20, 20), A=st.floats(1e-3, 1e3), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_shape_and_scale(batch: int, dim: int, length: int, states: int, delta: float, A: float, seed: int) -> None:
    inputs = arguments(batch, dim, length, states, delta=delta, A=A, seed=seed)
    wanted = reference_scan(*(tensor.double() for tensor in inputs), True)
    assert distance(scan.selective_scan(*inputs, True), wanted) < 1e-6


def test_a_token_does_not_see_later_ones(implementation: str) -> None:
    inputs = arguments(length=40)
    before = scan.selective_scan(*inputs, True)
    for tensor in (inputs[0], inputs[1], inputs[3], inputs[4], inputs[6]):
        tensor[..., 20:] = 9
    assert torch.equal(scan.selective_scan(*inputs, True)[..., :20], before[..., :20])


def test_strides_do_not_matter(implementation: str) -> None:
    inputs = arguments(length=20)
    strided = [torch.stack([tensor, tensor], -1)[..., 0] for tensor in inputs]
    strided[0] = inputs[0].transpose(1, 2).contiguous().transpose(1, 2)
    assert not any(tensor.is_contiguous() for tensor in strided)
    assert distance(scan.selective_scan(*strided, True), scan.selective_scan(*inputs, True)) < 1e-6


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_half_precision_is_computed_in_float32(implementation: str, name: str) -> None:
    dtype = getattr(torch, name)
    inputs = [tensor.to(dtype) for tensor in arguments()]
    y = scan.selective_scan(*inputs, True)
    assert y.dtype == dtype
    assert torch.equal(y, scan.selective_scan(*(tensor.float() for tensor in inputs), True).to(dtype))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", range(8))
def test_nan_and_infinity_pass_through(implementation: str, where: int, value: float) -> None:
    if where == 2 and value > 0:
        pytest.skip("A is not positive")
    inputs = arguments(dim=16, length=30)
    inputs[where].view(-1)[inputs[where].numel() // 2] = value
    got = scan.selective_scan(*inputs, True)
    wanted = reference_scan(*(tensor.double() for tensor in inputs), True)
    assert torch.equal(got.isnan(), wanted.isnan())
    assert torch.equal(got.isposinf(), wanted.isposinf())
    assert torch.equal(got.isneginf(), wanted.isneginf())


def test_gradcheck_of_the_portable_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("popularity.models.scan_torch.SEGMENT", 3)  # several segments, and sub-batches of one
    monkeypatch.setattr("popularity.models.scan_torch.CACHE_ELEMENTS", 1)
    inputs = [tensor.double().requires_grad_() for tensor in arguments(2, 3, 10, 2)]
    assert torch.autograd.gradcheck(lambda *tensors: scan.selective_scan(*tensors, True), inputs)
    steps = inputs[1].detach().abs().requires_grad_()
    assert torch.autograd.gradcheck(scan.selective_scan, (inputs[0], steps, *inputs[2:5]))


def test_a_second_derivative_is_refused(implementation: str) -> None:
    inputs = [tensor.requires_grad_() for tensor in arguments()]
    y = scan.selective_scan(*inputs, True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(y.sum(), inputs, create_graph=True)


def test_shapes_that_do_not_fit_are_named() -> None:
    inputs = arguments()
    inputs[3] = inputs[3][..., 1:]
    with pytest.raises(ValueError, match=r"B: expected shape \(2, 5, 19\) for u \(2, 24, 19\), got \(2, 5, 18\)"):
        scan.selective_scan(*inputs)


def test_no_tokens_and_no_sequences(implementation: str) -> None:
    assert scan.selective_scan(*arguments(length=0), True).shape == (2, 24, 0)
    assert scan.selective_scan(*arguments(batch=0), True).shape == (0, 24, 19)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_bits_each_time(implementation: str, threads: int, set_threads: Any) -> None:
    set_threads(threads)
    inputs = arguments(batch=5, dim=32, length=50, states=16)
    dout = torch.ones_like(inputs[0])
    first, second = (with_gradients(scan.selective_scan, inputs, True, dout) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture
def set_threads() -> Iterator[Any]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def _scan_in_child(inputs: list[Tensor], queue: Any) -> None:
    y = scan.selective_scan(*inputs, True)
    queue.put(y.sum().item())


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # that is what is tested
def test_a_forked_process_does_not_hang(implementation: str, set_threads: Any) -> None:
    if implementation == "torch":
        pytest.skip("PyTorch's own threads do not survive a fork; loaders set one thread in their workers")
    set_threads(2)
    inputs = arguments(batch=4, dim=16, states=16)
    wanted = scan.selective_scan(*inputs, True).sum().item()  # the parent's OpenMP threads are running from here on
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_scan_in_child, args=(inputs, queue))
    child.start()
    child.join(30)
    hung = child.is_alive()
    child.kill()
    child.join()
    assert not hung
    assert child.exitcode == 0
    assert queue.get() == pytest.approx(wanted, rel=1e-5)


def test_one_log_line_says_what_is_in_use(
    implementation: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from popularity.models.scan import _announce

    _announce.cache_clear()
    with caplog.at_level(logging.INFO, logger="popularity"):
        scan.selective_scan(*arguments(), True)
        scan.selective_scan(*arguments(), True)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert (implementation.partition("-")[2] or "PyTorch") in said[0]


def test_an_unknown_implementation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(scan.VARIABLE, "numpy")
    with pytest.raises(InputError, match="expected one of torch, cpp, cuda, triton, got 'numpy'"):
        scan.selective_scan(*arguments())


def test_an_implementation_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("popularity.models.kernel_library.instruction_set", lambda: None)
    monkeypatch.setattr("popularity.models.scan_cuda.available", lambda: False)
    for name in ("cpp", "cuda"):
        monkeypatch.setenv(scan.VARIABLE, name)
        with pytest.raises(InputError, match=f"{scan.VARIABLE}={name}"):
            scan.selective_scan(*arguments())


def test_without_kernels_plain_pytorch_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(scan.VARIABLE, raising=False)
    monkeypatch.setattr("popularity.models.kernel_library.instruction_set", lambda: None)
    assert scan.implementation(torch.zeros(1), 16) == "torch"


def test_what_mamba_ssm_does_not_take_goes_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Double precision, more states than its kernels have, widths that its convolution refuses."""

    class OnGPU:
        is_cuda, dtype, device = True, torch.float32, torch.device("cuda")

    monkeypatch.delenv(scan.VARIABLE, raising=False)
    monkeypatch.setattr("popularity.models.scan_cuda.available", lambda: True)
    monkeypatch.setattr("popularity.models.scan._triton_works", lambda: False)

    def chosen(states: int = 16, channels: int = 64, taps: int = 4, dtype: Any = torch.float32) -> str:
        tensor = OnGPU()
        tensor.dtype = dtype
        return scan.implementation(tensor, states, torch.zeros(channels, 1, taps))

    assert chosen() == chosen(256, 8, 2) == "cuda"
    assert scan.implementation(OnGPU(), 16) == "cuda"
    assert {chosen(257), chosen(channels=50), chosen(taps=1), chosen(taps=5), chosen(dtype=torch.float64)} == {"torch"}


def test_mamba_ssm_gets_its_arguments_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    module.selective_scan_fn = reference_scan  # type: ignore[attr-defined]
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("popularity.models.scan.implementation", lambda *_, **__: "cuda")
    inputs = arguments()
    torch.testing.assert_close(scan.selective_scan(*inputs, True), reference_scan(*inputs, True))
