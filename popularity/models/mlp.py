"""A member without tokens: a multilayer perceptron over a song's numbers and the statistics of its history.

It errs on other songs than the members that read tokens: nothing of its input is hidden in training, it is wider, and
it sees numbers as they are. So their mean has a lower error than either (docs/model.md).

Glossary of shapes: ``B`` songs, ``S`` numbers of a song vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from popularity.features.base import Inputs
from popularity.features.related import CREDITED
from popularity.models.categories import CategorySum
from popularity.models.dropout import Dropout
from popularity.models.histories import OF_ALBUM, STATISTICS, History, Reading, read

_LAYERS = 3
#: Of the embeddings of categories at first. With .3, as among products, a category weighed more than all numbers
#: together and was learned by heart: on inner folds of tidytuesday the MLP alone was worse by one percent.
_SPREAD = 0.05


class MLPMember(nn.Module):
    """Three hidden layers over numbers, categories and statistics of one sampled history.

    It reads no bins, which gained nothing, and no components of n-grams, which were learned by heart.

    Args:
        inputs: sizes of the batch.
        outputs: raw outputs of the head.
        width: of the hidden layers.
        dropout: of the hidden layers.
    """

    def __init__(self, inputs: Inputs, outputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.plain, self.texts = inputs.plain, slice(inputs.numbers, inputs.song - inputs.components)
        numbers = inputs.plain + (self.texts.stop - self.texts.start) + inputs.extras + STATISTICS + OF_ALBUM + 1
        self.category = CategorySum(inputs.codes, width, _SPREAD)
        self.numbers = nn.Linear(numbers, width)
        layers: list[nn.Module] = [nn.SiLU(), Dropout(dropout)]
        for _ in range(_LAYERS - 1):
            layers += [nn.Linear(width, width), nn.SiLU(), Dropout(dropout)]
        self.rest = nn.Sequential(*layers, nn.Linear(width, outputs))

    def forward(self, batch: Mapping[str, Tensor], history: History, reading: Reading | None = None) -> Tensor:
        """Raw outputs ``(B, outputs)``; ``reading`` is what :func:`read` gives for these histories."""
        reading, song = reading or read(history, batch["month"]), batch["song"]
        album = song.new_zeros(song.shape[0], OF_ALBUM) if reading.album is None else reading.album
        credited = (history.role == CREDITED).sum(-1, keepdim=True).to(song.dtype).log1p()
        told = [batch["extras"], reading.statistics, album, credited]
        numbers = self.numbers(torch.cat([song[:, : self.plain], song[:, self.texts], *told], 1))
        out: Tensor = self.rest(numbers + self.category(batch["category"]))
        return out
