"""The embedding of songs in C++ against plain PyTorch: the same random numbers, values and gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import Lazy

if TYPE_CHECKING:
    from torch import Tensor

torch = Lazy("torch")
embedding = Lazy("popularity.models.embedding")
scan = Lazy("popularity.models.scan")
CODES = (13, 3, 8, 129)


@pytest.fixture(params=["avx512", "avx2", "portable"], autouse=True)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The C++ kernels for one instruction set."""
    from popularity.models import kernel_library

    capability = torch.backends.cpu.get_cpu_capability()
    if request.param not in kernel_library.INSTRUCTION_SETS.get(capability, ("portable",)):
        pytest.skip(f"this machine cannot run {request.param}: {capability}")
    if kernel_library.load(request.param) is None:
        pytest.skip(f"the kernels for {request.param} were not built")
    monkeypatch.setattr(kernel_library, "instruction_set", lambda: request.param)


def inputs(known: int, songs: int, size: int) -> tuple[tuple[Tensor, Tensor], Tensor, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)

    def some(count: int) -> tuple[Tensor, Tensor]:
        codes = [torch.randint(most, (count,), generator=generator) for most in CODES]
        return torch.randn(count, size, generator=generator), torch.stack(codes, 1)

    return some(known), torch.randint(-1, 5, (known,), generator=generator), some(songs)


def results(
    module: object, given: tuple[tuple[Tensor, Tensor], Tensor, tuple[Tensor, Tensor]]
) -> tuple[dict[str, Tensor], Tensor]:
    """Outputs that are no padding, gradients of the parameters, and the next random number."""
    torch.manual_seed(2)
    out = module(*given)  # type: ignore[operator]
    dout = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
    here = torch.cat([given[1] >= 0, torch.ones(len(given[2][0]), dtype=torch.bool)])
    dout[~here] = 0
    grads = torch.autograd.grad(out, [*module.parameters()], dout)  # type: ignore[attr-defined]
    names = [name for name, _ in module.named_parameters()]  # type: ignore[attr-defined]
    return {"out": out[here].detach(), **dict(zip(names, grads, strict=True))}, torch.rand(())


@pytest.mark.parametrize(("dropout", "hidden"), [(0.25, 0.35), (0.25, 0.0), (0.0, 0.35), (0.0, 0.0)])
@pytest.mark.parametrize(("width", "known", "size"), [(32, 300, 178), (24, 7, 33), (8, 0, 1), (40, 100, 16)])
def test_it_is_what_plain_pytorch_computes(
    width: int, known: int, size: int, dropout: float, hidden: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, given = embedding.SongEmbedding(size, CODES, width, dropout, hidden), inputs(known, 5, size)
    for training in (True, False):
        module.train(training)
        monkeypatch.setenv(scan.VARIABLE, "torch")
        expected, number = results(module, given)
        monkeypatch.setenv(scan.VARIABLE, "cpp")
        found, after = results(module, given)
        assert number == after
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_padding_is_neither_read_nor_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(scan.VARIABLE, "cpp")
    module, (known, role, songs) = embedding.SongEmbedding(9, CODES, 16, 0.1, 0.1), inputs(40, 3, 9)
    expected, _ = results(module, (known, role, songs))
    known[0][role < 0] = torch.nan
    found, _ = results(module, (known, role, songs))
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert not module(known, role, songs)[:40][role < 0].any()


@pytest.mark.parametrize("case", ["double", "no whole vectors", "gradient of the songs"])
def test_what_the_kernels_cannot_take_goes_to_plain_pytorch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from popularity.models import embedding_cpp

    def refused(*_: object) -> None:
        raise AssertionError(case)

    monkeypatch.setattr(embedding_cpp, "embed", refused)
    module = embedding.SongEmbedding(9, CODES, 12 if case == "no whole vectors" else 16, 0.1, 0.1)
    (song, codes), role, (other, other_codes) = inputs(4, 3, 9)
    if case == "double":
        module, song, other = module.double(), song.double(), other.double()
    other.requires_grad_(case == "gradient of the songs")
    assert module((song, codes), role, (other, other_codes)).isfinite().all()
    with pytest.raises(AssertionError, match=case):  # what they can take does go there
        embedding.SongEmbedding(9, CODES, 16, 0.1, 0.1)(
            (song.float(), codes), role, (other.detach().float(), other_codes)
        )


def test_threads_change_nothing_but_rounding() -> None:
    module, given, found = embedding.SongEmbedding(33, CODES, 24, 0.2, 0.3), inputs(200, 5, 33), []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(results(module, given)[0])
    torch.set_num_threads(before)
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-5, msg=name)
