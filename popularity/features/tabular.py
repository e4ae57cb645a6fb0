"""What a song table says of a song, as one row of numbers: for every model that reads a row at a time.

Two amounts: ``audio``, the 13 audio columns as they are, and ``everything``, all that the file holds: release date,
explicit, artists and genre, title statistics, the known songs by the same artist, by credited names, of the same album
(by the same artist, and by anybody) and genre, and the letters and words of titles and names.

Whatever rests on popularities is encoded **out of fold**: the row of a training song is made from the other inner folds
of the training songs, drawn by the rule of the split (``Task.inner``), the row of a test song from all of them. So a
song's own label never reaches its own row, and under the ``artist`` rule no training song knows its own artist, just as
no test song does.

Glossary of shapes: ``n`` songs (training songs first, then test songs), ``k`` known songs, ``a`` songs asked for.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import FeatureUnion

from popularity.data.credits import artist_names, credits
from popularity.data.schema import AUDIO
from popularity.errors import InputError
from popularity.evaluation.folds import Task
from popularity.features.song import CATEGORIES, NUMERIC, FeatureEncoder, numeric_features
from popularity.features.title_stats import TITLE_STATISTICS, title_statistics

Amount = Literal["audio", "everything"]

#: Songs that a mean is shrunk by: an artist's songs differ among themselves about as much as artists do.
SHRINKAGE = 1.2
#: Inner folds of the encodings: with ten, a training song's row rests on nearly as many songs as a test song's.
FOLDS = 10

#: What a song may hold beside audio and names.
_BESIDE = ("title", "album", "release_date", "genre", "subgenre", "explicit")

_PENALTY = 6.0  # of the ridge on n-grams, whose rows have length 1
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

#: (rows of known songs, rows of songs asked for) -> one array (a,) for each name
Encoder = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]


def information(task: Task, amount: Amount) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the training and of the test songs.

    Args:
        task: songs to learn from and to predict.
        amount: ``audio`` or ``everything``.

    Returns:
        Two tables of float64 with the same columns, in the order of the task's songs; NaN where missing. Columns that
        are the same for all training songs, of which nothing can be learned, are left out; of one that has a single
        value in training where it is not missing, test songs have that value too, or none.

    Raises:
        InputError: no column is left.
    """
    if amount == "audio":
        table = pd.concat([part[list(AUDIO)].astype(np.float64) for part in (task.train, task.test)])
    else:
        songs = pd.concat([task.train, task.test], ignore_index=True)
        for name in _BESIDE:
            if task.train[name].nunique(dropna=False) == 1:  # as part of a key it would still tell test songs apart
                songs[name] = songs[name].where(np.zeros(len(songs), dtype=bool))
        table = pd.DataFrame({**_plain(task, songs), **_learned(task, songs)})
    train, test = (part.reset_index(drop=True) for part in (table[: len(task.train)], table[len(task.train) :]))
    varied = [name for name in table if train[name].nunique(dropna=False) > 1]
    if not varied:
        raise InputError(f"the {len(train):,} songs to learn from are the same in every column ({amount})")
    train, test = train[varied], test[varied].copy()
    for name in varied:
        if len(values := train[name].dropna().unique()) == 1:
            test.loc[test[name].notna(), name] = values[0]
    return train, test


@dataclass
class Cost:
    """Seconds by the clock and of the processor."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


#: What rows that :func:`kept_information` did not make again had cost: a model is charged for them all the same.
spared = Cost()


def kept_information(task: Task, amount: Amount) -> tuple[pd.DataFrame, pd.DataFrame]:
    """:func:`information`, kept from one call to the next: hit prediction asks for the same rows at every cut-off.

    Whoever gets the tables must not change them. What was spared is added to `spared`.
    """
    if amount == "audio":
        return information(task, amount)
    songs = pd.concat([task.train, task.test], ignore_index=True)
    digest = hashlib.sha256(pd.util.hash_pandas_object(songs, index=False).to_numpy().tobytes()).digest()
    before = _made.cache_info().hits
    train, test, cost = _made(_Asked((digest, len(task.train), task.split, task.seed, task.fold), task, amount))
    if _made.cache_info().hits > before:
        spared.seconds += cost.seconds
        spared.cpu_seconds += cost.cpu_seconds
    return train, test


@dataclass(frozen=True)
class _Asked:
    key: tuple[bytes, int, str, int, int]  # the songs with their labels, which are known, how inner folds are drawn
    task: Task = field(compare=False)
    amount: Amount


@lru_cache(maxsize=2)  # a fold, and the part of it that the threshold is chosen by
def _made(asked: _Asked) -> tuple[pd.DataFrame, pd.DataFrame, Cost]:
    began, began_cpu = time.perf_counter(), time.process_time()
    train, test = information(asked.task, asked.amount)
    return train, test, Cost(time.perf_counter() - began, time.process_time() - began_cpu)


def inner_folds(task: Task, most: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """``Task.inner`` with as many folds as the training songs allow, ``most`` or fewer.

    Raises:
        InputError: not even two folds are possible.
    """
    for folds in range(most, 2, -1):
        try:
            return task.inner(folds)
        except InputError:  # a handful of groups: fewer folds may do
            continue
    return task.inner(2)


def _plain(task: Task, songs: pd.DataFrame) -> dict[str, np.ndarray]:
    """What needs no label: columns ``(n,)`` by name."""
    encoder = FeatureEncoder().fit(task.train)
    category = encoder.encode(songs)["category"].numpy().astype(np.float64)
    numeric = numeric_features(songs)
    return {
        **{name: songs[name].to_numpy(np.float64) for name in AUDIO},
        **{name: numeric[:, NUMERIC.index(name)] for name in ("release_year", "artists")},
        **{name: category[:, CATEGORIES.index(name)] for name in ("explicit", "genre", "subgenre")},
        **_columns("title", TITLE_STATISTICS, title_statistics(songs["title"])),
    }


def _columns(prefix: str, names: tuple[str, ...], values: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{prefix}_{name}": values[:, i].astype(np.float64) for i, name in enumerate(names)}


def _learned(task: Task, songs: pd.DataFrame) -> dict[str, np.ndarray]:
    """What rests on other songs: columns ``(n,)`` by name, those of training songs out of fold."""
    n_train = len(task.train)
    popularity = np.concatenate([task.train["popularity"].to_numpy(np.float64), np.full(len(task.test), np.nan)])
    encoders = [
        _artist_encoder(songs, popularity),
        _credit_encoder(songs, popularity),
        *(_group_encoder(name, key, popularity) for name, key in _groups(songs).items()),
        *(_ridge_encoder(name, features, popularity) for name, features in _ngrams(songs, n_train).items()),
    ]
    known = np.arange(n_train)
    parts = [*inner_folds(task, FOLDS), (known, np.arange(n_train, len(songs)))]
    columns: dict[str, np.ndarray] = {}
    for encode in encoders:
        for fit, asked in parts:
            for name, values in encode(fit, asked).items():
                columns.setdefault(name, np.full(len(songs), np.nan))[asked] = values
    return columns


# --- known songs ------------------------------------------------------------------------------------------------------


def _groups(songs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Codes ``(n,)`` of what songs may share beside names, -1 where missing."""
    name = songs["album"].str.casefold()
    keys = {
        "album": name + "\n" + songs["artist"].str.casefold(),
        "compilation": name + "\n" + songs["release_date"].astype("str").fillna(""),  # whoever is on it
        "genre": songs["genre"],
        "subgenre": songs["subgenre"],
    }
    return {name: pd.factorize(key)[0] for name, key in keys.items() if key.notna().any()}


def _shrunk(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Mean of deviations, shrunk to 0.

    A deviation from the mean of the known songs and not a popularity: where nothing is known it is 0 in every inner
    fold, while the mean itself would differ from fold to fold and tell the mean of the songs held out.
    """
    return total / (count + SHRINKAGE)


def _group_encoder(name: str, code: np.ndarray, popularity: np.ndarray) -> Encoder:
    size = int(code.max(initial=-1)) + 1

    def encode(known: np.ndarray, asked: np.ndarray) -> dict[str, np.ndarray]:
        fit = known[code[known] >= 0]
        deviation = popularity[fit] - popularity[known].mean()
        # code -1 takes the last element, which stays empty
        count = np.bincount(code[fit], minlength=size + 1)[code[asked]].astype(np.float64)
        total = np.bincount(code[fit], deviation, minlength=size + 1)[code[asked]]
        return {f"{name}_effect": _shrunk(total, count), f"{name}_known": count}

    return encode


def _artist_encoder(songs: pd.DataFrame, popularity: np.ndarray) -> Encoder:
    """Known songs with the same first artist: popularities, and the mean audio profile."""
    first = pd.Series([names[0] if names else None for names in artist_names(songs)], dtype="str")
    code = pd.factorize(first)[0]
    size = int(code.max(initial=-1)) + 2  # the last one, for -1, stays empty
    effect = _group_encoder("artist", code, popularity)
    numeric = numeric_features(songs)
    profile = {name: numeric[:, NUMERIC.index(name)] for name in _PROFILE}

    def encode(known: np.ndarray, asked: np.ndarray) -> dict[str, np.ndarray]:
        fit = known[code[known] >= 0]
        group, where = code[fit], code[asked]
        highest, lowest = np.full(size, -np.inf), np.full(size, np.inf)
        np.maximum.at(highest, group, popularity[fit])
        np.minimum.at(lowest, group, popularity[fit])
        columns = effect(known, asked)
        empty = columns["artist_known"] == 0
        columns["artist_max"] = np.where(empty, np.nan, highest[where])
        columns["artist_min"] = np.where(empty, np.nan, lowest[where])
        columns["artist_std"] = _mean_of(group, popularity[fit] ** 2, size)[where]
        mean = _mean_of(group, popularity[fit], size)[where]
        columns["artist_std"] = np.sqrt(np.maximum(columns["artist_std"] - mean**2, 0))
        for name, values in profile.items():
            columns[f"artist_{name}"] = _mean_of(group, values[fit], size)[where]
        return columns

    return encode


def _mean_of(group: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Mean of the values of each group ``(size,)``, NaN where there is none."""
    seen = np.isfinite(values)
    count = np.bincount(group[seen], minlength=size)
    total = np.bincount(group[seen], values[seen], minlength=size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _credit_encoder(songs: pd.DataFrame, popularity: np.ndarray) -> Encoder:
    """Known songs by another first artist that share a credited name.

    Three ways: songs in any role by the names credited beside the first artist (``guests``), songs on which this first
    artist is a guest (``guest_on``), and both (``credits``).
    """
    names = credits(songs)
    rows = np.repeat(np.arange(len(songs)), [len(of_song) for of_song in names])
    code, distinct = pd.factorize(np.array([name for of_song in names for name in of_song], dtype=object))
    lead = np.concatenate([np.arange(len(of_song)) == 0 for of_song in names]) if names else np.zeros(0, bool)

    def incidence(chosen: np.ndarray) -> csr_array:
        shape = (len(songs), max(len(distinct), 1))
        return csr_array((np.ones(int(chosen.sum())), (rows[chosen], code[chosen])), shape=shape)

    first, guest = incidence(lead), incidence(~lead)
    anyone = csr_array(first + guest)

    def encode(known: np.ndarray, asked: np.ndarray) -> dict[str, np.ndarray]:
        deviation = popularity[known] - popularity[known].mean()
        same = first[asked] @ first[known].T
        guests = guest[asked] @ anyone[known].T
        guest_on = first[asked] @ guest[known].T
        columns = {}
        for name, shared in {"guests": guests, "guest_on": guest_on, "credits": guests + guest_on}.items():
            related = csr_array((shared > 0).astype(np.float64))
            related = related - related.multiply(same > 0)  # the artist's own songs are told apart
            count = np.asarray(related.sum(axis=1)).ravel()
            columns[f"{name}_effect"] = _shrunk(related @ deviation, count)
            columns[f"{name}_known"] = count
        return columns

    return encode


# --- letters and words ------------------------------------------------------------------------------------------------


def _vectorizer(words: bool, fewest: int) -> TfidfVectorizer:
    if words:
        return TfidfVectorizer(token_pattern=r"[\w']+", ngram_range=(1, 2), min_df=fewest, sublinear_tf=True)
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=fewest, sublinear_tf=True)


def _ngrams(songs: pd.DataFrame, n_train: int) -> dict[str, csr_array]:
    """N-grams of the titles (letters and words), and these with those of the artist names (letters)."""
    title = FeatureUnion([("letters", _vectorizer(False, 4)), ("words", _vectorizer(True, 3))])
    titles = _fitted(title, songs["title"], n_train)
    names = _fitted(_vectorizer(False, 3), songs["artist"], n_train)
    features = {"title_ngrams": titles, "name_ngrams": csr_array(hstack([titles, names]))}
    return {name: matrix for name, matrix in features.items() if matrix.shape[1]}


def _fitted(vectorizer: FeatureUnion | TfidfVectorizer, text: pd.Series, n_train: int) -> csr_array:
    """``(n, n-grams)`` with those of the training songs."""
    text = text.fillna("").str.casefold()
    try:
        vectorizer.fit(text.iloc[:n_train])
    except ValueError:  # no n-gram is frequent enough: a file without titles, or a handful of songs
        return csr_array((len(text), 0))
    return csr_array(vectorizer.transform(text))


def _ridge_encoder(name: str, features: csr_array, popularity: np.ndarray) -> Encoder:
    """Deviation from the mean that a ridge regression on n-grams expects."""

    def encode(known: np.ndarray, asked: np.ndarray) -> dict[str, np.ndarray]:
        target = popularity[known] - popularity[known].mean()
        ridge = Ridge(_PENALTY, solver="sparse_cg", tol=1e-4).fit(features[known], target)
        return {name: ridge.predict(features[asked])}

    return encode
