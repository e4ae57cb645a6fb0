"""What a network says of songs that its fit held out, with as many known songs as it will have when it is used.

The network that will be used knows the held-out songs too. Under ``random`` so many more songs by the same artists
lower its error, and intervals that held-out songs taught without each other are too wide.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from popularity.data.mapped import part_of
from popularity.data.splits import SplitKind, inner_folds
from popularity.features.base import Encoder
from popularity.training.choice import Tried
from popularity.training.module import PopularityModule
from popularity.training.outputs import member_outputs

#: Parts of the held-out songs, cut by the rule of the split: each is predicted with the others known.
_PARTS = 5


def try_held_out(
    module: PopularityModule, encoder: Encoder, songs: pd.DataFrame, kind: SplitKind, *, samples: int, seed: int
) -> Tried:
    """Predict ``n`` songs that were held out by the rule of a split.

    Args:
        module: trained without them.
        encoder: that it was trained with.
        songs: with popularity; under ``time`` all are later than the known songs, and none gets to know another.
        kind: the rule.
        samples: histories sampled per song in training.
        seed: of the parts.
    """
    folds = inner_folds(songs, kind, _PARTS, seed) if kind != "time" else []
    if not folds:
        return Tried(module.head, *member_outputs(module, encoder, songs, samples=samples))
    found = [
        member_outputs(module, encoder.knowing(part_of(songs, others)), part_of(songs, part), samples=samples)
        for others, part in folds
    ]
    back = torch.from_numpy(np.concatenate([part for _, part in folds]).argsort())
    raw, known, tree = zip(*found, strict=True)
    return Tried(
        module.head,
        torch.cat(raw, 1)[:, back],
        None if known[0] is None else torch.cat(known)[back],
        None if tree[0] is None else torch.cat(tree)[back],
    )
