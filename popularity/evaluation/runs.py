"""One run: a model on one fold, and the one file that holds its result, which is whole or not there."""

from __future__ import annotations

import json
import random
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from popularity.evaluation.folds import Fold, Outcome
from popularity.evaluation.hits import score
from popularity.evaluation.intervals import half_widths, held_out_residuals
from popularity.evaluation.models import Model
from popularity.evaluation.protocol import Protocol, Run
from popularity.io import write_atomically
from popularity.metrics import regression_scores
from popularity.program import versions

_Found = tuple[dict[str, Any], dict[str, np.ndarray]]  # facts and arrays of a result


@dataclass(frozen=True)
class Result:
    """What a run left behind.

    Facts are ``model, repeat, fold, hits, config, data, error``, and unless it failed ``metrics`` (of popularity) or
    ``scores`` (by cut-off), ``notes, seconds, cpu_seconds, songs_train, songs_test, versions``. Arrays are ``rows``
    (n_test,) of the song table, ``prediction`` (n_test,) and, from a model with a distribution, ``at_least``
    (100, n_test) and ``intervals`` (shares, 2, n_test), otherwise ``half_widths`` of these; of hits
    ``chance_CUTOFF`` (n_test,).
    """

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def error(self) -> str | None:
        """What went wrong, in one line."""
        error = self.facts["error"]
        return None if error is None else " ".join(str(error).split())


def execute(protocol: Protocol, songs: pd.DataFrame, run: Run, folder: Path) -> Result:
    """Do a run on the whole song table and write its result; what goes wrong is recorded in place of scores."""
    facts, arrays = header(protocol, run), dict[str, np.ndarray]()
    began, began_cpu = time.perf_counter(), time.process_time()
    try:
        fold = protocol.make_fold(songs, run.repeat, run.fold)
        facts |= {"songs_train": len(fold.task.train), "songs_test": len(fold.task.test)}
        model = protocol.build(run.model)
        _seed(protocol.seed + run.repeat)
        began, began_cpu = time.perf_counter(), time.process_time()  # what came before is no cost of the model
        judge = _judge_hits if run.hits else _judge
        found, arrays = judge(model, fold, protocol, run, folder)
        facts, arrays = facts | found, arrays | {"rows": fold.rows}
    except (Exception, SystemExit) as error:  # an own model may want to leave; the others go on
        facts |= {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    facts["elapsed"] = time.perf_counter() - began
    facts["seconds"] = facts["elapsed"] + facts.get("seconds", 0)
    facts["cpu_seconds"] = time.process_time() - began_cpu + facts.get("cpu_seconds", 0)
    result = Result(facts | {"versions": versions()}, arrays)
    write_result(run.path(folder), result)
    return result


def _judge(model: Model, fold: Fold, *_: Any) -> _Found:
    assert model.fit_predict is not None
    outcome, spent = model.fit_predict(fold.task), dict[str, float]()
    wrong = int((~np.isfinite(outcome.prediction)).sum())
    if wrong:  # cutting off would make a number of infinity
        raise ValueError(f"prediction: expected finite values, got {wrong} of {len(outcome.prediction)} that are not")
    prediction = np.clip(outcome.prediction, 0, 100)
    arrays = {"prediction": prediction}
    said = {"at_least": outcome.at_least, "intervals": outcome.intervals}
    arrays |= {name: values for name, values in said.items() if values is not None}
    if outcome.intervals is None:
        residuals, spent = held_out_residuals(model.fit_predict, fold.task, outcome)
        arrays |= {} if residuals is None else {"half_widths": half_widths(residuals)}
    return {"metrics": regression_scores(prediction, fold.answers), "notes": outcome.notes, **spent}, arrays


def _judge_hits(model: Model, fold: Fold, protocol: Protocol, run: Run, folder: Path) -> _Found:
    known, spent = None, {}
    if model.fit_predict is not None:
        result = read_result(protocol, replace(run, hits=False), folder)
        if result is None or result.error:
            raise RuntimeError("its prediction of popularity on this fold has failed")
        known = Outcome(result.arrays["prediction"], result.arrays.get("at_least"))
        spent = {name: result.facts[name] for name in ("seconds", "cpu_seconds")}  # that fit is a cost of the hits too
    scored = score(model, fold, protocol.cutoffs, known)
    arrays = {f"chance_{cutoff}": one.chance for cutoff, one in scored.items() if one.chance is not None}
    return {"scores": {cutoff: one.scores for cutoff, one in scored.items()}, **spent}, arrays


def header(protocol: Protocol, run: Run) -> dict[str, Any]:
    """The facts of a result that are known before the run."""
    return {**vars(run), "config": protocol.config_hash(run), "data": protocol.fingerprint, "error": None}


def write_result(path: Path, result: Result) -> None:
    """Write a result as one file, a compressed archive of arrays with the facts as JSON text among them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = json.dumps(result.facts, default=lambda value: value.tolist() if hasattr(value, "tolist") else str(value))
    with write_atomically(path, binary=True) as file:
        np.savez_compressed(file, facts=np.array(facts), **result.arrays)  # type: ignore[arg-type]


def read_result(protocol: Protocol, run: Run, folder: Path) -> Result | None:
    """The result of a run, if there is one for these settings and these songs; a damaged file is none."""
    try:
        with open(run.path(folder), "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        facts = json.loads(str(arrays.pop("facts")))
        found = facts["config"], facts["data"]
    except Exception:  # numpy, zipfile and zlib raise whatever the damage leads to
        return None
    valid = found == (protocol.config_hash(run), protocol.fingerprint)
    return Result(facts, arrays) if valid and _is_whole(facts, arrays) else None


def _is_whole(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> bool:
    """Whether a result has all its parts: scores, and numbers for each song that was tested."""
    if facts.get("error", "") is not None:
        return "error" in facts
    songs = {values.shape[-1:] for name, values in arrays.items() if name != "half_widths"}
    return bool(facts.get("metrics") or facts.get("scores")) and "rows" in arrays and len(songs) == 1


def results_of(protocol: Protocol, runs: Iterable[Run], folder: Path) -> dict[Run, Result]:
    """The results that there are, without ``at_least``: a large array, by which nothing but hits is judged."""
    found = {}
    for run in runs:
        if (result := read_result(protocol, run, folder)) is not None:
            arrays = {name: values for name, values in result.arrays.items() if name != "at_least"}
            found[run] = replace(result, arrays=arrays)
    return found


def _seed(seed: int) -> None:
    """For models that sample from a global generator: the same numbers whatever the process has done before."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - this is the global generator that scikit-learn falls back to
    torch.manual_seed(seed)
