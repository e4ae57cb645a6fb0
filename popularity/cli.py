"""``fit``, ``validate``, ``test`` and ``predict``: LightningCLI with this project's defaults."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from popularity.data.songs import SongTable
from popularity.data.sources import EMBEDDED
from popularity.data.splits import Split
from popularity.errors import InputError, one_line
from popularity.inference.checkpoint import (
    check_complete,
    check_fits,
    check_same_model,
    data_settings,
    fingerprint_of,
    load_data,
    named_checkpoint,
)
from popularity.inference.checkpoint_classes import check_classes
from popularity.inference.verb import add_predict_arguments, check_predict, predict
from popularity.models.scan import forced_implementation
from popularity.parsing.classes import chosen_classes
from popularity.program import Stopped, stopped
from popularity.training.callbacks import RunRecord
from popularity.training.choice import Choice, chosen_before, with_settings
from popularity.training.datamodule import PopularityDataModule
from popularity.training.fit import (
    CLASSES,
    Parser,
    add_fit_arguments,
    apply_choice,
    build_fit,
    loaded_data,
    suit,
)
from popularity.training.instantiate import missing_packages_named, remember
from popularity.training.module import PopularityModule
from popularity.training.processes import together
from popularity.training.quiet import quiet_lightning
from popularity.training.same_data import check_held_out, check_same_data, seen
from popularity.training.scores import describe_data, describe_model, print_scores, say
from popularity.training.trainer import TRAINER_DEFAULTS, check_monitors, check_runs, make_trainer, scoring_trainer

#: Settings of the data that belong to a command, not to a checkpoint.
_OF_THE_COMMAND = ("predict_source", "cache_dir")


class PopularityCLI(LightningCLI):
    """The command line of training and prediction."""

    config: Any
    datamodule: PopularityDataModule
    model: PopularityModule

    def __init__(self, args: Sequence[str]) -> None:
        self.argv, self.checkpoint = list(args), dict[str, Any]()
        self.loaded: tuple[SongTable | None, Split | None] = None, None  # what a choice was made for
        super().__init__(
            PopularityModule,
            PopularityDataModule,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_class=Parser,
            save_config_callback=None,  # `RunRecord` writes it once training starts
            load_from_checkpoint_support=False,  # `remember` stores the hyper-parameters
            args=self.argv,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning's needs no command line
        """The verb that was given, alone: parsers of the others take half a second to make.

        Prediction goes to a file, so that it has no need to return anything.
        """
        verb = self.argv[0]
        more = {"return_predictions"} if verb == "predict" else set()
        return {verb: LightningCLI.subcommands()[verb] | more}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """See `popularity.training.fit`."""
        add_fit_arguments(parser, self.argv)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        # private: no public hook adds a flag to one verb alone
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "predict":
            add_predict_arguments(parser)
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; to score a checkpoint, parse again with the settings that it was trained with underneath."""
        super().parse_arguments(parser, args)
        verb = self.config.subcommand
        config = self.config[verb]
        if not 0 <= int(config.seed_everything) < 2**32:
            raise InputError(
                f"--seed_everything: expected a number from 0 to {2**32 - 1}, got {config.seed_everything}"
            )
        found = named_checkpoint(verb, config)
        if found is None:
            return
        path, self.checkpoint = found
        if verb == "fit":
            check_complete(path, self.checkpoint)
            chosen = chosen_before(config, self.checkpoint["PopularityDataModule"]["chosen"])
            check_same_model(self.checkpoint, with_settings(config, chosen).model.as_dict())
            config.ckpt_path = path
            return
        check_classes(path, self.checkpoint, chosen_classes(args, CLASSES).values())
        saved = {key: value for key, value in data_settings(self.checkpoint).items() if key not in _OF_THE_COMMAND}
        if verb == "predict" or config.data.source not in (EMBEDDED, saved["source"]):
            saved.pop("columns", None)  # names of columns belong to the file that the checkpoint was trained on
        settings = json.dumps({"model": self.checkpoint["hyper_parameters"], "data": saved})
        try:
            super().parse_arguments(parser, [verb, f"--config={settings}", *args[1:]])
        except InputError as error:
            raise InputError(f"{path}: does not go with this command or this version ({error})") from error
        self.config[verb].ckpt_path = path
        # whatever the command line says: a network that never met songs without these columns cannot judge them
        self.config[verb].data.optional_audio = bool(saved.get("optional_audio", False))

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would read the whole checkpoint again, for the settings that are underneath already."""

    def instantiate_classes(self) -> None:
        """Build module, data and Trainer; a fit first chooses what its config leaves open."""
        with missing_packages_named():
            if self.config.subcommand != "fit":
                super().instantiate_classes()
                return
            choice = self._choose()
            self.config.fit = with_settings(self.config.fit, choice.settings)
            # weights must not depend on what was fitted before
            seed_everything(self.config.fit.seed_everything, workers=True, verbose=False)
            super().instantiate_classes()
            apply_choice(choice, self.model, self.datamodule)

    def _choose(self) -> Choice:
        config = self.config.fit
        if self.checkpoint:  # a fit that goes on has chosen already; its calibration is among its weights
            return Choice(chosen_before(config, self.checkpoint["PopularityDataModule"]["chosen"]))
        if config.trainer.fast_dev_run:
            return Choice({"trainer.max_epochs": 1} if config.trainer.max_epochs is None else {})
        data = loaded_data(config)
        self.loaded = data.table, data.split
        assert data.table is not None
        assert data.split is not None
        forced_implementation()
        check_monitors(config)
        if config.trainer.logger in (None, True):
            check_runs(config)
        # settings that cannot work are refused before a fit without held-out songs takes minutes
        build_fit(config, table=data.table, split=data.split, trainer={"logger": False, "enable_checkpointing": False})
        describe_data(data)
        choice = suit(config, data.table, data.split)
        say(*choice.lines())
        return choice

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer with loggers and callbacks that fit the verb, after all input has been checked."""
        verb = str(self.subcommand)
        config, built = self.config[verb], self.config_init[verb]
        built.data.table, built.data.split = self.loaded
        remember(config, built)
        self._check_input(verb, config)
        if verb == "fit":
            record = RunRecord(self._config_text())
            return make_trainer(config, built, checkpoint=config.ckpt_path, callbacks=[record])
        return scoring_trainer(built, verb)

    def _check_input(self, verb: str, config: Any) -> None:
        """Refuse bad input before the Trainer is built: by then nothing was written, and little time is lost."""
        forced_implementation()
        if verb == "fit":
            check_monitors(config)
        if verb == "predict":
            check_predict(config)
        else:
            self.datamodule.load()
        if not self.checkpoint:
            return
        check_fits(config.ckpt_path, self.checkpoint, self.model)
        if verb == "fit":
            check_same_data(fingerprint_of(self.checkpoint), self.datamodule.fingerprint())
        load_data(config.ckpt_path, self.checkpoint, self.datamodule)
        if verb in ("validate", "test"):
            today = self.datamodule.fingerprint()
            check_held_out(fingerprint_of(self.checkpoint), today)
            if verb == "validate" and not today["validation_songs"]:
                raise InputError("validate: the fit of this checkpoint held out no songs to validate on")
            self._tell_seen("validation" if verb == "validate" else "test")

    def _tell_seen(self, part: str) -> None:
        """Say how many songs of another file the fit was trained on."""
        known = seen(self.datamodule.encoder, songs := self.datamodule.songs(part))
        if known is not None and known.any():
            say(f"warning: trained on {known.sum():,} of these {len(songs):,} songs: the scores are too good")

    def _config_text(self) -> str:
        """The config of a fit as YAML; without the checkpoint it was resumed from, so that it repeats the run."""
        settings = yaml.safe_load(self.parser.dump(self.config, skip_none=False))[self.subcommand]
        for key in ("config", "ckpt_path", "weights_only"):
            settings.pop(key, None)
        text: str = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        return text

    def fit(self, **kwargs: Any) -> None:
        """Train; a run that is told to stop says how to go on."""
        if self.checkpoint or self.config.fit.trainer.fast_dev_run:  # otherwise said before something was chosen
            describe_data(self.datamodule)
        describe_model(self.trainer, self.model)
        name = self.config.fit.name
        with (
            interrupts_kept(f"interrupted; go on with the same command and --ckpt_path last (--name {name})"),
            together(self.trainer),
        ):
            self.trainer.fit(**kwargs)

    def after_fit(self) -> None:
        """Test the best checkpoint and print a table, with baselines on the same songs."""
        trainer, config = self.trainer, self.config.fit
        if config.trainer.fast_dev_run or config.trainer.limit_test_batches == 0 or trainer.interrupted:
            return
        checkpoint = trainer.checkpoint_callback
        best = checkpoint.best_model_path if isinstance(checkpoint, ModelCheckpoint) else ""
        tested = config.data.folds != 0
        if tested:
            with together(trainer):
                trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best or None, verbose=False)
        run = trainer.log_dir  # asked for in every process: the first tells the others
        if not trainer.is_global_zero:
            return
        if tested:
            print_scores(self.datamodule, "test", trainer.callback_metrics)
        if best:
            print(f"checkpoint: {best}")
        if run is not None:
            print(f"run:        {run}   (tensorboard --logdir {config.log_dir})")

    def validate(self, **kwargs: Any) -> None:
        """Score the validation songs and print the table of a fit."""
        self._score("validate", **kwargs)

    def test(self, **kwargs: Any) -> None:
        """Score the test songs and print the table of a fit."""
        self._score("test", **kwargs)

    def _score(self, verb: str, **kwargs: Any) -> None:
        describe_data(self.datamodule)
        with together(self.trainer):
            getattr(self.trainer, verb)(**{**kwargs, "verbose": False})
        if self.trainer.is_global_zero:
            print_scores(self.datamodule, verb, self.trainer.callback_metrics)

    def predict(self, **kwargs: Any) -> None:
        """Predict songs with a checkpoint, in parts and without Lightning's loop: see `popularity.inference.verb`."""
        self.model.load_state_dict(self.checkpoint["state_dict"])
        predict(self.config.predict, self.trainer, self.model, self.datamodule)


@contextmanager
def interrupts_kept(message: str | None = None) -> Iterator[None]:
    """Raise what told this process to stop: Lightning ends it with exit code 1, whatever it was.

    Args:
        message: for the user, in place of the exception's own.
    """
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        stop = stopped(end)
        raise Stopped(stop.number, message or str(stop)) from None


def main(argv: Sequence[str]) -> None:
    """Run ``fit``, ``validate``, ``test`` or ``predict``."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("popularity").setLevel(logging.INFO)
    with warnings.catch_warnings():
        quiet_lightning()
        try:
            with interrupts_kept():
                PopularityCLI(argv)
        except MisconfigurationException as error:  # Lightning's word for settings that do not go together
            raise InputError(one_line(str(error))) from error
