"""The encoder of the history model: a song as one vector, its texts, and the index of known songs.

Known songs are the training songs. What later predictions need of them (vectors, popularities, the keys by which names
are matched) is part of the encoder's state, so that a checkpoint alone finds the history of a new song.

Glossary of shapes: ``n`` songs, ``N`` known songs, ``S`` numbers of a song vector, ``E`` extras, ``C`` candidates,
``D`` samples, ``H`` songs of a history.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from popularity.data.credits import artist_names
from popularity.errors import InputError
from popularity.features.album_stats import ALBUM_STATISTICS, album_statistics
from popularity.features.base import Encoder, Folds, Inputs
from popularity.features.checked import checked
from popularity.features.hiding import shares_to_hide
from popularity.features.keys import Keys, KnownNames, hashes, keys_of
from popularity.features.mapped import in_chunks
from popularity.features.ngrams import TextEncoder
from popularity.features.related import NO_SONG, RelatedSongs
from popularity.features.retrieved import add_retrieved
from popularity.features.sampling import Candidates, Thinning, fixed_chances, more_than, sample_histories, sort_keys
from popularity.features.song import CODES, NUMERIC_FEATURES, FeatureEncoder
from popularity.features.title_stats import TITLE_STATISTICS
from popularity.features.vectors import restored, shortened, side_by_side, some_rows, song_vectors


class HistoryEncoder(Encoder):
    """Song vectors, extras, and a history of known songs for each song.

    Args:
        history: maximum number of known songs read for one song; 0 for none.
        hide_history: minimum probability that training hides all songs of the same artist. Where the split leaves more
            held-out songs without any, it is raised to match, up to 1 under ``artist``.
        thin_history: training drops each song of a history with a probability sampled from 0 to this.
        eval_samples: histories sampled per song and member outside training; their predictions are averaged.
        retrieved: most similar known songs by others that are read as well.
        titles: read titles, albums and artists' names (`TextEncoder`). Without it, names still decide whose songs are
            known.
        text_scores: also read the scores of `TextEncoder`, as extras.
        audio_only: read only the 13 audio columns of the song itself.
        bins: quantile bins of the piecewise-linear encoding of a numeric feature.
        shuffled: read the known songs in random order; for comparison.
        gaps: tell the network the months between a known song and the song.

    Raises:
        InputError: a setting is out of range.
    """

    padded = ("known", "role", "same_album")

    def __init__(
        self,
        history: int = 10,
        hide_history: float = 0.0,
        thin_history: float = 0.2,
        eval_samples: int = 4,
        retrieved: int = 0,
        titles: bool = True,
        text_scores: bool = False,
        audio_only: bool = False,
        bins: int = 8,
        shuffled: bool = False,
        gaps: bool = True,
    ) -> None:
        for name, value, least in (
            ("history", history, 0),
            ("retrieved", retrieved, 0),
            ("eval_samples", eval_samples, 1),
        ):
            if value < least:
                raise InputError(f"data.encoder.{name}: expected at least {least}, got {value}")
        for name, share in (("hide_history", hide_history), ("thin_history", thin_history)):
            if not 0 <= share <= 1:
                raise InputError(f"data.encoder.{name}: expected a number from 0 to 1, got {share}")
        self.features = FeatureEncoder(bins, audio_only=audio_only)
        self.texts: list[TextEncoder] = []
        if titles and not audio_only:
            self.texts.append(TextEncoder(scores=("title", "title and artist") if text_scores else ()))
            self.texts.append(TextEncoder(scores=("album",), read="album characters"))
        self.history, self.retrieved = (0, 0) if audio_only else (history, retrieved)
        self.hide_history, self.thin_history, self.eval_samples = hide_history, thin_history, eval_samples
        self.shuffled, self.gaps = shuffled, gaps
        self.hidden: tuple[float, ...] = (hide_history, 0.0, 0.0, 0.0)  # in the order of `shares_to_hide`
        self.earlier, self.albums_differ = False, False
        self.related: RelatedSongs | None = None
        self.known: dict[str, Tensor] = {}
        self.label, self._scores = torch.zeros(0), np.zeros((0, 0))

    @property
    def inputs(self) -> Inputs:
        """See the base class."""
        components = sum(text.components for text in self.texts)
        titles = components
        if self.texts:
            titles += len(TITLE_STATISTICS) + 1 + len(ALBUM_STATISTICS)
        numbers = len(NUMERIC_FEATURES) * (self.features.inputs.bins + 2)
        return Inputs(
            song=numbers + titles,
            numbers=numbers,
            plain=2 * len(NUMERIC_FEATURES),
            components=components,
            extras=sum(len(text.scores) for text in self.texts),
            codes=CODES,
        )

    def fit(self, songs: pd.DataFrame, folds: Folds = (), *, earlier: bool = False) -> None:
        """Learn encodings from training songs and remember the songs.

        How often training hides an artist's songs is estimated on the folds: as often as a held-out song has no known
        song where training would have some. Under ``artist`` that is always, and no switch has to be set.
        """
        some = some_rows(len(songs))
        self.features.fit(songs if some is None else songs.iloc[some])
        self.albums_differ = songs["album"].nunique(dropna=False) > 1
        songs, self.earlier = self.without_constants(songs), earlier
        self._scores = side_by_side([text.fit(songs, folds, some) for text in self.texts], len(songs))
        keys = keys_of(songs)
        self.related = RelatedSongs(keys, earlier=earlier)
        self.hidden = shares_to_hide(self.related, folds, at_least=self.hide_history)
        self._remember(self._to_remember(songs, keys))

    def _to_remember(self, songs: pd.DataFrame, keys: Keys) -> dict[str, Tensor]:
        known = self._vectors(songs, keys)
        del known["extras"]  # of known songs, those that were made out of fold
        return {**known, "popularity": torch.tensor(songs["popularity"].to_numpy(np.float32)), "month": keys.month}

    def knowing(self, songs: pd.DataFrame) -> HistoryEncoder:
        """See the base class."""
        assert self.related is not None
        songs, keys, other = self.without_constants(songs), self.keys(songs), copy.copy(self)
        other.related = RelatedSongs(self.related.keys.followed_by(keys), earlier=self.earlier)
        more = self._to_remember(songs, keys)
        other._remember({name: torch.cat([known, more[name]]) for name, known in self.known.items()})
        return other

    def _remember(self, known: dict[str, Tensor]) -> None:
        """Keep known songs; their popularities are read as standardised labels."""
        self.known = known
        popularity = known["popularity"] if known else torch.zeros(0)
        spread = popularity.std(correction=0) if len(popularity) else torch.tensor(1.0)
        self.label = (popularity - popularity.mean()) / spread.clamp_min(1e-3)

    def _vectors(self, songs: pd.DataFrame, keys: Keys) -> dict[str, Tensor]:
        return in_chunks(lambda part: self._some_vectors(songs.iloc[part], keys[part]), len(songs))

    def _some_vectors(self, songs: pd.DataFrame, keys: Keys) -> dict[str, Tensor]:
        encoded = self.features.encode(songs)
        album = torch.from_numpy(self._album(songs, keys)).float() if self.texts else torch.zeros(len(songs), 0)
        read = [text.encode(songs) for text in self.texts]
        texts = [encoded["title"], album, *(torch.from_numpy(one).float().clamp(-4, 4) for one, _ in read)]
        return {
            **song_vectors(encoded["numeric"], self.features.edges, torch.cat(texts, dim=1) if read else album),
            "category": encoded["category"],
            "extras": torch.from_numpy(side_by_side([scores for _, scores in read], len(songs))).float(),
        }

    def _album(self, songs: pd.DataFrame, keys: Keys) -> np.ndarray:
        assert self.related is not None
        return album_statistics(songs, keys, self.related.on_albums, counted=self.albums_counted)

    @property
    def albums_counted(self) -> bool:
        """Whether album songs by others are counted: not where held-out songs hardly have any, which would tell."""
        return self.hidden[2] < 0.5 and not self.earlier

    def without_constants(self, songs: pd.DataFrame) -> pd.DataFrame:
        """The songs without titles, albums or dates where all known songs share one or have none.

        As parts of keys, and through their letters, these would still tell new songs from known songs.
        """
        nothing = np.zeros(len(songs), dtype=bool)
        differs = {
            "title": self.features.present[-1],
            "album": self.albums_differ,
            "release_date": self.features.present[NUMERIC_FEATURES.index("release_year")],
        }
        return songs.assign(**{name: songs[name].where(nothing) for name, known in differs.items() if not known})

    def keys(self, songs: pd.DataFrame) -> Keys:
        """The keys of songs that are not known; which names of theirs are one is told by the known songs alone."""
        return keys_of(self.without_constants(songs), KnownNames(self.related.names) if self.related else None)

    def encode(self, songs: pd.DataFrame, *, training: bool = False) -> dict[str, Tensor]:
        """Encode songs; in training, scores are out of fold and no song stands in its own history, by row either.

        Returns:
            ``song`` ``(n, S)``, ``category`` ``(n, 6)``, ``extras`` ``(n, E)``, ``month`` ``(n)`` of release since
            1970, NaN where unknown; the candidates' ``row``, ``role`` and ``key`` ``(n, C)``, and ``same_album`` if any
            album of known songs is known.
        """
        if self.related is None:
            raise RuntimeError("fit the encoder, or load a checkpoint, first")
        if training:  # the known songs
            keys, vectors = self.related.keys, {name: self.known[name] for name in ("song", "category", "near")}
            vectors["extras"] = torch.from_numpy(self._scores).float()
        else:
            keys, songs = self.keys(songs), self.without_constants(songs)
            vectors = self._vectors(songs, keys)
        near = vectors.pop("near")
        own = np.arange(len(songs)) if training else None
        found = self.related.candidates(keys, own)
        if self.retrieved:
            found = add_retrieved(self.related, found, keys, own, count=self.retrieved, near=(near, self.known["near"]))
        return {
            **vectors,
            "month": keys.month if self.gaps else torch.full((len(songs),), torch.nan),
            "row": found.row,
            "role": found.role,
            "key": sort_keys(keys, near, found, self.known, earlier=self.earlier),
            **({"same_album": found.same_album} if len(self.related.albums) else {}),
        }

    def sample(
        self, rows: dict[str, Tensor], generator: torch.Generator, *, training: bool, samples: int
    ) -> dict[str, Tensor]:
        """Sample histories: ``samples`` per song in training, ``eval_samples`` times as many otherwise.

        Outside training a song gets the same histories beside any other songs, and where no song has more candidates
        than its history holds, there is one sample, since all would be alike.

        Returns:
            In place of the candidates ``known`` ``(n, D, H)``, rows of known songs; ``role`` ``(n, D, H)``, with
            ``NO_SONG`` in front of shorter histories; ``same_album`` ``(n, D, H)``, if given; ``length`` ``(n)``.
        """
        rest = {name: value for name, value in rows.items() if name not in ("row", "role", "key", "same_album")}
        role, same_album = rows["role"], rows.get("same_album")
        key = torch.rand(role.shape, generator=generator) if self.shuffled else rows["key"]
        if training:
            chance = torch.rand(len(role), samples, role.shape[1], generator=generator)
        else:
            samples = samples * self.eval_samples if self.history and more_than(self.history, role).any() else 1
            chance = fixed_chances(len(self.label), samples)[:, rows["row"].long()].transpose(0, 1)
        thinning = Thinning(self.hidden[:2], self.thin_history, self.hidden[2:]) if training else None
        candidates = Candidates(role, key, same_album)
        column = sample_histories(candidates, chance, generator, length=self.history, thinning=thinning)
        here, at = column >= 0, column.clamp_min(0)
        chosen = {name: rows[name].unsqueeze(1).expand(-1, samples, -1).gather(-1, at) for name in ("row", "role")}
        if same_album is not None:
            rest["same_album"] = same_album.unsqueeze(1).expand(-1, samples, -1).gather(-1, at) & here
        known, roles = chosen["row"].long(), torch.where(here, chosen["role"], NO_SONG)
        return {**rest, "known": known * here, "role": roles.long(), "length": here.sum(-1).amax(-1)}

    def attach(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Look up the known songs of a batch of ``B`` songs; tensors of histories then lead with the sample.

        Returns:
            In place of ``known``: ``history_song`` ``(D, B, H, S)``, ``history_category`` ``(D, B, H, 6)``,
            ``history_label`` and ``history_month`` ``(D, B, H)``; ``role`` and ``same_album`` ``(D, B, H)``.
        """
        rest = {name: value for name, value in batch.items() if name != "known"}
        for name in ("role", "same_album"):
            if name in rest:
                rest[name] = rest[name].transpose(0, 1).contiguous()
        known = batch["known"].transpose(0, 1)
        found = {f"history_{name}": self.known[name][known] for name in ("song", "category", "month")}
        return {**rest, **found, "history_label": self.label[known]}

    def known_artists(self, songs: pd.DataFrame) -> tuple[int, int] | None:
        """See the base class."""
        if self.related is None or not self.history:
            return None
        first = hashes([*{names[0] for names in artist_names(songs) if names}])
        return int(np.isin(first, self.related.keys.first).sum()), len(first)

    def state(self) -> dict[str, Any]:
        """Everything that was learned and is remembered, as tensors and plain Python."""
        if self.related is None:
            return {}
        return {
            "features": self.features.state(),
            "texts": [text.state() for text in self.texts],
            "keys": self.related.keys.state(),
            "known": shortened(self.known, self.features.inputs.bins),
            "scores": torch.from_numpy(self._scores.copy()),
            "hidden": list(self.hidden),
            "earlier": self.earlier,
            "albums_differ": self.albums_differ,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        self.features.load_state(state["features"])
        for text, learned in zip(self.texts, state["texts"], strict=True):
            text.load_state(learned)
        self.earlier, self.albums_differ = bool(state["earlier"]), bool(state["albums_differ"])
        self.related = RelatedSongs(Keys.of_state(state["keys"]), earlier=self.earlier)
        size = len(self.related.keys), self.inputs.song
        self._remember(restored(state["known"], self.features.edges, size))
        self._scores = checked("scores", state["scores"], (size[0], self.inputs.extras)).numpy().copy()
        self.hidden = tuple(checked("hidden", state["hidden"], (4,)).tolist())
