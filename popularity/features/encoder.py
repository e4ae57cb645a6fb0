"""The encoder of the history model: a song as one vector, its texts, and the memory of known songs.

The known songs are the training songs. What later predictions need of them - vectors, popularities, the keys that names
are matched by - is part of the encoder's state, so that a checkpoint alone finds the history of a new song.

Glossary of shapes: ``n`` songs, ``N`` known songs, ``S`` numbers of a song vector, ``E`` extras, ``C`` candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from popularity.features.ngrams import TextEncoder
from popularity.features.related import (
    ALBUM,
    CREDITED,
    NOBODY,
    RETRIEVED,
    SAME,
    CandidateSet,
    HistoryIndex,
    Keys,
    keys_of,
)
from popularity.features.sampling import Thinning, draw
from popularity.features.song import NUMERIC, FeatureEncoder, piecewise_linear
from popularity.features.title_stats import TITLE_STATISTICS

#: Pairs of row numbers of the training songs: to fit to, and held out by the rule of the split.
Folds = Sequence[tuple[np.ndarray, np.ndarray]]

#: Statistics of the title that count for how near two songs are, beside the numeric features.
_NEAR = [TITLE_STATISTICS.index(name) for name in ("remaster", "credited_names", "year")]
_MONTH = 30.4375  # days


class HistoryEncoder:
    """Song vectors, extras of the query and candidates for its history.

    Args:
        bins: quantile bins of the piecewise-linear encoding.
        titles: read titles, and the letters and words of titles and names (see `TextEncoder`).
        scores: also the scores of `TextEncoder`, as extras.
        audio_only: see :class:`~popularity.features.song.FeatureEncoder`.
        length: longest history.
        retrieved: most similar known songs by other artists that are added to it.
        hide: least probability that training hides all songs of the same artist.
        thin: training drops each song of a history with a probability drawn from 0 to this.
        draws: histories drawn for each song in training, one for each member of the model.
        repeats: times as many in evaluation, whose predictions are averaged.
    """

    def __init__(
        self,
        bins: int = 8,
        *,
        titles: bool = True,
        scores: bool = False,
        audio_only: bool = False,
        length: int = 14,
        retrieved: int = 0,
        hide: float = 0.15,
        thin: float = 0.6,
        draws: int = 1,
        repeats: int = 4,
    ) -> None:
        self.features = FeatureEncoder(bins, audio_only=audio_only)
        self.text = TextEncoder(scores=scores) if titles and not audio_only else None
        self.length, self.retrieved = (0, 0) if audio_only else (length, retrieved)
        self.draws, self.repeats = draws, repeats
        self.least_hidden, self.thin = hide, thin
        self.hide: tuple[float, ...] = (hide, 0.0, 0.0, 0.0)  # in the order of `_hidden_shares`
        self.earlier = False
        self.index: HistoryIndex | None = None
        self.known: dict[str, Tensor] = {}
        self._scores = np.zeros((0, 0))

    @property
    def sizes(self) -> dict[str, int]:
        """``S`` and ``E``, which the network is built for."""
        titles = len(TITLE_STATISTICS) + 1 + self.text.components if self.text is not None else 0
        bins = self.features.edges.shape[1] - 1
        return {
            "song": len(NUMERIC) * (bins + 2) + titles,
            "extras": len(self.text.scores) if self.text is not None else 0,
        }

    def fit(self, songs: pd.DataFrame, folds: Folds, *, earlier: bool = False) -> HistoryEncoder:
        """Learn encodings from training songs and remember them.

        How often training hides an artist's songs is read off the folds: as often as a held-out song has none, where
        training would know some. Under ``artist`` that is always, and no switch has to be set.

        Args:
            songs: ``N`` songs with popularity.
            folds: by the rule of the split, for scores and shares that must not see the songs they are for.
            earlier: only songs released before a song are its history.
        """
        self.features.fit(songs)
        songs = self._told_apart(songs)
        self.earlier = earlier
        if self.text is not None:
            self._scores = self.text.fit(songs, folds)
        keys = keys_of(songs)
        self.index = HistoryIndex(keys, earlier=earlier)
        self.hide = self._hidden_shares(songs, keys, folds)
        self.known = {**self._vectors(songs), "popularity": _column(songs["popularity"]), "month": _months(keys)}
        return self

    def _hidden_shares(self, songs: pd.DataFrame, keys: Keys, folds: Folds) -> tuple[float, ...]:
        """Share of songs whose history training has to hide, so that as many lack it as of held-out songs.

        Of the roles ``SAME``, ``CREDITED`` and ``ALBUM``, and of the artist's own songs on the same album.
        """

        def having(found: CandidateSet) -> Tensor:
            roles = [(found.role == kind).any(1) for kind in (SAME, CREDITED, ALBUM)]
            return torch.stack([*roles, (found.mate & (found.role == SAME)).any(1)])

        everywhere = having(HistoryIndex(keys, earlier=self.earlier).candidates(keys, np.arange(len(songs))))
        lacking = [[], [], [], []]  # type: list[list[float]]
        present = [[], [], [], []]  # type: list[list[float]]
        for fitted, held_out in folds:
            index = HistoryIndex(keys_of(songs.iloc[fitted]), earlier=self.earlier)
            have = having(index.candidates(keys_of(songs.iloc[held_out])))
            for kind in range(4):
                lacking[kind].append(1 - have[kind].float().mean().item())
                present[kind].append(everywhere[kind, torch.from_numpy(held_out)].float().mean().item())
        shares = []
        for kind in range(4):
            known = float(np.mean(present[kind])) if folds else 0.0
            share = 1 - (1 - float(np.mean(lacking[kind]))) / known if known > 0 else 0.0
            shares.append(min(max(share, self.least_hidden if kind == SAME else 0.0), 1.0))
        return tuple(shares)

    def _vectors(self, songs: pd.DataFrame) -> dict[str, Tensor]:
        encoded = self.features.encode(songs)
        numeric = encoded["numeric"]
        edges = torch.from_numpy(self.features.edges).float()
        parts = [
            torch.nan_to_num(numeric),
            numeric.isnan().float(),
            piecewise_linear(numeric, edges).flatten(1),
        ]
        near = [torch.nan_to_num(numeric)]
        if self.text is not None:
            near.append(encoded["title"][:, _NEAR])
            parts.append(encoded["title"])
            parts.append(torch.from_numpy(self.text.encode(songs)[0]).float().clamp(-4, 4))
        return {"song": torch.cat(parts, dim=1), "category": encoded["category"], "near": torch.cat(near, dim=1)}

    def _told_apart(self, songs: pd.DataFrame) -> pd.DataFrame:
        """The songs without titles and days, where all known songs share one or have none.

        As parts of keys, and by their letters, these would still tell new songs from known ones.
        """
        nothing = np.zeros(len(songs), dtype=bool)
        said = {
            "title": self.features.present[-1],
            "release_date": self.features.present[NUMERIC.index("release_year")],
        }
        return songs.assign(**{name: songs[name].where(nothing) for name, known in said.items() if not known})

    def encode(self, songs: pd.DataFrame, *, training: bool = False) -> dict[str, Tensor]:
        """Encode songs.

        Args:
            songs: ``n`` songs.
            training: they are the very songs of :meth:`fit`, in its order: scores out of fold, and none in its own
                history by its row too.

        Returns:
            ``song`` ``(n, S)``, ``category`` ``(n, 6)``, ``extras`` ``(n, E)``, ``month`` ``(n)`` of release since
            1970, NaN where unknown; the candidates' ``row``, ``role`` and ``key`` ``(n, C)``, and ``mate`` where albums
            of known songs are known.
        """
        if self.index is None:
            raise RuntimeError("fit the encoder, or load a checkpoint, first")
        songs = self._told_apart(songs)
        keys = keys_of(songs)
        vectors = self._vectors(songs)
        near = vectors.pop("near")
        own = np.arange(len(songs)) if training else None
        found = self.index.candidates(keys, own)
        if self.retrieved:
            found = self._with_retrieved(keys, near, found, own)
        if self.text is None:
            extras = np.zeros((len(songs), 0))
        else:
            extras = self._scores if training else self.text.encode(songs)[1]
        row = found.row.long()
        if self.earlier:
            key = torch.from_numpy(keys.day).float().unsqueeze(1) / _MONTH - torch.nan_to_num(self.known["month"])[row]
        else:
            key = torch.empty(row.shape)
            for part in torch.arange(len(songs)).split(4096):
                key[part] = (self.known["near"][row[part]] - near[part].unsqueeze(1)).square().sum(-1)
        return {
            **vectors,
            "extras": torch.from_numpy(extras).float(),
            "month": _months(keys),
            "row": found.row,
            "role": found.role,
            "key": key,
            **({"mate": found.mate} if len(self.index.albums) else {}),
        }

    def _with_retrieved(self, keys: Keys, near: Tensor, found: CandidateSet, own: np.ndarray | None) -> CandidateSet:
        """The nearest known songs by other first-named artists, in further columns."""
        assert self.index is not None
        wanted = min(4 * self.retrieved + 8, len(self.index.keys))
        neighbours = NearestNeighbors(n_neighbors=wanted).fit(self.known["near"].numpy())
        row = neighbours.kneighbors(near.numpy(), return_distance=False)
        known, mine = self.index.keys, keys.first[:, None]
        other = (known.first[row] != mine) | (mine == 0)
        for kind in range(keys.identity.shape[1]):
            same = known.identity[row, kind] == keys.identity[:, kind : kind + 1]
            other &= ~(same & (keys.identity[:, kind : kind + 1] >= 0))
        if own is not None:  # a song may have neither names nor enough audio to be told by
            other &= row != own[:, None]
        if self.earlier:
            other &= known.day[row] < keys.day[:, None]
        other &= np.cumsum(other, axis=1) <= self.retrieved
        order = np.argsort(~other, axis=1, kind="stable")[:, : self.retrieved]
        kept = np.take_along_axis(other, order, 1)
        row = np.where(kept, np.take_along_axis(row, order, 1), 0).astype(np.int32)
        role = np.where(kept, RETRIEVED, NOBODY).astype(np.int8)
        return CandidateSet(
            torch.cat([found.row, torch.from_numpy(row)], 1),
            torch.cat([found.role, torch.from_numpy(role)], 1),
            torch.cat([found.mate, torch.zeros(row.shape, dtype=torch.bool)], 1),
        )

    def draw(self, batch: dict[str, Tensor], generator: torch.Generator, *, training: bool) -> dict[str, Tensor]:
        """Draw a history for each song and member; ``repeats`` times as many outside training.

        Returns:
            The batch with ``known`` ``(n, D, H)``, rows of known songs, and ``kind`` ``(n, D, H)``, their roles with
            ``NOBODY`` in front of shorter histories, in place of the candidates; ``mate`` ``(n, D, H)``, if there was
            one; and ``length`` ``(n)``.
        """
        rest = {name: value for name, value in batch.items() if name not in ("row", "role", "key", "mate")}
        role, mate = batch["role"], batch.get("mate")
        thinning = Thinning(self.hide[:2], self.thin, self.hide[2:]) if training else None
        draws = self.draws if training else self.draws * self.repeats
        column = draw(role, batch["key"], mate, draws=draws, length=self.length, thinning=thinning, generator=generator)
        here, at = column >= 0, column.clamp_min(0)
        wide = (len(role), draws, role.shape[1])
        known = batch["row"].unsqueeze(1).expand(wide).gather(-1, at).long()
        kind = torch.where(here, role.unsqueeze(1).expand(wide).gather(-1, at), NOBODY)
        if mate is not None:
            rest["mate"] = mate.unsqueeze(1).expand(wide).gather(-1, at) & here
        return {**rest, "known": known * here, "kind": kind.long(), "length": here.sum(-1).amax(-1)}

    def state(self) -> dict[str, Any]:
        """All that was learned and is remembered, as tensors and plain Python."""
        return {
            "features": self.features.state(),
            "text": self.text.state() if self.text is not None else {},
            "keys": self.index.keys.state() if self.index is not None else {},
            "known": dict(self.known),
            "scores": torch.from_numpy(self._scores.copy()),
            "hide": list(self.hide),
            "earlier": self.earlier,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` gave."""
        self.features.load_state(state["features"])
        if self.text is not None and state["text"]:
            self.text.load_state(state["text"])
        self.earlier = bool(state["earlier"])
        self.index = HistoryIndex(Keys.of_state(state["keys"]), earlier=self.earlier) if state["keys"] else None
        self.known = {name: value.cpu() for name, value in state["known"].items()}
        self._scores = state["scores"].cpu().numpy().copy()
        self.hide = tuple(state["hide"])


def _column(values: pd.Series) -> Tensor:
    return torch.from_numpy(values.to_numpy(np.float32, copy=True))


def _months(keys: Keys) -> Tensor:
    unknown = keys.day == np.iinfo(np.int32).max
    return torch.from_numpy(np.where(unknown, np.nan, keys.day / _MONTH).astype(np.float32))
