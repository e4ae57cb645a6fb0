"""What a trained network says of songs, without a Trainer."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from popularity.features.base import Encoder
from popularity.features.related import SAME
from popularity.training.batches import SongBatches
from popularity.training.module import PopularityModule


def known_songs(encoder: Encoder, encoded: Mapping[str, Tensor]) -> Tensor | None:
    """``(n,)`` number of known songs by the first-named artist that are read for a song; None if none ever are."""
    most = int(getattr(encoder, "history", 0))
    if not most or "role" not in encoded:
        return None
    return (encoded["role"] == SAME).sum(1).clamp_max(most)


def raw_outputs(
    module: PopularityModule, encoder: Encoder, songs: pd.DataFrame, *, samples: int = 1, batch_size: int = 512
) -> Tensor:
    """The first of :func:`outputs_and_known`."""
    return outputs_and_known(module, encoder, songs, samples=samples, batch_size=batch_size)[0]


@torch.no_grad()
def outputs_and_known(
    module: PopularityModule, encoder: Encoder, songs: pd.DataFrame, *, samples: int = 1, batch_size: int = 512
) -> tuple[Tensor, Tensor | None]:
    """Raw outputs ``(n, outputs)`` of the head, calibrated, and what :func:`known_songs` counts.

    Twice the same songs give twice the same numbers.

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
    raw, batches = [], SongBatches(encoder, songs, batch_size, samples=samples)
    for batch in batches:
        wanted = {name: like.dtype if value.is_floating_point() else value.dtype for name, value in batch.items()}
        raw.append(module({name: value.to(like.device, wanted[name]) for name, value in batch.items()}))
    module.train(training)
    return torch.cat(raw), known_songs(encoder, batches.tensors)
