"""Songs a second of reading, encoding, the loader and training: ``python benchmarks/loader.py FOLDER``.

FOLDER holds Parquet files of songs (`benchmarks/generate.py`). CPU seconds of one thread: reading all songs, fitting
the encoder to the training songs, encoding as many new songs, one pass of the loader over the training songs, and
training steps of the default network on some of its batches (forward, backward and AdamW; two members).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import islice

import torch
from common import save, table

from popularity.training.datamodule import PopularityDataModule
from popularity.training.fit import build_fit, read_config

STEPS = 4


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(folder: str, batch_size: int) -> dict[str, float]:
    """Songs a second of each stage."""
    settings = {"data.source": folder, "data.batch_size": batch_size, "plots.every_n_epochs": 0}
    fit = build_fit(read_config(["mamba"], settings), trainer={"logger": False, "enable_checkpointing": False})
    data, module = fit.datamodule, fit.module
    assert isinstance(data, PopularityDataModule)
    data.trainer = fit.trainer
    found = {"reading": seconds(data.load)}
    assert data.table is not None
    songs = data.songs("train")
    count = len(songs)
    rates = {"reading": len(data.table.songs) / found["reading"]}
    rates["fitting the encoder"] = count / seconds(lambda: data.setup("fit"))
    rates["encoding new songs"] = count / seconds(lambda: data.encoder.encode(songs))
    loader = data.train_dataloader()
    rates["the loader"] = count / seconds(lambda: [batch["popularity"] for batch in loader])
    batches = list(islice(loader, STEPS + 1))
    optimizer = torch.optim.AdamW(module.net.parameters(), fused=True)

    def step(batch: dict[str, torch.Tensor]) -> None:
        optimizer.zero_grad()
        module.head.loss(module.net(batch), batch["popularity"]).backward()
        optimizer.step()

    step(batches[0])  # kernels are loaded
    rest = batches[1:]
    rates["training"] = sum(len(one["popularity"]) for one in rest) / seconds(lambda: [step(one) for one in rest])
    return rates


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--batch_size", type=int, default=4096)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rates = measure(options.folder, options.batch_size)
    rows = [[name, f"{rate:,.0f}", f"{rate / rates['training']:.1f}"] for name, rate in rates.items()]
    text = table(["stage", "songs a second", "times training"], rows)
    save("loader", {"batch_size": options.batch_size, **rates}, f"batches of {options.batch_size:,}\n\n{text}")


if __name__ == "__main__":
    main()
