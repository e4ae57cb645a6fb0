"""``report``: a model card of one checkpoint, a page that needs nothing else."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from popularity import __version__
from popularity.data.songs import load_songs
from popularity.errors import InputError
from popularity.inference.checkpoint import fingerprint_of, read_checkpoint
from popularity.inference.explain_model import load_model, load_own_songs
from popularity.io import STANDARD_OUTPUT, check_target
from popularity.parsing import Parser
from popularity.program import program
from popularity.reports import card_facts, card_parts, card_songs
from popularity.reports.pages import part, with_svg, write_page
from popularity.training.baselines import baseline_predictions
from popularity.training.datamodule import PopularityDataModule
from popularity.training.same_data import seen

_FEWEST = 10  # songs that are worth a card


@dataclass(frozen=True)
class Data:
    """Songs to judge the checkpoint on.

    Args:
        source: a file; default: the songs that the fit held out for its test.
        columns: canonical name to column of the file, where the file's names do not say it: ``{title: my_column}``.
        cache_dir: folder for downloads; default: the one of the fit, or the user's cache folder.
    """

    source: str | None = None
    columns: dict[str, str] | None = None
    cache_dir: str | None = None


@dataclass(frozen=True)
class Options:
    """A checkpoint, and what its card tells.

    Args:
        ckpt_path: the checkpoint.
        data: songs to judge it on.
        output: the page to write.
        compared: a folder that ``compare`` wrote on the same songs: metrics by fold are from there.
        model: name of the network in that comparison.
        sample: maximum number of songs that importances rest on.
        shuffles: number of times that each feature is shuffled.
        seed: of shuffles, and of the choice of songs.
    """

    ckpt_path: str
    data: Data = field(default_factory=Data)
    output: str = "card.html"
    compared: str | None = None
    model: str = "mamba"
    sample: int = 500
    shuffles: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("sample", _FEWEST), ("shuffles", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"--{name}: expected at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Songs:
    """Songs that a checkpoint is judged on.

    Attributes:
        test: ``n`` songs.
        where: which songs these are, in words.
        facts: on the file that they are from.
        data_name: the named data set that this is, if it is one.
        baselines: name -> predicted popularity ``(n,)``, where the training songs are at hand.
    """

    test: pd.DataFrame
    where: str
    facts: dict[str, str]
    data_name: str | None
    baselines: dict[str, np.ndarray]


def write_card(options: Options) -> Path:
    """Write the card of a checkpoint; see :class:`Options`.

    Raises:
        InputError: whatever cannot work; nothing is written then.
    """
    check_target(options.output, inputs=[options.ckpt_path, options.data.source])
    checkpoint = read_checkpoint(options.ckpt_path)
    fitted = fingerprint_of(checkpoint)
    check_target(options.output, inputs=[fitted["source"]])
    found = options.compared and card_parts.read_comparison(options.compared, options.model, fitted["sha256"])
    model, data = load_model(options.ckpt_path, options.data.cache_dir)
    songs = songs_to_judge(options, data, fitted)
    _say(options, f"{len(songs.test):,} songs: {songs.where}")
    judged = card_songs.judge(model.module, data, songs.test)
    parts = card_parts.of_songs(judged, songs.baselines)
    if found:
        parts["folds"] = card_parts.by_fold(found, options.model)
    order = np.random.default_rng(options.seed).permutation(len(songs.test))[: options.sample]
    some = songs.test.iloc[order].reset_index(drop=True)
    parts["importance"] = card_parts.importance(model, some, options.shuffles, options.seed)
    examples = card_songs.examples(judged, model.module, data)
    parts["examples"] = part([], *((caption, table, True) for caption, table in examples.items()))
    content = card_facts.file_hash(Path(options.ckpt_path))
    context = {
        "name": Path(options.ckpt_path).name,
        "source": songs.data_name or Path(fitted["source"]).name,
        "trained_on": Path(fitted["source"]).name,
        "checkpoint": content,
        "version": __version__,
        "songs": songs,
        "fitted": fitted,
        "protocol": card_facts.protocol_facts(fitted),
        "model": card_facts.model_facts(model.module, data, checkpoint),
        "compared": found.protocol if found else None,
        "citation": card_facts.citation(content, songs.data_name),
        "parts": with_svg({slug: one for slug, one in parts.items() if one["pictures"] or one["tables"]}),
        "zeros": float((judged.truth == 0).mean()),
    }
    return write_page("card.html.jinja", Path(options.output), context)


def songs_to_judge(options: Options, data: PopularityDataModule, fitted: Mapping[str, Any]) -> Songs:
    """The songs that a fit held out, or those of another file without the songs that the fit was trained on.

    Args:
        options: of the command.
        data: of the checkpoint; loads its songs where they are needed.
        fitted: fingerprint in the checkpoint.

    Raises:
        InputError: a file cannot be read, the fit held out no songs, or has seen nearly all of the file.
    """
    source = options.data.source
    if source is None:
        load_own_songs(options.ckpt_path, data)
        if data.songs("test").empty:
            raise InputError("report: the fit of this checkpoint held out no songs: give --data.source FILE")
        return _held_out(data, str(data.hparams["source"]))
    reading = {**data.reading, "columns": options.data.columns or data.hparams["columns"]}
    table = load_songs(source, deduplicate=data.hparams["deduplicate"], **reading)
    _say(options, *table.report.lines())
    if table.fingerprint == fitted["sha256"] and fitted["folds"]:
        data.table = table
        data.load()
        return _held_out(data, source)
    songs, known = table.songs, seen(data.encoder, table.songs)
    learned = np.zeros(len(songs), bool) if known is None else known
    songs = songs[~learned].reset_index(drop=True)
    if len(songs) < _FEWEST:
        raise InputError(f"{source}: expected at least {_FEWEST} songs that the fit has not seen, got {len(songs)}")
    left_out = f", {learned.sum():,} that the fit has seen left out" if learned.any() else ""
    if known is None:
        left_out = "; this network keeps no list of its training songs, so some may be among them"
    facts = card_facts.data_facts(source, songs, table.report.path)
    return Songs(songs, f"all of {Path(source).name}{left_out}", facts, None, {})


def _held_out(data: PopularityDataModule, source: str) -> Songs:
    assert data.table is not None
    train, test = data.songs("train"), data.songs("test").reset_index(drop=True)
    path = data.table.report.path
    facts = card_facts.data_facts(source, data.table.songs, path)
    name = card_facts.named_set(source, facts["SHA-256 of the file"])
    return Songs(test, "held out by the fit of this checkpoint", facts, name, baseline_predictions(train, test))


def _say(options: Options, *lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr if options.output == STANDARD_OUTPUT else sys.stdout)


def _parser() -> Parser:
    parser = Parser(
        prog=f"{program()} report",
        description="Write a model card: one page on what a trained network is, how good it is, and where it fails.",
    )
    parser.add_class_arguments(Options, None)
    return parser


def main(argv: Sequence[str]) -> None:
    """Run ``report``."""
    config = _parser().parse_args(list(argv))
    given = {one.name: config[one.name] for one in fields(Options)}
    options = Options(**{**given, "data": Data(**vars(config.data))})
    _say(options, f"model card: {write_card(options)}")
