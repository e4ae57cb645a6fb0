"""summary.md: the tables of a comparison and how they came about, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from popularity.data.splits import GROUPS, group_sizes
from popularity.evaluation.entries import completed, reads
from popularity.evaluation.hits import INNER_FOLDS
from popularity.evaluation.protocol import QUANTILES, Job, Protocol, Settings
from popularity.evaluation.significance import DRAWS, LEVEL
from popularity.evaluation.summary import Tables

_DIGITS = {
    "mse": 2, "mse_sd": 2, "rmse": 2, "mae": 2, "r2": 3, "spearman": 3, "ratio_to_reference": 3, "difference": 2,
    "p_value": 3, "seconds": 2, "within_5": 3, "within_10": 3,
}  # fmt: skip
_HEADS = {
    "mse": "MSE", "mse_sd": "sd over folds", "rmse": "RMSE", "mae": "MAE", "r2": "R2", "spearman": "Spearman",
    "ratio_to_reference": "ratio", "p_value": "p", "seconds": "CPU seconds a fold", "within_5": "within 5",
    "within_10": "within 10",
}  # fmt: skip
#: Share of a fold above which a single group makes the repeats alike.
_LARGE = 0.25
_READS = {
    "nothing": "nothing", "artist": "the artist", "audio": "the 13 audio columns", "everything": "all in the file",
}  # fmt: skip
_HIT_DIGITS = {
    "value": 0, "hits": 3, "threshold": 3, "auroc": 3, "average_precision": 3, "f1": 3, "precision": 3, "recall": 3,
    "accuracy": 3, "majority": 3, "brier": 4, "calibration_error": 4,
}  # fmt: skip


def summary_text(
    protocol: Protocol,
    tables: Tables,
    reference: str,
    songs: pd.DataFrame,
    versions: Iterable[dict[str, str]],
    failed: Mapping[Job, str],
) -> str:
    """The text of summary.md.

    Args:
        protocol: the comparison.
        tables: its tables.
        reference: the model that the others are compared with.
        songs: the song table.
        versions: package -> version of each result.
        failed: jobs that ended in an error, and which.
    """
    folds = protocol.folds - 1 if protocol.split == "time" else protocol.folds
    parts = [
        f"# {protocol.source}, split `{protocol.split}`: {len(tables.summary)} models on identical folds",
        _summary(tables),
        _protocol(protocol, tables, folds, songs, reference, versions),
    ]
    if failed:
        parts += ["## Failed", "\n".join(f"- {job}: {error}" for job, error in failed.items())]
    if len(tables.differences) > 1:
        parts += [f"## Differences of MSE to {reference}", _differences(tables)]
    if len(tables.repeated_folds):
        parts += ["## Folds that are the same songs in several repeats", _repeated(tables.repeated_folds)]
    if len(tables.hit_summary):
        parts += ["## Hits", _hits(protocol), _hit_table(tables.hit_summary)]
        if skipped := _skipped(tables.hit_folds):
            parts.append(skipped)
    return "\n\n".join(parts) + "\n"


def _summary(tables: Tables) -> str:
    within = tables.folds.groupby("model", sort=False)[["within_5", "within_10"]].mean()
    table = tables.summary.join(within, on="model")
    table = table.assign(wins=[f"{w} of {n}" if pd.notna(w) else "-" for w, n in _paired_folds(tables)])
    middle = ["mse", "mse_sd", "rmse", "mae", "r2", "spearman", "within_5", "within_10"]
    middle += ["ratio_to_reference", "difference", "p_value", "wins"]
    return _markdown(table[["model", "folds", *middle, "seconds"]], _DIGITS, ["model", "folds", "wins"])


def _paired_folds(tables: Tables) -> Iterable[tuple[Any, Any]]:
    both = tables.summary.merge(tables.differences[["model", "folds"]], on="model", how="left", suffixes=("", "_both"))
    references = set(tables.differences["reference"])
    return [
        (None if model in references else wins, count)
        for model, wins, count in zip(both["model"], both["wins"], both["folds_both"].astype("Int64"), strict=True)
    ]


def _protocol(
    protocol: Protocol,
    tables: Tables,
    folds: int,
    songs: pd.DataFrame,
    reference: str,
    versions: Iterable[dict[str, str]],
) -> str:
    used: dict[str, set[str]] = {}
    for one in versions:
        for name, version in one.items():
            used.setdefault(name, set()).add(version)
    every = ((name, _budget(protocol.models[name])) for name in tables.summary["model"])
    budgets = [f"{name} {budget}" for name, budget in every if budget]
    told: dict[str, list[str]] = {}
    shown = [*tables.summary["model"], *tables.hit_summary["model"]]
    for name, settings in {name: {**protocol.hits, **protocol.models}[name] for name in shown}.items():
        told.setdefault(reads(settings["kind"], settings), []).append(name)
    packages = ", ".join(f"{name} {' and '.join(sorted(found))}" for name, found in sorted(used.items()))
    duplicates = "without duplicates" if protocol.deduplicate else "duplicates kept"
    repeats = 1 if protocol.split == "time" else protocol.repeats
    lines = [
        f"Data: `{protocol.source}`, {len(songs):,} songs, {duplicates}, SHA-256 `{protocol.fingerprint[:12]}`.",
        f"Folds: {folds} folds x {repeats} repeats, repeat r drawn from seed {protocol.seed} + r; the same songs for "
        "every model. Baselines that are tuned choose their settings inside the training songs of each fold; a network "
        "has those of its config file in all folds.",
        f"`ratio`, `difference`, `p` and `wins` compare MSE with {reference} on the folds that both have. p: corrected "
        "resampled t-test (Nadeau & Bengio, 2003); not corrected for the number of models.",
        "A ratio is of its folds: models on fewer folds stand after the others.",
        "What they read: " + "; ".join(f"{_READS[what]}: {', '.join(who)}" for what, who in told.items()) + ".",
        f"Budgets inside the training songs of each fold (`epochs`: the most): {', '.join(budgets) or 'none'}.",
        "R2 and the rank correlation are means over folds; the rank correlation of a constant is not defined. `within "
        "5`: share of songs whose error is at most 5 points. A job runs on one thread.",
        f"Versions: {packages}.",
    ]
    if protocol.split in ("artist", "credits", "album"):
        lines.append(_groups(group_sizes(songs, protocol.split), protocol))
    if protocol.split == "time":
        lines.append("`time` has one drawing of its folds, and its training parts differ in size.")
    return "\n".join(f"- {line}" for line in lines)


def _groups(sizes: np.ndarray, protocol: Protocol) -> str:
    """Whether a group is so large that it is much of a fold in every repeat."""
    kept = protocol.split == "credits" and 2 * sizes[0] > sizes.sum() and len(sizes) > protocol.folds
    fold = (sizes.sum() - kept * sizes[0]) / protocol.folds
    told = (
        f"Groups that are never on both sides, {GROUPS[protocol.split]}: {len(sizes):,}; the largest has {sizes[0]:,} "
        f"songs, where a fold has {fold:,.0f}."
    )
    if kept:
        told += " It is more than half of all songs and always trained on."
    elif sizes[0] > _LARGE * fold and protocol.repeats > 1:
        told += (
            " It is much of a fold, or all of it, whatever the seed: the repeats resemble each other more than the "
            "test supposes, so read its p-values with care"
        )
        told += ", and what is said of folds that are the same songs." if sizes[0] >= fold else "."
    return told


def _budget(settings: Settings) -> str:
    """What a model may try inside the training songs."""
    whole = completed(settings)
    found = [f"{whole[unit]} {unit}" for unit in ("trials", "epochs", "folds") if unit in whole]
    of_members = [f"{name} {told}" for name, one in whole.get("of", {}).items() if (told := _budget(one))]
    return " of ".join([*found, *of_members])


def _differences(tables: Tables) -> str:
    percent = f"{100 * LEVEL:g} %"
    table = pd.DataFrame(
        {
            "model": tables.differences["model"],
            "folds": tables.differences["folds"].astype(str),
            "difference": tables.differences["difference"],
            f"{percent} over folds": _intervals(tables.differences, "low", "high"),
            f"{percent} over songs": _intervals(tables.differences, "song_low", "song_high"),
        }
    )[(tables.differences["model"] != tables.differences["reference"]).to_numpy()]
    note = (
        "Over folds: from the corrected test; what other training and test songs would have given. Over songs: "
        f"{DRAWS:,} bootstrap drawings of first artists with all their songs; what other artists would have given "
        "these fitted models."
    )
    return _markdown(table, {"difference": 2}, ["model", "folds"]) + "\n\n" + note


def _repeated(table: pd.DataFrame) -> str:
    first = table.iloc[0]
    against, folds, tests = first["against"], table["folds_repeated"].max(), first["tests"]
    what = f"{folds} folds are {tests} tests" if tests > 1 else f"{folds} folds are one test"
    note = (
        f"{what}, done again in other repeats with the same songs ({first['songs']:,} on average) and the same "
        "training songs, apart from what models draw."
    )
    if not table["folds_others"].any():
        return f"{note} There are no other folds: p-values and intervals suppose more than was tested."
    rows = []
    for row in table.itertuples():
        interval = "" if pd.isna(row.low_others) else f" ({row.low_others:+.2f} to {row.high_others:+.2f})"
        rows.append(
            {
                "model": row.model,
                "folds": f"{row.folds_repeated} and {row.folds_others}",
                "MSE there": f"{row.mse_repeated:.2f}",
                f"to {against} there": f"{row.difference_repeated:+.2f}",
                "MSE on others": f"{row.mse_others:.2f}",
                f"to {against} on others": f"{row.difference_others:+.2f}{interval}",
            }
        )
    note += (
        f" Differences to {against} there and, with corrected {100 * LEVEL:g} % intervals, on the other folds, each "
        "over the folds that both have."
    )
    return note + "\n\n" + _markdown(pd.DataFrame(rows), {}, list(rows[0]))


def _skipped(folds: pd.DataFrame) -> str:
    left = folds.dropna(subset="skipped").drop_duplicates(["cutoff", "repeat", "fold"])
    lines = [
        f"- cut-off {cutoff}, repeat {repeat}, fold {fold}: {reason}"
        for cutoff, repeat, fold, reason in left[["cutoff", "repeat", "fold", "skipped"]].itertuples(index=False)
    ]
    return "Folds left out:\n\n" + "\n".join(lines) if lines else ""


def _intervals(table: pd.DataFrame, low: str, high: str) -> list[str]:
    ends = zip(table[low], table[high], strict=True)
    return ["-" if pd.isna(a) else f"{a:+.2f} to {b:+.2f}" for a, b in ends]


def _hits(protocol: Protocol) -> str:
    quantiles = ", ".join(f"{name} {share:g}" for name, share in QUANTILES.items() if name in protocol.cutoffs)
    named = f" Quantiles are those of the training songs: {quantiles}." if quantiles else ""
    return (
        f"A hit has at least the popularity `value`.{named} Songs at or above the `threshold` are called hits; it has "
        f"the highest F1 on one of {INNER_FOLDS} parts of the training songs (fewer where the groups allow no more), "
        "held out by the rule of the split, for a model fitted to the other parts; then the model is fitted to all of "
        "them. `majority`: accuracy of always saying what is more frequent. Folds without hits in one of these parts "
        "are left out. `auroc to` a model: paired difference on the same folds, above 0 for the better, and its "
        f"corrected {100 * LEVEL:g} % interval.{_balances(protocol)}"
    )


def _balances(protocol: Protocol) -> str:
    """What models of hits do about hits being few, inside the songs that they are fitted to."""
    found: dict[str, list[str]] = {}
    for name, settings in protocol.hits.items():
        if (balance := completed(settings).get("balance")) is not None:
            found.setdefault(balance, []).append(name)
    told = {"weights": "hits and others weigh the same", "undersample": "as many others as hits", "none": "nothing"}
    balances = "; ".join(f"{told[balance]}: {', '.join(names)}" for balance, names in found.items())
    return f" Balanced inside the songs that a model is fitted to: {balances}." if balances else ""


def _hit_table(table: pd.DataFrame) -> str:
    left = ["cutoff", "model", "folds"]
    if "reference" in table and (reference := next(iter(table["reference"].dropna()), None)) is not None:
        left.append(column := f"auroc to {reference}")
        ends = zip(table["auroc_difference"], table["auroc_low"], table["auroc_high"], strict=True)
        told = [_with_interval(*one) for one in ends]
        table = table.copy()
        table.insert(table.columns.get_loc("auroc") + 1, column, told)
    return _markdown(table, _HIT_DIGITS, left)


def _with_interval(mean: float, low: float, high: float) -> str:
    if pd.isna(mean):
        return "-"
    return f"{mean:+.3f}" if pd.isna(low) else f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


def _markdown(table: pd.DataFrame, digits: dict[str, int], left: list[str]) -> str:
    columns = [name for name in table if name in digits or name in left or name.endswith(("folds", "songs"))]

    def cell(name: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        if pd.isna(value):
            return "-"
        if name == "p_value":
            return "< .001" if value < 0.0005 else f"{value:.3f}"
        sign = "+" if name == "difference" else ""
        return f"{value:{sign}.{digits.get(name, 0)}f}"

    rows = [[cell(name, value) for name, value in zip(columns, row, strict=True)] for row in table[columns].values]
    head = [_HEADS.get(name, name.replace("_", " ")) for name in columns]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
