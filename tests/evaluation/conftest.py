"""A small comparison, and models that are made up for a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from tests.conftest import make_songs


@pytest.fixture(scope="session")
def songs(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """160 made-up songs in the canonical columns, their popularity whole numbers."""
    from popularity.data.songs import load_songs

    path = tmp_path_factory.mktemp("songs") / "songs.csv"
    make_songs(160, seed=3).to_csv(path, index=False)
    return load_songs(str(path)).songs


@pytest.fixture
def protocol() -> Callable[..., Any]:
    """Make a protocol of 3 folds and 2 repeats."""
    from popularity.evaluation.protocol import Protocol

    def make(models: dict[str, Any], **more: Any) -> Protocol:
        settings: dict[str, Any] = {"split": "random", "folds": 3, "repeats": 2, "seed": 0, **more}
        return Protocol(source="songs.csv", fingerprint="f" * 64, deduplicate=True, models=models, **settings)

    return make


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[..., Any]]:
    """Models of a test's own: put ``name: what fits and predicts`` in, and ``{own: name}`` is their setting."""
    from popularity.evaluation import protocol
    from popularity.evaluation.models import Model, build_model

    made: dict[str, Callable[..., Any]] = {}

    def build(name: str, settings: dict[str, Any]) -> Model:
        if "own" in settings:
            return Model("everything", dict(settings), fit_predict=made[settings["own"]])
        return build_model(name, settings)

    monkeypatch.setattr(protocol, "build_model", build)
    return made


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Baselines with at most 40 trees and two members: what can be learned at all, these learn as well."""
    from popularity.evaluation import fitting
    from popularity.evaluation.baselines import BASELINES

    monkeypatch.setattr(fitting, "MOST_TREES", 40)
    for name, row in BASELINES.items():
        trees = {row.trees: 40} if row.trees else {}
        small = replace(row, defaults={**row.defaults, **trees}, members=min(row.members, 2))
        monkeypatch.setitem(BASELINES, name, small)


@pytest.fixture
def run_all(tmp_path: Path) -> Callable[..., Any]:
    """Do all runs of a protocol in this process; the tables."""
    from popularity.evaluation.runs import execute
    from popularity.evaluation.tables import tabulate

    def run(plan: Any, songs: pd.DataFrame, reference: str = "linear", against: str | None = None) -> Any:
        results = {one: execute(plan, songs, one, tmp_path) for one in plan.runs()}
        for result in results.values():
            assert result.error is None, result.facts["traceback"]
        return SimpleNamespace(**tabulate(results, songs, replace(plan, reference=reference, against=against)))

    return run
