"""What a person calls a feature: columns of the song table, and the numbers of an encoded song that come from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from popularity.data.schema import AUDIO
from popularity.errors import InputError
from popularity.features.album_stats import ALBUM_STATISTICS
from popularity.features.base import Encoder
from popularity.features.encoder import HistoryEncoder
from popularity.features.ngrams import SCORES, VECTORIZERS
from popularity.features.song import CATEGORIES, NUMERIC_FEATURES, SKEWED, ColumnEncoder, FeatureEncoder
from popularity.features.title_stats import TITLE_STATISTICS

#: The known songs of the names on a song, as one feature: which they are, and how many.
KNOWN_SONGS = "known_songs"

#: Feature -> columns of the song table that carry it.
COLUMNS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in (*AUDIO, "explicit")},
    "genre": ("genre", "subgenre"),
    "title": ("title",),
    "names": ("artist",),
    "album": ("album",),
    "release_date": ("release_date",),
    KNOWN_SONGS: ("artist", "title", "album", "release_date"),
}


@dataclass(frozen=True)
class Numeric:
    """A numeric column, and how the networks read it.

    Attributes:
        column: of the song table.
        shift: added before the logarithm is taken; None for a column that is read as it is.
    """

    column: str
    shift: float | None = None

    def column_value(self, feature: np.ndarray) -> np.ndarray:
        """Values of the column behind values of the feature."""
        return feature if self.shift is None else np.exp(feature) - self.shift

    def feature_value(self, column: np.ndarray) -> np.ndarray:
        """Values of the feature of a column."""
        return column if self.shift is None else np.log(column + self.shift)


_SKEWED = {f"log_{column.removesuffix('_ms')}": column for column in SKEWED}
#: Numeric audio features of `popularity.features.song.NUMERIC_FEATURES` by their column.
NUMERIC: dict[str, tuple[str, Numeric]] = {
    column: (feature, Numeric(column, SKEWED.get(column)))
    for feature in NUMERIC_FEATURES
    if (column := _SKEWED.get(feature, feature)) in AUDIO
}

_FEATURE_OF = {
    **{feature: column for column, (feature, _) in NUMERIC.items()},
    "release_year": "release_date",
    "artists": "names",
}
_FEATURE_OF_TEXT = {name: "names" if column == "artist" else column for name, (column, _) in VECTORIZERS.items()}
_OF_CATEGORY = ["genre" if name == "subgenre" else name for name in CATEGORIES]


def feature_of_tabular(name: str) -> str:
    """The feature that a column of `popularity.features.tabular` comes from: for an effect of known songs, these."""
    if name in ALBUM_STATISTICS or name == "album_ngrams":
        return "album"
    if name.startswith(("title_", "genre", "subgenre")):
        return name.partition("_")[0].removeprefix("sub")
    if name == "name_ngrams":
        return "names"
    return _FEATURE_OF.get(name, name if name in COLUMNS else KNOWN_SONGS)


def features_of_numbers(encoder: Encoder) -> dict[str, list[str]]:
    """The feature that each number of an encoded song comes from.

    Args:
        encoder: one of this project.

    Returns:
        Name of a tensor ``(n, ...)`` -> features of its numbers, in the order of ``tensor[0].flatten()``.

    Raises:
        InputError: an own encoder, whose numbers have unknown origins.
    """
    numeric = [_FEATURE_OF[name] for name in NUMERIC_FEATURES]
    titles = ["title"] * (len(TITLE_STATISTICS) + 1)
    if isinstance(encoder, HistoryEncoder):
        bins = encoder.features.inputs.bins
        song = [*numeric, *numeric, *(name for name in numeric for _ in range(bins))]
        if encoder.texts:
            song += [*titles, *["album"] * len(ALBUM_STATISTICS)]
        song += [_FEATURE_OF_TEXT[text.read] for text in encoder.texts for _ in range(text.components)]
        extras = [_FEATURE_OF_TEXT[SCORES[name][-1]] for text in encoder.texts for name in text.scores]
        return {"song": song, "extras": extras, "month": ["release_date"], "category": _OF_CATEGORY}
    if isinstance(encoder, FeatureEncoder):
        bins = encoder.inputs.bins
        return {
            "numeric": numeric,
            "bins": [name for name in numeric for _ in range(bins)],
            "title": titles,
            "category": _OF_CATEGORY,
        }
    if isinstance(encoder, ColumnEncoder):
        return {"columns": list(AUDIO)}
    raise InputError(
        f"explain: expected data.encoder HistoryEncoder, FeatureEncoder or ColumnEncoder, got {type(encoder).__name__}"
    )
