"""What a trained network says of songs, without a Trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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
    raw, batches = [], SongBatches(encoder, songs, batch_size, samples=samples)
    with evaluating(module):
        for batch in batches:
            raw.append(module(like_weights(batch, module)))
    return torch.cat(raw), known_songs(encoder, batches.tensors)


@torch.no_grad()
def member_outputs(
    module: PopularityModule, encoder: Encoder, songs: pd.DataFrame, *, samples: int = 1, batch_size: int = 512
) -> tuple[Tensor, Tensor | None]:
    """Raw outputs ``(members, n, outputs)`` of each member, not calibrated, and what :func:`known_songs` counts.

    Args: as those of :func:`outputs_and_known`.
    """
    members = len(getattr(module.net, "members", "1"))
    raw, batches = [], SongBatches(encoder, songs, batch_size, samples=samples)
    with evaluating(module):
        for batch in batches:
            found = module.net(like_weights(batch, module))
            found = found if found.ndim == 3 else found.unsqueeze(0)
            raw.append(torch.stack([module.head.mix(part) for part in found.chunk(members)]))
    return torch.cat(raw, 1), known_songs(encoder, batches.tensors)


@contextmanager
def evaluating(module: PopularityModule) -> Iterator[None]:
    """Have a module in evaluation mode, and leave it as it was."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def like_weights(batch: Mapping[str, Tensor], module: PopularityModule) -> dict[str, Tensor]:
    """A batch on the device of a network and in its precision: a fit in half precision or double leaves it in that."""
    like = next(module.net.parameters())
    wanted = {name: like.dtype if value.is_floating_point() else value.dtype for name, value in batch.items()}
    return {name: value.to(like.device, wanted[name]) for name, value in batch.items()}
