"""What a trained network says of songs, without a Trainer."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from popularity.features.base import Encoder
from popularity.training.batches import SongBatches
from popularity.training.module import PopularityModule


@torch.no_grad()
def raw_outputs(
    module: PopularityModule, encoder: Encoder, songs: pd.DataFrame, *, samples: int = 1, batch_size: int = 512
) -> Tensor:
    """Raw outputs ``(n, outputs)`` of the head, calibrated; twice the same songs give twice the same numbers.

    Args:
        module: trained; left as it was.
        encoder: that it was trained with.
        songs: ``n`` songs.
        samples: histories sampled per song in training (``datamodule.hparams["samples"]``).
        batch_size: songs predicted at once.
    """
    training = module.training
    module.eval()
    like = next(module.net.parameters())  # a fit in half precision or double leaves the network in it
    raw = []
    for batch in SongBatches(encoder, songs, batch_size, samples=samples):
        wanted = {name: like.dtype if value.is_floating_point() else value.dtype for name, value in batch.items()}
        raw.append(module({name: value.to(like.device, wanted[name]) for name, value in batch.items()}))
    module.train(training)
    return torch.cat(raw)
