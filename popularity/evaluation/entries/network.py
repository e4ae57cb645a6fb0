"""A network of this project, trained as `fit` trains it, on all the training songs of a task."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from popularity.calibration import cdf_at
from popularity.data.songs import SongTable
from popularity.data.splits import Split
from popularity.errors import InputError
from popularity.evaluation.folds import Outcome, Task
from popularity.models.heads import HistogramHead

if TYPE_CHECKING:
    from popularity.training.datamodule import PopularityDataModule

#: Cut-offs at which a histogram is read; popularity is a whole number, so that "at least c" begins at c - 1/2.
CUTOFFS = np.arange(1, 101)


class Network:
    """A fit of config files.

    No songs are held back for validation: the config's own epochs are run, with its averaging of weights, and the
    last weights predict.

    Args:
        configs: YAML files of `fit`, each over the ones before.
        overrides: nested settings over all of them.

    Raises:
        InputError: a file that cannot be read or that is no mapping; settings of another type.
    """

    def __init__(self, configs: Sequence[str], overrides: Mapping[str, Any] | None = None) -> None:
        if not isinstance(configs, list | tuple) or not all(isinstance(path, str) for path in configs):
            raise InputError(f"configs must be a list of YAML files, but is {configs!r}")
        if not isinstance(overrides, Mapping | None):
            raise InputError(f"overrides must be a mapping of settings, but is {overrides!r}")
        self.config: dict[str, Any] = {}
        for path in configs:
            try:
                loaded = yaml.safe_load(Path(path).read_text())
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise InputError(f"{path}: not a readable config: {' '.join(str(error).split())}") from error
            if not isinstance(loaded, dict):
                raise InputError(f"{path}: expected a mapping of settings, came {type(loaded).__name__}")
            self.config = _merge(self.config, loaded)
        self.config = _merge(self.config, overrides or {})

    def fit_predict(self, task: Task) -> Outcome:
        """Train on the task's training songs and predict its test songs."""
        # the command line stands above this package; its parser is what gives a config file its meaning
        from popularity.cli import ConfiguredCLI, quiet_lightning

        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            quiet_lightning()
            rows = np.arange(len(task.train))
            nothing = rows[:0]

            def give_songs(datamodule: PopularityDataModule) -> None:
                datamodule.table = SongTable(task.train, report=None, fingerprint="")  # type: ignore[arg-type]
                datamodule.split = Split(rows, nothing, nothing)

            cli = ConfiguredCLI(self._config_for(task, folder), give_songs)
            began = time.perf_counter()
            cli.trainer.fit(cli.model, cli.datamodule)
            seconds = time.perf_counter() - began
        raw = cli.model.raw_of(task.test)
        head = cli.model.net.head
        prediction = head.predict(raw).double().cpu().numpy()
        cutoffs = None
        if isinstance(head, HistogramHead):
            probabilities, edges = head.probabilities(raw).double().cpu().numpy(), head.edges.double().cpu().numpy()
            cutoffs = {
                float(cut): 1 - cdf_at(np.full(len(probabilities), cut - 0.5), probabilities, edges) for cut in CUTOFFS
            }
        parameters = sum(parameter.numel() for parameter in cli.model.parameters())
        notes = {"parameters": parameters, "epochs": cli.trainer.current_epoch, "training_seconds": round(seconds, 1)}
        return Outcome(np.clip(prediction, 0, 100), cutoffs, notes)

    def _config_for(self, task: Task, folder: str) -> dict[str, Any]:
        config = _merge(
            self.config,
            {
                # other weights and orders for other folds; the same for the same fold
                "seed_everything": int(np.random.SeedSequence([task.seed, task.fold]).generate_state(1)[0]),
                "data": {"split": task.split, "validation": 0},
                "figures": {"every_n_epochs": 0},
                "trainer": {
                    "logger": False,
                    "enable_checkpointing": False,
                    "enable_progress_bar": False,
                    "enable_model_summary": False,
                    "default_root_dir": folder,
                    "limit_val_batches": 0,
                },
            },
        )
        config["data"]["shuffle_seed"] = config["seed_everything"]
        return config


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A nested mapping laid over another."""
    merged = dict(under)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
