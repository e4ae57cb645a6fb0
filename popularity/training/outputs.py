"""What a trained network says of songs, without a Trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pandas as pd
import torch
from torch import Tensor

from popularity.features.base import Encoder
from popularity.features.related import NO_SONG, SAME
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
    """The first of :func:`outputs_and_known`, for songs that are not encoded."""
    return outputs_and_known(module, encoder, encoder.encode(songs), samples=samples, batch_size=batch_size)[0]


def outputs_and_known(
    module: PopularityModule,
    encoder: Encoder,
    encoded: Mapping[str, Tensor],
    *,
    samples: int = 1,
    batch_size: int = 512,
) -> tuple[Tensor, Tensor | None]:
    """Raw outputs ``(n, outputs)`` of the head, calibrated, and what :func:`known_songs` counts.

    The outputs of a song are the same whatever songs stand beside it.

    Args:
        module: trained; left as it was.
        encoder: that it was trained with.
        encoded: ``n`` songs as the encoder gives them.
        samples: histories sampled per song in training (``datamodule.hparams["samples"]``).
        batch_size: songs predicted at once.
    """
    return _outputs(module, encoder, encoded, module, samples, batch_size), known_songs(encoder, encoded)


def member_outputs(
    module: PopularityModule, encoder: Encoder, songs: pd.DataFrame, *, samples: int = 1, batch_size: int = 512
) -> tuple[Tensor, Tensor | None]:
    """Raw outputs ``(members, n, outputs)`` of each member, not calibrated, and what :func:`known_songs` counts.

    Args: as those of :func:`outputs_and_known`, but for songs that are not encoded.
    """
    members, encoded = len(getattr(module.net, "members", "1")), encoder.encode(songs)

    def forward(batch: Mapping[str, Tensor]) -> Tensor:
        found = module.net(batch)
        found = found if found.ndim == 3 else found.unsqueeze(0)
        return torch.stack([module.head.mix(part) for part in found.chunk(members)])

    return _outputs(module, encoder, encoded, forward, samples, batch_size), known_songs(encoder, encoded)


@torch.no_grad()
def _outputs(
    module: PopularityModule,
    encoder: Encoder,
    encoded: Mapping[str, Tensor],
    forward: Callable[[Mapping[str, Tensor]], Tensor],
    samples: int,
    batch_size: int,
) -> Tensor:
    """What ``forward`` gives of batches, ``(..., n, outputs)`` in the order of the songs.

    Songs with few candidates come first: their batches are short, and read one sample where that is all there is.
    """
    order = torch.arange(len(next(iter(encoded.values()))))
    if "role" in encoded:
        order = (encoded["role"] != NO_SONG).sum(1).argsort(stable=True)
    found, generator = [], torch.Generator().manual_seed(0)
    with evaluating(module):
        for index in order.split(batch_size):
            rows = {name: value[index] for name, value in encoded.items()}
            rows = encoder.sample(rows, generator, training=False, samples=samples)
            rows.pop("length", None)  # of the longest history; none is padded beyond it
            found.append(forward(like_weights(encoder.attach(rows), module)))
    return torch.cat(found, -2).index_select(-2, order.argsort().to(found[0].device))


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
