"""What other projects reported, their method on our data, and what honest folds say.

``python -m popularity claims --source spotify-4771 --output results/claims`` writes ``claims.csv`` and
``claims.md``; each figure is kept in the folder's ``jobs/claims`` as soon as it is found, and the same command again
finds what is missing. Their methods are repeated as they were, leaks included and named; where a project does not say
which songs are hits, the cut-off is ours and the row says so. Honest folds are those of ``compare``: no duplicates,
each song tested once a repeat, and whatever is fitted or drawn stays inside the training songs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from popularity.data.songs import fingerprint, load_songs
from popularity.errors import InputError
from popularity.evaluation.entries import build
from popularity.evaluation.folds import draw_fold
from popularity.evaluation.jobs import code_version
from popularity.evaluation.reported import CLAIMS, TOKEN_CONFIGS, Figure
from popularity.io import check_folder, folder_lock, write_atomically

#: Splits of a network, which takes most of a minute for each.
NETWORK_SPLITS = 5
_TOLD = ("project", "model", "metric", "reported", "method", "source")


def check_claims(
    raw: pd.DataFrame,
    songs: pd.DataFrame,
    *,
    splits: int,
    folds: int,
    repeats: int,
    seed: int,
    networks: bool,
    kept: Path | None = None,
) -> pd.DataFrame:
    """A row for each claim.

    Args:
        raw: the songs with their duplicates.
        songs: the songs without.
        splits: random splits on which their method is repeated, to show how far one split can be off; a network gets
            at most `NETWORK_SPLITS`, the first ones.
        folds: honest folds of a repeat.
        repeats: drawings of the honest folds.
        seed: of all of them.
        networks: train networks too, with their config files under the current folder.
        kept: folder where figures are kept and looked for; None: all are found anew.

    Returns:
        ``project, model, metric, reported, method, source``, of their method ``theirs`` (mean over ``splits``),
        ``theirs_low``, ``theirs_high``, and of honest folds ``honest`` (mean), ``honest_sd`` and ``folds``.

    Raises:
        InputError: a config file of a network cannot be read.
    """
    if networks:  # a config that cannot be read shall be told now
        build("original Mamba", "network", {"configs": TOKEN_CONFIGS})
    chosen = [claim for claim in CLAIMS if networks or not claim.network]
    rows = []
    for number, claim in enumerate(chosen, 1):
        print(f"{number}/{len(chosen)}  {claim.project}, {claim.model}, {claim.metric}", file=sys.stderr, flush=True)
        what = {name: getattr(claim, name) for name in ("project", "model", "metric")}
        if claim.network:
            what["config"] = "\n".join(Path(name).read_text(encoding="utf-8") for name in TOKEN_CONFIGS)
        count = min(splits, NETWORK_SPLITS) if claim.network else splits
        theirs = [
            _find(claim.theirs, raw, {"folds": claim.parts, "repeat": 0, "fold": 0, "seed": seed + split}, what, kept)
            for split in range(count)
        ]
        honest = [
            _find(claim.honest, songs, {"folds": folds, "repeat": repeat, "fold": fold, "seed": seed}, what, kept)
            for repeat in range(1 if claim.network else repeats)
            for fold in range(folds)
        ]
        known = np.array(honest)[np.isfinite(honest)]
        seen = np.array(theirs)[np.isfinite(theirs)]
        rows.append(
            {
                **{name: getattr(claim, name) for name in _TOLD},
                "theirs": seen.mean() if len(seen) else np.nan,
                "theirs_low": seen.min() if len(seen) else np.nan,
                "theirs_high": seen.max() if len(seen) else np.nan,
                "splits": count,
                "honest": known.mean() if len(known) else np.nan,
                "honest_sd": known.std(ddof=1) if len(known) > 1 else np.nan,
                "folds": len(known),
            }
        )
    return pd.DataFrame(rows)


def _find(
    figure: Figure, songs: pd.DataFrame, place: Mapping[str, int], what: Mapping[str, str], kept: Path | None
) -> float:
    """A figure on the fold at ``place``, or what was kept of it for the same claim, songs and code."""
    if kept is None:
        return figure(draw_fold(songs, "random", **place))
    key = json.dumps([dict(place), dict(what), fingerprint(songs), code_version()], sort_keys=True)
    path = kept / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    if not path.is_file():
        found = float(figure(draw_fold(songs, "random", **place)))
        kept.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as file:
            json.dump(found if math.isfinite(found) else None, file)
    value = json.loads(path.read_text(encoding="utf-8"))
    return math.nan if value is None else float(value)


def claims_text(table: pd.DataFrame, source: str, rows: int, songs: int) -> str:
    """The table of :func:`check_claims` in Markdown.

    Args:
        table: the claims.
        source: name of the data.
        rows: in the file, with duplicates.
        songs: without.
    """

    def number(value: float, metric: str) -> str:
        if not np.isfinite(value):
            return "no hits"
        return f"{value:.1f}" if metric == "MSE" else f"{value:.3f}"

    lines = [
        f"What others reported, their method on `{source}` ({rows:,} rows, {rows - songs:,} of them duplicates), and",
        "what honest folds say. Of their method: mean over random splits, in brackets the lowest and the highest; what",
        "was reported is of one. Of honest folds: mean, and standard deviation over folds.",
        "",
        "| project | model | figure | reported | their method | their method here | honest folds here |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in table.to_dict("records"):
        theirs, low, high, honest, spread = (
            number(row[name], row["metric"]) for name in ("theirs", "theirs_low", "theirs_high", "honest", "honest_sd")
        )
        around = (
            f" ({low} to {high}, {row['splits']} splits)" if row["splits"] > 1 and np.isfinite(row["theirs"]) else ""
        )
        sd = f" (sd {spread}, {row['folds']} folds)" if row["folds"] > 1 else ""
        cells = [row[name] for name in ("project", "model", "metric", "reported", "method")]
        lines.append(f"| {' | '.join([*cells, theirs + around, honest + sd])} |")
    sources = dict(zip(table["project"], table["source"], strict=True))
    lines += ["", f"Sources: {'; '.join(f'{project}: {where}' for project, where in sources.items())}."]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> None:
    """Check the claims on a data set and write ``claims.csv`` and ``claims.md``.

    Raises:
        InputError: the data or the folder cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m popularity claims", description=__doc__)
    parser.add_argument("--source", required=True, help="named set or file")
    parser.add_argument("--output", required=True, type=Path, help="folder to write to")
    parser.add_argument("--splits", type=int, default=20, help="random splits for their methods (default 20)")
    parser.add_argument("--folds", type=int, default=5, help="honest folds (default 5)")
    parser.add_argument("--repeats", type=int, default=1, help="drawings of the honest folds (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of splits and folds (default 0)")
    parser.add_argument("--networks", action="store_true", help="train the original Mamba too: most of a minute a fit")
    options = parser.parse_args(argv)
    if min(options.splits, options.repeats) < 1:
        raise InputError("--splits and --repeats must be at least 1")
    check_folder(options.output)
    raw = load_songs(options.source, deduplicate=False).songs
    songs = load_songs(options.source).songs
    with folder_lock(options.output):
        table = check_claims(
            raw, songs, splits=options.splits, folds=options.folds, repeats=options.repeats, seed=options.seed,
            networks=options.networks, kept=options.output / "jobs" / "claims",
        )  # fmt: skip
        text = claims_text(table, Path(options.source).name, len(raw), len(songs))
        for name, content in (("claims.csv", table.to_csv(index=False)), ("claims.md", text)):
            with write_atomically(options.output / name) as file:
                file.write(content)
    print(text, end="")
