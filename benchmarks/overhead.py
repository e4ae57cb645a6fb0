"""What `fit` costs beside a bare loop with the same network: ``python benchmarks/overhead.py``.

Both train and validate on the same batches with the same optimiser, schedule, clipping and average of the weights;
`fit` also logs, computes its metrics, keeps checkpoints and looks whether to stop. Before each epoch of `fit` the bare
loop runs one of its own, in the same process, so that both see the same machine; the figure is the median over such
pairs. CPU time of the thread. Figures are drawn every fifth epoch: their share of an epoch is stated beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from common import save, table
from torch import Tensor

from popularity.__main__ import main as popularity
from popularity.models.feature_tokens import FeatureTokensNet
from popularity.training.batches import TensorBatches
from popularity.training.datamodule import PopularityDataModule
from popularity.training.module import PopularityModule
from popularity.training.optim import decay_groups

CONFIG = Path(__file__).parents[1] / "configs" / "audio.yaml"
EVERY = 10  # epochs from figures to figures: the default


class Bare:
    """The bare loop: the network of ``configs/audio.yaml``, its data and optimiser."""

    def __init__(self, settings: dict[str, Any]) -> None:
        data = PopularityDataModule(**settings["data"])
        data.setup("fit")
        module = PopularityModule(**settings["model"])
        module.encoder.fit(data.songs("train"))
        net, average = module.net, PopularityModule(**settings["model"]).net
        assert isinstance(net, FeatureTokensNet)
        net.take_over(torch.from_numpy(module.encoder.edges), torch.from_numpy(module.encoder.present))
        self.net, self.average = net, average

        def tensors(part: str) -> dict[str, Tensor]:
            songs = data.songs(part)
            return module.encoder.encode(songs) | {
                "popularity": torch.from_numpy(songs["popularity"].to_numpy("float32", copy=True))
            }

        size = settings["data"]["batch_size"]
        self.epochs = 0
        self.train = TensorBatches(tensors("train"), size, shuffle=True, epoch=lambda: self.epochs)
        self.validation = TensorBatches(tensors("validation"), size)
        decayed, kept = decay_groups(net)
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": kept, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=2e-3, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: min(1.0, (step + 1) / 60))

    def epoch(self) -> None:
        """Train and validate once."""
        averaged, current = list(self.average.parameters()), list(self.net.parameters())
        self.net.train()
        for batch in self.train:
            loss = self.net.head.loss(self.net(batch), batch["popularity"])
            self.optimizer.zero_grad()
            loss.backward()
            for member in self.net.members:
                torch.nn.utils.clip_grad_norm_(member.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            with torch.no_grad():
                torch._foreach_lerp_(averaged, current, 0.01)
        self.average.eval()
        with torch.no_grad():
            for batch in self.validation:
                self.net.head.predict(self.average(batch)).sub_(batch["popularity"]).square_().mean()
        self.epochs += 1


def measure(epochs: int, bare: Bare) -> tuple[list[float], list[float]]:
    """Seconds of each epoch of `fit`, and of the bare loop's before it; the first two epochs are for warming up."""
    ends: list[float] = []
    bares: list[float] = []
    starts: list[float] = []
    before = PopularityModule.on_train_epoch_start

    def on_train_epoch_start(self: PopularityModule) -> None:
        ends.append(time.thread_time())
        bare.epoch()
        starts.append(time.thread_time())
        bares.append(starts[-1] - ends[-1])
        before(self)

    PopularityModule.on_train_epoch_start = on_train_epoch_start  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            arguments = ["--config", str(CONFIG), "--log_dir", folder, "--trainer.max_epochs", str(epochs + 3)]
            popularity(["fit", *arguments, "--early_stopping.patience", str(epochs + 3)])
    finally:
        PopularityModule.on_train_epoch_start = before  # type: ignore[method-assign]
    fits = [end - start for start, end in zip(starts, ends[1:], strict=False)]
    return fits[2:], bares[2:-1]


def main() -> None:
    """Measure in turn, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs
    torch.set_num_threads(1)
    fit, bare = measure(epochs, Bare(yaml.safe_load(CONFIG.read_text())))
    drawn = fit[EVERY - 2 :: EVERY]  # the first two epochs are not among the measured
    ratios = [ours / theirs for ours, theirs in zip(fit, bare, strict=True)]
    undrawn = [ratio for i, ratio in enumerate(ratios) if i % EVERY != EVERY - 2]
    over = 100 * (statistics.median(undrawn) - 1)
    extra = statistics.median(ratios[EVERY - 2 :: EVERY]) - statistics.median(undrawn)
    figures = {
        "fit": statistics.median(fit) * 1e3,
        "fit, epoch with figures": statistics.median(drawn) * 1e3,
        "bare loop": statistics.median(bare) * 1e3,
    }
    rows = [[name, f"{value:.0f}"] for name, value in figures.items()]
    text = (
        f"one epoch of configs/audio.yaml, CPU time, median of {len(undrawn)} pairs: overhead {over:.1f} %; "
        f"figures, drawn every {EVERY} epochs, add {100 * extra / EVERY:.1f} % to an epoch on average\n\n"
    ) + table(["", "ms"], rows)
    save("overhead", figures | {"overhead %": over, "figures %": 100 * extra / EVERY}, text)


if __name__ == "__main__":
    main()
