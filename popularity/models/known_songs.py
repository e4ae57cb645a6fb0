"""Known songs embedded once, for predictions of many songs: each is read in the histories of hundreds of them.

Glossary of shapes: ``B`` songs, ``N`` known songs, ``H`` known songs of a history, ``d`` width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.features.base import Encoder
from popularity.features.encoder import HistoryEncoder
from popularity.features.mapped import in_chunks
from popularity.models.histories import History
from popularity.models.history import HistoryMamba, HistoryMember


class KnownEmbedding(nn.Module):
    """What `HistoryMember.embedded` computes, beforehand for the known songs.

    Args:
        member: trained, in evaluation mode.
        encoder: with the ``N`` known songs.
    """

    known: Tensor

    def __init__(self, member: HistoryMember, encoder: HistoryEncoder) -> None:
        super().__init__()
        self.embedding = member.song
        like = member.readout_token
        songs, categories = encoder.known["song"], encoder.known["category"]

        def embed(part: slice) -> dict[str, Tensor]:
            return {"known": self._embedded(songs[part].to(like), categories[part].to(like.device))}

        with torch.no_grad():
            self.register_buffer("known", in_chunks(embed, len(songs))["known"].to(like))

    def _embedded(self, song: Tensor, category: Tensor) -> Tensor:
        of = self.embedding  # without its operators that ONNX lacks
        found: Tensor = of.out(of.vector(song) + of.category(category))
        return found

    def forward(self, batch: Mapping[str, Tensor], history: History) -> tuple[Tensor, Tensor]:
        """Known songs ``(B, H, d)``, of which the batch has rows in place of vectors, and the songs ``(B, d)``."""
        return F.embedding(history.song, self.known), self._embedded(batch["song"], batch["category"])


def embed_known_songs(net: HistoryMamba, encoder: HistoryEncoder) -> HistoryEncoder:
    """Give the members of a network the embeddings of the known songs.

    Returns:
        A copy of the encoder that puts the rows of known songs in the place of their vectors.
    """
    for member in net.members:
        if isinstance(member, HistoryMember):
            member.__dict__["embedded"] = KnownEmbedding(member, encoder)  # in place of the method
    short = copy(encoder)
    rows = torch.arange(len(encoder.label))
    short.known = {**encoder.known, "song": rows, "category": rows}
    return short


@contextmanager
def embedded_once(net: nn.Module, encoder: Encoder, songs: int) -> Iterator[Encoder]:
    """Have a network in evaluation mode embed the known songs once, where that is less work; leave it as it was.

    Args:
        net: is called with what the encoder gives.
        encoder: that it was trained with.
        songs: number of songs that it is called with.

    Returns:
        The encoder whose batches it is called with.
    """
    if type(net) is not HistoryMamba or not isinstance(encoder, HistoryEncoder):
        yield encoder
        return
    if songs * encoder.history < len(encoder.label):
        yield encoder
        return
    try:
        yield embed_known_songs(net, encoder)
    finally:
        for member in net.members:
            member.__dict__.pop("embedded", None)
