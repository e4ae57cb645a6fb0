"""An encoder whose encoding of songs can be read, and in part held, while songs are predicted with it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

import pandas as pd
import torch
from torch import Tensor

from popularity.features.base import Encoder
from popularity.features.related import NO_SONG
from popularity.features.stacked import TABULAR_KNOWN

#: Tensors that say which known songs are read for a song.
HISTORY = ("row", "role", "key", "same_album", TABULAR_KNOWN)


def watched(encoder: Encoder, held: Mapping[str, Tensor] | None = None) -> tuple[Encoder, dict[str, Tensor]]:
    """A copy of an encoder, and a dictionary that holds what it last encoded.

    Args:
        encoder: stays as it is.
        held: tensors of an earlier encoding of the same songs that replace the new ones, where both have them.
    """
    copied, seen = copy(encoder), dict[str, Tensor]()

    def encode(songs: pd.DataFrame, *, training: bool = False) -> dict[str, Tensor]:
        encoded = encoder.encode(songs, training=training)
        encoded.update({name: value for name, value in (held or {}).items() if name in encoded})
        seen.clear()
        seen.update(encoded)
        return encoded

    copied.encode = encode  # type: ignore[method-assign]
    return copied, seen


def without_known_songs(encoded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """To be held: no song is known."""
    empty = {"role": NO_SONG, TABULAR_KNOWN: torch.nan}
    return {name: torch.full_like(encoded[name], value) for name, value in empty.items() if name in encoded}
