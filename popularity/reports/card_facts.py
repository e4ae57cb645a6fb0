"""What a model card says in words: the songs, their licence, how the fit held songs out, what it chose, how to cite."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from popularity import __version__
from popularity.data.albums import first_artists
from popularity.data.sources import DOWNLOADS, EMBEDDED, EMBEDDED_FILE, NAMES, ORIGINS, parquet_files
from popularity.data.splits import GROUPS
from popularity.training.datamodule import PopularityDataModule
from popularity.training.module import PopularityModule

#: Title and authors of CITATION.cff, which an installed package does not hold.
TITLE, AUTHORS = "popularity: predict a song's Spotify popularity with Mamba", "The popularity authors"


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; of a folder of Parquet files, that of theirs one behind the other."""
    if path.is_dir():
        return hashlib.sha256("".join(map(file_hash, parquet_files(path))).encode()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def named_set(source: str, sha256: str) -> str | None:
    """The named data set that a source is, by its name or by the SHA-256 of its file."""
    if source in NAMES:
        return source
    known = {download.sha256: name for name, download in DOWNLOADS.items()} | {file_hash(EMBEDDED_FILE): EMBEDDED}
    return known.get(sha256)


def data_facts(source: str, songs: pd.DataFrame, path: Path) -> dict[str, str]:
    """What identifies a file of songs, who may use it, and what kind of songs it holds.

    Args:
        source: as the user named it.
        songs: its song table, with popularity.
        path: of the file.
    """
    content = file_hash(path)
    name = named_set(source, content)
    origin, licence = ORIGINS[name] if name else ("", "not known: this is a file of your own")
    facts = {"file": f"{name} ({origin})" if name else path.name, "SHA-256 of the file": content, "licence": licence}
    return facts | described(songs)


def described(songs: pd.DataFrame) -> dict[str, str]:
    """What kind of songs a table holds."""
    popularity, dates, genres = songs["popularity"], songs["release_date"].dropna(), songs["genre"].dropna()
    facts = {"songs": f"{len(songs):,}, by {first_artists(songs).nunique():,} first-named artists"}
    facts["popularity"] = (
        f"mean {popularity.mean():.1f}, standard deviation {popularity.std():.1f}, "
        f"from {popularity.min():g} to {popularity.max():g}; exactly 0: {(popularity == 0).mean():.1%}"
    ).replace("%", " %")
    if len(dates):
        facts["released"] = f"{dates.min():%Y} to {dates.max():%Y}, half of them since {dates.median():%Y}"
    if len(genres):
        first = ", ".join(f"{name} {share:.0%}".replace("%", " %") for name, share in _shares(genres).items())
        facts["genres"] = f"{genres.nunique()}: {first}{' and others' if genres.nunique() > 6 else ''}"
    return facts


def _shares(genres: pd.Series) -> dict[str, float]:
    return {str(name): float(share) for name, share in genres.value_counts(normalize=True).head(6).items()}


def protocol_facts(fitted: Mapping[str, Any]) -> dict[str, str]:
    """How the fit held songs out, from the fingerprint in its checkpoint."""
    if not fitted["folds"]:
        return {"held out": f"nothing: all {fitted['train_songs']:,} songs were trained on"}
    rule = f"{fitted['split']} ({GROUPS[fitted['split']]} stay together)" if fitted["split"] != "random" else "random"
    facts = {"split": f"{rule}, fold {fitted['fold']} of {fitted['folds']}, seed {fitted['split_seed']}"}
    facts["trained on"] = f"{fitted['train_songs']:,} songs"
    facts["validated on"] = f"{fitted['validation_songs']:,} songs, which chose the epoch of the checkpoint"
    if not fitted["validation_songs"]:
        facts["validated on"] = "nothing: the last epoch was kept"
    facts["held out to test"] = f"{fitted['test_songs']:,} songs"
    facts["repeated songs"] = "removed before splitting" if fitted["deduplicate"] else "kept"
    return facts


def model_facts(module: PopularityModule, data: PopularityDataModule, checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """What the network is and what its fit chose.

    Args:
        module: of the checkpoint.
        data: likewise.
        checkpoint: as it was read.
    """
    settings = checkpoint["hyper_parameters"].get("net", {}).get("init_args", {})
    names = [name for name in ("members", "width", "layers", "block") if name in settings]
    shown = ", ".join(f"{name} {settings[name]}" for name in names)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    facts = {"network": f"{type(module.net).__name__}{f' ({shown})' if shown else ''}, {parameters:,} parameters"}
    facts["head"] = type(module.head).__name__
    facts["encoder"] = type(data.encoder).__name__
    rounded = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in data.chosen.items()}
    chosen = ", ".join(f"{name} {value}" for name, value in rounded.items())
    facts["chosen by the fit for these songs"] = chosen or "nothing: every setting was given"
    facts["calibration"] = "none" if module.calibration.is_identity() else str(module.calibration)
    facts["optimiser steps"] = f"{checkpoint.get('global_step', 0):,}"
    facts["columns read"] = ", ".join(data.trained_columns)
    return facts


def citation(checkpoint_hash: str, data_name: str | None) -> str:
    """How to cite the software, this checkpoint and its data: BibTeX."""
    entry = f"""@software{{popularity,
  title = {{{TITLE}}},
  author = {{{{{AUTHORS}}}}},
  version = {{{__version__}}},
  note = {{checkpoint with SHA-256 {checkpoint_hash}}}
}}"""
    if data_name is None:
        return entry
    origin, _ = ORIGINS[data_name]
    return f"{entry}\n@misc{{{data_name},\n  title = {{{data_name}}},\n  howpublished = {{{origin}}}\n}}"
