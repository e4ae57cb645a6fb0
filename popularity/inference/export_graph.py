"""A trained model as one graph of tensors: songs to predicted popularity and intervals.

Glossary of shapes: ``B`` songs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from popularity.errors import InputError
from popularity.features.base import Encoder
from popularity.features.encoder import HistoryEncoder
from popularity.features.song import FeatureEncoder
from popularity.inference.distribution import SHARES
from popularity.inference.export_characters import code_points
from popularity.inference.export_encoder import encoder_graph
from popularity.inference.export_head import calibrated, predicted
from popularity.inference.export_intervals import Intervals
from popularity.inference.export_network import HistoryNetwork
from popularity.inference.export_song import CODED, NUMBERS, TEXTS, Songs
from popularity.models.heads import Head, HistogramHead
from popularity.models.history import HistoryMamba
from popularity.training.module import FeatureTokensMamba, PopularityModule, SingleTokenMamba


class SongGraph(nn.Module):
    """What a checkpoint predicts, of songs in canonical columns.

    Args:
        module: trained.
        encoder: of the same checkpoint.
        songs: that it was trained on.
        samples: histories of each song whose predictions are averaged.

    Raises:
        InputError: the network or the encoder is not one of this package, or as `popularity.inference.export_encoder`.

    Attributes:
        outputs: names of what :meth:`forward` returns, in its order.
    """

    def __init__(self, module: PopularityModule, encoder: Encoder, songs: pd.DataFrame, samples: int) -> None:
        super().__init__()
        if type(module.net) not in (HistoryMamba, FeatureTokensMamba, SingleTokenMamba):
            raise InputError(f"export: expected a network of this package, got {type(module.net).__name__}")
        self.encoder = encoder_graph(encoder, songs, samples if getattr(encoder, "history", 0) else 1)
        self.net, self.calibration = module.net, module.calibration
        self.head: Head = module.head
        if isinstance(module.net, HistoryMamba) and isinstance(encoder, HistoryEncoder):
            self.net = HistoryNetwork(module.net, module.head, encoder)
        self.calibrated = not module.calibration.is_identity()
        self.most = int(getattr(encoder, "history", 0))
        ends = [f"{side}_{100 * share:g}" for share in SHARES for side in ("low", "high")]
        self.intervals: Intervals | None = None
        if isinstance(module.head, HistogramHead):
            self.intervals = Intervals(module.head.edges, module.calibration.conformal, SHARES)
        self.outputs = ["popularity", *(ends if self.intervals else [])]
        self.outputs += ["known_songs"] * (self.most > 0)

    def forward(self, *songs: Tensor) -> tuple[Tensor, ...]:
        """``(B,)`` each, named by :attr:`outputs`; the inputs are those of `Songs`."""
        batch = self.encoder(Songs(*songs))
        raw = self.net(batch)
        raw = self.head.mix(raw) if raw.ndim == 3 else raw
        if self.calibrated:  # what `Calibration.forward` asks of its numbers, no graph can ask
            raw = calibrated(self.head, self.calibration, raw)
        known = batch["known_songs"].clamp_max(self.most) if self.most else None
        found = [predicted(self.head, raw)]
        if self.intervals is not None and isinstance(self.head, HistogramHead):
            found += self.intervals(self.head.probabilities(raw), known)
        if known is not None:
            found.append(known)
        return tuple(found)


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
