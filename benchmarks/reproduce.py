"""Were results reproduced? ``python benchmarks/reproduce.py results/spotify_4771_random FOLDER``

Compares the means of ``summary.csv`` in the two folders for the models that both have on equally many folds, and exits
with 1 if an MSE differs by more than a ten thousandth. Seconds are left out: they belong to a machine.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

SCORES = ["mse", "rmse", "mae", "r2", "spearman", "mse_sd"]
TOLERANCE = 1e-4  # relative, of MSE


def compared(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """A row per model that both summaries have on equally many folds: MSEs and the largest relative difference.

    Args:
        first: `model, folds` and scores.
        second: the same.

    Returns:
        `model, folds, mse, mse_again, largest` (over all scores).
    """
    both = first.merge(second, on=["model", "folds"], suffixes=("", "_again"))
    parts = [(both[f"{name}_again"] - both[name]).abs() / both[name].abs().clip(lower=1e-9) for name in SCORES]
    both["largest"] = pd.concat(parts, axis=1).max(axis=1)
    return both[["model", "folds", "mse", "mse_again", "largest"]]


def main() -> int:
    """Print the table."""
    if len(sys.argv) != 3:
        print("usage: python benchmarks/reproduce.py FOLDER FOLDER", file=sys.stderr)
        return 2
    table = compared(*(pd.read_csv(Path(folder) / "summary.csv") for folder in sys.argv[1:]))
    print(table.to_string(index=False, float_format=lambda value: f"{value:.6g}"))
    other = (table["mse_again"] - table["mse"]).abs() > TOLERANCE * table["mse"]
    print(f"{len(table)} models on equally many folds, {int(other.sum())} with another MSE")
    return int(other.any() or table.empty)


if __name__ == "__main__":
    sys.exit(main())
