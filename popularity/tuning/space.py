"""What a search is asked for: its flags, and the space, YAML from config key to Optuna distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from popularity.errors import InputError, one_line
from popularity.parsing import Parser, refuse_bomb, shipped_config
from popularity.training.module import METRICS
from popularity.tuning.cmaes import CheckedCmaEsSampler

Space = dict[str, BaseDistribution]

#: Objectives that are not metrics: training seconds, and size of the model (weights, or leaves of the trees).
COSTS = ("seconds", "parameters")
#: What of the Trainer a trial may vary, and what its scores depend on: not where it runs, nor what it logs.
TRAINER = ("max_epochs", "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches", "precision")
#: These say which songs are scored.
_SONGS = ("source", "split", "folds", "fold", "split_seed", "validation", "deduplicate")
_OBJECTIVES = (*(f"val/{name}" for name in METRICS), *COSTS)
_MAXIMIZED = ("val/r2", "val/spearman", "val/pearson")
#: With fewer folds the signed-rank test cannot say "worse" before the last: 4 worse folds of 4 give p = 1/16.
_WILCOXON_FOLDS = 5
_SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "tpe": TPESampler,
    "random": RandomSampler,
    "gp": partial(GPSampler, warn_independent_sampling=False),
    "cmaes": partial(CheckedCmaEsSampler, warn_independent_sampling=False),
}


@dataclass(frozen=True)
class Options:
    """Hyper-parameter search.

    Args:
        space: YAML file that maps config keys to Optuna distributions, or the name of a shipped one: ``search/mamba``.
        trials: how many finished trials the study holds in the end, including those of earlier and other processes.
        study: name of the study; its results go to LOG_DIR/STUDY.
        storage: URL of SQLite or PostgreSQL, or a journal FILE.log; by default SQLite in LOG_DIR/STUDY/study.db.
        objective: validation metric to improve, ``seconds`` of training or number of ``parameters``; or two of these,
            separated by a comma, for a Pareto front.
        folds: above 1, a trial's value is the mean over this many folds of the songs that are not test songs.
        sampler: how settings are sampled.
        pruner: ``median`` and ``hyperband`` compare epochs (of the first fold), ``wilcoxon`` compares folds; by default
            ``median`` for a network with one objective, otherwise ``none``.
        warmup_epochs: epochs before a trial may be pruned.
        timeout: seconds after which no new trial begins.
        workers: processes on this machine, which share its cores.
        heartbeat: seconds between heartbeats of a trial; after four missed ones it is lost and tried again.
        lightgbm: settings of LightGBM that its space does not vary.
    """

    space: str
    trials: PositiveInt = 100
    study: str = "tune"
    storage: str | None = None
    objective: str = "val/mse"
    folds: PositiveInt = 1
    sampler: Literal["tpe", "random", "cmaes", "gp"] = "tpe"
    pruner: Literal["median", "hyperband", "wilcoxon", "none"] | None = None
    warmup_epochs: NonNegativeInt = 5
    timeout: PositiveFloat = float("inf")
    workers: PositiveInt = 1
    heartbeat: PositiveInt = 15
    lightgbm: dict[str, Any] = field(default_factory=dict)


@dataclass
class Search:
    """All that a worker needs to know; picklable. InputError for settings that cannot work together."""

    options: Options
    config: dict[str, Any]  # of the fit, nested, as YAML would hold it
    space: Space
    deadline: float  # `time.time()` after which no trial begins

    def __post_init__(self) -> None:
        options = self.options
        self.folder = Path(self.config["log_dir"]) / options.study
        self.storage = options.storage or f"sqlite:///{self.folder / 'study.db'}"
        self.lightgbm = any(key.startswith("lightgbm.") for key in self.space)
        self.seed = max(0, self.config["seed_everything"])
        self.epochs: int = self.config["trainer"]["max_epochs"]
        self.objectives = [name.strip() for name in options.objective.split(",")]
        self.directions: list[Any] = ["maximize" if name in _MAXIMIZED else "minimize" for name in self.objectives]
        by_epoch = len(self.objectives) == 1 and self.objectives[0] not in COSTS and not self.lightgbm
        self.pruner = options.pruner or ("median" if by_epoch else "none")
        self.sampler = _SAMPLERS[options.sampler]  # all its state is in the study, except for the seed
        self._check(by_epoch)

    def _check(self, by_epoch: bool) -> None:
        options, names, pruner = self.options, self.objectives, self.pruner
        if "/" in options.study:
            raise InputError(f"--study: expected a name without '/', got {options.study!r}")
        if not set(names) <= set(_OBJECTIVES) or len(set(names)) < len(names) or len(names) > 2:  # no test metric
            raise InputError(f"--objective: expected one or two of {', '.join(_OBJECTIVES)}, got {options.objective}")
        if not self.config["data"]["validation"]:
            raise InputError("data.validation: expected a share above 0 to choose settings by, got 0")
        if not self.config["data"]["folds"] and options.folds < 2:
            raise InputError("data.folds: expected songs that are held out to choose settings by, got 0 folds")
        every, share = (self.config["trainer"][name] for name in ("check_val_every_n_epoch", "limit_val_batches"))
        if not self.lightgbm and (share == 0 or not 1 <= (every or 1) <= self.epochs):
            raise InputError(
                f"trainer: expected an epoch that is validated, to choose settings by, got max_epochs {self.epochs}, "
                f"check_val_every_n_epoch {every}, limit_val_batches {share}"
            )
        if pruner in ("median", "hyperband") and not by_epoch:
            raise InputError(f"--pruner {pruner} compares epochs: expected a network and one metric as objective")
        if pruner == "hyperband" and self.epochs <= max(1, options.warmup_epochs):
            raise InputError(f"--pruner hyperband: expected max_epochs above --warmup_epochs, got {self.epochs}")
        if pruner == "wilcoxon" and (options.folds < _WILCOXON_FOLDS or len(names) > 1 or names[0] in COSTS):
            raise InputError(f"--pruner wilcoxon: expected one metric and --folds {_WILCOXON_FOLDS} or more")
        if options.sampler == "cmaes" and len(names) > 1:
            raise InputError("--sampler cmaes: improves one objective only, use tpe, gp or random for a Pareto front")
        if options.sampler == "cmaes" and find_spec("cmaes") is None:
            raise InputError("--sampler cmaes: the package cmaes is missing, install this project's extra [tune]")

    def lightgbm_settings(self, params: dict[str, Any]) -> dict[str, Any]:
        """What the command line or a trial's parameters say of LightGBM, under its own names."""
        return {**self.options.lightgbm, **{key.removeprefix("lightgbm."): value for key, value in params.items()}}

    def make_pruner(self) -> BasePruner:
        """The pruner that was asked for, or the default."""
        if self.pruner == "hyperband":
            return HyperbandPruner(min_resource=max(1, self.options.warmup_epochs), max_resource=self.epochs)
        if self.pruner == "median":
            return MedianPruner(n_warmup_steps=self.options.warmup_epochs)
        return WilcoxonPruner() if self.pruner == "wilcoxon" else NopPruner()


def load_space(path: str) -> Space:
    """Read a search space: a file, or the name of a shipped one; InputError for an entry that cannot be searched."""
    parser, space, key = Parser(), Space(), ""
    parser.add_argument("--distribution", type=BaseDistribution)
    try:
        file = shipped_config(path) or Path(path)
        refuse_bomb(file)
        for key, entry in yaml.safe_load(file.read_text(encoding="utf-8")).items():
            section, _, name = key.partition(".")
            if (section == "data" and name in _SONGS) or (section == "trainer" and name not in TRAINER):
                raise InputError("a search cannot vary this, trials would not be comparable")
            space[key] = parser.instantiate(parser.parse_object({"distribution": entry})).distribution
            if key == "trainer.max_epochs" and min(edges(space[key])) < 1:
                raise InputError("expected at least 1 epoch, after which a trial is scored")
        if len({key.startswith("lightgbm.") for key in space}) != 1:
            raise InputError("expected keys of the network or keys of lightgbm, got both or none")
    except (OSError, AttributeError, yaml.YAMLError, InputError, ValueError, TypeError) as error:
        where, told = f"{path}: {key}".removesuffix(": "), one_line(str(error))
        raise InputError(f"{where}: expected a mapping from config keys to Optuna distributions: {told}") from error
    return space


def edges(distribution: BaseDistribution) -> list[Any]:
    """Values to try before a search: all choices, or both ends of a range and a number between."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    # not a whole number where any may be sampled: keys that hold whole numbers refuse it
    return [low, high, min(high, low + (distribution.step or 0.618 * (high - low)))]
