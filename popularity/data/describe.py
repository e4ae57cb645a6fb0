"""`python -m popularity data NAME_OR_PATH`: what the loader understands of a file, before anything is trained on it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from popularity.data.albums import first_artists
from popularity.data.credits import known_names
from popularity.data.report import LoadReport
from popularity.data.songs import NoPopularity, SongTable, load_songs
from popularity.data.sources import NAMES
from popularity.data.splits import SplitKind, check_fold, make_split
from popularity.errors import InputError
from popularity.parsing import Parser
from popularity.program import program

_BAR = 40  # characters of the longest bar of the histogram


def main(argv: list[str]) -> None:
    """Load what the command line names and print the report.

    Args:
        argv: the arguments after the verb.

    Raises:
        InputError: wrong arguments, or a source that cannot be loaded.
    """
    options = _parser().parse_args(argv)
    check_fold(options.folds, options.fold, options.seed, options.validation)
    # Names in a file may look like markup.
    console = Console(markup=False, emoji=False, highlight=False)
    reading = {name: getattr(options, name) for name in ("cache_dir", "columns", "optional_audio")}
    load = partial(load_songs, options.source, **reading)
    if options.without_popularity:
        table = load(deduplicate=False, need_popularity=False)
    else:
        try:
            table = load()
        except NoPopularity as error:
            table = load(deduplicate=False, need_popularity=False)
            console.print(f"a file to predict, not to learn from: {error}", soft_wrap=True)
    folds = {name: getattr(options, name) for name in ("folds", "fold", "seed", "validation")}
    print_report(table, console, **folds)


def _parser() -> Parser:
    parser = Parser(prog=f"{program()} data", description="Print what the loader understands of a table of songs.")
    parser.add_argument("source", type=str, help=f"one of {', '.join(NAMES)}, or the path of a file or folder")
    parser.add_argument(
        "--columns", type=dict[str, str] | None, help="'{popularity: my_column, ...}' where names differ"
    )
    parser.add_argument("--cache_dir", type=Path | None, help="folder for downloads")
    parser.add_argument("--optional_audio", type=bool, default=False, help="true: audio columns may be missing")
    parser.add_argument("--folds", type=int, default=5, help="number of folds")
    parser.add_argument("--fold", type=int, default=0, help="the fold whose sizes are shown")
    parser.add_argument("--seed", type=int, default=0, help="seed of the splits")
    parser.add_argument("--validation", type=float, default=0.1, help="share of the training songs to validate on")
    parser.add_argument("--without_popularity", action="store_true", help="read the file as for prediction")
    return parser


def print_report(
    table: SongTable, console: Console, *, folds: int = 5, fold: int = 0, seed: int = 0, validation: float = 0.1
) -> None:
    """Print rows, columns, values, what was left out, duplicates, artists, popularity and the sizes of the five splits.

    Args:
        table: what `load_songs` gave.
        console: where to print; its markup should be off.
        folds: as for `popularity.data.splits.make_split`, like the rest.
        fold: the fold that is held out.
        seed: of the folds.
        validation: share of the training songs that validate.
    """
    report, songs = table.report, table.songs
    console.print(f"{report.path} ({report.form})", soft_wrap=True)
    console.print(f"{report.rows:,} rows, {report.songs:,} songs, content {table.fingerprint[:12]}")
    console.print(_columns(report))
    unused: dict[str, list[str]] = {}
    for column, why in report.ignored:
        unused.setdefault(why, []).append(repr(column))
    lines = {
        "absent": ", ".join(report.absent),
        "not used": "; ".join(f"{', '.join(columns)} ({why})" for why, columns in unused.items()),
        "dropped as leaks": ", ".join(f"{column!r} ({leak})" for column, leak in report.leaks),
        "left out": ", ".join(str(left) for left in report.left_out),
        "cells not read": "; ".join(str(unread) for unread in report.unread),
        "duplicates removed": ", ".join(f"{count:,} {rule}" for rule, count in report.duplicates.items())
        + report.differing,
        **({"songs without an artist": str(report.nameless)} if report.nameless else {}),
    }
    for name, line in lines.items():
        console.print(f"{name}: {line or 'none'}", soft_wrap=True)
    console.print(f"artists: {first_artists(songs).nunique():,} first-named, {len(known_names(songs)):,} in all")
    if not songs["popularity"].notna().any():
        console.print("popularity: none, so this is a file to predict")
        return
    _print_histogram(songs["popularity"], console)
    console.print(_splits(songs, folds=folds, fold=fold, seed=seed, validation=validation))


def _columns(report: LoadReport) -> Table:
    grid = Table("column", "read from", "conversion", title="Columns", title_justify="left")
    grid.add_column("no value", justify="right")
    for name, column, conversion in report.mapped:
        coded = report.coded_missing.get(name, 0)
        note = f"{coded:,} coded as missing" if coded else ""
        grid.add_row(name, column, ", ".join(filter(None, (conversion, note))), f"{report.missing[name]:,}")
    return grid


def _print_histogram(popularity: pd.Series, console: Console) -> None:
    """Print one bar for popularity 0 and one for every ten points above it."""
    known = popularity.dropna().to_numpy()
    mean, spread = known.mean(), known.std()
    console.print(f"popularity: mean {mean:.1f}, standard deviation {spread:.1f}, {len(known):,} songs")
    counts = np.histogram(known[known > 0], np.arange(0, 101, 10))[0]
    labels = ["0", "1-9", *(f"{low}-{low + 9}" for low in range(10, 90, 10)), "90-100"]
    for label, count in zip(labels, [int((known == 0).sum()), *counts], strict=True):
        bar = "█" * round(_BAR * count / max(counts.max(), (known == 0).sum()))
        console.print(f"{label:>7} {count:>9,} {bar}")


def _splits(songs: pd.DataFrame, *, folds: int, fold: int, seed: int, validation: float) -> Table:
    grid = Table("split", title=f"Splits (fold {fold} of {folds}, seed {seed})", title_justify="left")
    for part in ("train", "validation", "test"):
        grid.add_column(part, justify="right")
    grid.add_column("note")
    for kind in get_args(SplitKind):
        try:
            split = make_split(songs, kind, folds=folds, fold=fold, seed=seed, validation=validation)
        except InputError as error:
            grid.add_row(kind, "", "", "", f"impossible: {error}")
            continue
        left = len(songs) - len(split.train) - len(split.validation) - len(split.test)
        sizes = (f"{len(part):,}" for part in (split.train, split.validation, split.test))
        grid.add_row(kind, *sizes, f"{left:,} songs in no part" if left else "")
    return grid
