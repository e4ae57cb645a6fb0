"""``features``: the audio columns of recordings, as a file that ``predict`` reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain

import pandas as pd
from rich.console import Console
from rich.progress import track

from popularity.data.schema import ESTIMATED, NOT_ESTIMATED
from popularity.errors import InputError
from popularity.inference.files import sources
from popularity.inference.predictions import check_output, write_predictions
from popularity.inference.recordings import check_essentia, read_recording
from popularity.parsing import Parser
from popularity.program import program

_TYPES = {
    **dict.fromkeys(("title", "artist", "album", "release_date", "file"), "str"),
    **dict.fromkeys(("duration_ms", "key", "mode"), "Int64"),
    **dict.fromkeys(("loudness", "tempo"), "float64"),
}


def main(argv: Sequence[str]) -> None:
    """Write what can be estimated of the recordings that the command line names.

    Args:
        argv: the arguments after the verb.

    Raises:
        InputError: wrong arguments, no Essentia, or no recording that can be decoded; nothing is written then.
    """
    options = _parser().parse_args(list(argv))
    paths = sources(options.files)
    check_output(options.output, paths)
    check_essentia()
    left_out: list[str] = []
    tables = _tables(paths, left_out)
    first = next(tables, None)  # before the output is opened: it is not written without a recording
    if first is None:
        raise InputError(f"features: expected a recording, got none in {len(paths):,} file{'s' * (len(paths) > 1)}")
    rows = write_predictions(options.output, chain([first], tables))
    told = "standard output" if options.output == "-" else options.output
    print(f"{rows:,} recording{'s' * (rows != 1)} written to {told}, {len(left_out):,} left out", file=sys.stderr)
    print(f"estimated: {', '.join(ESTIMATED)}; missing: {', '.join(NOT_ESTIMATED)}", file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(
        prog=f"{program()} features",
        description="Estimate duration, loudness, tempo, key and mode of recordings, for a model trained with "
        "`fit --data.optional_audio true`. Nothing else that Spotify tells of a song can be estimated honestly.",
    )
    parser.add_argument("files", nargs="+", type=str, help="recordings (MP3, FLAC, WAV, ...), or patterns")
    parser.add_argument(
        "--output", type=str, default="features.csv", help=".csv, .parquet or .jsonl; - for standard output"
    )
    return parser


def _tables(paths: Sequence[str], left_out: list[str]) -> Iterator[pd.DataFrame]:
    """One row for each recording that can be decoded; says which cannot, and adds them to ``left_out``."""
    console = Console(stderr=True)
    for path in track(paths, "recordings", console=console, transient=True, disable=not sys.stderr.isatty()):
        try:
            row = read_recording(path)
        except InputError as error:
            left_out.append(str(error))
            print(f"left out: {error}", file=sys.stderr)
            continue
        table = pd.DataFrame([{**row, "file": path}])
        yield table.astype(_TYPES)  # in each table the same, whatever is missing
