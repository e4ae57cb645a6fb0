"""``fit``, ``validate``, ``test`` and ``predict``: LightningCLI with this project's defaults."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from popularity import parsing
from popularity.errors import InputError
from popularity.inference.checkpoint import check_fits, read_checkpoint
from popularity.inference.predictions import write_predictions
from popularity.io import check_folder, check_target
from popularity.parsing import one_line
from popularity.training.callbacks import (
    EMA,
    Checkpoints,
    DataRecord,
    Figures,
    HyperParameters,
    Progress,
    RandomState,
    ResumedLog,
)
from popularity.training.checks import check_held_out, check_same_data, check_same_model
from popularity.training.datamodule import PopularityDataModule
from popularity.training.loggers import AppendingCSVLogger, last_checkpoint, run_version
from popularity.training.module import PopularityModule
from popularity.training.profiler import NoProfiler
from popularity.training.scores import print_scores

#: Verbs that read a checkpoint's data settings, so that the checkpoint alone says which songs it was not trained on.
_SCORING = ("validate", "test")


class Parser(parsing.Parser, LightningArgumentParser):
    """Lightning's parser, which refuses in one line."""


class PopularityCLI(LightningCLI):
    """The command line of training and prediction."""

    def __init__(self, args: Sequence[str] | None = None, *, run: bool = True) -> None:
        super().__init__(
            PopularityModule,
            PopularityDataModule,
            trainer_class=Trainer,
            # our batches share themselves out over processes, without padding
            trainer_defaults={"use_distributed_sampler": False, "max_epochs": 40, "gradient_clip_val": 1.0},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_class=Parser,
            save_config_kwargs={"overwrite": True},
            args=list(args) if args is not None else None,
            run=run,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's own verbs; prediction goes to a file, so that it has no need to return anything."""
        verbs = LightningCLI.subcommands()
        verbs["predict"] = verbs["predict"] | {"return_predictions"}
        return verbs

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Where runs go, and the callbacks that are always there."""
        parser.add_argument("--name", type=str, default="popularity", help="Runs go to LOG_DIR/NAME/version_N.")
        parser.add_argument("--log_dir", type=str, default="lightning_logs", help="Folder of all runs.")
        parser.add_lightning_class_args(Checkpoints, "checkpoint")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.add_lightning_class_args(EMA, "ema")
        parser.add_lightning_class_args(Figures, "figures")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/mse",
                "checkpoint.filename": "best",
                "checkpoint.save_last": True,
                "checkpoint.enable_version_counter": False,
                "early_stopping.monitor": "val/mse",
                "early_stopping.patience": 20,
                "early_stopping.strict": False,  # --trainer.max_steps may end a run before its first validation
            }
        )

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "predict":
            parser.add_argument("--output", type=str, default="predictions.csv", help="CSV file to write.")
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; to score a checkpoint, parse again with the data settings it was trained with as defaults."""
        super().parse_arguments(parser, args)
        verb = self.config.get("subcommand")
        if verb is None:
            return
        config = self.config[verb]
        if config.get("ckpt_path") == "last":
            config["ckpt_path"] = str(last_checkpoint(Path(config["log_dir"]) / config["name"]))
        path = config.get("ckpt_path")
        if path is None:
            if verb in ("test", "predict"):
                raise InputError(f"{verb} needs a trained model: give --ckpt_path CHECKPOINT")
            return
        if path == "best" or str(path).startswith("hpc"):
            raise InputError(f"--ckpt_path {path}: expected a file, or `last` for the newest run of --name")
        self.checkpoint = read_checkpoint(path)
        if verb == "fit":
            check_same_model(self.checkpoint, config["model"])
        if verb in _SCORING:
            saved = self.checkpoint.get("datamodule_hyper_parameters", {})
            settings = {k: v for k, v in saved.items() if k not in ("_instantiator", "predict_source", "cache_dir")}
            try:
                self._subcommand_parsers[verb].set_defaults({f"data.{k}": v for k, v in settings.items()})
            except KeyError as error:
                raise InputError(f"{path}: written by another version of this project ({error.args[0]})") from error
            super().parse_arguments(parser, args)
            self.config[verb]["ckpt_path"] = path

    def _parse_ckpt_path(self) -> None:
        try:
            super()._parse_ckpt_path()
        except InputError as error:
            path = self.config[self.config["subcommand"]]["ckpt_path"]
            raise InputError(f"{path}: written by another version of this project ({error})") from error

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise InputError(f"--seed_everything: {error}") from error

    def _check_input(self, verb: str) -> None:
        """Meet bad input before the Trainer is built: while there is no run's folder, and in a fraction of the time."""
        if verb == "predict":
            check_target(Path(self._get(self.config, "output")))
        if verb == "fit":
            for key in ("checkpoint.monitor", "early_stopping.monitor"):
                monitor, known = self._get(self.config, key), list(self.model.val_metrics.keys())
                if monitor is not None and monitor not in known:
                    raise InputError(f"--{key}: expected one of {', '.join(known)}, got {monitor}")
            several = self._get(self.config, "checkpoint.save_top_k") not in (0, 1)
            if several and "{" not in (self._get(self.config, "checkpoint.filename") or "{epoch}"):
                raise InputError(
                    "--checkpoint.save_top_k: several checkpoints of one name take each other's place; "
                    "add --checkpoint.filename 'best-{epoch}'"
                )
        self.datamodule.setup(verb)
        path = self._get(self.config, "ckpt_path")
        if path is not None:
            check_fits(path, self.checkpoint, self.model)
            if verb == "fit":
                check_same_data(self.checkpoint, self.datamodule.fingerprint())
            elif verb in _SCORING:
                check_held_out(self.checkpoint, self.datamodule.fingerprint())

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer with loggers and callbacks that fit the verb."""
        config = self._get(self.config_init, "trainer")
        verb = self.subcommand or "fit"
        self._check_input(verb)
        if config["default_root_dir"] is None and verb == "fit":
            # without a logger a run must not write into the folder that one happens to be in
            kwargs["default_root_dir"] = str(Path(self._get(self.config, "log_dir")) / self._get(self.config, "name"))
        if verb == "predict" and config["devices"] == "auto":
            kwargs["devices"] = 1  # one file, written in the order of the songs
        if config["logger"] in (None, True) and not config["fast_dev_run"]:
            kwargs["logger"] = self._loggers() if verb == "fit" else False
        if config["profiler"] is None:
            kwargs["profiler"] = NoProfiler()
        extra: list[Callback] = [RandomState(), DataRecord(), ResumedLog(), HyperParameters()]
        if kwargs.get("logger", config["logger"]) or config["fast_dev_run"]:
            extra.append(LearningRateMonitor(logging_interval="step"))
        if config["enable_progress_bar"] is not False:
            extra.append(Progress(refresh_rate=10))  # drawing after each batch would cost as much as training
        keys = list(self._parser(self.subcommand).callback_keys)
        if verb != "fit":
            extra, keys = [callback for callback in extra if isinstance(callback, Progress)], []
            kwargs["enable_checkpointing"] = False
        elif self.datamodule.hparams["validation"] == 0 or config["limit_val_batches"] == 0:
            # nothing to monitor: the last epoch is the model, and nothing stops early
            keys.remove("early_stopping")
            self._get(self.config_init, "checkpoint").monitor = None
        callbacks = [self._get(self.config_init, key) for key in keys]
        if config["fast_dev_run"]:
            kwargs["enable_checkpointing"] = False  # Lightning would leave a last.ckpt behind
        if config["enable_checkpointing"] is False or config["fast_dev_run"]:
            callbacks = [callback for callback in callbacks if not isinstance(callback, ModelCheckpoint)]
        self.save_config_callback = self.save_config_callback if verb == "fit" else None
        try:
            return self._instantiate_trainer({**config, **kwargs}, callbacks + extra)
        except (MisconfigurationException, ValueError, TypeError) as error:  # what Lightning says of its flags
            raise InputError(f"--trainer: {one_line(str(error))}") from error

    def _loggers(self) -> list[Logger]:
        """TensorBoard and CSV in one folder: a new version, or that of the checkpoint that the fit goes on from."""
        folder, name = self._get(self.config, "log_dir"), self._get(self.config, "name")
        check_folder(Path(folder) / name)
        checkpoint = self._get(self.config, "ckpt_path")
        version = run_version(Path(checkpoint), Path(folder) / name) if checkpoint else None
        tensorboard = TensorBoardLogger(folder, name, version=version, default_hp_metric=False)
        return [tensorboard, AppendingCSVLogger(folder, name, version=tensorboard.version)]

    def after_fit(self) -> None:
        """Test the best checkpoint and print a table, with baselines on the same songs."""
        trainer, datamodule = self.trainer, self.datamodule
        flags = self._get(self.config, "trainer")
        if flags["fast_dev_run"] or flags["limit_test_batches"] == 0 or trainer.interrupted:
            return
        checkpoint = trainer.checkpoint_callback
        best = checkpoint.best_model_path if isinstance(checkpoint, ModelCheckpoint) else ""
        trainer.test(self.model, datamodule=datamodule, ckpt_path="best" if best else None, verbose=False)
        run = trainer.log_dir  # asked for in every process: the first tells the others
        if trainer.is_global_zero:
            scores = {name: value.item() for name, value in trainer.callback_metrics.items()}
            print_scores(datamodule, "Mamba", scores)
            if best:
                print(f"checkpoint: {best}")
            if run is not None:
                print(f"run:        {run}   (tensorboard --logdir {self._get(self.config, 'log_dir')})")

    def predict(self, **kwargs: Any) -> None:
        """Predict the songs of ``data.predict_source`` with a checkpoint and write them to ``output``."""
        output = Path(self._get(self.config, "output"))
        if self.trainer.num_devices * self.trainer.num_nodes > 1:
            raise InputError("predict writes one file in the order of the songs: give --trainer.devices 1")
        batches = self.trainer.predict(self.model, datamodule=self.datamodule, ckpt_path=kwargs["ckpt_path"])
        assert batches is not None
        assert self.datamodule.predict_table is not None
        prediction = torch.cat([torch.as_tensor(batch) for batch in batches]).float().numpy()
        write_predictions(output, self.datamodule.predict_table.songs, prediction)
        print(f"{len(prediction):,} predictions written to {output}")


class ConfiguredCLI(PopularityCLI):
    """The classes of a fit, made afresh from a config. Instantiating twice in one CLI would leave stale settings.

    Args:
        config: settings of the fit, nested.
        give_songs: sets table and split of the data module, whose own source is not looked at then.
    """

    def __init__(
        self, config: dict[str, Any], give_songs: Callable[[PopularityDataModule], None] | None = None
    ) -> None:
        self._given, self._give_songs = config, give_songs
        super().__init__([], run=False)

    def _check_input(self, verb: str) -> None:
        if self._give_songs is not None:
            self._give_songs(self.datamodule)
        super()._check_input(verb)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Take the config that was given."""
        self.config: Namespace = parser.parse_object(copy.deepcopy(self._given))


def quiet_lightning() -> None:
    """Leave out what Lightning says of things that are meant here, and nothing else."""
    for message in (
        "LightningCLI's args parameter",  # the front door passes what stands on the command line
        r".*does not have many workers",  # batches are slices of tensors in memory
        r"The number of training batches",  # small data sets have few batches
        r"Total length of `list` across ranks is zero",  # data.validation 0: there is nothing to validate
        r"Checkpoint directory .* exists and is not empty",
        r"Be aware that when using `ckpt_path`, callbacks",  # to score a checkpoint needs no callbacks
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # between Lightning and torch
        r"(?s).*(was deprecated in v4|JsonargparseDeprecationWarning)",  # lightning 2.6 calls jsonargparse 4 as it was
    ):
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
    # an advertisement that Lightning prints at each start
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )


def main(argv: Sequence[str]) -> None:
    """Run ``fit``, ``validate``, ``test`` or ``predict``."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("popularity").setLevel(logging.INFO)
    with warnings.catch_warnings():
        quiet_lightning()
        try:
            PopularityCLI(argv)
        except MisconfigurationException as error:  # Lightning's word for settings that do not go together
            raise InputError(one_line(str(error))) from error
