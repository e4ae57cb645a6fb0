"""Explains songs one by one: which of their features, and which known songs, move the prediction by how much."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from popularity import plots
from popularity.errors import InputError
from popularity.features.encoder import HistoryEncoder
from popularity.features.keys import keys_of
from popularity.features.related import ALBUM, CREDITED, RETRIEVED, SAME
from popularity.inference.attributions import TOLERANCE, Attribution, attribute
from popularity.inference.explain_features import COLUMNS
from popularity.inference.explain_model import Model, load_own_songs
from popularity.inference.explain_output import Results, shown
from popularity.training.datamodule import PopularityDataModule

#: What relates a known song to the song, in words.
ROLES = {SAME: "same artist", CREDITED: "shares a name", RETRIEVED: "sounds similar", ALBUM: "same album"}

_PARTS = 14  # parts of a sum that a picture shows one by one
_TEXT = 34  # characters of a title or an artist in a picture


def explain_songs(
    model: Model, data: PopularityDataModule, songs: pd.DataFrame, numbers: Sequence[int], results: Results
) -> None:
    """Explain some songs of a table, print a line on each and add tables and pictures to the results.

    Args:
        model: trained.
        data: of its checkpoint; its songs name the known songs, if they can be loaded.
        songs: ``n`` songs.
        numbers: places of the songs to explain, from 0.
        results: ``songs.csv``, ``attributions.csv``, ``known_songs.csv`` and ``song_NUMBER.png``.
    """
    known = _KnownSongs(model, data)
    one_row, parts, histories, gaps = [], [], [], []
    print()
    for number in shown(numbers, "songs"):
        song = songs.iloc[[number]].reset_index(drop=True)
        found = attribute(model, song)
        gaps.append(found.gap)
        row = song.iloc[0]
        one_row.append(_row(number + 1, row, found))
        features = _features(row, found)
        history = known.table(found)
        parts.append(features.assign(song=number + 1))
        if len(history):
            histories.append(history.assign(song=number + 1))
        names, values = _shown_parts(features, history, found)
        title = described(row)
        figure = plots.sum_of_parts(names, values, found.baseline, title.replace("$", r"\$"))
        results.figure(f"song_{number + 1}", figure, f"3 songs/{number + 1}")
        print(f"song {number + 1}, {title}: {found.prediction:.1f}, from {found.baseline:.1f} by {_strongest(found)}")
    results.table("songs", pd.DataFrame(one_row))
    results.table("attributions", pd.concat(parts, ignore_index=True)[["song", "feature", "value", "text", "points"]])
    if histories:
        results.table("known_songs", pd.concat(histories, ignore_index=True)[["song", *histories[0].columns[:-1]]])
    missed = [str(number + 1) for number, gap in zip(numbers, gaps, strict=True) if gap > TOLERANCE]
    if missed:
        print(f"warning: parts of song {', '.join(missed)} miss the prediction by more than {TOLERANCE:.0%}")
    else:
        print(f"parts add up to prediction minus baseline within {max(gaps):.2%}")


def _row(number: int, song: pd.Series, found: Attribution) -> dict[str, object]:
    return {
        "song": number,
        **{name: song[name] for name in ("track_id", "artist", "title", "popularity")},
        "predicted_popularity": found.prediction,
        "baseline": found.baseline,
        "having_known_songs": found.having,
        "known_songs": sum(found.known.values()),
        "features": sum(found.features.values()),
        "gap": found.gap,
    }


def _features(song: pd.Series, found: Attribution) -> pd.DataFrame:
    """``feature, value, text, points`` of the features that the network reads, the strongest first.

    A number is a ``value``; names, titles, genres and dates are ``text``.
    """
    rows = [(name, *_value(song, name), points) for name, points in found.features.items() if points]
    table = pd.DataFrame(rows, columns=["feature", "value", "text", "points"]).astype({"value": "float64"})
    return table.sort_values("points", key=np.abs, ascending=False, ignore_index=True)


def _value(song: pd.Series, feature: str) -> tuple[float, str]:
    """A song's value of a feature, as a number or a text."""
    values = [song[column] for column in COLUMNS[feature] if pd.notna(song[column])]
    if values and isinstance(values[0], float):
        return values[0], ""
    return np.nan, ", ".join(f"{value:%Y-%m-%d}" if isinstance(value, pd.Timestamp) else value for value in values)


class _KnownSongs:
    """Names of the known songs. A checkpoint knows them by hashes; their titles are in the songs it was trained on."""

    def __init__(self, model: Model, data: PopularityDataModule) -> None:
        self.encoder = model.encoder
        self.songs: pd.DataFrame | None = None
        if not isinstance(self.encoder, HistoryEncoder) or not self.encoder.history:
            print("\nknown songs: this network reads none")
            return
        try:
            load_own_songs("--ckpt_path", data)
        except InputError as error:
            print(f"\nknown songs stay without names: {error}")
            return
        assert data.table is not None
        self.songs = data.table.songs
        self.identity = keys_of(self.songs).identity

    def table(self, found: Attribution) -> pd.DataFrame:
        """``known_artist, known_title, known_popularity, relation, points``, the strongest first."""
        columns = ["known_artist", "known_title", "known_popularity", "relation", "points"]
        rows = []
        for row, points in sorted(found.known.items(), key=lambda item: -abs(item[1])):
            assert isinstance(self.encoder, HistoryEncoder)
            popularity = float(self.encoder.known["popularity"][row])
            rows.append((*self._names(row), popularity, ROLES[found.roles[row]], points))
        return pd.DataFrame(rows, columns=columns)

    def _names(self, row: int) -> tuple[object, object]:
        """Artist and title of a known song."""
        assert isinstance(self.encoder, HistoryEncoder)
        assert self.encoder.related is not None
        if self.songs is not None:
            mine = self.encoder.related.keys.identity[row]
            found = np.flatnonzero(((self.identity == mine) & (mine >= 0)).any(1))
            if len(found):
                return self.songs["artist"].iloc[found[0]], self.songs["title"].iloc[found[0]]
        return None, f"known song {row + 1}"


def _shown_parts(features: pd.DataFrame, history: pd.DataFrame, found: Attribution) -> tuple[list[str], np.ndarray]:
    """Names and effects of a picture: that songs are known, the strongest known songs and features, and the rest."""
    named = [(_feature_name(row), row["points"]) for row in features.to_dict("records")]
    for row in history.to_dict("records"):
        named.append((f"“{_cut(row['known_title'], 22)}” has {row['known_popularity']:.0f}", row["points"]))
    named.sort(key=lambda part: -abs(part[1]))
    shown_parts, rest = named[:_PARTS], named[_PARTS:]
    if found.known:
        count = len(found.known)
        shown_parts.insert(0, (f"{count} known song{'s' if count > 1 else ''}, if average", found.having))
    if rest:
        shown_parts.append((f"{len(rest)} more", sum(points for _, points in rest)))
    return [name.replace("$", r"\$") for name, _ in shown_parts], np.array([points for _, points in shown_parts])


def _feature_name(row: Mapping[Hashable, Any]) -> str:
    """A feature with its value, but for texts that the title of the picture shows."""
    if row["feature"] in ("title", "names"):
        return str(row["feature"])
    if row["text"]:
        return f"{plain(row['feature'])} {_cut(row['text'], 20)}"
    return f"{plain(row['feature'])} {readable(row['feature'], row['value'])}"


def _strongest(found: Attribution) -> str:
    """The three strongest parts in words, known songs as one."""
    parts = {plain(name): points for name, points in found.features.items()}
    if found.known:
        parts["known songs"] = found.having + sum(found.known.values())
    strongest = sorted(parts.items(), key=lambda part: -abs(part[1]))[:3]
    return ", ".join(f"{name} {points:+.1f}" for name, points in strongest)


def described(song: pd.Series) -> str:
    """Title and artist of a song, cut to what fits above a picture."""
    return f"{_cut(song['title'])} - {_cut(song['artist'])}"


def readable(column: str, value: float) -> str:
    """A number of a column as a person reads it: a duration as minutes and seconds."""
    if np.isnan(value):
        return "missing"
    if column == "duration_ms":
        minutes, seconds = divmod(round(value / 1000), 60)
        return f"{minutes}:{seconds:02d}"
    return f"{value:.3g}"


def plain(feature: str) -> str:
    """A feature's name in a sentence."""
    return "duration" if feature == "duration_ms" else feature.replace("_", " ")


def _cut(text: object, length: int = _TEXT) -> str:
    if not isinstance(text, str) or not text:
        return "no name"
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
