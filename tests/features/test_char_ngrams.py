"""Counting n-grams: what scikit-learn counts, of any text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Lazy

np = Lazy("numpy")
text = Lazy("sklearn.feature_extraction.text")
char_ngrams = Lazy("popularity.features.char_ngrams")

LEARNED = ["Can't stop", "a b  a", "Ça va\t(Remix) - 2021", "İstanbul ΟΔΟΣ", "愛 愛愛", "🎵 aaaa aaaa"]
TEXTS = st.text(st.sampled_from("aAb c\t\u00a0\u3000'-(🎵愛İΣΟß\ud800") | st.characters(), max_size=12)


@settings(max_examples=100)
@given(st.lists(TEXTS, max_size=5))
def test_counts_are_those_of_scikit_learn(texts):
    vectorizer = text.CountVectorizer(analyzer="char_wb", ngram_range=(2, 4), dtype=np.float64)
    vectorizer.fit(LEARNED)
    terms = [str(term) for term in vectorizer.get_feature_names_out()]
    found = char_ngrams.CharacterNgrams(terms).count([*LEARNED, *texts])
    expected = vectorizer.transform([*LEARNED, *texts])
    assert found.has_canonical_format
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))


def test_texts_without_n_grams_of_the_vocabulary():
    counter = char_ngrams.CharacterNgrams([" a", "ab"])
    assert counter.count(["", " ", "x", "ab"]).toarray().tolist() == [[0, 0], [0, 0], [0, 0], [1, 1]]
    assert counter.count([]).shape == (0, 2)
