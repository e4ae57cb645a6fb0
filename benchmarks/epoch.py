"""An epoch of a model of feature tokens, with our block and with transformers' mixer: ``python benchmarks/epoch.py``.

One member like those of ``configs/audio.yaml`` on random songs of the right shapes, with its loss and optimiser; CPU
time, the two in turn.
"""

from __future__ import annotations

import copy

import torch
from common import cpu_clock, median_times, save, table
from peers import transformers
from torch import Tensor, nn

from popularity.features.base import Inputs
from popularity.models.feature_tokens import FeatureTokensMamba
from popularity.models.heads import HistogramHead
from popularity.models.mamba import Mamba

SONGS, BATCH, ROUNDS = 6000, 128, 3
INPUTS = Inputs(numeric=12, bins=8, codes=(13, 3, 8, 3, 129, 129), title=16)


def songs() -> dict[str, Tensor]:
    """Random inputs like those of the encoder."""
    features = INPUTS.numeric + len(INPUTS.codes) + 1
    return {
        "numeric": torch.randn(SONGS, INPUTS.numeric),
        "bins": torch.rand(SONGS, INPUTS.numeric, INPUTS.bins),
        "category": torch.stack([torch.randint(codes, (SONGS,)) for codes in INPUTS.codes], 1),
        "title": torch.randn(SONGS, INPUTS.title),
        "present": torch.ones(SONGS, features, dtype=torch.bool),
        "popularity": 100 * torch.rand(SONGS),
    }


def network(inputs: Inputs, head: HistogramHead) -> FeatureTokensMamba:
    """One small member."""
    return FeatureTokensMamba(inputs, head.outputs, members=1, width=32, layers=1, dropout=0.3, feature_dropout=0.15)


def with_mixer(net: nn.Module) -> nn.Module:
    """The same network with every block replaced."""
    net = copy.deepcopy(net)
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Mamba):
                setattr(module, name, transformers(child))
    return net


def train(net: nn.Module, head: HistogramHead, data: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    """One epoch."""
    for rows in torch.randperm(len(data["popularity"])).split(BATCH):
        batch = {name: tensor[rows] for name, tensor in data.items()}
        optimizer.zero_grad()
        head.loss(net(batch), batch["popularity"]).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()


def main() -> None:
    """Measure, print, save."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = songs()
    head = HistogramHead()
    ours = network(INPUTS, head)
    nets = {"ours": ours, "transformers' mixer": with_mixer(ours)}
    optimizers = {name: torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True) for name, net in nets.items()}
    runs = {name: (lambda name=name, net=net: train(net, head, data, optimizers[name])) for name, net in nets.items()}
    times = {name: seconds * 1e3 for name, seconds in median_times(runs, ROUNDS, cpu_clock()).items()}
    ratio = times["transformers' mixer"] / times["ours"]
    rows = [[name, f"{value:.0f}"] for name, value in times.items()]
    text = f"one epoch of {SONGS} songs, CPU time: {ratio:.1f} times as fast\n\n" + table(["network", "ms"], rows)
    save("epoch", times | {"ratio": ratio}, text)


if __name__ == "__main__":
    main()
