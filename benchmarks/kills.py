"""Kill a fit by SIGKILL again and again, resume it each time, compare: ``python benchmarks/kills.py --kills 20``.

Every other kill hits an epoch, the others hit a checkpoint that is being written: what is left of its file shows that.
A fit of the same config that nobody kills says what weights, optimiser and metrics the other one must end with.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from common import save, table

from popularity.data.sources import EMBEDDED_FILE

#: Processes of a server that has imported the package: a fit begins at once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["popularity.cli"])
EVERY = 20  # of the embedded songs, one in so many: 300
SMALL = shlex.split("""
--model.net.width=8 --model.net.d_state=4 --model.net.members=1 --choice.calibrate=false --choice.members=false
--data.batch_size=32 --trainer.accelerator=cpu --trainer.enable_progress_bar=false --trainer.log_every_n_steps=1
--plots.every_n_epochs=0 --early_stopping.patience=1000000 --name=run
""")


def command(arguments: list[str], log: Path) -> None:
    """The command line in a process of its own."""
    from popularity import __main__

    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    torch.set_num_threads(1)
    sys.argv = ["popularity", *arguments]
    os._exit(__main__.run())


def start(folder: Path, songs: Path, epochs: int, *more: str) -> ForkServerProcess:
    """Begin a fit, or go on with it."""
    arguments = ["fit", f"--log_dir={folder}", f"--data.source={songs}", f"--trainer.max_epochs={epochs}", *SMALL]
    process = PROCESSES.Process(target=command, args=([*arguments, *more], folder / "log"), daemon=True)
    process.start()
    return process


def parts(checkpoints: Path) -> dict[str, int]:
    """Bytes by name of the files that are being written, or were when somebody was killed."""
    found = {}
    for path in checkpoints.glob(".last.ckpt.*.part"):
        with suppress(FileNotFoundError):  # just completed
            found[path.name] = path.stat().st_size
    return found


def wait(process: ForkServerProcess, until: Callable[[], bool]) -> None:
    """Wait for a moment, or until the process ends."""
    while process.is_alive() and not until():
        time.sleep(0.0005)


def written(checkpoints: Path) -> int:
    """When the last checkpoint was completed, 0 if there is none."""
    try:
        return (checkpoints / "last.ckpt").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def kill(process: ForkServerProcess, checkpoints: Path, *, writing: bool, chance: random.Random) -> str | None:
    """Kill a fit at a random moment; what the moment was, None if it was too late."""
    before, began = parts(checkpoints), written(checkpoints)
    wait(process, lambda: written(checkpoints) != began)
    if writing:
        size = chance.uniform(0, 1) * (checkpoints / "last.ckpt").stat().st_size
        wait(process, lambda: any(one >= size for name, one in parts(checkpoints).items() if name not in before))
    else:
        time.sleep(chance.uniform(0, 0.5))
    process.kill()
    process.join()
    if process.exitcode == 0:
        return None
    left = [size for name, size in parts(checkpoints).items() if name not in before]
    return f"{left[0]:,} bytes of a checkpoint written" if left else "in an epoch"


def state(checkpoint: Path) -> dict[str, Any]:
    """The tensors of the network, of its running weights and of the optimiser."""
    found = torch.load(checkpoint, weights_only=True)
    groups = {kind: found[kind] for kind in ("state_dict", "current_model_state")}
    groups |= found["optimizer_states"][0]["state"]
    return {f"{group}.{name}": one for group, tensors in groups.items() for name, one in tensors.items()}


def same(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same bits."""
    ours, theirs = state(one), state(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def killed_run(folder: Path, songs: Path, kills: int, seed: int) -> tuple[Path, list[list[object]]]:
    """A fit that is killed and resumed until it ends: its folder, and a row for each kill."""
    chance, rows, more = random.Random(seed), list[list[object]](), list[str]()
    checkpoints = folder / "run" / "version_0" / "checkpoints"
    while True:
        process = start(folder, songs, 4 * kills, *more)
        told = None
        if len(rows) < kills:
            told = kill(process, checkpoints, writing=len(rows) % 2 == 1, chance=chance)
        process.join()
        if told is None:
            break
        found = checkpoints / "last.ckpt"
        rows.append([len(rows) + 1, told, torch.load(found, weights_only=True)["epoch"]])
        more = ["--ckpt_path=last"]
    if process.exitcode != 0:
        raise SystemExit((folder / "log").read_text())
    return checkpoints.parent, rows


def main() -> None:
    """Kill, compare, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        whole, killed, songs = Path(name) / "whole", Path(name) / "killed", Path(name) / "songs.parquet"
        whole.mkdir(), killed.mkdir()
        pd.read_parquet(EMBEDDED_FILE).iloc[::EVERY].to_parquet(songs)
        start(whole, songs, 4 * arguments.kills).join()
        run, rows = killed_run(killed, songs, arguments.kills, arguments.seed)
        one = whole / "run" / "version_0"
        names = ("checkpoints/last.ckpt", "checkpoints/best.ckpt")
        checks = {name: same(one / name, run / name) for name in names}
        checks["metrics.csv"] = (one / "metrics.csv").read_text() == (run / "metrics.csv").read_text()
        checks["one folder"] = len(list(run.parent.iterdir())) == 1
    said = ", ".join(f"{name}: {'the same' if held else 'NOT THE SAME'}" for name, held in checks.items())
    text = f"{len(rows)} kills of a fit of {4 * arguments.kills} epochs; {said}\n\n"
    save("kills", {"kills": rows, **checks}, text + table(["kill", "hit", "went on after epoch"], rows))
    if not all(checks.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
