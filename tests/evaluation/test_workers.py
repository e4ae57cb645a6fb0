"""Worker processes that die: what is lost, and what is told."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator


class Deadly(BaseEstimator):
    """A regressor whose process dies, as often as there are files in a folder."""

    def __init__(self, folder: str = "") -> None:
        self.folder = folder

    def fit(self, rows: Any, popularity: np.ndarray) -> Deadly:
        """Die or fit."""
        for file in sorted(Path(self.folder).glob("die-*")):
            file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        self.mean_ = popularity.mean()
        return self

    def predict(self, rows: Any) -> np.ndarray:
        """The mean."""
        return np.full(len(rows), self.mean_)
