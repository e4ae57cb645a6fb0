"""Paired differences to any model of a comparison: python benchmarks/against.py FOLDER ... --reference mamba

The comparison's own summary is against one reference. This writes `against_MODEL.csv` beside it, from the folder's
`folds.parquet`: for each model the mean difference of MSE over the folds that both have, its 95 % interval and p-value
(corrected resampled t-test, Nadeau & Bengio 2003), and the folds in which the model has the lower error.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from popularity.evaluation.summary import compare
from popularity.files import write_atomically


def main() -> int:
    """Write and print one table per folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--reference", default="mamba")
    options = parser.parse_args()
    for folder in options.folders:
        if not (folder / "folds.parquet").is_file():
            print(f"error: {folder}: no folds.parquet; run `python -m popularity compare` first", file=sys.stderr)
            return 2
        table = compare(pd.read_parquet(folder / "folds.parquet"), options.reference)
        if table.empty:
            print(f"error: {folder}: {options.reference} has no results there", file=sys.stderr)
            return 2
        with write_atomically(folder / f"against_{options.reference}.csv") as file:
            table.to_csv(file, index=False, float_format="%.6g", lineterminator="\n")
        print(folder, table.to_string(index=False), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
