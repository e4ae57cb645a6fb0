"""A fit in two processes beside one with the same global batches: ``python benchmarks/processes.py``.

Each way in which Lightning starts processes on a CPU trains the same small network. Dropout is off: its random numbers
are those of a process. A row says how far the metrics of each epoch and of the test are from those of one process.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from common import save, table

from popularity.data.sources import EMBEDDED_FILE

EVERY = 20  # of the embedded songs, one in so many: 300
EPOCHS = 3
SMALL = shlex.split(f"""
--model.net.width=8 --model.net.d_state=4 --model.net.members=1 --choice.calibrate=false --choice.members=false
--model.net.dropout=0 --model.net.feature_dropout=0 --model.net.interaction_dropout=0
--trainer.log_every_n_steps=1 --plots.every_n_epochs=0
--trainer.accelerator=cpu --trainer.enable_progress_bar=false --name=run --trainer.max_epochs={EPOCHS}
""")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
#: Name -> what stands before ``-m popularity``, strategy.
WAYS: dict[str, tuple[list[str], str]] = {
    "ddp": ([sys.executable], "ddp"),
    "ddp_spawn": ([sys.executable], "ddp_spawn"),
    "ddp_fork": ([sys.executable], "ddp_fork"),
    "torchrun": (TORCHRUN, "ddp"),
    "fsdp": ([sys.executable], "fsdp"),
}


def fit(before: list[str], folder: Path, songs: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """One fit by the command line."""
    command = [*before, "-m", "popularity", "fit", f"--log_dir={folder}", f"--data.source={songs}", *SMALL, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def metrics(folder: Path) -> pd.DataFrame:
    """The rows of a run's metrics that come once an epoch or once in all, by epoch and step."""
    rows = pd.read_csv(folder / "run" / "version_0" / "metrics.csv").set_index(["epoch", "step"])
    scored = [name for name in rows if name.startswith(("val/", "test/"))]
    return rows[scored].dropna(how="all")


def _alike(found: pd.DataFrame, one: pd.DataFrame) -> bool:
    return found.index.equals(one.index) and set(found) == set(one)


def row(name: str, folder: Path, result: subprocess.CompletedProcess[str], one: pd.DataFrame) -> list[object]:
    """What came of one way."""
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        told = next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else "")
        return [name, f"exit code {result.returncode}: {told[:160]}", "", "", ""]
    found = metrics(folder)
    away = (
        f"{((found - one).abs() / one.abs().clip(lower=1)).max(axis=None):.1e}" if _alike(found, one) else "other rows"
    )
    epochs = found[found.get("val/mse", found["test/mse"]).notna()].index.get_level_values("epoch")
    once = "once" if sorted(epochs) == list(range(EPOCHS)) else f"epochs {list(epochs)}"
    folders = len(list((folder / "run").iterdir()))
    return [name, away, once, folders, result.stdout.count("test songs of")]


def main() -> None:
    """Fit in each way, compare, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    ways = parser.parse_args().ways
    with tempfile.TemporaryDirectory() as name:
        songs = Path(name) / "songs.parquet"
        pd.read_parquet(EMBEDDED_FILE).iloc[::EVERY].to_parquet(songs)
        alone = fit([sys.executable], Path(name) / "one", songs, "--data.batch_size=32")
        if alone.returncode:
            raise SystemExit(alone.stderr)
        one, rows = metrics(Path(name) / "one"), list[list[object]]()
        for way in ways:
            before, strategy = WAYS[way]
            several = ["--trainer.devices=2", f"--trainer.strategy={strategy}", "--data.batch_size=16"]
            rows.append(row(way, Path(name) / way, fit(before, Path(name) / way, songs, *several), one))
            print(rows[-1], flush=True)
    header = ["way", "largest difference, relative above 1", "rows of an epoch", "folders", "tables printed"]
    save("processes", rows, table(header, rows))


if __name__ == "__main__":
    main()
