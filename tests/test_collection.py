"""Collecting the tests is quick, and ends in the same names in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: packages that take a second each: tests import them in a fixture or in their body
HEAVY = {"lightning", "matplotlib", "optuna", "scipy", "sklearn", "sqlalchemy", "torch", "torchmetrics"}
COLLECT = """
import sys, pytest
code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider"])
print("loaded:", *sys.modules)
sys.exit(code)
"""


def test_collecting_imports_nothing_heavy_and_names_do_not_change(request: pytest.FixtureRequest) -> None:
    """Workers that run tests side by side must agree on names: no clock, address or order of a set may be in one."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    given |= {"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    root = Path(__file__).resolve().parents[1]
    found = subprocess.run([sys.executable, "-c", COLLECT], cwd=root, env=given, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    *names, loaded = found.stdout.splitlines()
    assert not HEAVY & set(loaded.split())
    assert {item.nodeid for item in request.session.items} <= set(names)
