"""The shared library of C++ kernels: found, checked before it is used, and built from clean sources."""

from __future__ import annotations

import ctypes
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "popularity" / "models" / "kernels"
FLAGS = {
    "portable": [],
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
# GCC 12 warns about its own AVX-512 header, which leaves a register undefined on purpose (GCC bug 105593)
COMPILE = ["g++", "-std=c++17", "-O1", "-fopenmp", "-Wall", "-Wextra", "-Werror", "-Wno-maybe-uninitialized"]
SANITIZE = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler here")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, with nothing loaded yet; nothing that the test loads is kept."""
    from popularity.models import kernel_library

    if kernel_library.instruction_set() is None:
        pytest.skip("the kernels were not built")
    monkeypatch.delenv("POPULARITY_SCAN", raising=False)
    cached = (kernel_library.load, kernel_library.instruction_set)
    for function in cached:
        function.cache_clear()
    yield kernel_library
    for function in cached:
        function.cache_clear()


@pytest.mark.parametrize("number", range(11))
def test_a_library_with_other_numbers_is_refused_with_one_line(
    number: int, library: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = list(library.ABI)
    numbers[number] += 1
    monkeypatch.setattr(library, "ABI", tuple(numbers))
    assert library.load("portable") is None
    assert len(caplog.messages) == 1
    assert "built from another version of popularity, not used; install popularity again" in caplog.messages[0]


def test_a_library_that_says_nothing_is_refused(
    library: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import _ctypes

    monkeypatch.setattr(library, "_find", lambda _: Path(_ctypes.__file__))
    assert library.load("portable") is None
    assert len(caplog.messages) == 1


def test_without_a_library_that_fits_plain_pytorch_serves(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from popularity.errors import InputError
    from popularity.models import scan
    from popularity.models.mamba import Mamba

    monkeypatch.setattr(library, "ABI", (-1, *library.ABI[1:]))
    assert scan.implementation(torch.zeros(1), 16) == "torch"
    assert Mamba(16)(torch.zeros(2, 5, 16)).shape == (2, 5, 16)
    monkeypatch.setenv(scan.VARIABLE, "cpp")
    with pytest.raises(InputError, match="POPULARITY_SCAN=cpp: found no C\\+\\+ kernels of this version"):
        scan.implementation(torch.zeros(1), 16)


def test_a_checkout_without_kernels_finds_those_of_the_installed_package(
    library: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = library._find("portable")
    monkeypatch.setattr(library, "__file__", str(tmp_path / "popularity" / "models" / "kernel_library.py"))
    monkeypatch.setattr(sys, "path", ["", str(built.parents[2])])
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO, logger="popularity"):
        assert library._find("portable") == built
    wanted = f"found none in {tmp_path}/popularity/models, using those of the installed package in {built.parent}"
    assert caplog.messages == [f"C++ kernels: {wanted}"]
    monkeypatch.setattr(sys, "path", [""])
    assert library._find("portable") is None


@pytest.mark.parametrize(
    ("structure", "file"),
    [
        ("ScanCall", "scan.cpp"),
        ("BlockCall", "block.h"),
        ("Mamba2Call", "mamba2.h"),
        ("EmbeddingCall", "embedding.h"),
        ("NormCall", "norm.h"),
    ],
)
def test_structures_have_the_same_fields_in_the_same_order(structure: str, file: str) -> None:
    """Sizes are compared at run time; two fields that changed places would not be seen there."""
    from popularity.models import kernel_library

    body = re.search(rf"struct {structure} {{(.*?)\n}};", (SOURCES / file).read_text(), re.DOTALL)
    assert body is not None
    declarations = re.sub(r"//.*", "", body[1]).split(";")
    fields = []
    for declaration in filter(str.strip, declarations):
        kind, names = re.fullmatch(r"\s*(?:const )?(int64_t|int16_t|float)\b(.*)", declaration, re.DOTALL).groups()  # type: ignore[union-attr]
        fields += [(name.strip(" *\n"), kind, "*" in name) for name in names.split(",")]
    types = {"int64_t": ctypes.c_int64, "float": ctypes.c_float}
    wanted = [(name, ctypes.c_void_p if pointer else types[kind]) for name, kind, pointer in fields]
    assert list(getattr(kernel_library, structure)._fields_) == wanted


def test_lines_are_at_most_120_columns() -> None:
    files = [*SOURCES.iterdir(), Path(__file__).with_name("sweep_kernels.cpp")]
    assert [f"{file.name}: {line}" for file in files for line in file.read_text().splitlines() if len(line) > 120] == []


@pytest.mark.slow
@needs_compiler
def test_sources_compile_without_warnings(tmp_path: Path) -> None:
    command = [*COMPILE, "-c", str(SOURCES / "scan.cpp"), "-o", str(tmp_path / "scan.o")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", FLAGS)
def test_kernels_under_sanitizers(name: str, tmp_path: Path) -> None:
    """Every kernel over a sweep of shapes, in buffers of exact size: see ``sweep_kernels.cpp``."""
    import torch

    from popularity.models import kernel_library

    capability = torch.backends.cpu.get_cpu_capability()
    if name not in kernel_library.INSTRUCTION_SETS.get(capability, ("portable",)):
        pytest.skip(f"this machine cannot run {name}: {capability}")
    program, source = tmp_path / "sweep", Path(__file__).with_name("sweep_kernels.cpp")
    command = [*COMPILE, *SANITIZE, *FLAGS[name], "-I", str(SOURCES), str(source), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True)
    if "cannot find" in built.stderr:
        pytest.skip("the compiler comes without its sanitizers' libraries")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
