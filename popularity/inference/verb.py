"""The verb ``predict``: its flags, what is checked before any work, and the work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from torch import Tensor

from popularity.errors import InputError
from popularity.inference.distribution import parse_cutoffs
from popularity.inference.files import Model, predicted_files, sources
from popularity.inference.one_song import song_table
from popularity.inference.predictions import check_output, write_predictions
from popularity.inference.table import Wanted, has_distribution
from popularity.training.datamodule import PopularityDataModule
from popularity.training.module import PopularityModule

_FLAGS: dict[str, tuple[Any, Any, str]] = {
    "song": (str, None, "One song, as danceability=.8,energy=.7,... in the names and units that files may have."),
    "artist": (str, None, "Artist of this song; several names are separated by ;."),
    "title": (str, None, "Title of this song."),
    "cutoffs": (str, "", "Popularities whose chance to be reached is told, such as 50,70."),
    "reasons": (bool, False, "Tell the three strongest reasons; takes about 20 times as long. Always told of --song."),
    "output": (str, None, "File to write, - for a stream; predictions.csv by default, and the terminal for --song."),
}


def add_predict_arguments(parser: LightningArgumentParser) -> None:
    """Declare the flags that only this verb has."""
    parser.add_argument("--files", nargs="+", type=str, help="Files to predict, patterns, or - for standard input.")
    for name, (kind, default, text) in _FLAGS.items():
        parser.add_argument(f"--{name}", type=kind, default=default, help=text)


def check_predict(config: Any) -> None:
    """Refuse bad input before any work.

    Raises:
        InputError: nothing to predict, or several things; a wrong cut-off or song; an output that cannot be written.
    """
    # not even 1: one batch as a whole number, all of them as a fraction
    if config.trainer.fast_dev_run or config.trainer.limit_predict_batches is not None:
        raise InputError("predict writes a line for every song: it takes no limit on batches, and no fast_dev_run")
    source, files = config.data.predict_source, config.files or []
    given = [flag for flag, value in (("--files", files), ("--data.predict_source", source)) if value]
    given += ["--song"] * (_one_song(config) is not None)
    if not given:
        raise InputError("predict needs songs: give --data.predict_source FILE, --files FILE ..., or one as --song")
    if len(given) > 1:
        raise InputError(f"predict: expected one of {' and '.join(given)}, got {'both' if len(given) == 2 else 'all'}")
    parse_cutoffs(config.cutoffs)
    names = sources([*files, *([source] if source else [])])
    output = _output(config)
    check_output("-" if output is None else output, inputs=[*names, config.ckpt_path])


def predict(config: Any, trainer: Trainer, module: PopularityModule, data: PopularityDataModule) -> None:
    """Predict what the flags name, on the device and in the precision of the Trainer.

    Args:
        config: the flags, checked.
        trainer: says where and how the network runs.
        module: with the weights of the checkpoint.
        data: with the encoder of the checkpoint.

    Raises:
        InputError: a file of songs cannot be read, or cut-offs are asked of a model without a distribution.
    """
    if trainer.num_devices * trainer.num_nodes > 1:
        raise InputError("predict writes one file in the order of the songs: give --trainer.devices 1")
    song = _one_song(config)
    model = Model(module, data, Wanted(parse_cutoffs(config.cutoffs), config.reasons or song is not None))
    if not has_distribution(module):
        print("this model predicts a number and no distribution: intervals are not written", file=sys.stderr)
    _place(trainer, module)
    output = _output(config)
    if output is None and song is not None:
        _show(next(model.tables(song)))
        return
    assert output is not None
    with _progress(config.trainer.enable_progress_bar is not False and song is None) as tell:
        if song is not None:
            tables = model.tables(song)
        else:
            tables = predicted_files(model, sources(config.files or [config.data.predict_source]), tell)
        rows = write_predictions(output, tables)
    told = "standard output" if output == "-" else output
    print(f"{rows:,} prediction{'s' * (rows != 1)} written to {told}", file=sys.stderr)  # not among them: --output -


def _place(trainer: Trainer, module: PopularityModule) -> None:
    """Bring a module to the Trainer's device and precision, for its forward pass alone: songs are encoded as ever."""
    precision = trainer.precision_plugin
    precision.convert_module(module).to(trainer.strategy.root_device).eval()
    forward = module.forward

    def in_context(batch: Mapping[str, Tensor]) -> Tensor:
        with precision.forward_context():
            return forward(batch)

    module.forward = in_context  # type: ignore[method-assign]


def _one_song(config: Any) -> pd.DataFrame | None:
    if config.song is None and config.artist is None and config.title is None:
        return None
    return song_table(config.song or "", artist=config.artist, title=config.title)


def _output(config: Any) -> str | None:
    """Where predictions are written; None for the terminal."""
    if config.output is None and _one_song(config) is None:
        return "predictions.csv"
    return str(config.output) if config.output is not None else None


def _show(table: pd.DataFrame) -> None:
    """Print the prediction of one song, a line for each thing."""
    row = table.iloc[0].dropna()
    for name, value in row[row != ""].items():
        print(f"{str(name).replace('_', ' ')}: {value}")


@contextmanager
def _progress(shown: bool) -> Iterator[Callable[[int], None]]:
    """A counter of songs on standard error: standard output may be the file of predictions."""
    columns = (
        SpinnerColumn(),
        TextColumn("Predicting {task.completed:,.0f} songs, {task.fields[pace]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        task = progress.add_task("", total=None, pace="", visible=False)  # nothing to tell of a file that is refused

        def tell(songs: int) -> None:
            progress.advance(task, songs)
            elapsed = progress.tasks[task].elapsed or 0
            progress.update(
                task, visible=True, pace=f"{progress.tasks[task].completed / max(elapsed, 1e-6):,.0f} a second"
            )

        yield tell
