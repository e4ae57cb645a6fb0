"""Published results repeated: python benchmarks/published_results.py --source FILE [--networks]

What other projects reported, their method on our data, and what honest folds say. Their methods are in
published_methods.py. Honest folds are those of `compare`: no duplicates, each song tested once a repeat, and whatever
is fitted or sampled stays inside the training songs.

The table goes between the markers of this source in docs/published_results.md, and to published_results.csv in the
folder --output, where a comparison's report finds it. With --networks the original Mamba is trained too, most of a
minute a fit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from published_methods import RESULTS

from popularity.data.songs import load_songs
from popularity.data.sources import locate
from popularity.errors import InputError
from popularity.evaluation.folds import make_fold
from popularity.io import write_atomically

PAGE = Path(__file__).parents[1] / "docs" / "published_results.md"
#: Splits of a network, which takes most of a minute for each.
NETWORK_SPLITS = 5


def repeat_results(raw: pd.DataFrame, songs: pd.DataFrame, options: argparse.Namespace) -> pd.DataFrame:
    """A row for each published result.

    Args:
        raw: the songs with their duplicates.
        songs: the songs without.
        options: splits, folds, repeats, seed and networks.

    Returns:
        ``project, model, metric, reported, method, source``, of their method ``theirs`` (mean over ``splits``),
        ``theirs_low``, ``theirs_high``, and of honest folds ``honest`` (mean), ``honest_sd`` and ``folds``.
    """
    chosen = [one for one in RESULTS if options.networks or not one.network]
    rows = []
    for number, one in enumerate(chosen, 1):
        print(f"{number}/{len(chosen)}  {one.project}, {one.model}, {one.metric}", file=sys.stderr, flush=True)
        splits = min(options.splits, NETWORK_SPLITS) if one.network else options.splits
        repeats = 1 if one.network else options.repeats
        seeds = range(options.seed, options.seed + splits)
        drawn = [make_fold(raw, "random", folds=one.parts, repeat=0, fold=0, seed=seed) for seed in seeds]
        held_out = [
            make_fold(songs, "random", folds=options.folds, repeat=repeat, fold=fold, seed=options.seed)
            for repeat in range(repeats)
            for fold in range(options.folds)
        ]
        theirs, honest = (
            pd.Series([one.theirs(fold) for fold in drawn]),
            pd.Series([one.honest(fold) for fold in held_out]),
        )
        told = {name: getattr(one, name) for name in ("project", "model", "metric", "reported", "method", "source")}
        told |= {"theirs": theirs.mean(), "theirs_low": theirs.min(), "theirs_high": theirs.max(), "splits": splits}
        rows.append(told | {"honest": honest.mean(), "honest_sd": honest.std(), "folds": int(honest.notna().sum())})
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame, source: str, rows: int, songs: int) -> str:
    """The table of :func:`repeat_results` in Markdown, for a file with so many rows and songs without duplicates."""

    def number(value: float, metric: str) -> str:
        if not np.isfinite(value):
            return "no hits"
        return f"{value:.1f}" if metric == "MSE" else f"{value:.3f}"

    lines = [
        f"What others reported, their method on `{source}` ({rows:,} rows, {rows - songs:,} of them duplicates), and",
        "what honest folds say. Of their method: mean over random splits, in brackets the lowest and the highest; what",
        "was reported is of one split. Of honest folds: mean, and standard deviation over folds.",
        "",
        "| project | model | metric | reported | their method | their method here | honest folds here |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in table.to_dict("records"):
        names = ("theirs", "theirs_low", "theirs_high", "honest", "honest_sd")
        theirs, low, high, honest, spread = (number(row[name], row["metric"]) for name in names)
        around = f" ({low} to {high}, {row['splits']} splits)" if row["splits"] > 1 and theirs != "no hits" else ""
        sd = f" (sd {spread}, {row['folds']} folds)" if row["folds"] > 1 else ""
        cells = [row[name] for name in ("project", "model", "metric", "reported", "method")]
        lines.append(f"| {' | '.join([*cells, theirs + around, honest + sd])} |")
    sources = dict(zip(table["project"], table["source"], strict=True))
    lines += ["", f"Sources: {'; '.join(f'{project}: {where}' for project, where in sources.items())}."]
    return "\n".join(lines) + "\n"


def put_between_markers(page: str, name: str, text: str) -> str:
    """A page with the text in place of what stands between the markers of a source."""
    begin, end = f"<!-- published results: {name} -->", f"<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise InputError(f"expected the markers {begin} and {end} in the page")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def main(argv: Sequence[str]) -> None:
    """Repeat the results and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="spotify-4771", help="named set or file")
    parser.add_argument("--output", type=Path, help="folder for published_results.csv")
    parser.add_argument("--page", type=Path, default=PAGE, help="page with the markers of the source")
    parser.add_argument("--splits", type=int, default=20, help="random splits for their methods (default 20)")
    parser.add_argument("--folds", type=int, default=5, help="honest folds (default 5)")
    parser.add_argument("--repeats", type=int, default=1, help="repeats of the honest folds (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of splits and folds (default 0)")
    parser.add_argument("--networks", action="store_true", help="train the original Mamba too: most of a minute a fit")
    options = parser.parse_args(argv)
    if min(options.splits, options.repeats) < 1:
        raise InputError("--splits and --repeats: expected at least 1")
    name, page = locate(options.source).name.partition(".")[0], options.page.read_text(encoding="utf-8")
    put_between_markers(page, name, "")  # what is wrong with the page is said before the work
    raw, songs = (load_songs(options.source, deduplicate=deduplicate).songs for deduplicate in (False, True))
    table = repeat_results(raw, songs, options)
    text = markdown(table, name, len(raw), len(songs))
    with write_atomically(options.page) as file:
        file.write(put_between_markers(page, name, text))
    if options.output:
        with write_atomically(options.output / "published_results.csv") as file:
            table.to_csv(file, index=False)
    print(text, end="")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
