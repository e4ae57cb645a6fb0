"""What a trained network says of songs, without a Trainer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import pandas as pd
import torch
from torch import Tensor

from popularity.features.base import Encoder
from popularity.features.related import NO_SONG, SAME
from popularity.models.histories import TAIL
from popularity.models.known_songs import embedded_once
from popularity.training.module import PopularityModule

_LONG = 17  # tokens of a song with a long history
#: Songs that are predicted at once.
BATCH_SIZE = 512


def known_songs(encoder: Encoder, encoded: Mapping[str, Tensor]) -> Tensor | None:
    """``(n,)`` number of known songs by the first-named artist that are read for a song; None if none ever are."""
    most = int(getattr(encoder, "history", 0))
    if not most or "role" not in encoded:
        return None
    return (encoded["role"] == SAME).sum(1).clamp_max(most)


@torch.no_grad()
def outputs_and_known(
    module: PopularityModule,
    encoder: Encoder,
    encoded: Mapping[str, Tensor],
    *,
    samples: int = 1,
    batch_size: int = BATCH_SIZE,
) -> tuple[Tensor, Tensor | None]:
    """Raw outputs ``(n, outputs)`` of the head, calibrated, and what :func:`known_songs` counts.

    The outputs of a song are the same whatever songs stand beside it.

    Args:
        module: trained; left as it was.
        encoder: that it was trained with.
        encoded: ``n`` songs as the encoder gives them.
        samples: histories sampled per song in training (``datamodule.hparams["samples"]``).
        batch_size: songs predicted at once; more of them where histories are short.
    """
    order = _few_candidates_first(encoded)
    with evaluating(module), embedded_once(module.net, encoder, len(order)) as embedded:
        batches = _batches(embedded, encoded, _parts(encoded, order, batch_size), samples)
        raw = torch.cat([module(like_weights(batch, module)) for batch in batches])
    return raw[order.argsort().to(raw.device)], known_songs(encoder, encoded)


@torch.no_grad()
def member_outputs(
    module: PopularityModule, encoder: Encoder, songs: pd.DataFrame, *, samples: int = 1
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Raw outputs ``(members, n, outputs)`` of each member, not calibrated, and what these do not say.

    That is what :func:`known_songs` counts, and predictions ``(n,)`` of boosted trees where the encoder makes some.

    Args: as those of :func:`outputs_and_known`, but for songs that are not encoded.
    """
    members, encoded = len(getattr(module.net, "members", [module.net])), encoder.encode(songs)
    raw, trees, order = [], [], _few_candidates_first(encoded)
    with evaluating(module):
        for batch in _batches(encoder, encoded, order.split(BATCH_SIZE), samples):
            trees += [batch["tree"]] if "tree" in batch else []
            found = module.net(like_weights(batch, module))
            found = found if found.ndim == 3 else found.unsqueeze(0)
            raw.append(torch.stack([module.head.mix(part) for part in found.chunk(members)]))
    back, together = order.argsort(), torch.cat(raw, 1)
    return (
        together[:, back.to(together.device)],
        known_songs(encoder, encoded),
        torch.cat(trees)[back] if trees else None,
    )


def _few_candidates_first(encoded: Mapping[str, Tensor]) -> Tensor:
    """``(n,)`` an order of songs whose batches are short, and read one sample where that is all there is."""
    if "role" not in encoded:
        return torch.arange(len(next(iter(encoded.values()))))
    return (encoded["role"] != NO_SONG).sum(1).argsort(stable=True)


def _parts(encoded: Mapping[str, Tensor], order: Tensor, batch_size: int) -> list[Tensor]:
    """The songs of each batch, of an order in which histories get longer: as many tokens in one as in another."""
    if "role" not in encoded:
        return list(order.split(batch_size))
    tokens = ((encoded["role"][order] != NO_SONG).sum(1) + TAIL).clamp_max(_LONG)
    sizes = torch.bincount((tokens.cumsum(0) - 1) // (batch_size * _LONG)).tolist()
    return list(order.split(sizes or [0]))


def _batches(
    encoder: Encoder, encoded: Mapping[str, Tensor], parts: Iterable[Tensor], samples: int
) -> Iterator[dict[str, Tensor]]:
    """The batches of songs that are numbered in ``parts``."""
    generator = torch.Generator().manual_seed(0)
    for part in parts:
        rows = {name: value[part] for name, value in encoded.items()}
        rows = encoder.sample(rows, generator, training=False, samples=samples)
        rows.pop("length", None)  # of the longest history; none is padded beyond it
        yield encoder.attach(rows)


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
