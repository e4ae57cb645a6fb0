"""What a song table says about a song, as one row of numbers for every model that reads rows.

There are two feature sets: ``audio``, the 13 audio columns as they are, and ``everything``, all that the file holds:
release date, explicit, artists and genre, title statistics, the known songs by the same artist, by credited names, on
the same album (by the same artist, and by anybody) and of the same genre, and the n-grams of titles and names.

Features that rest on popularities are **cross-fitted**, as in scikit-learn's ``TargetEncoder``: the row of a training
song is made from the other inner folds of the training songs by the rule of the split, and the row of a new song
from all training songs. A song's own label never reaches its own row, and under the ``artist`` rule no training song
knows its own artist, just as no test song does.

Glossary of shapes: ``n`` songs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array, hstack, vstack
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer

from popularity.data.albums import album_keys
from popularity.data.credits import straight_quotes
from popularity.data.schema import AUDIO
from popularity.data.splits import SplitKind, inner_folds
from popularity.errors import InputError
from popularity.features.album_stats import ALBUM_STATISTICS, album_names
from popularity.features.base import Folds
from popularity.features.checked import checked
from popularity.features.effects import RelatedBy, known_song_effects
from popularity.features.keys import Keys, keys_of
from popularity.features.packed import packed_table, unpacked_table
from popularity.features.song import CATEGORIES, NUMERIC_FEATURES, FeatureEncoder, numeric_features
from popularity.features.title_stats import TITLE_STATISTICS, title_statistics

FeatureSet = Literal["audio", "everything"]

#: Inner folds of the cross-fitting: with ten, a training song's row rests on nearly as many songs as a new song's.
FOLDS = 10

#: Columns beside audio and artist.
_BESIDE = ("title", "album", "release_date", "genre", "subgenre", "explicit")
#: Numeric features whose mean over the artist's known songs is a feature.
_PROFILE = (
    "acousticness",
    "danceability",
    "log_duration",
    "energy",
    "log_instrumentalness",
    "loudness",
    "log_speechiness",
    "tempo",
    "valence",
)


class TabularFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """Song tables to rows of float64, NaN where missing.

    ``fit_transform`` gives the training songs' rows out of fold, ``transform`` those of new songs. Columns that are the
    same for all training songs, from which nothing can be learned, are left out; in a column with one value and gaps
    new songs have that value or a gap.

    Args:
        feature_set: ``audio`` or ``everything``.
        split: the rule by which inner folds are made: that of the split the songs come from.
        seed: of the inner folds.
        folds: number of inner folds; fewer where the songs have fewer groups.

    Attributes:
        columns_: names of the features.
        effects_: those of them that rest on popularities.

    Raises:
        InputError: when fitted, an unknown feature set, songs that cannot be split, or no column that varies.
    """

    def __init__(
        self, feature_set: FeatureSet = "everything", split: SplitKind = "random", seed: int = 0, folds: int = FOLDS
    ) -> None:
        self.feature_set = feature_set
        self.split = split
        self.seed = seed
        self.folds = folds

    def fit(self, songs: pd.DataFrame, y: object = None) -> Self:
        """Learn from training songs, a canonical song table with popularity; ``y`` is not used."""
        self.fit_transform(songs)
        return self

    def fit_transform(
        self, songs: pd.DataFrame, y: object = None, *, inner: Folds | None = None, **_: object
    ) -> pd.DataFrame:
        """Learn from training songs; their rows ``(n, features)``, made out of fold.

        Args:
            songs: canonical song table with popularity.
            y: not used.
            inner: folds of the songs to use instead of those by ``split``, ``folds`` and ``seed``.
        """
        if self.feature_set not in get_args(FeatureSet):
            expected = " or ".join(get_args(FeatureSet))
            raise InputError(f"feature_set: expected {expected}, got {self.feature_set!r}")
        effects: dict[str, np.ndarray] = {}
        if self.feature_set == "audio":
            rows = _audio(songs)
        else:
            self._read(songs)
            effects = self._out_of_fold(songs, inner)
            rows = pd.DataFrame({**self._reader.plain(songs), **effects})
        varied = [name for name in rows if rows[name].nunique(dropna=False) > 1]
        if not varied:
            raise InputError(f"the {len(songs):,} training songs are the same in every column ({self.feature_set})")
        self._single = {
            name: values[0] for name in varied if len(values := rows[name].dropna().unique()) == 1
        }  # what is learned about another value would be arbitrary
        self.columns_, self.effects_ = varied, [name for name in varied if name in effects]
        return rows[varied].reset_index(drop=True)

    def transform(self, songs: pd.DataFrame) -> pd.DataFrame:
        """The rows of new songs ``(n, features)``; their popularity is not read."""
        if self.feature_set == "audio":
            rows = _audio(songs)
        else:
            # read together: the artists of new songs are names to look for in the titles of known songs too
            both = pd.concat([self._train, songs.assign(popularity=np.nan)], ignore_index=True)
            ngrams = {name: vstack([self._ngrams[name], new]) for name, new in self._reader.ngrams(songs).items()}
            related, known = self._reader.related(both, ngrams), np.arange(len(both)) < len(self._train)
            effects = known_song_effects(related.take(np.flatnonzero(known)), related.take(np.flatnonzero(~known)))
            rows = pd.DataFrame({**self._reader.plain(songs), **effects})
        rows = rows[self.columns_].reset_index(drop=True)
        for name, value in self._single.items():
            rows.loc[rows[name].notna(), name] = value
        return rows

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Names of the columns."""
        return np.array(self.columns_, dtype=object)

    def state(self) -> dict[str, Any]:
        """What :meth:`transform` needs, as tensors and plain Python; the training songs are part of it."""
        songs = {} if self.feature_set == "audio" else {"songs": packed_table(self._train)}
        learned = {"columns": self.columns_, "effects": self.effects_, "single": self._single}
        return {"feature_set": self.feature_set, **learned, **songs}

    def load_state(self, state: Mapping[str, Any]) -> Self:
        """Restore what :meth:`state` gave; vocabularies are read from the training songs again."""
        self.feature_set, self._single = state["feature_set"], dict(state["single"])
        self.columns_, self.effects_ = list(state["columns"]), list(state["effects"])
        if "songs" in state:
            songs = unpacked_table(state["songs"])
            checked("popularity", torch.tensor(songs["popularity"].to_numpy()).float())  # whose squares are finite
            self._read(songs)
        return self

    def _read(self, songs: pd.DataFrame) -> None:
        self._reader, self._train = _Reader(songs), songs
        self._ngrams = self._reader.ngrams(songs)

    def _out_of_fold(self, songs: pd.DataFrame, inner: Folds | None) -> dict[str, np.ndarray]:
        folds = inner_folds(songs, self.split, self.folds, self.seed) if inner is None else inner
        if not folds:
            raise InputError(f"the {len(songs):,} training songs cannot be split by the rule {self.split}")
        columns: dict[str, np.ndarray] = {}
        related = self._reader.related(songs, self._ngrams)
        for fit, held_out in folds:
            for name, values in known_song_effects(related.take(fit), related.take(held_out)).items():
                columns.setdefault(name, np.full(len(songs), np.nan))[held_out] = values
        return columns


def _audio(songs: pd.DataFrame) -> pd.DataFrame:
    return songs[list(AUDIO)].astype(np.float64)


class _Reader:
    """Fitted on training songs without their labels: vocabularies of categories and n-grams.

    What songs share - first artist, credits, albums - are the keys of the network's related songs.
    """

    def __init__(self, train: pd.DataFrame) -> None:
        # as part of a key a constant column would still tell new songs apart
        self.constant = [name for name in _BESIDE if train[name].nunique(dropna=False) == 1]
        train = self._without_constant(train)
        self.encoder = FeatureEncoder()
        self.encoder.fit(train)
        self.vectorizers = {
            name: fitted
            for name, column, vectorizer in (
                ("title_letters", "title", _letters(4)),
                ("title_words", "title", _words(3)),
                ("artist_letters", "artist", _letters(3)),
                ("album_letters", "album", _letters(4)),
            )
            if (fitted := _fitted(vectorizer, train[column])) is not None
        }

    def _without_constant(self, songs: pd.DataFrame) -> pd.DataFrame:
        nothing = np.zeros(len(songs), dtype=bool)
        return songs.assign(**{name: songs[name].where(nothing) for name in self.constant})

    def plain(self, songs: pd.DataFrame) -> dict[str, np.ndarray]:
        """Features that need no label: columns ``(n,)`` by name."""
        songs = self._without_constant(songs)
        category = self.encoder.encode(songs)["category"].numpy().astype(np.float64)
        numeric = numeric_features(songs)
        titles = title_statistics(songs["title"]).astype(np.float64)
        return {
            **{name: songs[name].to_numpy(np.float64) for name in AUDIO},
            **{name: numeric[:, NUMERIC_FEATURES.index(name)] for name in ("release_year", "artists")},
            **{name: category[:, CATEGORIES.index(name)] for name in ("explicit", "genre", "subgenre")},
            **{f"title_{name}": titles[:, i] for i, name in enumerate(TITLE_STATISTICS)},
            **dict(zip(ALBUM_STATISTICS, album_names(songs).T, strict=False)),
        }

    def related(self, songs: pd.DataFrame, ngrams: Mapping[str, csr_array]) -> RelatedBy:
        """What relates these songs to each other; ``ngrams`` are theirs."""
        songs = self._without_constant(songs)
        keys = keys_of(songs)
        rows, (code, names) = np.repeat(np.arange(len(songs)), np.diff(keys.start)), pd.factorize(keys.name)
        lead = keys.name == keys.first[rows]

        def incidence(chosen: np.ndarray) -> csr_array:
            shape = (len(songs), max(len(names), 1))
            return csr_array((np.ones(int(chosen.sum())), (rows[chosen], code[chosen])), shape=shape)

        numeric = numeric_features(songs)
        return RelatedBy(
            group={name: pd.factorize(key)[0] for name, key in _groups(songs, keys).items()},
            first=incidence(lead),
            guest=incidence(~lead),
            profile={name: numeric[:, NUMERIC_FEATURES.index(name)] for name in _PROFILE},
            ngrams=ngrams,
            popularity=songs["popularity"].to_numpy(np.float64),
        )

    def ngrams(self, songs: pd.DataFrame) -> dict[str, csr_array]:
        """N-grams of the titles, these with those of the artist names, and those of the albums."""
        songs = self._without_constant(songs)
        text = {name: _plain_text(songs[name]) for name in ("title", "artist", "album")}
        found = {name: one.transform(text[name.partition("_")[0]]) for name, one in self.vectorizers.items()}
        titles = [found[name] for name in ("title_letters", "title_words") if name in found]
        both = titles + [found[name] for name in ("artist_letters",) if name in found]
        albums = [found[name] for name in ("album_letters",) if name in found]
        parts = {"title_ngrams": titles, "name_ngrams": both, "album_ngrams": albums}
        return {name: csr_array(hstack(matrices)) for name, matrices in parts.items() if matrices}


def _groups(songs: pd.DataFrame, keys: Keys) -> dict[str, pd.Series]:
    """Keys ``(n,)`` of what songs may share beside guests, missing where there is none."""
    return {
        "artist": pd.Series(keys.first).where(keys.first != 0),
        "album": album_keys(songs)["by_artist"].reset_index(drop=True),
        "compilation": pd.Series(keys.album).where(keys.album >= 0),  # whoever is on it
        "genre": songs["genre"].reset_index(drop=True),
        "subgenre": songs["subgenre"].reset_index(drop=True),
    }


def _letters(fewest: int) -> TfidfVectorizer:
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=fewest, sublinear_tf=True)


def _words(fewest: int) -> TfidfVectorizer:
    return TfidfVectorizer(token_pattern=r"[\w']+", ngram_range=(1, 2), min_df=fewest, sublinear_tf=True)


def _plain_text(text: pd.Series) -> pd.Series:
    return text.fillna("").map(straight_quotes).str.casefold()


def _fitted(vectorizer: TfidfVectorizer, text: pd.Series) -> TfidfVectorizer | None:
    try:
        return vectorizer.fit(_plain_text(text))
    except ValueError:  # no n-gram is frequent enough: a file without titles, or a handful of songs
        return None
