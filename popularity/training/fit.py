"""From a config to a fit: one parser, and functions that build Trainer, module and data from what it parsed.

The command line, comparisons and searches all build their fits here.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import Namespace
from jsonargparse.typing import restricted_number_type
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.cli import LightningArgumentParser

from popularity import parsing
from popularity.data.songs import SongTable
from popularity.data.splits import Split
from popularity.parsing.classes import chosen_classes
from popularity.training.choice import Choice, Tried, choose, with_settings
from popularity.training.datamodule import PopularityDataModule
from popularity.training.held_out import try_held_out
from popularity.training.instantiate import instantiate
from popularity.training.module import PopularityModule
from popularity.training.quiet import quiet_lightning
from popularity.training.trainer import CALLBACKS, TRAINER_DEFAULTS, make_trainer

#: Settings that hold a class.
CLASSES = ("model.net", "model.head", "data.encoder")
_DEFAULTS: dict[str, Any] = {
    "checkpoint.monitor": "val/mse",
    "checkpoint.filename": "best",
    "checkpoint.enable_version_counter": False,
    "early_stopping.monitor": "val/mse",
    "early_stopping.patience": 15,
    "early_stopping.strict": False,  # --trainer.max_steps may end a run before its first validation
}
#: Of the training songs.
Share = restricted_number_type("Share", float, [(">", 0), ("<=", 0.5)])
#: Of a fit that holds no songs back for validation, and leaves nothing behind.
_TO_ALL = {"data.validation": 0, "plots.every_n_epochs": 0}
_QUIETLY = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
#: How a fit suits itself to its songs (`popularity.training.choice`): name, type, default, help.
_CHOICE: tuple[tuple[str, Any, Any, str], ...] = (
    (
        "members",
        bool,
        True,
        "Keep one member alone where held-out songs show it clearly better than the mean.",
    ),
    ("calibrate", bool, True, "Correct predictions by what held-out songs showed."),
    ("share", Share, 0.2, "Share of the training songs, half at most, that is held out to choose and calibrate by."),
)


class Parser(parsing.Parser, LightningArgumentParser):
    """Lightning's parser, which refuses in one line."""


def _members(net: Any) -> int:
    """Members of a network that read tokens, given its config: training samples a history for each."""
    return max(1, int((net.get("init_args") or {}).get("members", 1)))


def add_fit_arguments(parser: LightningArgumentParser, argv: Sequence[str]) -> None:
    """Declare what a fit has beside Trainer, module and data: where runs go, callbacks, and links.

    Args:
        parser: to declare them in.
        argv: what it will parse; the classes chosen there bring their own defaults.
    """
    parser.add_argument("--name", type=str, default="mamba", help="Runs go to LOG_DIR/NAME/version_N.")
    parser.add_argument("--log_dir", type=str, default="lightning_logs", help="Folder of all runs.")
    for name, kind_of, default, told in _CHOICE:
        parser.add_argument(f"--choice.{name}", type=kind_of, default=default, help=told)
    for key, kind in CALLBACKS.items():
        parser.add_lightning_class_args(kind, key)
    parser.set_defaults(_DEFAULTS)
    parser.set_defaults({key: {"class_path": name} for key, name in chosen_classes(argv, CLASSES).items()})
    parser.link_arguments("model.net", "data.samples", compute_fn=_members)
    parser.link_arguments("data.inputs", "model.inputs", apply_on="instantiate")


def fit_parser(argv: Sequence[str] = ()) -> Parser:
    """A parser of everything that a fit takes, without a verb, for a command line."""
    parser = Parser()
    parser.add_argument("-c", "--config", action="config", help="Config file or name of a shipped config.")
    parser.add_argument("--seed_everything", type=int, default=0, help="Seed of weights, dropout and histories.")
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.set_defaults({f"trainer.{key}": value for key, value in TRAINER_DEFAULTS.items()})
    parser.add_lightning_class_args(PopularityModule, "model")
    parser.add_lightning_class_args(PopularityDataModule, "data")
    add_fit_arguments(parser, argv)
    parser.add_optimizer_args()
    parser.add_lr_scheduler_args()
    return parser


@cache
def shared_parser(*classes: tuple[str, str]) -> Parser:
    """A parser of :func:`fit_parser`, made once: comparisons and searches read and build hundreds of configs.

    Args:
        classes: the pairs of :func:`chosen_classes`.
    """
    return fit_parser([f"--{key}={name}" for key, name in classes])


def read_config(files: Sequence[str | Path] = (), settings: Mapping[str, Any] | None = None) -> Namespace:
    """The config of a fit: defaults, config files layered over them, then single settings.

    Args:
        files: paths of YAML files, or names of shipped configs such as ``mamba`` or ``ablations/no_history``.
        settings: dotted names to values, such as ``{"model.net.width": 64, "data.split": "artist"}``.

    Raises:
        InputError: a file, a name or a value is wrong, in one line.
    """
    arguments = [f"--config={parsing.resolve_config(str(file))}" for file in files]
    for name, value in (settings or {}).items():
        arguments.append(f"--{name}={value if isinstance(value, str) else json.dumps(value)}")
    with warnings.catch_warnings():
        quiet_lightning()
        return shared_parser(*chosen_classes(arguments, CLASSES).items()).parse_args(arguments)


@dataclass(frozen=True)
class Fit:
    """A fit that is ready to run.

    Attributes:
        config: what it was built from.
        trainer: with its callbacks and loggers.
        module: the LightningModule.
        datamodule: the data.
    """

    config: Namespace
    trainer: Trainer
    module: PopularityModule
    datamodule: PopularityDataModule

    def run(self, ckpt_path: str | Path | None = None) -> None:
        """Train, from the start or from a checkpoint."""
        with warnings.catch_warnings():
            quiet_lightning()
            self.trainer.fit(self.module, datamodule=self.datamodule, ckpt_path=ckpt_path)


def build_fit(
    config: Namespace,
    *,
    table: SongTable | None = None,
    split: Split | None = None,
    callbacks: Sequence[Callback] = (),
    trainer: Mapping[str, Any] | None = None,
) -> Fit:
    """Build the objects of a fit; also seeds all random number generators.

    Args:
        config: from :func:`read_config`.
        table: songs that were loaded already.
        split: of these songs; by default the config's.
        callbacks: further callbacks.
        trainer: arguments of the Trainer that override the config, such as ``{"logger": False}``.

    Raises:
        InputError: settings that do not go together.
    """
    with warnings.catch_warnings():
        quiet_lightning()
        seed_everything(config.seed_everything, workers=True, verbose=False)
        built = instantiate(shared_parser(), config)
        built.data.table, built.data.split = table, split
        made = make_trainer(config, built, callbacks=callbacks, overrides=trainer)
    return Fit(config, made, built.model, built.data)


def suited_fit(config: Namespace, table: SongTable, split: Split, *, trainer: Mapping[str, Any] | None = None) -> Fit:
    """Choose what a config leaves open for these songs, and build the fit: what the command ``fit`` does.

    Args:
        config: from :func:`read_config`.
        table: songs.
        split: of them.
        trainer: arguments of the Trainer that override the config.
    """
    choice = suit(config, table, split, trainer)
    fit = build_fit(with_settings(config, choice.settings), table=table, split=split, trainer=trainer)
    apply_choice(choice, fit.module, fit.datamodule)
    return fit


def fit_to_all(files: Sequence[str | Path], settings: Mapping[str, Any], table: SongTable) -> Fit:
    """Fit to all songs of a table, to the last epoch, and leave no file behind.

    Args:
        files: as of :func:`read_config`.
        settings: likewise.
        table: songs with popularity.
    """
    config = read_config(files, {**settings, **_TO_ALL})
    rows = np.arange(len(table.songs))
    with tempfile.TemporaryDirectory() as folder:
        trainer = {**_QUIETLY, "limit_val_batches": 0, "default_root_dir": folder}
        fit = suited_fit(config, table, Split(rows, rows[:0], rows[:0]), trainer=trainer)
        fit.run()
    return fit


def loaded_data(config: Namespace) -> PopularityDataModule:
    """The data of a config, loaded and split, without an encoder of its own."""
    settings = {key: value for key, value in config.data.as_dict().items() if key != "encoder"}
    data = PopularityDataModule(**settings)
    data.prepare_data()
    data.load()
    return data


def suit(config: Namespace, table: SongTable, split: Split, trainer: Mapping[str, Any] | None = None) -> Choice:
    """Choose what a config leaves open for these songs, by a fit without some of them, in this process, on one device.

    Args:
        config: of the fit.
        table: songs.
        split: of them; only the training songs are used.
        trainer: arguments of the Trainer that override the config.
    """
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "limit_val_batches": 0,
        "devices": 1,
        "num_nodes": 1,
    }
    quiet |= {"strategy": "auto", "plugins": None, "callbacks": None, "default_root_dir": tempfile.gettempdir()}
    settings = {**(trainer or {}), **quiet}

    def fit_without(config: Namespace, rows: Split) -> Tried:
        fit = build_fit(with_settings(config, {"plots.every_n_epochs": 0}), table=table, split=rows, trainer=settings)
        fit.run()
        data, songs = fit.datamodule, fit.datamodule.songs("validation")
        kind, seed, samples = config.data.split, config.data.split_seed, int(data.hparams["samples"])
        return try_held_out(fit.module, data.encoder, songs, kind, samples=samples, seed=seed)

    return choose(config, table.songs, split, fit_without)


def apply_choice(choice: Choice, module: PopularityModule, datamodule: PopularityDataModule) -> None:
    """Give a module its calibration; the data remember what was chosen, for a fit that goes on."""
    if choice.calibration is not None:
        module.calibration.load_state_dict(choice.calibration.state_dict())
    datamodule.chosen = dict(choice.settings)
