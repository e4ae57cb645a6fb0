"""What titles and artists' names say by their letters and words: n-grams, fitted by scikit-learn on training songs.

A score of each song is the prediction of a ridge regression on all n-grams. For the training songs themselves it comes
from folds that did not hold them: a score that had seen the song's own popularity would be worth more in training than
later. What is learned is kept as tensors and plain Python, as a checkpoint needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.sparsefuncs import mean_variance_axis

from popularity.data.credits import straight_quoted
from popularity.data.mapped import taken
from popularity.features.char_ngrams import CharacterNgrams
from popularity.features.checked import checked, checked_terms
from popularity.features.mapped import CHUNK

#: Name of each vectorizer: column of the song table and settings of ``TfidfVectorizer``.
VECTORIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "title characters": ("title", {"analyzer": "char_wb", "ngram_range": (2, 4), "min_df": 4}),
    "title words": ("title", {"token_pattern": r"[\w']+", "ngram_range": (1, 2), "min_df": 3}),
    "artist characters": ("artist", {"analyzer": "char_wb", "ngram_range": (2, 4), "min_df": 3}),
    "album characters": ("album", {"analyzer": "char_wb", "ngram_range": (2, 4), "min_df": 4}),
}
#: Which n-grams each score reads.
SCORES: dict[str, tuple[str, ...]] = {
    "title": ("title characters", "title words"),
    "title and artist": ("title characters", "title words", "artist characters"),
    "album": ("album characters",),
}
#: n-grams are counted up to this many, the most frequent first.
MAX_FEATURES = 30_000
#: Strength of the ridge penalty on TF-IDF rows of length 1; flat from 3 to 12.
PENALTY = 6.0


class TextEncoder:
    """TF-IDF of n-grams, their leading components and ridge scores.

    Args:
        components: leading components (``TruncatedSVD``) of what is read.
        scores: names of the ridge scores to fit as well.
        read: name of the vectorizer whose components are taken.
    """

    def __init__(self, components: int = 16, *, scores: Sequence[str] = (), read: str = "title characters") -> None:
        self.components, self.read = components, read
        self.scores = {name: SCORES[name] for name in scores}
        self.vectorizers = list(dict.fromkeys([read, *(name for parts in self.scores.values() for name in parts)]))
        self.vocabulary: dict[str, list[str]] = {name: [] for name in self.vectorizers}
        self.idf = {name: np.zeros(0) for name in self.vectorizers}
        self._counters: dict[str, CharacterNgrams] = {}
        self.projection = np.zeros((0, components))
        self.scale = np.ones(components)
        self.coefficients = {name: np.zeros(0) for name in self.scores}
        self.intercept = dict.fromkeys(self.scores, 0.0)
        self.score_moments = dict.fromkeys(self.scores, (0.0, 1.0))

    def fit(
        self, songs: pd.DataFrame, folds: Sequence[tuple[np.ndarray, np.ndarray]], some: np.ndarray | None = None
    ) -> np.ndarray:
        """Learn from training songs.

        Args:
            songs: ``n`` songs with ``popularity``.
            folds: pairs of row numbers, to fit to and held out; every row that none holds out gets the mean score.
            some: rows to learn from, if not all: scores are made for all the same.

        Returns:
            ``(n, scores)`` standardised scores of the training songs, each from a fit that did not see its song.
        """
        everything, songs = songs, songs if some is None else songs.iloc[some]
        popularity = songs["popularity"].to_numpy(np.float64)
        counted = {}
        self._counters.clear()
        for name in self.vectorizers:
            vectorizer = self._vectorizer(name)
            try:
                counted[name] = vectorizer.fit_transform(self._text(songs, name))
            except ValueError:  # no n-gram is frequent enough: the songs have no texts, or are too few
                self.vocabulary[name], self.idf[name] = [], np.zeros(0)
                counted[name] = sparse.csr_matrix((len(songs), 0))
                continue
            self.vocabulary[name] = [str(term) for term in vectorizer.get_feature_names_out()]
            self.idf[name] = np.asarray(vectorizer.idf_, dtype=np.float64)
        self._fit_components(counted[self.read])
        scores = np.zeros((len(everything), len(self.scores)))
        for index, (score, parts) in enumerate(self.scores.items()):
            matrix = sparse.hstack([counted[name] for name in parts]).tocsr()
            if matrix.shape[1] == 0:
                self.coefficients[score], self.intercept[score] = np.zeros(0), float(popularity.mean())
                continue
            held_out = np.full(len(everything), popularity.mean())
            for fitted, kept_back in folds:
                if some is not None:
                    fitted = np.flatnonzero(np.isin(some, fitted, assume_unique=True))
                model = self._ridge(matrix[fitted], popularity[fitted])
                if some is None:
                    held_out[kept_back] = model.predict(matrix[kept_back])
                else:
                    held_out[kept_back] = self._predicted(model, taken(everything, kept_back), parts)
            model = self._ridge(matrix, popularity)
            self.coefficients[score], self.intercept[score] = model.coef_, float(model.intercept_)
            spread = float(held_out.std())
            self.score_moments[score] = (float(held_out.mean()), spread if spread > 1e-8 else 1.0)
            scores[:, index] = self._standard(score, held_out)
        return scores

    def encode(self, songs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Components ``(n, components)`` and standardised scores ``(n, len(self.scores))`` of songs not trained on.

        The components of training songs are the same whether asked for here or elsewhere; their scores are not.
        """
        counted = {name: self._count(songs, name) for name in self.vectorizers}
        components = safe_sparse_dot(counted[self.read], self.projection) / self.scale
        scores = np.zeros((len(songs), len(self.scores)))
        for index, (score, parts) in enumerate(self.scores.items()):
            matrix = sparse.hstack([counted[name] for name in parts]).tocsr()
            if matrix.shape[1]:
                scores[:, index] = self._standard(score, matrix @ self.coefficients[score] + self.intercept[score])
        return components, scores

    def state(self) -> dict[str, Any]:
        """All that was learned, as tensors and plain Python."""
        return {
            "vocabulary": {name: list(terms) for name, terms in self.vocabulary.items()},
            "idf": {name: torch.from_numpy(idf.copy()) for name, idf in self.idf.items()},
            "projection": torch.from_numpy(self.projection.copy()),
            "scale": torch.from_numpy(self.scale.copy()),
            "coefficients": {name: torch.from_numpy(c.copy()) for name, c in self.coefficients.items()},
            "intercept": dict(self.intercept),
            "score_moments": {name: list(moments) for name, moments in self.score_moments.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` gave."""
        self._counters.clear()

        def array(part: str, name: str, length: int) -> np.ndarray:
            found: np.ndarray = checked(f"{part} of {name}", state[part][name], (length,)).numpy().copy()
            return found

        self.vocabulary = {name: checked_terms(name, state["vocabulary"][name]) for name in self.vectorizers}
        size = {name: len(terms) for name, terms in self.vocabulary.items()}
        self.idf = {name: array("idf", name, size[name]) for name in self.vectorizers}
        projection = checked("projection", state["projection"], (size[self.read], self.components))
        self.projection = projection.numpy().copy()
        self.scale = checked("scale", state["scale"], (self.components,)).numpy().copy()
        for name, parts in self.scores.items():
            self.coefficients[name] = array("coefficients", name, sum(size[part] for part in parts))
            self.intercept[name] = checked(f"intercept of {name}", state["intercept"][name], ()).item()
            mean, spread = array("score_moments", name, 2).tolist()
            self.score_moments[name] = (mean, spread)

    def _predicted(self, model: Ridge, songs: pd.DataFrame, parts: Sequence[str]) -> np.ndarray:
        """Predictions of songs ``(n,)``, whose n-grams are counted part by part."""
        found = np.empty(len(songs))
        for start in range(0, len(songs), CHUNK):
            part = slice(start, start + CHUNK)
            found[part] = model.predict(sparse.hstack([self._count(songs.iloc[part], name) for name in parts]).tocsr())
        return found

    @staticmethod
    def _text(songs: pd.DataFrame, name: str) -> list[str]:
        return straight_quoted(songs[VECTORIZERS[name][0]])

    @staticmethod
    def _vectorizer(name: str, **options: Any) -> TfidfVectorizer:
        return TfidfVectorizer(
            **{**VECTORIZERS[name][1], "sublinear_tf": True, "lowercase": True, "max_features": MAX_FEATURES, **options}
        )

    def _count(self, songs: pd.DataFrame, name: str) -> sparse.csr_matrix:
        if not self.vocabulary[name]:
            return sparse.csr_matrix((len(songs), 0))
        codes, distinct = pd.factorize(np.array(self._text(songs, name), dtype=object))  # albums repeat, and titles
        if VECTORIZERS[name][1].get("analyzer") == "char_wb":
            if name not in self._counters:
                self._counters[name] = CharacterNgrams(self.vocabulary[name])
            weights = TfidfTransformer(sublinear_tf=True)
            weights.idf_ = self.idf[name]
            return weights.transform(self._counters[name].count(distinct), copy=False)[codes]
        vectorizer = self._vectorizer(name, vocabulary=self.vocabulary[name])
        vectorizer.idf_ = self.idf[name]
        return vectorizer.transform(distinct)[codes]

    def _fit_components(self, matrix: sparse.csr_matrix) -> None:
        count = min(self.components, min(matrix.shape) - 1)
        self.projection, self.scale = np.zeros((matrix.shape[1], self.components)), np.ones(self.components)
        if count < 1 or not mean_variance_axis(matrix, axis=0)[1].any():  # no text differs from another
            return
        svd = TruncatedSVD(count, random_state=0).fit(matrix)
        self.projection[:, :count] = svd.components_.T
        spread = (matrix @ svd.components_.T).std(0)
        self.scale[:count] = np.where(spread > 1e-8, spread, 1.0)

    @staticmethod
    def _ridge(matrix: sparse.csr_matrix, popularity: np.ndarray) -> Ridge:
        return Ridge(PENALTY, solver="sparse_cg", tol=1e-4).fit(matrix, popularity)

    def _standard(self, score: str, values: np.ndarray) -> np.ndarray:
        mean, spread = self.score_moments[score]
        return ((values - mean) / spread).clip(-4.0, 4.0)
