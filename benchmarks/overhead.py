"""What `fit` costs beside a bare loop with the same network: ``python benchmarks/overhead.py``.

Both train and validate on the same batches with the same optimiser, schedule, clipping and average of the weights;
`fit` also logs, computes its metrics, keeps checkpoints and checks whether to stop. Before each epoch of `fit` the bare
loop runs one of its own, in the same process, so that both see the same machine; the result is the median over such
pairs. Times are CPU time of the thread. `fit` makes plots every tenth epoch: their share is given beside the result.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from typing import Any

import torch
from common import save, table
from lightning.pytorch import Callback, LightningModule, Trainer

from popularity.training.batches import Order, SongBatches
from popularity.training.fit import build_fit, read_config
from popularity.training.optim import decay_groups

CONFIG = "audio"
EVERY = 10  # epochs from plots to plots: the default


class Bare:
    """The bare loop: the network of the config, its data and optimiser."""

    def __init__(self) -> None:
        fit = build_fit(read_config([CONFIG]), trainer={"logger": False, "enable_checkpointing": False})
        data, module = fit.datamodule, fit.module
        data.setup("fit")
        self.net, self.head, self.average = module.net, module.head, copy.deepcopy(module.net)
        self.epochs = 0
        options: dict[str, Any] = {"batch_size": data.hparams["batch_size"], "samples": data.hparams["samples"]}
        order = Order(shuffle=True, epoch=lambda: self.epochs)
        self.train = SongBatches(data.encoder, data.songs("train"), training=True, order=order, **options)
        self.validation = SongBatches(data.encoder, data.songs("validation"), **options)
        decayed, kept = decay_groups(self.net)
        groups = [{"params": decayed, "weight_decay": module.weight_decay}, {"params": kept, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=module.learning_rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: min(1.0, (step + 1) / 60))

    def epoch(self) -> None:
        """Train and validate once."""
        averaged, current = list(self.average.parameters()), list(self.net.parameters())
        self.net.train()
        for batch in self.train:
            loss = self.head.loss(self.net(batch), batch["popularity"])
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
                prediction = self.head.predict(self.head.mix(self.average(batch)))
                prediction.sub_(batch["popularity"]).square_().mean()
        self.epochs += 1


class TakeTurns(Callback):
    """Runs an epoch of the bare loop before each epoch of `fit`, and notes the times of both."""

    def __init__(self, bare: Bare) -> None:
        self.bare = bare
        self.ends: list[float] = []
        self.starts: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """An epoch of `fit` has just ended, unless this is the first."""
        self.ends.append(time.thread_time())
        self.bare.epoch()
        self.starts.append(time.thread_time())


def measure(epochs: int, bare: Bare) -> tuple[list[float], list[float]]:
    """Seconds of each epoch of `fit`, and of the bare loop's before it; the first two epochs are for warming up."""
    turns = TakeTurns(bare)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"log_dir": folder, "trainer.max_epochs": epochs + 3, "early_stopping.patience": epochs + 3}
        build_fit(read_config([CONFIG], settings), callbacks=[turns], trainer={"enable_progress_bar": False}).run()
    bares = [start - end for end, start in zip(turns.ends, turns.starts, strict=True)]
    fits = [end - start for start, end in zip(turns.starts, turns.ends[1:], strict=False)]
    return fits[2:], bares[2:-1]


def main() -> None:
    """Measure in turn, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs
    torch.set_num_threads(1)
    fit, bare = measure(epochs, Bare())
    plotted = fit[EVERY - 2 :: EVERY]  # the first two epochs are not among the measured
    ratios = [ours / theirs for ours, theirs in zip(fit, bare, strict=True)]
    plain = [ratio for i, ratio in enumerate(ratios) if i % EVERY != EVERY - 2]
    over = 100 * (statistics.median(plain) - 1)
    milliseconds = {"fit": statistics.median(fit) * 1e3, "bare loop": statistics.median(bare) * 1e3}
    text = (
        f"one epoch of configs/{CONFIG}.yaml, CPU time, median of {len(plain)} pairs: fit takes {over:.1f} % longer "
        "than the bare loop"
    )
    results = milliseconds | {"overhead %": over}
    if plotted:
        extra = 100 * (statistics.median(ratios[EVERY - 2 :: EVERY]) - statistics.median(plain)) / EVERY
        milliseconds["fit, epoch with plots"] = statistics.median(plotted) * 1e3
        results |= milliseconds | {"plots %": extra}
        text += f"; plots every {EVERY} epochs add {extra:.1f} % to an epoch on average"
    rows = [[name, f"{value:.0f}"] for name, value in milliseconds.items()]
    save("overhead", results, f"{text}\n\n" + table(["", "ms"], rows))


if __name__ == "__main__":
    main()
