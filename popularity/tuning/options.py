"""What a search is asked for, in plain types that travel to its worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from popularity.errors import InputError

SamplerName = Literal["tpe", "random", "cmaes", "gp"]
PrunerName = Literal["median", "hyperband", "wilcoxon", "none"]

#: Metrics of which more is better; of all others less is.
_MORE_IS_BETTER = ("r2", "spearman", "pearson")
#: Objectives that are no logged metric: training seconds and size of the model (weights, or leaves of the trees).
COSTS = ("seconds", "parameters")
#: With fewer folds the signed-rank test cannot say "worse" before the last: 4 worse folds of 4 give p = 1/16.
_WILCOXON_FOLDS = 5


@dataclass(frozen=True)
class Options:
    """A search.

    Args:
        space: YAML file that maps config keys to Optuna distributions.
        trials: how many trials the study shall hold in the end, those of earlier and other processes included.
        study: name of the study; its results go to LOG_DIR/STUDY.
        storage: where the study lives: a URL of SQLite or PostgreSQL, or a file ``*.log`` for Optuna's journal.
            Default: SQLite in LOG_DIR/STUDY/study.db.
        objective: logged metric to improve, or two for a Pareto front, with a comma between. ``seconds`` (of training)
            and ``parameters`` (their number) count as metrics. Correlations and r2 are maximised, others minimised;
            ``:min`` or ``:max`` after the name says otherwise.
        folds: above 1, a trial is the mean over this many folds of the songs that are not test songs.
        sampler: ``tpe``, ``random``, ``cmaes`` or ``gp``.
        pruner: ``median`` or ``hyperband`` compare epochs (of the first fold), ``wilcoxon`` compares folds. Default:
            ``median`` for one objective and a network, else ``none``.
        warmup_epochs: epochs before a trial may be pruned.
        timeout: seconds after which no new trial begins.
        workers: processes on this machine, which share its cores.
        heartbeat: seconds between signs of life of a trial; after four missed ones it counts as lost and is
            tried again.
    """

    space: str
    trials: int = 100
    study: str = "tune"
    storage: str | None = None
    objective: str = "val/mse"
    folds: int = 1
    sampler: SamplerName = "tpe"
    pruner: PrunerName | None = None
    warmup_epochs: int = 5
    timeout: float | None = None
    workers: int = 1
    heartbeat: int = 15

    def __post_init__(self) -> None:
        for name in ("trials", "folds", "workers", "heartbeat"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1, got {getattr(self, name)}")
        if self.warmup_epochs < 0:
            raise InputError(f"--warmup_epochs must be at least 0, got {self.warmup_epochs}")
        if self.timeout is not None and not self.timeout > 0:
            raise InputError(f"--timeout must be above 0 seconds, got {self.timeout}")
        if not self.study or "/" in self.study:
            raise InputError(f"--study must be a name without '/', got {self.study!r}")


@dataclass(frozen=True)
class Objective:
    """What a search improves."""

    name: str
    direction: Literal["minimize", "maximize"]


def parse_objectives(text: str) -> list[Objective]:
    """``val/mse`` or ``val/mse,parameters`` or ``val/coverage:max``.

    >>> parse_objectives("val/r2, seconds")
    [Objective(name='val/r2', direction='maximize'), Objective(name='seconds', direction='minimize')]
    """
    found = []
    for part in text.split(","):
        name, _, direction = part.strip().partition(":")
        if name not in COSTS and not name.startswith(("val/", "train/")):
            raise InputError(
                f"--objective {text}: expected a logged metric such as val/mse, or {' or '.join(COSTS)}, got {name!r}"
                + (": a search must not look at test songs" if name.startswith("test/") else "")
            )
        if direction not in ("", "min", "max"):
            raise InputError(f"--objective {text}: expected :min or :max after {name}, got :{direction}")
        more = direction == "max" or (not direction and name.rsplit("/", 1)[-1] in _MORE_IS_BETTER)
        found.append(Objective(name, "maximize" if more else "minimize"))
    if len(found) > 2 or len({objective.name for objective in found}) < len(found):
        raise InputError(f"--objective {text}: expected one metric, or two different ones for a Pareto front")
    return found


@dataclass(frozen=True)
class Search:
    """All that a worker needs to know; picklable.

    Attributes:
        options: as given.
        objectives: one or two.
        pruner: chosen, by the user or by default.
        config: the settings of the fit, nested, as YAML would hold them.
        lightgbm: its settings where the search is for LightGBM, else None.
        storage: text that :func:`~popularity.tuning.storage.open_storage` reads.
        folder: where results go.
        deadline: ``time.time()`` after which no trial begins.
    """

    options: Options
    objectives: tuple[Objective, ...]
    pruner: PrunerName
    config: dict[str, Any]
    lightgbm: dict[str, Any] | None
    storage: str
    folder: Path
    deadline: float | None = None


def choose_pruner(options: Options, objectives: list[Objective], *, lightgbm: bool) -> PrunerName:
    """The pruner that was asked for, if it can work here, or the default."""
    if options.pruner in (None, "none"):
        fits = options.pruner is None and len(objectives) == 1 and not lightgbm and objectives[0].name not in COSTS
        return "median" if fits else "none"
    assert options.pruner is not None
    if len(objectives) > 1:
        raise InputError(f"--pruner {options.pruner}: a Pareto front has no order to prune by; leave --pruner out")
    if objectives[0].name in COSTS:
        raise InputError(f"--pruner {options.pruner}: {objectives[0].name} is known at the end of a trial only")
    if options.pruner == "wilcoxon":
        if options.folds < _WILCOXON_FOLDS:
            raise InputError(
                f"--pruner wilcoxon needs --folds {_WILCOXON_FOLDS} or more to say anything before the last fold, "
                f"got {options.folds}"
            )
    elif lightgbm:
        raise InputError(f"--pruner {options.pruner} compares epochs, and LightGBM has none; use wilcoxon or none")
    return options.pruner
