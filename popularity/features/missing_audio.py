"""Encoded songs as if a file had only the audio columns that a recording tells."""

from __future__ import annotations

import torch
from torch import Tensor

from popularity.data.schema import AUDIO, NOT_ESTIMATED
from popularity.errors import InputError
from popularity.features.base import Encoder
from popularity.features.encoder import HistoryEncoder
from popularity.features.song import CATEGORIES, NUMERIC_FEATURES, ColumnEncoder, FeatureEncoder

_NUMERIC = [place for place, name in enumerate(NUMERIC_FEATURES) if name.removeprefix("log_") in NOT_ESTIMATED]
_CATEGORIES = [place for place, name in enumerate(CATEGORIES) if name in NOT_ESTIMATED]
_COLUMNS = [AUDIO.index(name) for name in NOT_ESTIMATED]


def hide_audio(encoder: Encoder, rows: dict[str, Tensor], hidden: Tensor) -> dict[str, Tensor]:
    """Hide the audio columns that ``features`` cannot estimate, `popularity.data.schema.NOT_ESTIMATED`.

    The vectors become what ``encoder.encode`` gives for songs without these columns. The order of a history, by
    distance, stays that of the whole song.

    Args:
        encoder: fitted; one of this package's.
        rows: ``n`` encoded songs.
        hidden: ``(n)`` bool, the songs.

    Returns:
        The rows, in new tensors where something was hidden.

    Raises:
        InputError: another encoder.
    """
    if isinstance(encoder, ColumnEncoder):
        mean = torch.from_numpy((encoder.fill - encoder.shift) / encoder.scale).float()
        return {**rows, "columns": _filled(rows["columns"], hidden, _COLUMNS, mean[_COLUMNS])}
    category = _filled(rows["category"], hidden, _CATEGORIES, torch.tensor(0)) if "category" in rows else None
    if isinstance(encoder, FeatureEncoder) and category is not None:
        numeric = _filled(rows["numeric"], hidden, _NUMERIC, torch.tensor(torch.nan))
        bins = rows["bins"].masked_fill(numeric.isnan().unsqueeze(-1), 0.0)
        return {**rows, "numeric": numeric, "bins": bins, "category": category}
    if isinstance(encoder, HistoryEncoder) and category is not None:
        # a song vector begins with the numeric features, whether each is missing, and their bins
        count, bins_each = len(NUMERIC_FEATURES), encoder.features.inputs.bins
        of_bins = [2 * count + place * bins_each + each for place in _NUMERIC for each in range(bins_each)]
        song = _filled(rows["song"], hidden, [*_NUMERIC, *of_bins], torch.tensor(0.0))
        song = _filled(song, hidden, [count + place for place in _NUMERIC], torch.tensor(1.0))
        return {**rows, "song": song, "category": category}
    raise InputError(
        f"data.optional_audio: expected an encoder of this package, got {type(encoder).__name__}, whose columns it "
        "cannot hide"
    )


def _filled(rows: Tensor, hidden: Tensor, places: list[int], value: Tensor) -> Tensor:
    """``(n, S)`` rows with a value in some places of the hidden ones."""
    mask = torch.zeros(rows.shape[1], dtype=torch.bool)
    mask[places] = True
    values = torch.zeros(rows.shape[1], dtype=rows.dtype)
    values[places] = value.to(rows.dtype)
    return torch.where(hidden.unsqueeze(1) & mask, values, rows)
