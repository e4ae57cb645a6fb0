"""The encoder of a stack: what the history model reads, and beside it a prediction of boosted trees.

The network never reads the trees' prediction: it is given to songs outside training alone, and
`popularity.models.calibration` blends both by a weight that held-out songs teach.

Glossary of shapes: ``n`` songs, ``B`` songs of a batch, ``N`` known songs, ``F`` tabular features.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from popularity.errors import InputError
from popularity.features.base import Folds, Inputs
from popularity.features.checked import checked
from popularity.features.encoder import HistoryEncoder
from popularity.features.keys import Keys, keys_of
from popularity.features.trees import BoostedTrees, check_lightgbm

#: Tabular features of encoded songs: those that rest on known songs by the same people or on the same album, and all
#: others.
TABULAR, TABULAR_KNOWN = "tabular", "tabular_known"


class StackedEncoder(HistoryEncoder):
    """All that `HistoryEncoder` gives, and the prediction of boosted trees on tabular features.

    A song that is known itself is read as in training: what its features say of popularities comes from folds without
    it. Its own label does not reach its prediction through them.

    Args:
        **settings: those of `HistoryEncoder`. With ``audio_only`` the trees too read the 13 audio columns alone.

    Raises:
        InputError: a setting is out of range, or LightGBM is not installed.
    """

    folds = 10  # as many as `TabularFeatures` makes

    def __init__(self, **settings: Any) -> None:
        check_lightgbm("data.encoder StackedEncoder")
        super().__init__(**settings)
        self.trees = BoostedTrees("audio" if self.features.audio_only else "everything")
        self._effects = np.zeros((0, 0), dtype=np.float32)  # (N, effects) of the known songs, out of fold

    @property
    def inputs(self) -> Inputs:
        """See the base class."""
        return replace(super().inputs, trees=1)

    def fit(self, songs: pd.DataFrame, folds: Folds = (), *, earlier: bool = False) -> None:
        """Fit trees too, to tabular features that are made out of fold.

        Raises:
            InputError: the songs cannot be split by the rule of their split.
        """
        if not len(folds):
            raise InputError(
                f"data.encoder StackedEncoder: the {len(songs):,} training songs are too few to split by the rule "
                "of their own split"
            )
        super().fit(songs, folds, earlier=earlier)
        rows = self.trees.fit(songs.reset_index(drop=True), folds)
        self._effects = rows[self.trees.features.effects_].to_numpy(np.float32, copy=True)

    def knowing(self, songs: pd.DataFrame) -> StackedEncoder:
        """Itself: the trees' features of the known songs are out of fold, which others' would not be."""
        return self

    def encode(self, songs: pd.DataFrame, *, training: bool = False) -> dict[str, Tensor]:
        """Encode songs; outside training with tabular features, from which :meth:`attach` makes the prediction.

        Returns:
            What `HistoryEncoder` gives; ``tabular`` and ``tabular_known``, together ``(n, F)`` float64, NaN where
            missing.
        """
        encoded = super().encode(songs, training=training)
        return encoded if training else {**encoded, **self._tabular(songs)}

    def attach(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Complete a batch; outside training with ``tree`` ``(B,)``, the trees' prediction in points."""
        batch = super().attach(batch)
        if TABULAR not in batch:
            return batch
        rest = {name: value for name, value in batch.items() if name not in (TABULAR, TABULAR_KNOWN)}
        return {**rest, "tree": torch.from_numpy(self.trees.predict(self._rows(batch))).float()}

    def contributions(self, encoded: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """What each tabular feature adds to the trees' prediction of encoded songs, ``(n,)`` points by name."""
        return dict(zip(self.trees.features.columns_, self.trees.contributions(self._rows(encoded)).T, strict=True))

    def state(self) -> dict[str, Any]:
        """Everything that was learned and is remembered, as tensors and plain Python."""
        state = super().state()
        return {**state, "trees": self.trees.state(), "effects": torch.from_numpy(self._effects)} if state else {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        super().load_state(state)
        self.trees.load_state(state["trees"])
        self._effects = checked("effects", state["effects"], gaps=True).numpy().copy()

    def _tabular(self, songs: pd.DataFrame) -> dict[str, Tensor]:
        features = self.trees.features
        rows = features.transform(songs)
        assert self.related is not None
        known = same_song(keys_of(songs), self.related.keys)
        rows.loc[known >= 0, features.effects_] = self._effects[known[known >= 0]].astype(np.float64)
        values, on_known = torch.from_numpy(rows.to_numpy(np.float64, copy=True)), self._on_known
        return {TABULAR: values[:, ~on_known], TABULAR_KNOWN: values[:, on_known]}

    @property
    def _on_known(self) -> Tensor:
        """``(F,)`` whether a tabular feature rests on known songs by the same people or on the same album."""
        effects = set(self.trees.features.effects_)
        return torch.tensor([name in effects and rests_on_known_songs(name) for name in self.trees.features.columns_])

    def _rows(self, encoded: dict[str, Tensor]) -> np.ndarray:
        """``(n, F)`` in the order of the tabular features; where no song is known, effects and numbers of songs are 0.

        `popularity.inference.watched` takes known songs away by making ``tabular_known`` missing.
        """
        on_known, columns = self._on_known, self.trees.features.columns_
        zero = torch.tensor([name.endswith(("_effect", "_known")) for name in columns])[on_known]
        known = encoded[TABULAR_KNOWN]
        rows = torch.empty(len(known), len(columns), dtype=known.dtype)
        rows[:, ~on_known], rows[:, on_known] = encoded[TABULAR], torch.where(known.isnan() & zero, 0.0, known)
        return rows.numpy()


def rests_on_known_songs(effect: str) -> bool:
    """Whether an effect is one of the known songs of a song, and not of its genre or its words."""
    return not effect.startswith(("genre_", "subgenre_")) and not effect.endswith("_ngrams")


def same_song(songs: Keys, known: Keys) -> np.ndarray:
    """``(n,)`` row of the known song that each song is, -1 for a song that is not known.

    Args:
        songs: ``n`` songs.
        known: of the known songs. Which keys tell that two are the same song: see ``Keys.identity``.
    """
    found = np.full(len(songs), -1)
    for mine, theirs in zip(songs.identity.T, known.identity.T, strict=True):
        rows = pd.Series(np.arange(len(theirs)), theirs)
        rows = rows[(rows.index >= 0) & ~rows.index.duplicated()]
        found = np.where(found >= 0, found, rows.reindex(mine, fill_value=-1).to_numpy())
    return found
