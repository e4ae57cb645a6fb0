"""What `fit` costs beside a bare loop with the same network: ``python benchmarks/overhead.py``.

Both train and validate on the same batches with the same optimiser, schedule, clipping and average of the weights;
`fit` also logs, computes its metrics, keeps checkpoints and looks whether to stop. CPU time of whole epochs, not the
first.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from common import save, table
from torch import Tensor

from popularity.__main__ import main as popularity
from popularity.data.batches import TensorBatches
from popularity.data.datamodule import PopularityDataModule
from popularity.models.regressor import MambaRegressor
from popularity.training.module import PopularityModule
from popularity.training.optim import decay_groups

CONFIG = Path(__file__).parents[1] / "configs" / "mamba.yaml"
TURNS = 3


def fit_epochs(epochs: int) -> list[float]:
    """Seconds of each epoch of `fit` but the first."""
    starts: list[float] = []
    before = PopularityModule.on_train_epoch_start

    def on_train_epoch_start(self: PopularityModule) -> None:
        starts.append(time.thread_time())
        before(self)

    PopularityModule.on_train_epoch_start = on_train_epoch_start  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            popularity(["fit", "--config", str(CONFIG), "--log_dir", folder, "--trainer.max_epochs", str(epochs + 2)])
    finally:
        PopularityModule.on_train_epoch_start = before  # type: ignore[method-assign]
    return [end - start for start, end in pairwise(starts[1:])]


def bare_epochs(epochs: int, settings: dict[str, Any]) -> list[float]:
    """Seconds of each epoch of a bare loop but the first."""
    data = PopularityDataModule(**settings["data"])
    data.setup("fit")
    module = PopularityModule(**settings["model"])
    module.encoder.fit(data.songs("train"))
    net, average = module.net, PopularityModule(**settings["model"]).net
    assert isinstance(net, MambaRegressor)
    net.tokens.edges.copy_(torch.from_numpy(module.encoder.edges))
    net.tokens.present.copy_(torch.from_numpy(module.encoder.present))

    def tensors(part: str) -> dict[str, Tensor]:
        songs = data.songs(part)
        return module.encoder.encode(songs) | {
            "popularity": torch.from_numpy(songs["popularity"].to_numpy("float32", copy=True))
        }

    size = settings["data"]["batch_size"]
    times: list[float] = []
    train = TensorBatches(tensors("train"), size, shuffle=True, epoch=lambda: len(times))
    validation = TensorBatches(tensors("validation"), size)
    decayed, kept = decay_groups(net)
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": kept, "weight_decay": 0.0}], lr=2e-3, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 60))
    averaged, current = list(average.parameters()), list(net.parameters())
    for _ in range(epochs + 1):
        start = time.thread_time()
        net.train()
        for batch in train:
            loss = net.head.loss(net(batch), batch["popularity"])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(current, 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                torch._foreach_lerp_(averaged, current, 0.01)
        average.eval()
        with torch.no_grad():
            for batch in validation:
                net.head.predict(average(batch)).sub_(batch["popularity"]).square_().mean()
        times.append(time.thread_time() - start)
    return times[1:]


def main() -> None:
    """Measure in turn, print, save."""
    import yaml

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    epochs = parser.parse_args().epochs
    torch.set_num_threads(1)
    settings = yaml.safe_load(CONFIG.read_text())
    fit, bare = [], []
    for _ in range(TURNS):
        fit += fit_epochs(epochs)
        bare += bare_epochs(epochs, settings)
    times = {"fit": statistics.median(fit) * 1e3, "bare loop": statistics.median(bare) * 1e3}
    over = 100 * (times["fit"] / times["bare loop"] - 1)
    rows = [[name, f"{value:.0f}"] for name, value in times.items()]
    text = f"one epoch of configs/mamba.yaml, CPU time: overhead {over:.1f} %\n\n" + table(["", "ms"], rows)
    save("overhead", times | {"overhead %": over}, text)


if __name__ == "__main__":
    main()
