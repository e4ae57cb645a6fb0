"""The kernels are optional: without a compiler the package is built, installed and works, only slower."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
USE = """
import torch
from popularity.models import kernel_library
from popularity.models.mamba import Mamba
from popularity.models.scan import implementation
u = torch.zeros(2, 5, 16)
Mamba(16)(u).sum().backward()
print(kernel_library.__file__, kernel_library.instruction_set(), implementation(u, 16))
"""


def build_wheel(source: Path, out: Path, environment: dict[str, str]) -> Path:
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    for folder in ("popularity", "configs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignore)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(out), "."]
    subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True, text=True)
    (wheel,) = out.glob("*.whl")
    return wheel


def use(wheel: Path, target: Path, environment: dict[str, str]) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    environment = environment | {"PYTHONPATH": str(target)}
    return subprocess.check_output([sys.executable, "-c", USE], env=environment, cwd=target, text=True).split()


@pytest.fixture
def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("POPULARITY_SCAN", "PYTHONPATH")}


@pytest.mark.slow
def test_without_a_compiler_the_package_works(tmp_path: Path, environment: dict[str, str]) -> None:
    for name in ("source", "out", "empty", "target"):
        (tmp_path / name).mkdir()
    bare = environment | {"PATH": str(tmp_path / "empty")}
    bare = {name: value for name, value in bare.items() if name not in ("CC", "CXX", "LDSHARED")}
    wheel = build_wheel(tmp_path / "source", tmp_path / "out", bare)
    file, instruction_set, implementation = use(wheel, tmp_path / "target", environment)
    assert file.startswith(str(tmp_path))
    assert (instruction_set, implementation) == ("None", "torch")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler here")
def test_with_a_compiler_the_wheel_holds_the_kernels(tmp_path: Path, environment: dict[str, str]) -> None:
    for name in ("source", "out", "target"):
        (tmp_path / name).mkdir()
    wheel = build_wheel(tmp_path / "source", tmp_path / "out", environment)
    file, _, implementation = use(wheel, tmp_path / "target", environment)
    assert file.startswith(str(tmp_path))
    assert implementation == "cpp"
