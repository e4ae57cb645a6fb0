"""A network of this project in a comparison, trained as `fit` trains it, on all training songs of a task."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from popularity.data.songs import SongTable
from popularity.errors import InputError
from popularity.evaluation.folds import Outcome, Task
from popularity.inference.distribution import SHARES, interval
from popularity.inference.predictor import predict_songs
from popularity.metrics import cdf_at
from popularity.parsing import resolve_config
from popularity.training.fit import fit_to_all, read_config

#: Cut-offs at which a histogram is read; popularity is a whole number, so that "at least c" begins at c - 1/2.
_CUTOFFS = np.arange(1, 101) - 0.5


def network_settings(configs: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What a network's results depend on: the contents of its config files, not their names, and the overrides.

    Args:
        configs: YAML files of `fit` or names of shipped configs, each layered over the ones before.
        overrides: dotted settings over all of them, such as ``{"model.net.width": 32}``.

    Raises:
        InputError: a config that is not found, or settings of another type.
    """
    if not isinstance(configs, list | tuple) or not all(isinstance(path, str) for path in configs):
        raise InputError(f"configs: expected a list of config names or YAML files, got {configs!r}")
    if not isinstance(overrides, Mapping):
        raise InputError(f"overrides: expected a mapping of dotted settings, got {overrides!r}")
    for name, value in overrides.items():
        # the parser of `compare` fills in arguments that the network is given later: they are no settings
        if isinstance(value, Mapping) and "class_path" in value:
            raise InputError(f"overrides: expected {name}: CLASS and {name}.SETTING: VALUE, got class_path in {name}")
    contents = [hashlib.sha256(Path(resolve_config(path)).read_bytes()).hexdigest() for path in configs]
    return {"configs": contents, "overrides": dict(overrides)}


def network_reads(configs: Sequence[str], overrides: Mapping[str, Any]) -> str:
    """``audio`` or ``everything``: what the encoder of a network reads of a song.

    Raises:
        InputError: a name or a value that no fit takes.
    """
    encoder = read_config(configs, overrides).data.encoder
    audio = encoder.class_path.endswith(".ColumnEncoder") or encoder.get("init_args", {}).get("audio_only", False)
    return "audio" if audio else "everything"


def fit_network(configs: Sequence[str], overrides: Mapping[str, Any], task: Task) -> Outcome:
    """Train on the task's training songs and predict its test songs."""
    # other weights and orders for other folds; the same for the same fold
    seed = int(np.random.SeedSequence([task.seed, task.fold]).generate_state(1)[0])
    seeded = {"seed_everything": seed, "data.shuffle_seed": seed, "data.split": task.split}
    table, began = SongTable(task.train, report=None, fingerprint=""), time.perf_counter()  # type: ignore[arg-type]
    fit = fit_to_all(configs, {**overrides, **seeded}, table)
    notes: dict[str, Any] = {
        "chosen": fit.datamodule.chosen,
        "calibration": str(fit.module.calibration),
        "parameters": sum(parameter.numel() for parameter in fit.module.parameters()),
        "epochs": fit.trainer.current_epoch,
        "training_seconds": round(time.perf_counter() - began, 1),
    }
    samples = fit.datamodule.hparams["samples"]
    found = predict_songs(fit.module, fit.datamodule.encoder, task.test, samples=samples)
    at_least = intervals = None
    if found.probabilities is not None and found.edges is not None:
        below = [cdf_at(np.full(len(task.test), cut), found.probabilities, found.edges) for cut in _CUTOFFS]
        at_least = 1 - np.stack(below)
        intervals = np.stack([np.stack(interval(found, share)) for share in SHARES])
    return Outcome(np.clip(found.mean, 0, 100), at_least, notes, intervals=intervals)
