"""``explain``: what a trained network reads from songs, and why it predicts what it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

import numpy as np
import pandas as pd

from popularity import plots
from popularity.data.songs import load_songs
from popularity.errors import InputError
from popularity.inference.attributions import check_captum
from popularity.inference.explain_curves import accumulated_local_effects, grid_of, individual_curves
from popularity.inference.explain_features import NUMERIC, features_of_numbers
from popularity.inference.explain_importance import permutation_importance
from popularity.inference.explain_model import Model, load_model, load_own_songs
from popularity.inference.explain_output import Results, shown
from popularity.inference.explain_songs import explain_songs, plain
from popularity.parsing import Parser, options_of
from popularity.program import program
from popularity.training.datamodule import PopularityDataModule

PARTS = ("importance", "curves", "songs")

_CURVES = 100  # songs whose single curves are computed
_MOST_CHANGE = 0.005  # points: below, nothing is to be seen of a feature


@dataclass(frozen=True)
class Options:
    """What to explain.

    Args:
        ckpt_path: the checkpoint.
        source: songs to explain it on, a file; default: the songs that its own fit held out for the test.
        columns: canonical name to column of the file, where the file's names do not say it: ``{title: my_column}``.
        cache_dir: folder for downloads; default: the one of the fit, or the user's cache folder.
        output: folder of tables and pictures; inside of a run's folder TensorBoard shows the pictures with the run.
        parts: which parts, separated by commas: importance, curves, songs.
        songs: number of songs explained one by one.
        rows: explain these songs one by one instead: their numbers in the table, from 1, separated by commas.
        features: features that curves are plotted for, separated by commas; default: all that are numbers.
        sample: maximum number of songs that importances and curves rest on.
        shuffles: number of times that each feature is shuffled.
        seed: of shuffles, and of the choice of songs.
    """

    ckpt_path: str
    source: str | None = None
    columns: dict[str, str] | None = None
    cache_dir: str | None = None
    output: str = "explain"
    parts: str = "importance,curves,songs"
    songs: int = 8
    rows: str | None = None
    features: str | None = None
    sample: int = 500
    shuffles: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("songs", 1), ("sample", 10), ("shuffles", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"--{name}: expected at least {least}, got {getattr(self, name)}")


def words(flag: str, text: str, known: Sequence[str]) -> list[str]:
    """Words of a flag, separated by commas, each once.

    Raises:
        InputError: one is unknown, or there is none.
    """
    found = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for word in found or [""]:
        if word not in known:
            near = get_close_matches(word, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"{flag}: expected some of {', '.join(known)}, got {word!r}{hint}")
    return found


def explain(options: Options) -> None:
    """Explain a checkpoint; see :class:`Options`.

    Raises:
        InputError: whatever cannot work; nothing is written then.
    """
    parts = words("--parts", options.parts, PARTS)
    features = words("--features", options.features or ",".join(NUMERIC), tuple(NUMERIC))
    results = Results(options.output)
    model, data = load_model(options.ckpt_path, options.cache_dir)
    if "songs" in parts:
        check_captum()
        features_of_numbers(model.encoder)
    songs = _songs(options, data)
    numbers = _numbers(options, len(songs))
    print(f"{len(songs):,} songs{'' if options.source else ', held out by the fit of this checkpoint'}")
    generator = np.random.default_rng(options.seed)
    some = songs.iloc[generator.permutation(len(songs))[: options.sample]].reset_index(drop=True)
    if "importance" in parts:
        _importance(model, some, options, results)
    if "curves" in parts:
        _curves(model, some, features, results)
    if "songs" in parts:
        explain_songs(model, data, songs, numbers, results)
    written = results.write(tensorboard=True)
    print(f"{len(written)} files in {options.output}, shown by tensorboard --logdir {options.output} as well")


def _songs(options: Options, data: PopularityDataModule) -> pd.DataFrame:
    if options.source is None:
        load_own_songs(options.ckpt_path, data)
        songs = data.songs("test")
        if songs.empty:
            raise InputError("explain: the fit of this checkpoint held out no songs: give --source FILE")
    else:
        table = load_songs(
            options.source, deduplicate=False, need_popularity=False, **{**data.reading, "columns": options.columns}
        )
        songs = table.songs
        print(*table.report.lines(), sep="\n")
    return songs.reset_index(drop=True)


def _numbers(options: Options, count: int) -> list[int]:
    """Places of the songs that are explained one by one, from 0."""
    if options.rows is None:
        chosen = np.random.default_rng(options.seed).permutation(count)[: options.songs]
        return sorted(chosen.tolist())
    found = []
    for word in options.rows.split(","):
        if not word.strip().isdecimal() or not 1 <= int(word) <= count:
            raise InputError(f"--rows: expected numbers from 1 to {count}, got {word.strip()!r}")
        found.append(int(word) - 1)
    return list(dict.fromkeys(found))


def _importance(model: Model, songs: pd.DataFrame, options: Options, results: Results) -> None:
    progress = partial(shown, what="importance")
    table = permutation_importance(model, songs, shuffles=options.shuffles, seed=options.seed, progress=progress)
    if table.empty:
        raise InputError("explain: shuffling these songs changes nothing: they are all alike to this network")
    results.table("importance", table)
    measures = {"change": "mean change of a prediction, points"}
    if table["mse_rise"].notna().all():
        measures = {"mse_rise": "rise of the squared error, points squared", **measures}
    for measure, label in measures.items():
        ordered = table.sort_values(measure, ascending=False)
        halves = ((ordered[f"{measure}_high"] - ordered[f"{measure}_low"]) / 2).to_numpy()
        figure = plots.bars(
            [plain(name) for name in ordered["feature"]], ordered[measure].to_numpy(), halves, label, ".2f"
        )
        results.figure(f"importance_{measure}", figure, f"1 importance/{label.partition(',')[0]}")
    first = next(iter(measures))
    what = measures[first].partition(",")[0]
    print(f"\nimportance: {what} when a feature is shuffled among {len(songs):,} songs (95 % interval)")
    for row in table.head(8).to_dict("records"):
        low, high = row[f"{first}_low"], row[f"{first}_high"]
        print(f"  {plain(row['feature']):<18}{row[first]:>9.2f}   ({low:.2f} to {high:.2f})")


def _curves(model: Model, songs: pd.DataFrame, features: Sequence[str], results: Results) -> None:
    dependence, single, local, flat = [], [], [], []
    some = songs.head(_CURVES)  # the sample is in random order
    for feature in shown(features, "curves"):
        grid = grid_of(songs[feature].to_numpy(np.float64))
        if len(grid) < 2:
            flat.append(feature)
            continue
        curves = individual_curves(model.mean, some, feature, grid)
        if np.ptp(curves, axis=1).max() < _MOST_CHANGE:
            flat.append(feature)
            continue
        effects = accumulated_local_effects(model.mean, songs, feature)
        dependence.append(pd.DataFrame({"feature": feature, "value": grid, "prediction": curves.mean(0)}))
        place = np.repeat(np.arange(1, len(some) + 1), len(grid))
        tiled = {"feature": feature, "song": place, "value": np.tile(grid, len(some)), "prediction": curves.ravel()}
        single.append(pd.DataFrame(tiled))
        local.append(effects.assign(feature=feature))
        figure = plots.curves(feature.replace("_", " "), grid, curves, effects)
        results.figure(f"curves_{feature}", figure, f"2 curves/{feature}")
    for name, tables in (
        ("partial_dependence", dependence),
        ("individual_curves", single),
        ("accumulated_local_effects", local),
    ):
        if tables:
            table = pd.concat(tables, ignore_index=True)
            results.table(name, table[["feature", *(column for column in table if column != "feature")]])
    if flat:
        print(f"\nno curves, as nothing changes with them: {', '.join(flat)}")


def _parser() -> Parser:
    parser = Parser(
        prog=f"{program()} explain",
        description="Show what a trained network reads from songs, and why it predicts what it predicts.",
    )
    parser.add_class_arguments(Options, None)
    return parser


def main(argv: Sequence[str]) -> None:
    """Run ``explain``."""
    config = _parser().parse_args(list(argv))
    explain(options_of(Options, config))
