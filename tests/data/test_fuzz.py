"""The fuzzer of the reader, for a short while."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_half_a_minute_of_fuzzing_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    options = ["--seconds", "30", "--seed", "1", "--crashes", f"{tmp_path}/"]
    result = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), *options],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert "Done " in result.stderr, "it has read something"
