"""What other projects reported, their method on our data, and what honest folds say.

``python -m popularity.evaluation.claims --source spotify-4771 --output results/claims`` writes ``claims.csv`` and
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from popularity.data.schema import AUDIO
from popularity.data.songs import fingerprint, load_songs
from popularity.errors import InputError
from popularity.evaluation.baselines import linear_regression
from popularity.evaluation.entries import Entry, HitEntry, build
from popularity.evaluation.entries.classifiers import undersampled
from popularity.evaluation.hits import cutoff_value
from popularity.evaluation.jobs import code_version
from popularity.evaluation.metrics import hit_scores, regression_scores
from popularity.evaluation.task import Fold, draw_fold
from popularity.files import check_folder, write_atomically

#: A fold to one figure; not a number where the fold has no hit or nothing else.
Figure = Callable[[Fold], float]

_ONE_SPLIT = "one random split, rows as they come (duplicates on both sides)"


@dataclass(frozen=True)
class Claim:
    """One reported figure.

    Attributes:
        project: who reported it.
        model: of what.
        metric: which figure; songs that count as hits.
        reported: its value, or the claim in words.
        method: how it was obtained, with what is wrong with it.
        theirs: their method on one random split of the raw rows.
        honest: the same model on a fold of the comparison.
        network: minutes a fold.
    """

    project: str
    model: str
    metric: str
    reported: str
    method: str
    theirs: Figure
    honest: Figure
    network: bool = False


def _regression(kind: str, score: str, **settings: object) -> Figure:
    def figure(fold: Fold) -> float:
        entry = cast(Entry, build(kind, kind, settings))
        return regression_scores(entry.fit_predict(fold.task).prediction, fold.answers)[score]

    return figure


def _hits(kind: str, score: str, cutoff: str, **settings: object) -> Figure:
    """A classifier; it calls hits what it holds more likely than the share of hits, as a balanced one does at 1/2."""

    def figure(fold: Fold) -> float:
        popularity = fold.task.train["popularity"].to_numpy()
        value = cutoff_value(cutoff, popularity)
        hit, answers = popularity >= value, fold.answers >= value
        if not 0 < answers.sum() < len(answers) or not 0 < hit.sum() < len(hit):
            return float("nan")
        chance = cast(HitEntry, build(kind, kind, settings)).fit_probability(fold.task, hit)
        return hit_scores(chance, answers, float(hit.mean()))[score]

    return figure


def _in_sample(fold: Fold) -> float:
    """R2 of least squares on the songs that it was fitted to."""
    train = fold.task.train
    model = linear_regression().fit(train[list(AUDIO)], train["popularity"])
    return float(model.score(train[list(AUDIO)], train["popularity"]))


def _undersampled_first(figure: Figure, cutoff: float) -> Figure:
    """Undersample all songs, those to be tested too, before the split."""

    def undersample(fold: Fold) -> float:
        train, test = fold.task.train, fold.task.test
        popularity = np.concatenate([train["popularity"], fold.answers])
        hit = popularity >= cutoff
        if not 0 < hit.sum() < len(hit):
            return float("nan")
        chosen = np.random.default_rng([fold.task.seed, 1]).permutation(undersampled(hit, fold.task.seed))
        fit, asked = np.split(chosen, [round(len(chosen) * len(train) / len(popularity))])
        songs = pd.concat([train, test], ignore_index=True).assign(popularity=popularity)
        balanced = replace(
            fold.task,
            train=songs.iloc[fit].reset_index(drop=True),
            test=songs.iloc[asked].assign(popularity=np.nan).reset_index(drop=True),
        )
        return figure(Fold(balanced, asked, popularity[asked]))

    return undersample


_TOKEN = {"configs": ["configs/single_token.yaml"]}
_LOGISTIC = _hits("logistic", "auroc", "80")
_BAGGING = {score: _hits("bagging", score, "80", balance="undersample") for score in ("recall", "precision")}
_PHAM = {amount: _hits("logistic", "auroc", "top_quarter", information=amount) for amount in ("audio", "everything")}
_XGBOOST = _hits("xgboost_classifier", "auroc", "top_quarter", information="audio")
_FRESH = f"{_ONE_SPLIT}; the cut-off is ours"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        *("original Mamba", "linear regression", "MSE", "105.2", _ONE_SPLIT),
        *(_regression("linear", "mse"), _regression("linear", "mse")),
    ),
    Claim(
        *("original Mamba", "Mamba on one token", "MSE", "106.4", _ONE_SPLIT),
        *(_regression("network", "mse", **_TOKEN), _regression("network", "mse", **_TOKEN)),
        network=True,
    ),
    Claim(
        *("MattD82", "least squares", "R2", ".077", "scored on the songs that it was fitted to"),
        *(_in_sample, _regression("linear", "r2")),
    ),
    Claim(
        *("MattD82", "logistic regression", "AUROC, hit from 80", ".788"),
        "undersampling before the split: tested on a few, balanced songs",
        *(_undersampled_first(_LOGISTIC, 80), _hits("logistic", "auroc", "80", balance="undersample")),
    ),
    Claim(
        *("twillstw", "linear regression", "R2", ".098", _ONE_SPLIT),
        *(_regression("linear", "r2"), _regression("linear", "r2")),
    ),
    *(
        Claim("twillstw", "bagging", f"{score}, hit from 80", reported, _FRESH, _BAGGING[score], _BAGGING[score])
        for score, reported in (("recall", ".76"), ("precision", ".02"))
    ),
    *(
        Claim(
            "Pham et al. (2015)",
            f"logistic regression, {amount}",
            "AUROC, hit in top quarter",
            "metadata beats audio",
            *(_FRESH, figure, figure),
        )
        for amount, figure in _PHAM.items()
    ),
    Claim("not named", "XGBoost, audio", "AUROC, hit in top quarter", ".68", _FRESH, _XGBOOST, _XGBOOST),
)


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
            one.
        folds: honest folds of a repeat.
        repeats: drawings of the honest folds.
        seed: of all of them.
        networks: train networks too.
        kept: folder where figures are kept and looked for; None: all are found anew.

    Returns:
        ``project, model, metric, reported, method``, of their method ``theirs`` (the first split), ``theirs_low``,
        ``theirs_high`` (all of ``splits``), and of honest folds ``honest`` (mean), ``honest_sd`` and ``folds``.
    """
    chosen = [claim for claim in CLAIMS if networks or not claim.network]
    rows = []
    for number, claim in enumerate(chosen, 1):
        print(f"{number}/{len(chosen)}  {claim.project}, {claim.model}, {claim.metric}", file=sys.stderr, flush=True)
        what = {name: getattr(claim, name) for name in ("project", "model", "metric", "method")}
        if claim.network:
            what["config"] = "\n".join(Path(name).read_text(encoding="utf-8") for name in _TOKEN["configs"])
        count = 1 if claim.network else splits
        theirs = [
            _find(claim.theirs, raw, {"folds": 5, "repeat": 0, "fold": 0, "seed": seed + split}, what, kept)
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
                **{name: getattr(claim, name) for name in ("project", "model", "metric", "reported", "method")},
                "theirs": theirs[0],
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


def claims_text(table: pd.DataFrame, source: str) -> str:
    """The table of :func:`check_claims` in Markdown."""

    def number(value: float, metric: str) -> str:
        if not np.isfinite(value):
            return "no hits"
        return f"{value:.1f}" if metric == "MSE" else f"{value:.3f}"

    lines = [
        f"What others reported, their method on `{source}`, and what honest folds say. In brackets: lowest and highest",
        "of their method over several random splits; standard deviation over honest folds.",
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
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> None:
    """Check the claims on a data set and write ``claims.csv`` and ``claims.md``.

    Raises:
        InputError: the data or the folder cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m popularity.evaluation.claims", description=__doc__)
    parser.add_argument("--source", required=True, help="named set or file")
    parser.add_argument("--output", required=True, type=Path, help="folder to write to")
    parser.add_argument("--splits", type=int, default=20, help="random splits for their methods (default 20)")
    parser.add_argument("--folds", type=int, default=5, help="honest folds (default 5)")
    parser.add_argument("--repeats", type=int, default=1, help="drawings of the honest folds (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of splits and folds (default 0)")
    parser.add_argument("--networks", action="store_true", help="train the original Mamba too: minutes a fold")
    options = parser.parse_args(argv)
    if min(options.splits, options.repeats) < 1:
        raise InputError("--splits and --repeats must be at least 1")
    check_folder(options.output)
    raw = load_songs(options.source, deduplicate=False).songs
    songs = load_songs(options.source).songs
    table = check_claims(
        raw, songs, splits=options.splits, folds=options.folds, repeats=options.repeats, seed=options.seed,
        networks=options.networks, kept=options.output / "jobs" / "claims",
    )  # fmt: skip
    text = claims_text(table, Path(options.source).name)
    options.output.mkdir(parents=True, exist_ok=True)
    for name, content in (("claims.csv", table.to_csv(index=False)), ("claims.md", text)):
        with write_atomically(options.output / name) as file:
            file.write(content)
    print(text, end="")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
