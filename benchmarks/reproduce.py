"""Were results reproduced? ``python benchmarks/reproduce.py results/spotify_4771_random FOLDER``

Compares the means in ``summary.csv``, and in ``hit_summary.csv`` if both folders have one, for the models that both
have on the same number of folds, and exits with 1 if an MSE or AUROC differs by more than 0.1 %. Seconds are left out:
they depend on the machine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

#: File -> what identifies a row, and its metrics, first the one that decides.
TABLES = {
    "summary.csv": (["model", "folds"], ["mse", "rmse", "mae", "r2", "spearman", "mse_sd"]),
    "hit_summary.csv": (
        ["cutoff", "model", "folds"],
        ["auroc", "threshold", "average_precision", "f1", "precision", "recall", "brier", "calibration_error"],
    ),
}
TOLERANCE = 1e-3  # relative


def compared(first: pd.DataFrame, second: pd.DataFrame, keys: list[str], scores: list[str]) -> pd.DataFrame:
    """One row per row that both tables have.

    Args:
        first: columns ``keys`` and ``scores``.
        second: the same.
        keys: what identifies a row.
        scores: metrics to compare.

    Returns:
        ``keys``, the first score of both, and the largest relative difference ``of_it`` and ``of_any`` score.
    """
    both = first.merge(second, on=keys, suffixes=("", "_again"))
    far = {name: (both[f"{name}_again"] - both[name]).abs() / both[name].abs().clip(lower=1e-9) for name in scores}
    for name in scores:  # missing in both is equal
        far[name] = far[name].mask(both[name].isna() & both[f"{name}_again"].isna(), 0)
    both["of_it"], both["of_any"] = far[scores[0]], pd.DataFrame(far).max(axis=1)
    return both[[*keys, scores[0], f"{scores[0]}_again", "of_it", "of_any"]]


def main(folders: list[str]) -> int:
    """Print the tables; the exit code."""
    if len(folders) != 2:
        print("usage: python benchmarks/reproduce.py FOLDER FOLDER", file=sys.stderr)
        return 2
    code = 0
    protocols = [
        json.loads((Path(folder) / "protocol.json").read_text(encoding="utf-8"))
        for folder in folders
        if (Path(folder) / "protocol.json").is_file()
    ]
    for key in ("fingerprint", "split", "folds", "seed"):
        if len({protocol[key] for protocol in protocols}) > 1:
            print(f"{' and '.join(folders)} have different folds: {key} differs", file=sys.stderr)
            return 2
    for name, (keys, scores) in TABLES.items():
        paths = [Path(folder) / name for folder in folders]
        if lacking := [path for path in paths if not path.is_file()]:
            print(f"{lacking[0]}: no such file, {name} is not compared")
            code = 2 if name == "summary.csv" else code
            continue
        first, second = (pd.read_csv(path, dtype={"cutoff": str}) for path in paths)
        table = compared(first, second, keys, scores)
        print(table.to_string(index=False, float_format=lambda value: f"{value:.6g}"))
        left = sorted({*first["model"], *second["model"]} - {*table["model"]})
        print(f"not in both, or with other numbers of folds: {', '.join(left) or 'none'}")
        other = int((~(table["of_it"] <= TOLERANCE)).sum())  # missing in one only is a difference
        print(f"{name}: {len(table)} rows on the same number of folds, {other} with a different {scores[0]}\n")
        code = max(code, int(other > 0 or table.empty))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
