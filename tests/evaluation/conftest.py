"""A small comparison, and models that are made up for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
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
def kinds(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Kinds of a test's own, beside those of the package: put ``kind: callable that takes the settings`` in."""
    from popularity.evaluation import protocol
    from popularity.evaluation.entries import build

    made: dict[str, Any] = {}

    def build_any(name: str, kind: str, settings: dict[str, Any]) -> Any:
        return made[kind](**settings) if kind in made else build(name, kind, settings)

    monkeypatch.setattr(protocol, "build", build_any)
    return made


@pytest.fixture
def run_all(tmp_path: Path) -> Callable[..., Any]:
    """Run all jobs of a protocol in this process; the tables."""
    from popularity.evaluation.jobs import run_job
    from popularity.evaluation.summary import tabulate

    def run(
        plan: Any, songs: pd.DataFrame, reference: str = "linear", folder: Path = tmp_path, against: str | None = None
    ) -> Any:
        jobs = plan.jobs({*plan.models, *plan.hits})
        for job in jobs:
            result = run_job(plan, songs, job, folder)
            assert result["error"] is None, result["traceback"]
        return tabulate(plan, songs, jobs, folder, reference, against)

    return run


class Constant:
    """A regressor that knows a distribution: hits are likelier the livelier the song."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift
        self.fits: list[int] = []

    def fit_predict(self, task: Any) -> Any:
        from popularity.evaluation.folds import Outcome

        self.fits.append(len(task.train))
        guess = 40 + 30 * (task.test["danceability"] - 0.5) - 40 * (task.test["acousticness"] - 0.5)
        guess = np.asarray(guess.to_numpy() + self.shift)
        cutoffs = {float(cut): 1 / (1 + np.exp((cut - guess) / 3)) for cut in range(1, 101)}
        return Outcome(np.clip(guess, 0, 100), cutoffs)
