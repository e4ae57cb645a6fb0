"""Text scores: the score of a song has not seen its popularity, and a checkpoint keeps every number."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Lazy, make_songs

if TYPE_CHECKING:
    from popularity.features.ngrams import TextEncoder

WORDS = ["love", "night", "dance", "blue", "river", "fire", "radio", "summer"]


torch = Lazy("torch")
songs_module = Lazy("popularity.data.songs")
splits = Lazy("popularity.data.splits")
ngrams = Lazy("popularity.features.ngrams")
SCORES = ("title", "title and artist")


@pytest.fixture(scope="module")
def songs(tmp_path_factory) -> pd.DataFrame:
    """80 songs with two words as a title; "dance" is worth 40 points."""
    rng = np.random.default_rng(0)
    frame = make_songs(80)
    frame["artist_name"] = [f"Artist {i}" for i in range(80)]  # no song twice, whatever the title
    words = rng.choice(WORDS, (80, 2))
    frame["track_name"] = [" ".join(pair) for pair in words]
    frame["popularity"] = (20 + 40 * (words == "dance").any(1) + rng.normal(0, 4, 80)).clip(0, 100).round(1)
    path = tmp_path_factory.mktemp("text") / "songs.csv"
    frame.to_csv(path, index=False)
    return songs_module.load_songs(str(path)).songs


def popularities(encoder: TextEncoder, scores: np.ndarray) -> np.ndarray:
    """Standardised scores back in popularity points."""
    moments = np.array([encoder.score_moments[name] for name in SCORES])
    return scores * moments[:, 1] + moments[:, 0]


def test_scores_find_the_word_that_sells(songs):
    encoder = ngrams.TextEncoder(components=8, scores=SCORES)
    scores = encoder.fit(songs, splits.inner_folds(songs, "random"))
    assert scores.shape == (len(songs), len(SCORES))
    sells = songs["title"].str.contains("dance").to_numpy()
    assert (scores[sells].mean(0) - scores[~sells].mean(0) > 1.5).all()
    new = songs.head(2).assign(title=["dance dance", "river night"], artist="Nobody")
    components, found = encoder.encode(new)
    assert components.shape == (2, 8)
    assert (found[0] - found[1] > 1.5).all()


def test_scores_do_not_change_with_case_or_order_of_rows(songs):
    encoder = ngrams.TextEncoder(components=4, scores=SCORES)
    encoder.fit(songs, [])
    loud = encoder.encode(songs.assign(title=songs["title"].str.upper()))
    for one, other in zip(encoder.encode(songs), loud, strict=True):
        np.testing.assert_allclose(one, other)
    order = np.random.default_rng(1).permutation(len(songs))
    shuffled = ngrams.TextEncoder(components=4, scores=SCORES)
    shuffled.fit(songs.iloc[order].reset_index(drop=True), [])
    np.testing.assert_allclose(shuffled.encode(songs)[1], encoder.encode(songs)[1], atol=0.01)


@settings(max_examples=12)
@given(st.integers(0, 79), st.floats(0, 100, width=32))
def test_a_song_s_own_popularity_is_not_in_its_score(songs, row, popularity):
    """In points, that is: the mean and spread by which all scores are standardised know every song a little."""
    folds = splits.inner_folds(songs, "random")
    changed = songs["popularity"].copy()
    changed[row] = popularity
    before, after = ngrams.TextEncoder(components=2, scores=SCORES), ngrams.TextEncoder(components=2, scores=SCORES)
    one = popularities(before, before.fit(songs, folds))
    other = popularities(after, after.fit(songs.assign(popularity=changed), folds))
    np.testing.assert_allclose(one[row], other[row], atol=1e-6)
    if abs(popularity - songs["popularity"][row]) > 20:
        assert np.abs(one - other).max() > 0.1, "the others' scores have seen it"
        given_later = after.encode(songs.iloc[[row]])[1] - before.encode(songs.iloc[[row]])[1]
        assert np.abs(given_later).max() > 0.01, "and so has what later songs are scored with"


def test_rows_that_no_fold_holds_out_get_the_mean(songs):
    folds = [(np.arange(40), np.arange(40, 80))]
    encoder = ngrams.TextEncoder(components=2, scores=SCORES)
    scores = popularities(encoder, encoder.fit(songs, folds))
    np.testing.assert_allclose(scores[:40], songs["popularity"].mean())
    assert (scores[40:].std(0) > 1).all()


@pytest.mark.parametrize("kind", ["as they are", "no title", "no text at all"])
def test_state_survives_a_weights_only_file(kind, songs):
    """``weights_only`` reads tensors and plain Python, nothing else."""
    if kind != "as they are":
        songs = songs.assign(title=pd.Series(np.nan, songs.index, dtype="str"))
    if kind == "no text at all":
        songs = songs.assign(artist=pd.Series(np.nan, songs.index, dtype="str"))
    encoder = ngrams.TextEncoder(components=4, scores=SCORES)
    encoder.fit(songs, splits.inner_folds(songs, "random"))
    file = io.BytesIO()
    torch.save(encoder.state(), file)
    file.seek(0)
    loaded = ngrams.TextEncoder(components=4, scores=SCORES)
    loaded.load_state(torch.load(file, weights_only=True))
    new = songs.head(3).assign(title=["dance", np.nan, "never seen"])
    for one, other in zip(encoder.encode(new), loaded.encode(new), strict=True):
        np.testing.assert_array_equal(one, other)
    encoder.state()["scale"].zero_()
    assert encoder.scale.all(), "a state is a copy"


@pytest.mark.parametrize(
    "titles",
    [["", "", "", "", "", "", "", ""], ["a"] * 8, [np.nan] * 8, ["?!"] * 8, ["same title"] * 8, ["", np.nan, "x"] * 3],
    ids=["empty", "one letter", "missing", "marks alone", "all the same", "mixed"],
)
def test_poor_texts_give_finite_numbers(titles, songs):
    few = songs.head(len(titles)).assign(title=pd.Series(titles, dtype="str"))
    encoder = ngrams.TextEncoder(scores=SCORES)
    scores = encoder.fit(few, splits.inner_folds(few, "random"))
    components, later = encoder.encode(few)
    assert scores.shape == later.shape == (len(few), len(SCORES))
    assert components.shape == (len(few), 16)
    assert all(np.isfinite(values).all() for values in (scores, components, later))


def test_without_any_text_scores_are_0(songs):
    encoder = ngrams.TextEncoder(components=4, scores=SCORES)
    nothing = pd.Series(np.nan, songs.index, dtype="str")
    scores = encoder.fit(songs.assign(title=nothing, artist=nothing), splits.inner_folds(songs, "random"))
    assert not scores.any()
    components, later = encoder.encode(songs)
    assert not later.any()
    assert not components.any()


@pytest.mark.parametrize("count", [1, 2])
def test_one_song_or_two(count, songs):
    encoder = ngrams.TextEncoder(scores=SCORES)
    few = songs.head(count)
    assert np.isfinite(encoder.fit(few, splits.inner_folds(few, "random"))).all()
    components, scores = encoder.encode(songs.iloc[[5]])
    assert components.shape == (1, 16)
    assert np.isfinite(scores).all()
