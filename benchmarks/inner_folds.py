"""Settings compared without a look at test songs: python benchmarks/inner_folds.py --source FILE SETTINGS ...

SETTINGS are config files or names of shipped configs and single settings, joined by commas, later ones over earlier
ones, after an optional name: `wide=mamba,model.net.width=64`; or a baseline: `lightgbm,feature_set=everything`. All are
fitted to the same inner folds: the test songs of a fold are put away, and the rest is split again by the same rule,
five times. Printed are the mean MSE over the inner folds, its ratio to linear regression on the 13 audio columns, and
the paired difference to the first settings with its folds won. `wide+deep` is the mean of two that went before, as
members of one model would be averaged.

With --keep FOLDER predictions are kept and not made again while songs, settings and code are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from popularity.data.songs import load_songs
from popularity.evaluation.baselines import BASELINES
from popularity.evaluation.folds import Outcome, Part, Task, make_fold
from popularity.evaluation.models import build_model
from popularity.evaluation.runs import code_version
from popularity.io import write_atomically


def main() -> None:
    """Fit and print, one line per settings as they are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--source", default="spotify-4771")
    parser.add_argument("--split", default="random")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--outer", type=int, default=0, help="the fold (split seed 0) whose test songs are put away")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    table = load_songs(options.source)
    task = make_fold(table.songs, options.split, folds=5, repeat=0, fold=options.outer, seed=0).task
    parts = task.inner(options.folds)
    truths = [task.popularity[held_out] for _, held_out in parts]
    found: dict[str, list[np.ndarray]] = {}
    errors: dict[str, np.ndarray] = {}
    first = ""
    for stack in ["linear", *options.settings]:
        if "+" in stack and "," not in stack:
            name, named = stack, [found[part] for part in stack.split("+")]
            found[name] = [np.mean(fold, axis=0) for fold in zip(*named, strict=True)]
        else:
            name, settings = settings_of(stack)
            model = build_model(name, settings)
            assert model.fit_predict is not None
            question = [table.fingerprint, options.split, options.folds, options.outer, model.settings]
            mark = json.dumps([code_version(), *question], sort_keys=True)
            kept = options.keep and options.keep / f"{hashlib.sha256(mark.encode()).hexdigest()[:16]}.npz"
            found[name] = predictions(task, parts, model.fit_predict, kept)
        errors[name] = np.array([np.mean((p - t) ** 2) for p, t in zip(found[name], truths, strict=True)])
        first = first or (name if name != "linear" else "")
        difference = errors[name] - errors[first or "linear"]
        print(
            f"{name}: MSE {errors[name].mean():.2f}, ratio {errors[name].mean() / errors['linear'].mean():.4f}, "
            f"difference {difference.mean():+.2f}, better in {int((difference < 0).sum())} of {len(difference)}",
            flush=True,
        )


def settings_of(stack: str) -> tuple[str, dict[str, Any]]:
    """Name and settings of a model of `compare` from one argument."""
    name, parts = stack, stack.split(",")
    if "=" in parts[0] and not parts[0].startswith(("model.", "data.", "trainer.", "ema.")):
        name, parts[0] = parts[0].split("=", 1)
    single = {key: yaml.safe_load(value) for key, value in (part.split("=", 1) for part in parts if "=" in part)}
    if parts[0] in BASELINES:
        return name, {"baseline": parts[0], **single}
    return name, {"configs": [part for part in parts if "=" not in part], "overrides": single}


def predictions(
    task: Task, parts: list[Part], fit_predict: Callable[[Task], Outcome], kept: Path | None
) -> list[np.ndarray]:
    """Predictions for the held-out songs of each inner fold, from the kept file if there is one."""
    if kept and kept.exists():
        with np.load(kept) as loaded:
            return [loaded[str(index)] for index in range(len(parts))]
    made = [fit_predict(task.part(*part)).prediction for part in parts]
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(kept, binary=True) as file:
            np.savez(file, **{str(index): values for index, values in enumerate(made)})
    return made


if __name__ == "__main__":
    main()
