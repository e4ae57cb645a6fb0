"""The settings of a search, and Optuna's samplers and pruners by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler

from popularity.errors import InputError
from popularity.tuning.space import Space

#: Objectives that are not logged metrics: training seconds, and size of the model (weights, or leaves of the trees).
COSTS = ("seconds", "parameters")
_MORE_IS_BETTER = ("r2", "spearman", "pearson")
#: With fewer folds the signed-rank test cannot say "worse" before the last: 4 worse folds of 4 give p = 1/16.
_WILCOXON_FOLDS = 5
_SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed, warn_independent_sampling=False),
    "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
}


@dataclass(frozen=True)
class Options:
    """Hyper-parameter search.

    Args:
        space: YAML file that maps config keys to Optuna distributions.
        trials: how many finished trials the study holds in the end, including those of earlier and other processes.
        study: name of the study; its results go to LOG_DIR/STUDY.
        storage: where the study lives: URL of SQLite or PostgreSQL, or a file ``*.log`` for Optuna's journal. Default:
            SQLite in LOG_DIR/STUDY/study.db.
        objective: logged metric to improve, or two of them, separated by a comma, for a Pareto front. ``seconds`` (of
            training) and ``parameters`` (their number) are metrics too. Correlations and r2 are maximised.
        folds: above 1, a trial's value is the mean over this many folds of the songs that are not test songs.
        sampler: how settings are sampled.
        pruner: ``median`` and ``hyperband`` compare epochs (of the first fold), ``wilcoxon`` compares folds. Default:
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


@dataclass(frozen=True)
class Search:
    """All that a worker needs to know; picklable.

    Attributes:
        options: as given.
        config: settings of the fit, nested, as YAML would hold them.
        space: what trials vary.
        deadline: ``time.time()`` after which no trial begins.
    """

    options: Options
    config: dict[str, Any]
    space: Space
    deadline: float

    @property
    def lightgbm(self) -> bool:
        """Whether the search is for LightGBM and not for a network."""
        return any(key.startswith("lightgbm.") for key in self.space)

    @property
    def folder(self) -> Path:
        """Where results go."""
        return Path(self.config["log_dir"]) / self.options.study

    @property
    def storage(self) -> str:
        """URL or file of the study."""
        return self.options.storage or f"sqlite:///{self.folder / 'study.db'}"

    @property
    def seed(self) -> int:
        """Seed of the samplers and of LightGBM."""
        seed = self.config["seed_everything"]
        return seed if isinstance(seed, int) and seed >= 0 else 0

    @property
    def objectives(self) -> list[str]:
        """One metric, or two."""
        return [name.strip() for name in self.options.objective.split(",")]

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """Which way each objective is better."""
        return ["maximize" if name.rsplit("/", 1)[-1] in _MORE_IS_BETTER else "minimize" for name in self.objectives]

    @property
    def pruner(self) -> str:
        """The pruner that was asked for, or the default."""
        compares = len(self.objectives) == 1 and not self.lightgbm and self.objectives[0] not in COSTS
        return self.options.pruner or ("median" if compares else "none")

    def check(self) -> None:
        """Refuse settings that cannot work together.

        Raises:
            InputError: in one line.
        """
        names, pruner = self.objectives, self.pruner
        if "/" in self.options.study:
            raise InputError(f"--study: expected a name without '/', got {self.options.study!r}")
        if len(set(names)) != len(names) or len(names) > 2:
            raise InputError(f"--objective: expected one metric, or two different ones, got {self.options.objective}")
        for name in names:
            if name not in COSTS and not name.startswith(("val/", "train/")):  # never a test metric
                raise InputError(f"--objective: expected a val/ or train/ metric, {' or '.join(COSTS)}, got {name}")
        if not self.config["data"]["validation"]:
            raise InputError("data.validation: expected a share above 0 to choose settings by, got 0")
        if pruner != "none" and len(names) > 1:
            raise InputError(f"--pruner {pruner}: a Pareto front has no order to prune by, leave --pruner out")
        if pruner != "none" and names[0] in COSTS:
            raise InputError(f"--pruner {pruner}: {names[0]} is only known at the end of a trial")
        if pruner in ("median", "hyperband") and self.lightgbm:
            raise InputError(f"--pruner {pruner} compares epochs and LightGBM has none, use wilcoxon or none")
        if pruner == "wilcoxon" and self.options.folds < _WILCOXON_FOLDS:
            raise InputError(f"--pruner wilcoxon: expected --folds {_WILCOXON_FOLDS} or more, got {self.options.folds}")
        if self.options.sampler == "cmaes" and len(names) > 1:
            raise InputError("--sampler cmaes improves one objective only, use tpe, gp or random for a Pareto front")
        self.make_sampler(0)
        self.make_pruner()

    def make_sampler(self, seed: int) -> BaseSampler:
        """The sampler that was asked for. All its state is in the study, except for the seed.

        Raises:
            InputError: CMA-ES without its package.
        """
        if self.options.sampler == "cmaes":
            try:
                import cmaes  # noqa: F401  # Optuna imports it with the first sample
            except ImportError as error:
                raise InputError(f"--sampler cmaes needs cmaes, in this project's extra [tune] ({error})") from error
        return _SAMPLERS[self.options.sampler](seed)

    def make_pruner(self) -> BasePruner:
        """The pruner.

        Raises:
            InputError: Hyperband without epochs to compare.
        """
        least, epochs = self.options.warmup_epochs, self.config["trainer"]["max_epochs"]
        if self.pruner == "median":
            return MedianPruner(n_warmup_steps=least)
        if self.pruner == "hyperband":
            if not isinstance(epochs, int) or epochs <= max(1, least):
                raise InputError(f"--pruner hyperband: expected max_epochs above --warmup_epochs {least}, got {epochs}")
            return HyperbandPruner(min_resource=max(1, least), max_resource=epochs)
        return WilcoxonPruner() if self.pruner == "wilcoxon" else NopPruner()
