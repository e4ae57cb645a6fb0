"""A trained model as one graph of tensors: songs to predicted popularity and intervals.

Glossary of shapes: ``B`` songs, ``K`` bins.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from popularity.errors import InputError
from popularity.features.base import Encoder
from popularity.features.encoder import HistoryEncoder
from popularity.features.related import SAME
from popularity.features.song import FeatureEncoder
from popularity.inference.distribution import SHARES
from popularity.inference.export_characters import code_points
from popularity.inference.export_encoder import encoder_graph
from popularity.inference.export_lookup import taken
from popularity.inference.export_song import CODED, NUMBERS, TEXTS, Songs
from popularity.metrics import HIGHEST, LOWEST
from popularity.models.heads import HistogramHead
from popularity.models.history import HistoryMamba, SongEmbedding
from popularity.training.module import FeatureTokensMamba, PopularityModule, SingleTokenMamba


class SongGraph(nn.Module):
    """What a checkpoint predicts, of songs in canonical columns.

    Args:
        module: trained.
        encoder: of the same checkpoint.
        songs: that it was trained on.

    Raises:
        InputError: the network or the encoder is not one of this package, or as `popularity.inference.export_encoder`.

    Attributes:
        outputs: names of what :meth:`forward` returns, in its order.
    """

    def __init__(self, module: PopularityModule, encoder: Encoder, songs: pd.DataFrame) -> None:
        super().__init__()
        if type(module.net) not in (HistoryMamba, FeatureTokensMamba, SingleTokenMamba):
            raise InputError(f"export: expected a network of this package, got {type(module.net).__name__}")
        self.encoder = encoder_graph(encoder, songs)
        self.net, self.head, self.calibration = copy.deepcopy(module.net), module.head, module.calibration
        self.by_row = False
        if isinstance(self.net, HistoryMamba) and isinstance(encoder, HistoryEncoder):
            self.by_row = embed_known_songs(self.net, encoder)
        self.calibrated = not module.calibration.is_identity()
        self.most = int(getattr(encoder, "history", 0))
        ends = [f"{side}_{100 * share:g}" for share in SHARES for side in ("low", "high")]
        self.outputs = ["popularity", *(ends if isinstance(module.head, HistogramHead) else [])]
        self.outputs += ["known_songs"] * (self.most > 0)

    def forward(self, *songs: Tensor) -> tuple[Tensor, ...]:
        """``(B,)`` each, named by :attr:`outputs`; the inputs are those of `Songs`."""
        batch = self.encoder(Songs(*songs))
        if self.by_row:
            batch["history_song"] = batch["history_row"]
        raw = self.net(batch)
        raw = self.head.mix(raw) if raw.ndim == 3 else raw
        if self.calibrated:  # what `Calibration.forward` asks of its numbers, no graph can ask
            of = self.calibration
            raw = self.head.calibrated(raw, of.offset, of.slope, of.sharpness)
        found = [self.head.predict(raw)]
        if isinstance(self.head, HistogramHead):
            levels = [(1 + side * share) / 2 for share in SHARES for side in (-1, 1)]
            found += quantiles(self.head.probabilities(raw), self.head.edges, levels).unbind(1)
        if self.most:
            found.append((batch["role"][0] == SAME).sum(1).clamp_max(self.most))
        return tuple(found)


class KnownEmbedding(nn.Module):
    """The embedding of songs, computed beforehand for the known songs; without the operators that ONNX lacks.

    Args:
        embedding: trained.
        song: ``(N, S)`` vectors of the known songs.
        category: ``(N, C)`` their categories.
    """

    def __init__(self, embedding: SongEmbedding, song: Tensor, category: Tensor) -> None:
        super().__init__()
        self.embedding = embedding
        with torch.no_grad():
            self.register_buffer("known", self._embed(song, category))

    def _embed(self, song: Tensor, category: Tensor) -> Tensor:
        of = self.embedding
        embedded = taken(of.category.weight, category + of.offsets).sum(-2)
        found: Tensor = of.out(of.vector(song) + embedded)
        return found

    def forward(self, song: Tensor, category: Tensor) -> Tensor:
        """Songs as vectors, or known songs as rows ``(...)``, to ``(..., d)``."""
        return self._embed(song, category) if song.is_floating_point() else taken(self.known, song)


def embed_known_songs(net: HistoryMamba, encoder: HistoryEncoder) -> bool:
    """Replace the embeddings of a network; returns whether known songs may be given to it as rows."""
    # a row is that of a known song also where there is none: its token is not read
    song, category = encoder.known["song"], encoder.known["category"]
    for member in net.members:
        member.song = KnownEmbedding(member.song, song, category)
    return all(member.difference is None for member in net.members)


def quantiles(probabilities: Tensor, edges: Tensor, levels: list[float]) -> Tensor:
    """`popularity.inference.distribution.quantile` of probabilities ``(B, K)`` at several levels, ``(B, levels)``."""
    up_to = probabilities.cumsum(1)
    goal = up_to[:, -1:] * torch.tensor(levels, dtype=up_to.dtype)  # (B, levels)
    bins = (up_to.unsqueeze(1) < goal.unsqueeze(2)).sum(2).clamp_max(probabilities.shape[1] - 1)
    inside, end = probabilities.gather(1, bins), up_to.gather(1, bins)
    share = torch.where(inside > 0, 1 - (end - goal) / inside.clamp_min(1e-30), 1.0)
    return (edges[bins] + share * (edges[bins + 1] - edges[bins])).clamp(LOWEST, HIGHEST)


def vocabularies(encoder: Encoder, songs: pd.DataFrame) -> dict[str, list[str]]:
    """The lists in which a graph takes places: genres, subgenres and the track ids of known songs."""
    features = getattr(encoder, "features", encoder)
    levels = features.vocabulary if isinstance(features, FeatureEncoder) else {"genre": [], "subgenre": []}
    tracks = songs["track_id"].dropna()
    return {**levels, "track_id": tracks[~tracks.str.casefold().duplicated()].to_list()}


def songs_of(table: pd.DataFrame, lists: Mapping[str, Sequence[str]]) -> Songs:
    """A canonical song table as a graph takes it.

    Args:
        table: of ``B`` songs.
        lists: from :func:`vocabularies`.
    """
    texts = {name: table[name] for name in TEXTS}
    texts["release_date"] = table["release_date"].dt.strftime("%Y-%m-%d")
    coded = {name: pd.Index(lists[name], dtype="str").get_indexer(table[name]).astype(np.int64) for name in CODED}
    return Songs(
        torch.tensor(table[list(NUMBERS)].to_numpy(np.float64)),
        **{name: code_points(text.fillna("").to_list()) for name, text in texts.items()},
        **{name: torch.from_numpy(codes) for name, codes in coded.items()},
    )


def exported(graph: SongGraph) -> torch.export.ExportedProgram:
    """The graph for any number of songs and texts of any length."""
    batch = torch.export.Dim("songs", min=1, max=1 << 20)
    # lengths that differ, so that none is taken for another
    texts = [torch.full((3, 11 + place), ord("a")) for place in range(len(TEXTS))]
    codes = [torch.full((3,), -1) for _ in CODED]
    numbers = torch.full((3, len(NUMBERS)), torch.nan, dtype=torch.float64)
    lengths = [{0: batch, 1: torch.export.Dim(f"{name}_length", min=1, max=2048)} for name in TEXTS]
    shapes = ({0: batch}, *lengths, *({0: batch} for _ in CODED))
    with torch.no_grad():
        return torch.export.export(graph, (numbers, *texts, *codes), dynamic_shapes={"songs": shapes}, strict=False)
