"""Made-up tasks, and models that are made up for a test."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.features.test_tabular import made_up

if TYPE_CHECKING:
    from popularity.evaluation.folds import Outcome, Rows, Task


def made_up_task(count: int = 150, split: str = "random", seed: int = 0) -> tuple[Task, np.ndarray]:
    """A task on made-up songs, and its answers."""
    from popularity.evaluation.folds import make_fold

    fold = make_fold(made_up(count, seed), split, folds=3, repeat=0, fold=0, seed=seed)  # type: ignore[arg-type]
    return fold.task, fold.answers


def predict(settings: dict[str, Any], task: Task) -> Outcome:
    """What a model of these settings says."""
    from popularity.evaluation.models import build_model

    model = build_model("mine", settings)
    assert model.fit_predict is not None
    return model.fit_predict(task)


def chances(settings: dict[str, Any], task: Task, hit: np.ndarray) -> np.ndarray:
    """P(hit) by a classifier of these settings."""
    from popularity.evaluation.folds import Rows
    from popularity.evaluation.models import build_model

    model = build_model("mine", settings)
    assert model.fit_probability is not None
    return model.fit_probability(Rows(task, model.feature_set), hit)


class Lively:
    """A regressor that knows a distribution: songs are more popular the livelier they are."""

    def __init__(self) -> None:
        self.fits: list[int] = []

    def __call__(self, task: Task) -> Outcome:
        """Fit and predict."""
        from popularity.evaluation.folds import Outcome

        self.fits.append(len(task.train))
        guess = 40 + 30 * (task.test["danceability"] - 0.5) - 40 * (task.test["acousticness"] - 0.5)
        guess, cutoffs = np.clip(guess.to_numpy(), 0, 100), np.arange(1, 101)[:, None]
        intervals = np.stack([[guess - width, guess + width] for width in (2.0, 5.0, 9.0)])
        return Outcome(guess, 1 / (1 + np.exp((cutoffs - guess) / 3)), intervals=intervals)


class Spy:
    """A classifier that notes what it is asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[Rows, np.ndarray]] = []

    def __call__(self, rows: Rows, hit: np.ndarray) -> np.ndarray:
        """Fit and predict."""
        self.seen.append((rows, hit))
        test = rows.task.test
        return np.asarray((0.5 + 0.4 * (test["danceability"] - test["acousticness"])).to_numpy())


class Deadly:
    """A regressor whose process dies as often as there are files in a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def fit(self, rows: Any, popularity: np.ndarray) -> Deadly:
        """Die or fit."""
        for file in Path(self.folder).glob("die-*"):
            file.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        self.mean = popularity.mean()
        return self

    def predict(self, rows: Any) -> np.ndarray:
        """The mean."""
        return np.full(len(rows), self.mean)


class Noted:
    """A regressor that waits for another file to be there, and notes in a file which process fits."""

    def __init__(self, file: str, seconds: float) -> None:
        self.file, self.seconds = file, seconds

    def fit(self, rows: Any, popularity: np.ndarray) -> Noted:
        """Note and fit."""
        while not Path(f"{self.file}.go").exists():
            time.sleep(0.05)
        time.sleep(self.seconds)
        with open(self.file, "a") as file:
            file.write(f"{os.getpid()}\n")
        self.mean = popularity.mean()
        return self

    def predict(self, rows: Any) -> np.ndarray:
        """The mean."""
        return np.full(len(rows), self.mean)
