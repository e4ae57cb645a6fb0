"""A network and a logger of somebody else's, for tests; not imported while tests are collected."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from popularity.features.base import Inputs


class MyNet(nn.Module):
    """One hidden layer over the song vector."""

    def __init__(self, inputs: Inputs, outputs: int, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs.song, width), nn.ReLU(), nn.Linear(width, outputs))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """``(B, outputs)``."""
        raw: Tensor = self.layers(batch["song"])
        return raw


class LoggerWithoutPackage(CSVLogger):
    """As Lightning's loggers are whose package is not installed."""

    def __init__(self) -> None:
        raise ModuleNotFoundError("No module named 'absent_package'", name="absent_package")
