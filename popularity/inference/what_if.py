"""``what_if``: how the prediction of one song moves with its features, and what change reaches a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from popularity import plots
from popularity.data.songs import load_songs
from popularity.errors import InputError
from popularity.inference.explain import words
from popularity.inference.explain_features import NUMERIC
from popularity.inference.explain_model import Model, load_model
from popularity.inference.explain_output import Results, shown
from popularity.inference.explain_songs import described, plain, readable
from popularity.inference.one_song import song_table
from popularity.inference.what_if_grid import (
    VARIED,
    Range,
    check_learned,
    feature_ranges,
    values_of,
    variants,
    with_interval,
)
from popularity.inference.what_if_reach import reach
from popularity.parsing import Parser, options_of
from popularity.program import program
from popularity.training.datamodule import PopularityDataModule

NOT_A_CAUSE = (
    "this is what the model has seen go together in other songs, not what makes a song popular: "
    "correlation is not cause"
)

_AT_ONCE = 128  # variants predicted between two steps of the progress bar


@dataclass(frozen=True)
class Options:
    """A song, and what to change.

    Args:
        ckpt_path: the checkpoint.
        song: features of the song, ``danceability=.8,energy=.7,...``; what is left out is missing.
        artist: its artist; other names separated by a semicolon.
        title: its title.
        source: a file that the song is in, instead of --song.
        columns: canonical name to column of the file, where the file's names do not say it: ``{title: my_column}``.
        cache_dir: folder for downloads; default: the one of the fit, or the user's cache folder.
        row: number of the song in the file, from 1.
        vary: one feature, or two separated by a comma: the prediction over their range in the training songs.
        steps: values of each feature.
        counterfactual: a popularity: the smallest change of audio features that the prediction reaches it with.
        change: features that --counterfactual may change, separated by commas; default: all that are numbers.
        output: folder of tables and pictures.
        seed: of the search for a change.
    """

    ckpt_path: str
    song: str | None = None
    artist: str | None = None
    title: str | None = None
    source: str | None = None
    columns: dict[str, str] | None = None
    cache_dir: str | None = None
    row: int = 1
    vary: str | None = None
    steps: int = 21
    counterfactual: float | None = None
    change: str | None = None
    output: str = "what_if"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("row", 1), ("steps", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"--{name}: expected at least {least}, got {getattr(self, name)}")
        typed = [f"--{name}" for name in ("song", "artist", "title") if getattr(self, name) is not None]
        if self.source is not None and typed:
            raise InputError(f"expected one song, got {typed[0]} and --source")
        if self.source is None and not typed:
            raise InputError('expected a song: give --song "danceability=.8,energy=.7,..." or --source FILE --row N')
        if self.vary is None and self.counterfactual is None:
            raise InputError("expected something to change: give --vary FEATURES or --counterfactual POPULARITY")
        if self.change is not None and self.counterfactual is None:
            raise InputError("--change: expected --counterfactual POPULARITY as well, which it narrows")
        if self.counterfactual is not None and not 0 <= self.counterfactual <= 100:
            raise InputError(f"--counterfactual: expected a popularity from 0 to 100, got {self.counterfactual:g}")


def what_if(options: Options) -> None:
    """Change features of a song; see :class:`Options`.

    Raises:
        InputError: whatever cannot work; nothing is written then.
    """
    varied = words("--vary", options.vary, VARIED) if options.vary is not None else []
    if len(varied) > 2:
        raise InputError(f"--vary: expected one or two features, got {len(varied)}")
    changed = words("--change", options.change or ",".join(NUMERIC), tuple(NUMERIC))
    results = Results(options.output)
    model, data = load_model(options.ckpt_path, options.cache_dir)
    ranges = feature_ranges(options.ckpt_path, model, data)
    check_learned(model.encoder, varied)
    song = _song(options, data)
    now = with_interval(model.predict(song)).iloc[0]
    print(f"{described(song.iloc[0])}: predicted {now['prediction']:.1f}{_interval(now)}")
    if (known := model.encoder.known_artists(song)) is not None and not known[0]:
        print("known songs: none by this artist")
    if varied:
        _vary(model, song, varied, ranges, options.steps, results)
    if options.counterfactual is not None:
        may_change = {name: ranges[name] for name in changed if name in ranges}
        reach(model, song, may_change, options.counterfactual, seed=options.seed, results=results)
    print(NOT_A_CAUSE)
    print(f"written to {options.output}: {', '.join(results.write())}")


def _song(options: Options, data: PopularityDataModule) -> pd.DataFrame:
    """The song, one row."""
    if options.source is None:
        return song_table(options.song or "", artist=options.artist, title=options.title)
    reading = {**data.reading, "columns": options.columns}
    songs = load_songs(options.source, deduplicate=False, need_popularity=False, **reading).songs
    if options.row > len(songs):
        raise InputError(f"--row: expected a number from 1 to {len(songs)}, got {options.row}")
    return songs.iloc[[options.row - 1]].reset_index(drop=True)


def _interval(row: pd.Series) -> str:
    return f" (80 % interval {row['low']:.0f} to {row['high']:.0f})" if "low" in row else ""


def _predicted(model: Model, table: pd.DataFrame) -> pd.DataFrame:
    """Predictions with intervals of variants of a song."""
    parts = [table.iloc[start : start + _AT_ONCE] for start in range(0, len(table), _AT_ONCE)]
    found = [with_interval(model.predict(part)) for part in shown(parts, "predictions")]
    return pd.concat(found, ignore_index=True)


def _vary(
    model: Model, song: pd.DataFrame, names: Sequence[str], ranges: dict[str, Range], steps: int, results: Results
) -> None:
    values = [values_of(name, ranges, steps) for name in names]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*values)], axis=1)  # the first varies fastest
    table = variants(song, names, grid)
    predicted = _predicted(model, table)
    results.table("what_if", pd.concat([table[list(names)], predicted], axis=1))
    own = song[list(names)].to_numpy(np.float64)[0]
    labels = [name.replace("_", " ") for name in names]
    if len(names) == 1:
        here = None if np.isnan(own).any() else (own[0], float(model.mean(song)[0]))
        results.figure("what_if", plots.what_if_line(labels[0], values[0], predicted, here))
    else:
        here = None if np.isnan(own).any() else own
        results.figure("what_if", plots.what_if_map((labels[0], labels[1]), values[0], values[1], predicted, here))
    lowest, highest = predicted["prediction"].idxmin(), predicted["prediction"].idxmax()
    for what, row in (("lowest", lowest), ("highest", highest)):
        at = ", ".join(f"{plain(name)} {readable(name, table[name].iloc[row])}" for name in names)
        print(f"{what}: {predicted['prediction'][row]:.1f}{_interval(predicted.loc[row])} at {at}")
    if "low" not in predicted:
        print("no intervals: the head of this network gives a number, not a distribution")


def _parser() -> Parser:
    parser = Parser(
        prog=f"{program()} what_if",
        description="Change features of one song and see how its predicted popularity and the interval move.",
    )
    parser.add_class_arguments(Options, None)
    return parser


def main(argv: Sequence[str]) -> None:
    """Run ``what_if``."""
    config = _parser().parse_args(list(argv))
    what_if(options_of(Options, config))
