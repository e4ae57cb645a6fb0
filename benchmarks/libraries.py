"""An epoch of ours, DeepTab's Mambular, pytabkit's RealMLP and TabM: ``python benchmarks/libraries.py``.

All get the same songs (made by ``rows.py``, which must run first) with the same numeric columns and categories; ours
reads the title as well. Each has its library's defaults except for the batch size. CPU time of the whole process,
without the fixed cost of a fit: the difference between a longer and a shorter one, divided by the epochs between them.
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
from rows import FILE
from torch import Tensor

from popularity.features.base import Inputs
from popularity.models.heads import HistogramHead

SHORT, LONG = 1, 3  # epochs
SCALED = "DeepTab's Mambular"  # a step takes it tens of seconds: one is measured, and scaled to the songs of all
SLOW = 10.0  # seconds of a short fit from which on one more epoch must do


def songs() -> dict[str, Tensor]:
    """Encoded songs and their popularity."""
    return {name: torch.from_numpy(values) for name, values in np.load(FILE).items()}


def ours(epochs: int) -> None:
    """The network and the loop of ``epoch.py``."""
    data = songs()
    head = HistogramHead()
    sizes = {"numeric": data["numeric"].shape[1], "bins": data["bins"].shape[2], "title": data["title"].shape[1]}
    net = epoch.network(Inputs(codes=epoch.INPUTS.codes, **sizes), head)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    for _ in range(epochs):
        epoch.train(net, head, data, optimizer)


def rows() -> tuple[pd.DataFrame, np.ndarray]:
    """Columns and popularity; a missing number is the mean, 0, since not all of the libraries take gaps."""
    data = np.load(FILE)
    numeric = pd.DataFrame(np.nan_to_num(data["numeric"])).add_prefix("numeric_")
    category = pd.DataFrame(data["category"]).astype(str).add_prefix("category_")
    return pd.concat([numeric, category], axis=1), data["popularity"]


def mambular(epochs: int) -> None:
    """DeepTab's Mamba for tables, on one training batch and a fifth of it for validation: see ``SCALED``."""
    from deeptab.models import MambularRegressor

    x, y = rows()
    few = epoch.BATCH * 5 // 4
    MambularRegressor().fit(x[:few], y[:few], max_epochs=epochs, batch_size=epoch.BATCH)


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


def seconds(fit: Callable[[int], None], epochs: int) -> float:
    """CPU time of a fit."""
    start = time.process_time()
    fit(epochs)
    return time.process_time() - start


def main() -> None:
    """Measure, print, save."""
    if not FILE.exists():
        raise SystemExit(f"{FILE} is not there: run benchmarks/rows.py in the package's environment first")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    candidates: dict[str, Callable[[int], None]] = {
        "ours": ours, "RealMLP": realmlp, "TabM": tabm, SCALED: mambular,
    }  # fmt: skip
    figures = {}
    for name, fit in candidates.items():
        try:
            warm = seconds(fit, SHORT)  # what is imported or compiled the first time is not an epoch's work
        except ImportError as error:
            print(f"left out: {name} ({error})")
            continue
        longer = LONG if warm < SLOW else SHORT + 1
        figures[name] = (seconds(fit, longer) - seconds(fit, SHORT)) / (longer - SHORT)
        if name == SCALED:
            figures[name] *= len(rows()[1]) / (epoch.BATCH * 5 // 4)
        print(name, figures[name], flush=True)
    cells = [[name, f"{seconds:.2f}", f"{seconds / figures['ours']:.1f}"] for name, seconds in figures.items()]
    text = f"one epoch of {len(rows()[1])} songs, batch {epoch.BATCH}; {SCALED}: one batch, scaled\n\n" + table(
        ["network", "CPU s", "ratio"], cells
    )
    save("libraries", figures, text)


if __name__ == "__main__":
    main()
