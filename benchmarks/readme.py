"""Writes the comparison's table into the README from results/*/summary.csv: ``python benchmarks/readme.py``.

With ``--check`` nothing is written, and the exit code says whether the README is what it would be.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("random", "artist", "credits")
BEGIN, END = "<!-- comparison: written by benchmarks/readme.py -->", "<!-- end of the comparison -->"


def table(results: Path) -> str:
    """One row per model, the best on `random` first; ratio of mean MSE to linear regression's, and folds."""
    found = {}
    for split in SPLITS:
        path = results / f"spotify_4771_{split}" / "summary.csv"
        if path.exists():
            found[split] = pd.read_csv(path).set_index("model")
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


def main() -> int:
    """Write or check."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    fresh = f"{before}{BEGIN}\n\n{table(ROOT / 'results')}\n\n{END}{after}"
    if "--check" in sys.argv:
        return int(fresh != text)
    path.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
