"""One job: fit a model to one fold, score it, and leave a result that is whole or not there."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import math
import platform
import random
import sys
import time
import traceback
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from popularity.evaluation.folds import Fold
from popularity.evaluation.hits import Distribution, score_classifier, score_regressor
from popularity.evaluation.protocol import ALL, Job, Protocol
from popularity.features.tabular import Cost, spared
from popularity.io import write_atomically
from popularity.metrics import regression_scores

#: Packages whose version a result records where they are loaded.
_PACKAGES = {
    "numpy": "numpy",
    "pandas": "pandas",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "lightning": "lightning",
    "lightgbm": "lightgbm",
    "xgboost": "xgboost",
    "catboost": "catboost",
    "pytabkit": "pytabkit",
    "tabm": "tabm",
    "optuna": "optuna",
}


def run_job(protocol: Protocol, songs: pd.DataFrame, job: Job, folder: Path) -> dict[str, Any]:
    """Run a job and write its result; what goes wrong is recorded in place of scores.

    Args:
        protocol: the comparison.
        songs: the whole song table.
        job: which model on which fold.
        folder: of the comparison.

    Returns:
        The result, as the file holds it.
    """
    result = header(protocol, job)
    arrays: dict[str, np.ndarray] = {}
    began, began_cpu = time.perf_counter(), time.process_time()
    try:
        fold = protocol.draw(songs, job.repeat, job.fold)
        result |= {"songs_train": len(fold.task.train), "songs_test": len(fold.task.test)}
        entry = protocol.build(job)
        _seed(protocol.seed + job.repeat)
        began, began_cpu = time.perf_counter(), time.process_time()  # what came before is no cost of the model
        if job.cutoff:
            found, arrays = _run_hits(entry, protocol, fold, job, folder)
        else:
            found, arrays = _run_regression(entry, protocol, fold, job, folder)
        result |= found
    except Exception as error:
        result |= {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    result |= {
        "elapsed": time.perf_counter() - began,
        # what had been fitted before, or rows that were kept, cost as much as if they were made again
        "seconds": time.perf_counter() - began + result.get("seconds", 0),
        "cpu_seconds": time.process_time() - began_cpu + result.get("cpu_seconds", 0),
        "versions": versions(),
    }
    write_result(job.path(folder), result, arrays)
    return result


def header(protocol: Protocol, job: Job) -> dict[str, Any]:
    """What a result begins with, whatever comes of it."""
    return {
        "model": job.model,
        "repeat": job.repeat,
        "fold": job.fold,
        "cutoff": job.cutoff,
        "settings": dict(protocol.settings(job)),
        "config": protocol.config_hash(job),
        "data": protocol.fingerprint,
        "error": None,
    }


def write_result(path: Path, result: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write arrays (if any), then the result: a job is done when its JSON file is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # an earlier result must not stand beside these arrays
    if arrays:
        with write_atomically(path.with_suffix(".npz"), binary=True) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    with write_atomically(path) as file:
        json.dump(_plain(result), file, indent=1, allow_nan=False, default=str)


def read_result(protocol: Protocol, job: Job, folder: Path) -> dict[str, Any] | None:
    """The result of a job, if there is one for these settings and these songs; perhaps an error.

    One that is damaged, or whose arrays are, is none: the job is run again.
    """
    try:
        result: dict[str, Any] = json.loads(job.path(folder).read_text(encoding="utf-8"))
        found = (result["config"], result["data"])
        whole = result["error"] or zipfile.is_zipfile(job.path(folder, ".npz"))
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError, TypeError, KeyError):
        return None
    return result if whole and found == (protocol.config_hash(job), protocol.fingerprint) else None


def read_arrays(job: Job, folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a job that is done: `rows`, `prediction`, and so on."""
    with np.load(job.path(folder, ".npz"), allow_pickle=False) as file:
        return dict(file)


@functools.cache
def code_version() -> str:
    """Of this package: its version, and the beginning of a SHA-256 over its Python files as this process found them."""
    digest, root = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{importlib.metadata.version('popularity')}+{digest.hexdigest()[:8]}"


def versions() -> dict[str, str]:
    """Python, this package, and the packages that this process has loaded."""
    # the package xgboost comes with the distribution xgboost or xgboost-cpu: the module knows best
    loaded = {
        name: str(getattr(sys.modules[key], "__version__", None) or importlib.metadata.version(name))
        for key, name in _PACKAGES.items()
        if key in sys.modules
    }
    return {"python": platform.python_version(), "popularity": code_version(), **loaded}


def _seed(seed: int) -> None:
    """For models that draw from a global generator: the same draws whatever the process has done before."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - this is the global generator that scikit-learn falls back to
    torch.manual_seed(seed)


def _run_regression(
    entry: Any, protocol: Protocol, fold: Fold, job: Job, folder: Path
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    known = {}
    for name, settings in protocol.settings(job).get("of", {}).items():
        if (same := _same(protocol, name, settings, job, folder)) is not None:
            known[name] = same
    if known:
        found = {name: arrays["prediction"] for name, (_, arrays) in known.items()}
        outcome = entry.fit_predict(fold.task, found)
    else:
        outcome = entry.fit_predict(fold.task)
    spent = {name: sum(one[name] for one, _ in known.values()) for name in ("seconds", "cpu_seconds")}
    prediction = np.clip(checked("prediction", outcome.prediction, len(fold.rows)), 0, 100)
    arrays = {"rows": fold.rows, "prediction": prediction}
    if outcome.cutoffs:
        cuts = sorted(outcome.cutoffs)
        chances = [checked(f"P(popularity >= {cut:g})", outcome.cutoffs[cut], len(fold.rows)) for cut in cuts]
        arrays |= {"cutoffs": np.array(cuts, dtype=np.float64), "chances": np.stack(chances)}
    return {"metrics": regression_scores(prediction, fold.answers), "notes": outcome.notes, **spent}, arrays


def _run_hits(
    entry: Any, protocol: Protocol, fold: Fold, job: Job, folder: Path
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    spared.seconds = spared.cpu_seconds = 0.0
    cost = Cost()
    if job.cutoff == ALL:
        known, of_known = _known(protocol, job, folder)
        scored = score_regressor(entry, fold, protocol.cutoffs, known)
        if any(one.chance is not None for one in scored.values()):  # else nothing was asked of it
            cost = of_known
    else:
        scored = {job.cutoff: score_classifier(entry, fold, job.cutoff)}
    arrays = {"rows": fold.rows}
    arrays |= {f"chance_{cut}": one.chance for cut, one in scored.items() if one.chance is not None}
    spent = {"seconds": spared.seconds + cost.seconds, "cpu_seconds": spared.cpu_seconds + cost.cpu_seconds}
    return {"hits": {cut: one.scores for cut, one in scored.items()}, **spent}, arrays


def _known(protocol: Protocol, job: Job, folder: Path) -> tuple[Distribution | None, Cost]:
    """What the same model has said of this fold's test songs when it predicted their popularity, and what that cost."""
    same = _same(protocol, job.model, protocol.settings(job), job, folder)
    if same is None or "cutoffs" not in (arrays := same[1]):
        return None, Cost()
    cost = Cost(same[0]["seconds"], same[0]["cpu_seconds"])
    return dict(zip(arrays["cutoffs"].tolist(), arrays["chances"], strict=True)), cost


def _same(
    protocol: Protocol, name: str, settings: Mapping[str, Any], job: Job, folder: Path
) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Result and arrays of a model of these settings, where it has predicted the popularity of this job's fold."""
    same = Job(name, job.repeat, job.fold)
    if name not in protocol.models or protocol.settings(same) != settings:
        return None
    result = read_result(protocol, same, folder)
    return None if result is None or result["error"] else (result, read_arrays(same, folder))


def checked(what: str, values: np.ndarray, count: int) -> np.ndarray:
    """A model's numbers as float64 (count,).

    Raises:
        ValueError: another shape, or numbers that are not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (count,):
        raise ValueError(f"{what} must have shape ({count},), one per test song, however: {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} must be finite, however: {int((~np.isfinite(array)).sum())} of {count} are not")
    return array


def _plain(value: Any) -> Any:
    """The value with numpy's types as Python's and numbers that JSON lacks as null."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
