"""Writes the README's tables of results from files under results/: ``python benchmarks/readme.py``.

With ``--check`` nothing is written, and the exit code says whether the README is what it would be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("random", "artist", "credits")
ABLATIONS = tuple(sorted(path.stem for path in (ROOT / "configs" / "ablations").glob("*.yaml")))


def comparison(results: Path) -> str:
    """One row per model, the best on `random` first; mean MSE, ratio to linear regression's, and folds."""
    found = {}
    for split in SPLITS:
        path = results / f"spotify_4771_{split}" / "summary.csv"
        if path.exists():
            summary = pd.read_csv(path).set_index("model")
            found[split] = summary.loc[[name for name in summary.index if name not in ABLATIONS]]
    order: list[str] = []
    for summary in found.values():
        order += [name for name in summary.sort_values("ratio_to_reference").index if name not in order]
    lines = [
        "| model | " + " | ".join(f"`{split}`: MSE (ratio to linear, folds)" for split in found) + " |",
        "| --- |" + " --- |" * len(found),
    ]
    for name in order:
        cells = []
        for summary in found.values():
            if name in summary.index:
                row = summary.loc[name]
                cells.append(f"{row['mse']:.2f} ({row['ratio_to_reference']:.3f}, {int(row['folds'])})")
            else:
                cells.append("-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ablations(results: Path) -> str:
    """What MSE gains when a part is taken away, with paired intervals; the dearest part first."""
    found = {}
    for split in SPLITS:
        path = results / f"spotify_4771_{split}" / "against_mamba.csv"
        if path.exists():
            table = pd.read_csv(path).set_index("model")
            table = table.loc[[name for name in table.index if name in ABLATIONS]]
            if len(table):
                found[split] = table.sort_values("difference", ascending=False)
    if not found:
        return "Not run yet."
    order: list[str] = []
    for table in found.values():
        order += [name for name in table.index if name not in order]
    lines = [
        "| without | " + " | ".join(f"`{split}`: MSE more (95 %; worse in)" for split in found) + " |",
        "| --- |" + " --- |" * len(found),
    ]
    for name in order:
        cells = []
        for table in found.values():
            if name in table.index:
                row = table.loc[name]
                worse = int(row["folds"] - row["wins"])
                interval = f"{row['low']:+.2f} to {row['high']:+.2f}"
                cells.append(f"{row['difference']:+.2f} ({interval}; {worse} of {int(row['folds'])})")
            else:
                cells.append("-")
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def claims(results: Path) -> str:
    """The table of claims as its command wrote it, beside the comparison whose report shows it too."""
    path = results / "spotify_4771_random" / "claims.md"
    return path.read_text(encoding="utf-8").strip() if path.exists() else "Not run yet."


BLOCKS: dict[str, Callable[[Path], str]] = {"comparison": comparison, "ablations": ablations, "claims": claims}


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
