"""The Mamba-2 block in C++ against plain PyTorch in float64, over sweeps of every size, for each instruction set."""

from __future__ import annotations

import copy
import logging
import multiprocessing
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

from tests.models.test_mamba2 import reference_block

if TYPE_CHECKING:
    from torch import Tensor

    from popularity.models.mamba2 import Mamba2

# The gradients of a head's numbers are sums over all tokens. They cancel where there is one head, because the norm
# behind it divides by what they change. Plain PyTorch in float32 is as far away: 2e-4 for D, 7e-6 for the two others.
LIMITS = {"D": 2e-3, "A_log": 1e-4, "dt_bias": 1e-4}
Case = tuple[int, int, dict[str, int]]  # batch, length, then the block's arguments


@pytest.fixture(params=["avx512", "avx2", "portable"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The C++ kernels for one instruction set, forced for the test that asks for them."""
    import torch

    from popularity.models import kernel_library, scan

    capability = torch.backends.cpu.get_cpu_capability()
    if request.param not in kernel_library.INSTRUCTION_SETS.get(capability, ("portable",)):
        pytest.skip(f"this machine cannot run {request.param}: {capability}")
    if kernel_library.load(request.param) is None:
        pytest.skip(f"the kernels for {request.param} were not built")
    monkeypatch.setattr(kernel_library, "instruction_set", lambda: request.param)
    monkeypatch.setenv(scan.VARIABLE, "cpp")
    return str(request.param)


def make(**options: int) -> Mamba2:
    import torch

    from popularity.models.mamba2 import Mamba2

    torch.manual_seed(0)
    block = Mamba2(**options, dt_min=0.01, dt_max=0.3, A_init_range=(0.5, 4.5))  # type: ignore[arg-type]
    with torch.no_grad():  # away from the start, where D and the norm's weights are alike
        for parameter in (block.A_log, block.D, block.norm.weight):
            parameter.add_(0.3 * torch.randn_like(parameter))
    return block


def results(block: Mamba2, u: Tensor, keep: Tensor | None, dout: Tensor) -> dict[str, Tensor]:
    import torch

    u = u.detach().requires_grad_()
    y = block(u, keep)
    names = ["u", *(name for name, _ in block.named_parameters())]
    grads = torch.autograd.grad(y, [u, *block.parameters()], dout)
    return {"y": y.detach(), **dict(zip(names, grads, strict=True))}


def errors(case: Case, padded: bool) -> dict[str, float]:
    """Distance of the kernels' output and gradients from those in float64, relative to the latter."""
    import torch

    batch, length, options = case
    block = make(**options)
    u, dout = torch.randn(2, batch, length, block.d_model)
    keep = None
    if padded:
        keep = torch.rand(batch, length) > 0.3
        keep[:, -1] = True
    got = results(block, u, keep, dout)
    exact = results(copy.deepcopy(block).double(), u.double(), keep, dout.double())
    # A_log has no gradient where there is one token
    return {name: float((got[name] - wanted).norm()) / (float(wanted.norm()) or 1.0) for name, wanted in exact.items()}


def check(cases: Iterable[Case]) -> None:
    for number, case in enumerate(cases):
        for name, error in errors(case, padded=number % 2 == 1).items():
            assert error < LIMITS.get(name, 2e-5), f"{name}: {error:.1e} for {case}"


def test_widths(kernels: str) -> None:
    check((2, 1 + 5 * width % 32, {"d_model": width, "d_state": 9, "headdim": 1 + width % 2}) for width in range(1, 41))


def test_head_sizes(kernels: str) -> None:
    check((2, 9, {"d_model": size, "d_state": 4, "headdim": size, "expand": 1 + size % 3}) for size in range(1, 65))


def test_states(kernels: str) -> None:
    check((2, 11, {"d_model": 8, "d_state": states, "headdim": 4}) for states in (*range(1, 65), 100, 130))


def test_lengths(kernels: str) -> None:
    check(
        (3, length, {"d_model": 8, "d_state": 5, "headdim": 4}) for length in (*range(1, 41), 63, 64, 65, 96, 97, 130)
    )


def test_taps(kernels: str) -> None:
    lengths = ((taps, length) for taps in range(1, 9) for length in (1, 3, 40))
    check((2, length, {"d_model": 8, "d_state": 5, "headdim": 4, "d_conv": taps}) for taps, length in lengths)


@pytest.mark.parametrize(
    "case",
    [
        (256, 17, {"d_model": 48, "d_state": 16, "headdim": 16}),  # the default model's, several tiles
        (40, 32, {"d_model": 128, "d_state": 64, "headdim": 64}),
        (2, 700, {"d_model": 64, "d_state": 64, "headdim": 64}),  # several tiles in a sequence
        (1, 200, {"d_model": 256, "d_state": 128, "headdim": 64}),
    ],
)
def test_large_shapes(case: Case, kernels: str) -> None:
    check([case, case])


def test_weak_signals_show_the_norms_epsilon(kernels: str) -> None:
    import torch

    block = make(d_model=8, d_state=4, headdim=8)
    u, dout = torch.randn(2, 3, 9, 8)
    u *= 0.05  # y SiLU(z) is of the size of the square root of epsilon then
    got, exact = results(block, u, None, dout), results(copy.deepcopy(block).double(), u.double(), None, dout.double())
    for name, wanted in exact.items():
        assert float((got[name] - wanted).norm() / wanted.norm()) < 1e-4, name


@pytest.mark.parametrize("length", [9, 70])
def test_strange_strides_and_frozen_inputs(length: int, kernels: str) -> None:
    import torch

    block = make(d_model=12, d_state=5, headdim=6)
    u, keep = torch.randn(length, 12, 3).permute(2, 0, 1), torch.ones(length, 3, dtype=torch.bool).t()
    wanted = results(block, u.contiguous(), keep.contiguous(), torch.ones(3, length, 12))
    y = block(u, keep)
    torch.testing.assert_close(y.detach(), wanted["y"], rtol=0, atol=0)
    block.D.requires_grad_(False)
    y = block(u, keep)
    y.sum().backward()  # a gradient whose strides are all 0
    assert block.D.grad is None
    for name, parameter in block.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, wanted[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("length", [9, 70])
def test_without_gradients_the_same_numbers(length: int, kernels: str) -> None:
    import torch

    block, u = make(d_model=12, d_state=5, headdim=6), torch.randn(3, length, 12)
    with torch.no_grad():
        quick = block(u)
    assert torch.equal(quick, block(u).detach())


@pytest.mark.parametrize("length", [9, 70])
def test_same_bits_with_the_same_number_of_threads(length: int, kernels: str) -> None:
    import torch

    block = make(d_model=12, d_state=5, headdim=6)
    u, dout = torch.randn(2, 5, length, 12)
    threads, runs = torch.get_num_threads(), []
    try:
        for number in (1, 1, 3, 3):
            torch.set_num_threads(number)
            runs.append(results(block, u, None, dout))
    finally:
        torch.set_num_threads(threads)
    for name in runs[0]:
        assert torch.equal(runs[0][name], runs[1][name]), name
        assert torch.equal(runs[2][name], runs[3][name]), name
        torch.testing.assert_close(runs[0][name], runs[2][name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
@pytest.mark.parametrize("length", [9, 70])
def test_infinity_reaches_its_own_sequence_only(length: int, value: float, kernels: str) -> None:
    import torch

    from popularity.models.ssd import CHUNK

    block, (u, dout) = make(d_model=12, d_state=5, headdim=6), torch.randn(2, 3, length, 12)
    clean = results(block, u, None, dout)
    token = length // 2
    u[1, token, 0] = value
    got = results(block, u, None, dout)
    assert not got["y"][1, token:].isfinite().any()
    before = token // CHUNK * CHUNK  # it may reach earlier tokens of its own chunk
    assert torch.equal(got["y"][1, :before], clean["y"][1, :before])
    for name in ("y", "u"):
        assert torch.equal(got[name][[0, 2]], clean[name][[0, 2]]), name


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("length", [9, 70])
def test_no_infinity_and_no_nan_becomes_a_number(length: int, value: float, kernels: str) -> None:
    """Wherever the definition's output or gradients are not finite, those of the kernels are not."""
    import torch

    places = ["u", *(name for name, _ in make(d_model=12, d_state=5, headdim=6).named_parameters())]
    lost, spoiled = {}, dict.fromkeys(places, 0)
    for place in places:
        block, (u, dout) = make(d_model=12, d_state=5, headdim=6), torch.randn(2, 3, length, 12)
        spoil = u if place == "u" else block.get_parameter(place).detach()
        spoil.view(-1)[spoil.numel() // 2] = value
        exact, exact_u = copy.deepcopy(block).double(), u.double().requires_grad_()
        y = reference_block(exact, exact_u)
        wanted = [y, *torch.autograd.grad(y, [exact_u, *exact.parameters()], dout.double())]
        for (name, got), of_definition in zip(results(block, u, None, dout).items(), wanted, strict=True):
            spoiled[place] += int((~of_definition.isfinite()).sum())
            if (got.isfinite() & ~of_definition.isfinite()).any():
                lost[place, name] = int((got.isfinite() & ~of_definition.isfinite()).sum())
    assert not lost
    harmless = {"dt_bias", "A_log"} if value == float("-inf") else set()  # no step there, no decay
    assert {place for place, count in spoiled.items() if not count} == harmless


def _both_passes(block: Mamba2, u: Tensor) -> float:
    """A sum over output and gradients, by the kernels themselves: PyTorch's autograd refuses to run after a fork."""
    import torch

    from popularity.models import mamba2_cpp

    with torch.no_grad():
        tensors = (u, *block.block_parameters())
        out, saved = mamba2_cpp.block_forward(tensors, None, True)
        grads = mamba2_cpp.block_backward(tensors, None, saved, torch.ones_like(u), True)
    return sum(float(tensor.abs().sum()) for tensor in (out, *grads) if tensor is not None)


def _in_child(block: Mamba2, u: Tensor, queue: Any) -> None:
    queue.put(_both_passes(block, u))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # that is what is tested
def test_a_forked_process_does_not_hang(kernels: str) -> None:
    import torch

    block, u, threads = make(d_model=12, d_state=5, headdim=6), torch.randn(4, 40, 12), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        wanted = _both_passes(block, u)  # the parent's OpenMP threads are running from here on
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=_in_child, args=(block, u, queue))
        child.start()
        child.join(30)
        hung = child.is_alive()
        child.kill()
        child.join()
    finally:
        torch.set_num_threads(threads)
    assert not hung
    assert child.exitcode == 0
    assert queue.get() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("length", "options", "line"),
    [
        (4, {}, "Mamba-2 block: C++ kernels for {kernels}"),
        (40, {}, "Mamba-2 block: C++ kernels for {kernels}"),
        (4, {"ngroups": 2}, "Mamba-2 block: plain PyTorch"),
        (4, {"d_conv": 9}, "Mamba-2 block: plain PyTorch"),
    ],
)
def test_one_log_line_says_what_is_in_use(
    length: int,
    options: dict[str, int],
    line: str,
    kernels: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from popularity.models import scan

    monkeypatch.delenv(scan.VARIABLE)
    scan._announce.cache_clear()
    with caplog.at_level(logging.INFO, logger="popularity"):
        for _ in range(2):
            make(d_model=12, d_state=5, headdim=6, **options)(torch.zeros(2, length, 12))
    assert caplog.messages == [line.format(kernels=kernels)]


def test_what_the_kernels_cannot_take_goes_to_plain_pytorch(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from popularity.models import mamba2_cpp

    monkeypatch.setattr(mamba2_cpp, "block_forward", lambda *_: pytest.fail("the kernels were called"))
    make(d_model=12, d_state=5, headdim=6).double()(torch.zeros(2, 4, 12, dtype=torch.float64))
    make(d_model=12, d_state=5, headdim=6, ngroups=2)(torch.zeros(2, 4, 12))
    make(d_model=12, d_state=5, headdim=6, d_conv=9)(torch.zeros(2, 4, 12))
    make(d_model=12, d_state=5, headdim=6)(torch.zeros(0, 4, 12))
    with pytest.raises(pytest.fail.Exception, match="the kernels were called"):
        make(d_model=12, d_state=5, headdim=6)(torch.zeros(2, 4, 12))


def test_kernels_and_plain_pytorch_agree_on_their_constants() -> None:
    from popularity.models import kernel_library, ssd

    assert kernel_library.CHUNK == ssd.CHUNK
