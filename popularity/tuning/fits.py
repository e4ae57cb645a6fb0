"""A trial's fit, built from the config of the search with a trial's values."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.strategies import ParallelStrategy

from popularity.cli import ConfiguredCLI
from popularity.data.songs import SongTable
from popularity.data.splits import Split
from popularity.errors import InputError
from popularity.tuning.options import Search


@dataclass(frozen=True)
class Fit:
    """Trainer and module of a trial."""
    cli: Any

    @property
    def trainer(self) -> Any:
        return self.cli.trainer

    @property
    def module(self) -> Any:
        return self.cli.model

    def run(self) -> None:
        self.cli.trainer.fit(self.cli.model, self.cli.datamodule)


def trial_fit(
    search: Search, params: dict[str, Any], table: SongTable, split: Split, callbacks: Sequence[Callback]
) -> Fit:
    """The fit of a trial, which writes nothing to disk."""
    config = with_params(search.config, params)
    config["trainer"] |= {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    config["figures"] |= {"every_n_epochs": 0}

    def give_songs(datamodule: Any) -> None:
        datamodule.table, datamodule.split = table, split

    cli = ConfiguredCLI(config, give_songs)
    cli.trainer.callbacks.extend(callbacks)
    return Fit(cli)


def with_params(config: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """A nested config with dotted keys replaced."""
    config = copy.deepcopy(config)
    for key, value in params.items():
        *path, name = key.split(".")
        inner = config
        for part in path:
            inner = inner[part]
        inner[name] = value
    return config


def check_devices(trainer: Any) -> None:
    """Refuse to run a trial on several devices.

    Raises:
        InputError: there are several, or a strategy for several.
    """
    devices = trainer.num_devices * trainer.num_nodes
    if devices > 1 or isinstance(trainer.strategy, ParallelStrategy):
        raise InputError(
            f"tune fits each trial on one device, got {devices} and {type(trainer.strategy).__name__}: give "
            "--trainer.devices 1 --trainer.strategy auto, and start one tune process per device (CUDA_VISIBLE_DEVICES) "
            "on the same --storage"
        )
