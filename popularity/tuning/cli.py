"""``tune``: the command line of a search, which is that of ``fit`` with the search's own flags."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

import optuna
import yaml
from lightning.pytorch.cli import LightningArgumentParser

from popularity.cli import ConfiguredCLI, PopularityCLI
from popularity.errors import InputError
from popularity.parsing import one_line
from popularity.tuning.boosting import settings as lightgbm_settings
from popularity.tuning.fits import check_devices, with_params
from popularity.tuning.options import Options, Search
from popularity.tuning.report import write_report
from popularity.tuning.space import contains, edges, load_space
from popularity.tuning.storage import hide_password, open_storage
from popularity.tuning.study import begin_study, queue_lost_trials
from popularity.tuning.trial import search_songs
from popularity.tuning.worker import quiet, run_workers, work


class TuneCLI(PopularityCLI):
    """Parses a search; nothing is instantiated."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The flags of a fit, of the search and of LightGBM."""
        super().add_arguments_to_parser(parser)
        parser.description = "Search hyper-parameters: the flags of `fit`, and these."
        parser.add_class_arguments(Options, None)

    def instantiate_classes(self) -> None:
        """A search has no model of its own."""


def read_search(argv: Sequence[str]) -> tuple[Search, dict[str, Any] | None]:
    """Parse a command line and check all that can be checked before the first trial.

    Returns:
        The search, and the settings to try first if the config as it stands lies in the space.

    Raises:
        InputError: whatever cannot work.
    """
    cli = TuneCLI(argv, run=False)
    config = yaml.safe_load(cli.parser.dump(cli.config, skip_none=False))
    config.pop("config", None)
    options = Options(**{field.name: config.pop(field.name) for field in dataclasses.fields(Options)})
    search = Search(options, config, load_space(options.space), time.time() + options.timeout)
    search.check()
    plain = ConfiguredCLI(config)
    check_devices(plain.trainer)
    for key, distribution in search.space.items():
        for value in edges(distribution):
            try:
                if search.lightgbm:
                    lightgbm_settings(search, {key: value})
                else:
                    varied = plain.config.clone()
                    varied[key] = value
                    plain.parser.instantiate_classes(plain.parser.parse_object(varied))
            except (InputError, ValueError, TypeError, KeyError) as error:
                raise InputError(f"{options.space}: {key} = {value!r}: {one_line(str(error))}") from error
    if search.lightgbm:
        settings = lightgbm_settings(search, {})
        values = {key: settings[key.removeprefix("lightgbm.")] for key in search.space}
    else:
        values = {key: plain.config[key] for key in search.space}
    return search, values if contains(search.space, values) else None


def tune(search: Search, first: dict[str, Any] | None) -> int:
    """Run a search and write its report; the exit code.

    Raises:
        InputError: data that cannot be read, or a study that was begun with other settings.
    """
    table, _ = search_songs(search)
    with open_storage(search.storage, search.options.heartbeat) as storage:
        begin_study(search, storage, table.fingerprint, first)
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
        with storage.lock:
            queue_lost_trials(study)
        write_report(search, study, lambda trial: best_config(search, trial.params))
    return code


def best_config(search: Search, params: dict[str, Any]) -> dict[str, Any]:
    """What ``fit -c`` (for LightGBM: ``tune -c``) reads to have a trial's settings."""
    if search.lightgbm:
        settings = {key.removeprefix("lightgbm."): value for key, value in params.items()}
        return {"data": search.config["data"], "lightgbm": {**search.options.lightgbm, **settings}}
    return with_params(search.config, params)


def main(argv: Sequence[str]) -> None:
    """Run ``tune``."""
    with quiet():
        code = tune(*read_search(argv))
    if code == 130:
        print(f"stopped: nothing is lost. Continue with: python -m popularity tune {shlex.join(argv)}")
    if code:
        sys.exit(code)
