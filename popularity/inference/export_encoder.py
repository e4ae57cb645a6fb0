"""The encoders as graphs: `Songs` to the batch that a network reads.

Glossary of shapes: ``B`` songs, ``S`` numbers of a song vector.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor, nn

from popularity.errors import InputError
from popularity.features.base import Encoder
from popularity.features.encoder import HistoryEncoder
from popularity.features.keys import DAYS_PER_MONTH
from popularity.features.song import NUMERIC_FEATURES, ColumnEncoder, FeatureEncoder
from popularity.features.vectors import NEAR
from popularity.inference.export_characters import Alphabet, Letters, behind
from popularity.inference.export_known import KnownSongs
from popularity.inference.export_ngrams import Components
from popularity.inference.export_song import Columns, Read, SongFeatures, Songs

_TEXTS = frozenset(("artist", "title", "album", "release_date"))


class Histories(nn.Module):
    """What `HistoryEncoder` gives of songs that it was not fitted to.

    Args:
        encoder: fitted.
        songs: that it was fitted to.
        samples: histories of each song.

    Raises:
        InputError: a setting cannot be exported, or these are other songs.
    """

    def __init__(self, encoder: HistoryEncoder, songs: pd.DataFrame, samples: int) -> None:
        super().__init__()
        for name, chosen in (
            ("retrieved", encoder.retrieved),
            ("shuffled", encoder.shuffled),
            ("text_scores", any(parts != (text.read,) for text in encoder.texts for parts in text.scores.values())),
        ):
            if chosen:
                raise InputError(f"export: expected a model without data.encoder.{name}, which no graph computes")
        features, alphabet = encoder.features, Alphabet()
        hidden = {
            "title": not features.present[-1],
            "album": not encoder.albums_differ,
            "release_date": not features.present[NUMERIC_FEATURES.index("release_year")],
        }
        shown = frozenset() if features.audio_only else _TEXTS - {name for name, hide in hidden.items() if hide}
        self.features = SongFeatures(features, alphabet, shown)
        self.known = KnownSongs(encoder, songs, alphabet, samples)
        self.components = [text.components for text in encoder.texts]
        self.texts = nn.ModuleList(Components(text) for text in encoder.texts)
        self.gaps, self.albums = (
            encoder.gaps,
            encoder.related is not None and bool((encoder.related.keys.album >= 0).any()),
        )

    def forward(self, songs: Songs) -> dict[str, Tensor]:
        """The batch."""
        encoded, read = self.features(songs)
        numeric = encoded["numeric"]
        filled = torch.nan_to_num(numeric)
        near = [filled]
        if len(self.texts):
            near.append(encoded["title"][:, NEAR])
        month = (read.day / DAYS_PER_MONTH).float()
        batch = {"category": encoded["category"]}
        batch["month"] = month if self.gaps else month * torch.nan
        history, others = self.known(songs, read, torch.cat(near, 1))
        parts = [filled, numeric.isnan().float(), encoded["bins"].flatten(1)]
        scores = [filled[:, :0]]
        if len(self.texts):
            parts += [encoded["title"], self._album(read, others)]
            for text, letters, components in zip(self.texts, (read.title, read.album), self.components, strict=True):
                both = text(letters)
                parts.append(both[:, :components])
                scores.append(both[:, components:])
        batch["extras"] = torch.cat(scores, 1)
        return {**batch, **history, "song": torch.cat(parts, 1)}

    def _album(self, read: Read, others: Tensor) -> Tensor:
        """`popularity.features.album_stats.album_statistics`, ``(B, 3)``."""
        album, title = (self._bare(text) for text in (read.album, read.title))
        told = [read.album.empty, (album == title) & (album != 0), others.float().log1p()]
        return torch.stack([value.float() for value in told], 1) * self.albums

    def _bare(self, text: Letters) -> Tensor:
        """``(B,)`` hash of a title or album without what stands in brackets or behind a dash."""
        dash = text.any_of("-") & text.after_blank & behind(text.blank, 1)
        mark = text.any_of("([") | dash
        return self.features.alphabet.name(text, (text.in_front(mark) == 0) & ~mark, text.blank)


class Features(nn.Module):
    """What `FeatureEncoder` gives.

    Args:
        encoder: fitted.
    """

    def __init__(self, encoder: FeatureEncoder) -> None:
        super().__init__()
        shown = frozenset() if encoder.audio_only else _TEXTS
        self.features = SongFeatures(encoder, Alphabet(), shown)
        self.hide_title = not encoder.present[-1]
        # as places: a graph has no shapes that depend on values
        self.register_buffer("places", torch.from_numpy(encoder.present.nonzero()[0]).unsqueeze(0))

    def forward(self, songs: Songs) -> dict[str, Tensor]:
        """The batch."""
        if self.hide_title:
            songs = songs._replace(title=songs.title * 0)
        return {**self.features(songs)[0], "present": self.places}


def encoder_graph(encoder: Encoder, songs: pd.DataFrame, samples: int) -> nn.Module:
    """The graph of an encoder.

    Args:
        encoder: fitted.
        songs: that it was fitted to.
        samples: histories of each song.

    Raises:
        InputError: it cannot be exported, or these are other songs.
    """
    if type(encoder) is HistoryEncoder:
        return Histories(encoder, songs, samples)
    if type(encoder) is FeatureEncoder:
        return Features(encoder)
    if type(encoder) is ColumnEncoder:
        return Columns(encoder)
    raise InputError(f"export: expected HistoryEncoder, FeatureEncoder or ColumnEncoder, got {type(encoder).__name__}")
