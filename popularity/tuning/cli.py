"""``tune``: the command line of a search, which is that of ``fit`` with the search's own flags."""

from __future__ import annotations

import dataclasses
import multiprocessing
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import torch
import yaml
from lightning.pytorch.cli import LightningArgumentParser
from optuna.trial import FrozenTrial

from popularity.cli import ConfiguredCLI, PopularityCLI
from popularity.errors import InputError
from popularity.tuning.boosting import LightGBM
from popularity.tuning.options import Options, Search, choose_pruner, parse_objectives
from popularity.tuning.report import write_report
from popularity.tuning.space import Space, check_space, holds, load_space
from popularity.tuning.storage import hide_password, open_storage
from popularity.tuning.study import make_pruner, make_sampler, open_study, record
from popularity.tuning.trial import Tables, check_devices, give_songs, with_params
from popularity.tuning.worker import Interrupts, quiet, work

_BOOSTING = "lightgbm"


class TuneCLI(PopularityCLI):
    """Parses a search; nothing is instantiated."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The flags of a fit, of the search and of LightGBM."""
        super().add_arguments_to_parser(parser)
        parser.description = "Search hyper-parameters: the flags of `fit`, and these."
        parser.add_class_arguments(Options, None)
        parser.add_class_arguments(LightGBM, _BOOSTING)

    def instantiate_classes(self) -> None:
        """A search has no model of its own."""


def read_search(argv: Sequence[str]) -> tuple[Search, Space, dict[str, Any] | None]:
    """Parse a command line and check all that can be checked before the first trial.

    Returns:
        The search, its space, and the settings to try first if the config as it stands lies in the space.

    Raises:
        InputError: whatever cannot work.
    """
    cli = TuneCLI(argv, run=False)
    config = yaml.safe_load(cli.parser.dump(cli.config, skip_none=False))
    config.pop("config", None)
    options = Options(**{field.name: config.pop(field.name) for field in dataclasses.fields(Options)})
    boosting = config.pop(_BOOSTING)
    LightGBM(**boosting)
    space = load_space(options.space)
    ours = [key for key in space if key.startswith(f"{_BOOSTING}.")]
    if ours and len(ours) < len(space):
        other = next(key for key in space if key not in ours)
        raise InputError(f"{options.space}: {other}: a space is for the network or for LightGBM, not for both")
    objectives = parse_objectives(options.objective)
    folder = Path(config["log_dir"]) / options.study
    search = Search(
        options=options,
        objectives=tuple(objectives),
        pruner=choose_pruner(options, objectives, lightgbm=bool(ours)),
        config=config,
        lightgbm=boosting if ours else None,
        storage=options.storage or f"sqlite:///{folder / 'study.db'}",
        folder=folder,
        deadline=time.time() + options.timeout if options.timeout is not None else None,
    )
    if not config["data"]["validation"]:
        raise InputError("data.validation 0 leaves no songs to choose settings by: a search needs some")
    make_sampler(search, 0)
    make_pruner(search)
    plain = ConfiguredCLI(config)
    check_devices(plain.trainer)
    if ours:
        check_space(options.space, space, cli.parser, cli.config)
    else:
        check_space(options.space, space, plain.parser, plain.config)
    values = {key: cli.config[key] for key in space}
    return search, space, values if holds(space, values) else None


def tune(search: Search, space: Space, first: dict[str, Any] | None) -> int:
    """Run a search and write its report; the exit code.

    Raises:
        InputError: data that cannot be read, or a study that was begun with other settings.
    """
    datamodule = ConfiguredCLI(search.config).datamodule
    tables: Tables = {}
    for fold in range(search.options.folds):  # data that cannot be split so shall be refused now
        give_songs(datamodule, tables, search.options.folds, fold)
        datamodule.split = None
    (table,) = tables.values()
    wanted = record(search, space, table.fingerprint)
    with open_storage(search.storage, search.options.heartbeat) as storage:
        open_study(search, storage, wanted, first)
    shown = hide_password(search.storage)
    print(f"study:     {search.options.study} in {shown}   (optuna-dashboard {shown})")
    code = 0
    try:
        if search.options.workers == 1:
            work(search)
        else:
            code = run_workers(search)
    except KeyboardInterrupt:
        code = 130
    with open_storage(search.storage, search.options.heartbeat) as storage:
        study = optuna.load_study(study_name=search.options.study, storage=storage.optuna)
        write_report(search, study, lambda trial: best_config(search, trial))
    if code == 130:
        print("stopped: nothing is lost, the same command goes on from here")
    return code


def best_config(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    """What ``fit -c`` (for LightGBM: ``tune -c``) reads to have a trial's settings."""
    if search.lightgbm is None:
        return with_params(search.config, trial.params)
    settings = with_params({_BOOSTING: search.lightgbm}, trial.params)
    return {"data": search.config["data"], **settings}


def run_workers(search: Search) -> int:
    """Run worker processes on this machine until they end; the exit code."""
    # forked from a process that has imported everything but run nothing: importing costs seconds, threads do not fork
    kinds = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in kinds else "spawn")
    if "forkserver" in kinds:
        context.set_forkserver_preload(["popularity.tuning.worker"])
    threads = max(1, torch.get_num_threads() // search.options.workers)
    processes = [
        context.Process(target=_work, args=(search, threads), name=f"worker {index + 1}")
        for index in range(search.options.workers)
    ]
    for process in processes:
        process.start()
    try:
        with Interrupts():
            for process in processes:
                process.join()
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()  # a terminal has told them already; they take a second word for none
            process.join()
        raise
    for process in processes:
        if process.exitcode and process.exitcode < 0:
            print(f"{process.name} was killed by signal {-process.exitcode}; its trial was tried again")
    # a killed worker costs nothing; one that failed has said why
    return max(0, *(process.exitcode or 0 for process in processes))


def _work(search: Search, threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        work(search)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def main(argv: Sequence[str]) -> None:
    """Run ``tune``."""
    with quiet():
        code = tune(*read_search(argv))
    if code:
        sys.exit(code)
