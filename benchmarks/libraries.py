"""An epoch of ours, DeepTab's Mambular, pytabkit's RealMLP and TabM: ``python benchmarks/libraries.py``.

The same number of random songs and of columns for all, each with its library's defaults but for the batch size; CPU
time of the whole process. What a fit costs beside its epochs is taken off: the figure is the difference between a
longer and a shorter one. Mambular's take minutes.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"  # before any library counts the cores

import epoch
import numpy as np
import pandas as pd
import torch
from common import save, table

from popularity.models.head import HistogramHead
from popularity.models.regressor import MambaRegressor

SHORT, LONG = 1, 3  # epochs
COLUMNS = [f"column_{i}" for i in range(epoch.NUMERIC + len(epoch.CODES) + epoch.TITLE)]


def ours(epochs: int) -> None:
    """Our network as in ``epoch.py``."""
    net = MambaRegressor(
        numeric=epoch.NUMERIC, bins=epoch.BINS, codes=epoch.CODES, title=epoch.TITLE, head=HistogramHead(60, 3.0),
        width=32, layers=1, dropout=0.3, feature_dropout=0.15,
    )  # fmt: skip
    data, optimizer = epoch.songs(), torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    for _ in range(epochs):
        epoch.train(net, data, optimizer)


def rows() -> tuple[pd.DataFrame, np.ndarray]:
    """Random columns and popularity."""
    generator = np.random.default_rng(0)
    columns = generator.normal(size=(epoch.SONGS, len(COLUMNS))).astype("float32")
    return pd.DataFrame(columns, columns=COLUMNS), generator.uniform(0, 100, epoch.SONGS).astype("float32")


def mambular(epochs: int) -> None:
    """DeepTab's Mamba for tables."""
    from deeptab.models import MambularRegressor

    x, y = rows()
    MambularRegressor().fit(x, y, max_epochs=epochs, batch_size=epoch.BATCH)


def realmlp(epochs: int) -> None:
    """pytabkit's tuned multi-layer perceptron."""
    from pytabkit import RealMLP_TD_Regressor

    x, y = rows()
    RealMLP_TD_Regressor(device="cpu", n_epochs=epochs, batch_size=epoch.BATCH, verbosity=0).fit(x, y)


def tabm(epochs: int) -> None:
    """pytabkit's TabM: many small networks in one."""
    from pytabkit import TabM_D_Regressor

    x, y = rows()
    TabM_D_Regressor(device="cpu", n_epochs=epochs, batch_size=epoch.BATCH, verbosity=0).fit(x, y)


def main() -> None:
    """Measure, print, save."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    candidates: dict[str, Callable[[int], None]] = {
        "ours": ours, "RealMLP": realmlp, "TabM": tabm, "DeepTab's Mambular": mambular,
    }  # fmt: skip
    figures = {}
    for name, fit in candidates.items():
        taken = []
        try:
            fit(SHORT)  # what is imported or compiled the first time is not an epoch's work
            for epochs in (SHORT, LONG):
                start = time.process_time()
                fit(epochs)
                taken.append(time.process_time() - start)
        except ImportError as error:
            print(f"left out: {name} ({error})")
            continue
        figures[name] = (taken[1] - taken[0]) / (LONG - SHORT)
        print(name, figures[name], flush=True)
    cells = [[name, f"{seconds:.2f}", f"{seconds / figures['ours']:.1f}"] for name, seconds in figures.items()]
    text = f"one epoch of {epoch.SONGS} songs, batch {epoch.BATCH}\n\n" + table(["network", "CPU s", "ratio"], cells)
    save("libraries", figures, text)


if __name__ == "__main__":
    main()
