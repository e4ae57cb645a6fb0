"""The page of ``app``: a song or a file, its prediction, reasons, what if, similar known songs. Streamlit runs it."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from popularity import plots
from popularity.data.albums import first_artists
from popularity.data.songs import load_songs
from popularity.errors import InputError
from popularity.inference.explain_model import Model, load_model, load_own_songs
from popularity.inference.explain_songs import described, plain
from popularity.inference.files import SONGS_AT_ONCE
from popularity.inference.one_song import song_table
from popularity.inference.predictions import for_spreadsheets
from popularity.inference.table import Wanted, has_distribution, prediction_table
from popularity.inference.what_if import NOT_A_CAUSE
from popularity.inference.what_if_grid import Range, feature_ranges, values_of, variants, with_interval
from popularity.training.datamodule import PopularityDataModule

_EXAMPLE = "danceability=.7, energy=.7, valence=.5, acousticness=.2, tempo=120, loudness=-6, duration=3:30"
_CUTOFFS = (50.0, 70.0)
_REASONS = 100  # songs of a file that reasons are told of: they take 20 times as long
_ALIKE = 5  # known songs that are shown
#: Streamlit reads most texts as Markdown: a title with a picture in it would be fetched from its address.
_MARKDOWN = re.compile(r"([\\`*_\[\]<>$~!|#])")


@dataclass(frozen=True)
class Loaded:
    """A checkpoint as the page uses it.

    Attributes:
        model: trained.
        data: its data module.
        ranges: of the numeric features, by column.
        known: songs that it was trained on, or None where they are not on this computer any more.
    """

    model: Model
    data: PopularityDataModule
    ranges: dict[str, Range]
    known: pd.DataFrame | None


def load(path: str, cache_dir: str | None = None) -> Loaded:
    """Read a checkpoint.

    Args:
        path: of the checkpoint.
        cache_dir: folder for downloads, in place of the one of the fit.

    Raises:
        InputError: as `popularity.inference.explain_model.load_model`.
    """
    model, data = load_model(path, cache_dir)
    ranges = feature_ranges(path, model, data)
    try:
        load_own_songs(path, data)
        known = data.songs("train").reset_index(drop=True)
    except InputError:
        known = None
    return Loaded(model, data, ranges, known)


def similar_songs(song: pd.DataFrame, known: pd.DataFrame, ranges: Mapping[str, Range]) -> pd.DataFrame:
    """Known songs by the artist of a song, then those that sound most like it: ``title, artist, popularity, why``.

    Args:
        song: one row.
        known: songs that the model was trained on.
        ranges: of the features that say how alike two songs are, in standard deviations.
    """
    by_artist = np.flatnonzero(first_artists(known) == first_artists(song).iloc[0])[:_ALIKE]
    away = np.zeros(len(known))
    for column, one in ranges.items():
        if pd.notna(value := song[column].iloc[0]):
            features = one.numeric.feature_value(known[column].to_numpy(np.float64))
            away += np.nan_to_num((features - one.mean) / one.scale - one.standard(float(value))) ** 2
    near = np.argsort(away, kind="stable")[: _ALIKE + len(by_artist)] if away.any() else np.zeros(0, int)
    near = near[~np.isin(near, by_artist)][:_ALIKE]
    table = known.iloc[[*by_artist, *near]][["title", "artist", "popularity"]].round({"popularity": 1})
    table["artist"] = table["artist"].str.replace(";", ", ")
    return table.assign(why=["same artist"] * len(by_artist) + ["sounds similar"] * len(near))


def predicted_file(loaded: Loaded, name: str, content: bytes) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Songs of a file that was dropped on the page, their predictions, and what was understood of it.

    Raises:
        InputError: it cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name
        path.write_bytes(content)
        try:
            found = load_songs(str(path), deduplicate=False, need_popularity=False, **loaded.data.reading)
        except InputError as error:
            raise InputError(str(error).replace(str(path), name)) from error
    wanted = Wanted(_cutoffs(loaded), reasons=len(found.songs) <= _REASONS)
    parts = [found.songs.iloc[n : n + SONGS_AT_ONCE] for n in range(0, len(found.songs), SONGS_AT_ONCE)]
    tables = [prediction_table(loaded.model.module, loaded.data, one.reset_index(drop=True), wanted) for one in parts]
    lines = [line.replace(str(path), name) for line in found.report.lines()]
    return found.songs, pd.concat(tables, ignore_index=True), lines


def page(path: str, cache_dir: str | None = None) -> None:
    """The page, from the top; Streamlit runs it anew whenever something on it changes; arguments as for `load`."""
    import streamlit as st

    st.set_page_config(page_title="popularity", layout="wide")
    loaded = st.cache_resource(show_spinner="Reading the checkpoint ...")(load)(path, cache_dir)
    st.title("How popular on Spotify?")
    st.caption(f"Predicted by {Path(path).name}, from 0 to 100. Nothing that you enter leaves this computer.")
    kind = st.radio("What to predict", ["One song", "A file of songs"], horizontal=True)
    try:
        song = _typed(st) if kind == "One song" else _dropped(st, loaded)
        if song is not None:
            _one(st, loaded, song)
    except InputError as error:
        st.error(_as_text(str(error).removeprefix("--song: ")))
    st.caption(f"Keep in mind: {NOT_A_CAUSE}.")


def _typed(st: Any) -> pd.DataFrame:
    with st.form("song"):
        left, right = st.columns(2)
        artist, title = left.text_input("Artist"), right.text_input("Title")
        text = st.text_input("Features, as name=value; what you leave out counts as missing", _EXAMPLE)
        st.form_submit_button("Predict", type="primary")
    return song_table(text, artist=artist or None, title=title or None)


def _dropped(st: Any, loaded: Loaded) -> pd.DataFrame | None:
    file = st.file_uploader("Drop a CSV or another table of songs")
    if file is None:
        return None
    keep = st.cache_resource(max_entries=2, hash_funcs={Loaded: id}, show_spinner="Predicting ...")(predicted_file)
    songs, table, lines = keep(loaded, file.name, file.getvalue())
    safe = for_spreadsheets(table)  # shown too: Streamlit's table saves itself as CSV
    st.dataframe(safe, hide_index=True)
    text = safe.to_csv(index=False, lineterminator="\n")
    st.download_button("Save as CSV", text, "predictions.csv", "text/csv")
    with st.expander("What was read"):
        st.text("\n".join(lines))
    number = st.number_input(f"Look at song number, of {len(songs):,}", 1, len(songs))
    return songs.iloc[[int(number) - 1]].reset_index(drop=True)


def _one(st: Any, loaded: Loaded, song: pd.DataFrame) -> None:
    """One song: sliders beside its prediction, then the curve and the known songs."""
    st.subheader(_as_text(described(song.iloc[0]).replace("no name - no name", "This song")))
    results, what_if = st.columns([3, 2])
    with what_if:
        changed = _sliders(st, loaded.ranges, song)
    with results:
        _prediction(st, loaded, changed)
        _curve(st, loaded, changed)
    st.subheader("Similar known songs")
    if loaded.known is None:
        st.info("The songs that this model was trained on are not on this computer any more: it knows them by numbers.")
    else:
        table = similar_songs(changed, loaded.known, loaded.ranges)
        names = {name: table[name].fillna("no name").map(_as_text) for name in ("title", "artist")}
        st.table(table.assign(**names).set_index("title"))


def _sliders(st: Any, ranges: Mapping[str, Range], song: pd.DataFrame) -> pd.DataFrame:
    st.markdown("**What if?** Move a slider: features stay inside the range of the training songs.")
    values, key = {}, pd.util.hash_pandas_object(song.astype("str")).sum()
    for name, one in ranges.items():
        own = song[name].iloc[0]
        if pd.isna(own):
            continue
        low, high = one.column(np.array([one.low, one.high])) / _unit(name)
        shown = float(np.clip(own / _unit(name), low, high))
        found = st.slider(_label(name), float(low), float(high), shown, key=f"{name} {key}")
        values[name] = own if found == shown else found * _unit(name)
    if absent := [plain(name) for name in ranges if name not in values]:
        st.caption(f"Without a value: {', '.join(absent)}")
    return song.assign(**values)


def _prediction(st: Any, loaded: Loaded, song: pd.DataFrame) -> None:
    wanted = Wanted(_cutoffs(loaded), reasons=True)
    row = prediction_table(loaded.model.module, loaded.data, song, wanted).iloc[0]
    left, right = st.columns(2)
    left.metric("Predicted popularity", f"{row['predicted_popularity']:.0f}")
    if "low_80" in row:
        right.metric("80 % interval", f"{row['low_80']:.0f} to {row['high_80']:.0f}")
        ends = {n: f"between {row[f'low_{n}']:.0f} and {row[f'high_{n}']:.0f}" for n in (50, 95)}
        chances = [f"{100 * row[f'chance_{cutoff:g}']:.0f} % to reach {cutoff:g}" for cutoff in _CUTOFFS]
        st.markdown(
            f"**How sure:** half of such songs are {ends[50]}, 95 of 100 {ends[95]}. Chances: {', '.join(chances)}."
        )
    st.markdown("**Why:** " + (row["reasons"] or "no single feature moves it"))
    if "known_songs" in row:
        st.caption(f"Known songs by this artist that were read: {row['known_songs']}")
    if row["warning"]:
        st.warning(_as_text(row["warning"]))


def _curve(st: Any, loaded: Loaded, changed: pd.DataFrame) -> None:
    """The prediction and its interval over the range of one feature, all others as the sliders say."""
    name = st.selectbox("Curve of", list(loaded.ranges), format_func=_label)
    values = values_of(name, loaded.ranges, 21)
    predicted = with_interval(loaded.model.predict(variants(changed, [name], values[:, None])))
    here = loaded.model.mean(changed)[0]
    own = float(changed[name].iloc[0])
    now = None if np.isnan(own) else (own / _unit(name), float(here))
    st.pyplot(plots.what_if_line(_label(name), values / _unit(name), predicted, now))


def _as_text(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _cutoffs(loaded: Loaded) -> tuple[float, ...]:
    return _CUTOFFS if has_distribution(loaded.model.module) else ()


def _unit(name: str) -> float:
    return 1000.0 if name == "duration_ms" else 1.0


def _label(name: str) -> str:
    return "duration, seconds" if name == "duration_ms" else plain(name)


if __name__ == "__main__":
    from popularity.inference.app_page import page as _page  # not the copy of this module that Streamlit makes

    _page(*sys.argv[1:])
