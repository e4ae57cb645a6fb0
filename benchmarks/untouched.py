"""Does Mamba lead on songs that no setting was chosen on? ``python benchmarks/untouched.py FOLDER --source FILE``

Mamba's config was chosen on inner folds of the training songs of one fold (fold 0 of `random`, seed 0), and these songs
are test songs of all other folds. Here every model is judged by the test songs of that one fold alone, as they were
predicted in all repeats of a comparison in FOLDER (its ``predictions.parquet``), and ``untouched.md`` is written there.
Intervals are over songs: first artists are sampled again with all their songs (bootstrap).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from popularity.data.songs import load_songs
from popularity.errors import InputError
from popularity.evaluation.folds import make_fold
from popularity.evaluation.significance import song_intervals
from popularity.io import write_atomically
from popularity.metrics.intervals import LEVEL


def judged(predictions: pd.DataFrame, songs: pd.DataFrame, rows: np.ndarray, against: str) -> pd.DataFrame:
    """Models on some songs alone.

    Args:
        predictions: ``model, repeat, fold, row, prediction``.
        songs: the whole song table.
        rows: songs that count.
        against: the model that the others are compared with.

    Returns:
        ``model, repeats`` (predictions of a song), ``mse, difference, song_low, song_high``, the best model first;
        differences over the predictions that both have.
    """
    truth = songs["popularity"].to_numpy(np.float64)
    here = predictions[predictions["row"].isin(rows)]
    here = here.assign(model=here["model"].astype("str"), error=(here["prediction"] - truth[here["row"]]) ** 2)
    keys = ["repeat", "fold", "row"]
    base = here.loc[here["model"] == against, [*keys, "error"]].rename(columns={"error": "base"})
    both = here.merge(base, on=keys)
    difference = (both["error"] - both["base"]).groupby(both["model"]).mean().rename("difference")
    grouped = here.groupby("model")
    table = pd.DataFrame({"repeats": grouped["repeat"].nunique(), "mse": grouped["error"].mean()})
    table = table.join(difference).join(song_intervals(here, songs, against, 0))
    return table.sort_values("difference", kind="stable").rename_axis("model").reset_index()


def text(table: pd.DataFrame, against: str, songs: int) -> str:
    """The table in Markdown."""
    lines = [
        f"| model | repeats | MSE on these {songs:,} songs | to {against} ({100 * LEVEL:g} % over songs) |",
        "| --- | --- | --- | --- |",
    ]
    for row in table.itertuples():
        interval = (
            "" if row.model == against else f"{row.difference:+.2f} ({row.song_low:+.2f} to {row.song_high:+.2f})"
        )
        lines.append(f"| {row.model} | {row.repeats} | {row.mse:.2f} | {interval} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    """Write the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", default="spotify-4771")
    parser.add_argument("--against", default="mamba")
    options = parser.parse_args(argv)
    path, protocol = options.folder / "predictions.parquet", options.folder / "protocol.json"
    for needed in (path, protocol):
        if not needed.is_file():
            raise InputError(
                f"{needed}: no such file; `python -m popularity compare ... --output {options.folder}` writes it"
            )
    loaded = load_songs(options.source)
    songs = loaded.songs
    record = json.loads(protocol.read_text(encoding="utf-8"))
    if record["fingerprint"] != loaded.fingerprint:
        raise InputError(f"--source {options.source}: expected the songs of {options.folder}, {record['source']}")
    rows = make_fold(songs, "random", folds=5, repeat=0, fold=0, seed=0).rows
    predictions = pd.read_parquet(path)
    if options.against not in set(predictions["model"]):
        raise InputError(f"--against {options.against}: expected one of {', '.join(predictions['model'].unique())}")
    found = text(judged(predictions, songs, rows, options.against), options.against, len(rows))
    with write_atomically(options.folder / "untouched.md") as file:
        file.write(found)
    print(found, end="")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
