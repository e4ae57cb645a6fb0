"""The sections of a model card that have numbers: tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from popularity import plots
from popularity.errors import InputError
from popularity.evaluation.results import Results, read_results
from popularity.inference.explain_importance import permutation_importance
from popularity.inference.explain_model import Model
from popularity.inference.explain_output import shown
from popularity.inference.explain_songs import plain
from popularity.metrics import REGRESSION
from popularity.metrics.intervals import corrected_t_test
from popularity.reports import card_songs, report_tables
from popularity.reports.card_songs import Judged
from popularity.reports.pages import Part, part

_NAME = "this checkpoint"


def read_comparison(folder: str, model: str, sha256: str) -> Results:
    """The results of a comparison on the songs of a checkpoint.

    Args:
        folder: that `compare` wrote.
        model: its name for the network.
        sha256: fingerprint of the checkpoint's songs.

    Raises:
        InputError: no comparison, one without that model, or one on other songs.
    """
    found = read_results(Path(folder))
    if "folds" not in found.tables:
        raise InputError(f"--compared {folder}: expected folds.parquet of a comparison, found none")
    names = found.tables["folds"]["model"].unique().tolist()
    if model not in names:
        raise InputError(f"--model: expected one of {', '.join(names)}, got {model!r}")
    if found.protocol.get("fingerprint") != sha256:
        raise InputError(f"--compared {folder}: expected a comparison on the songs of this checkpoint, got other songs")
    return found


def by_fold(found: Results, model: str) -> Part:
    """Metrics of a compared model with intervals over folds, those of each fold, and what its intervals hold."""
    folds = found.tables["folds"].query("model == @model")
    share = float((folds["songs_test"] / folds["songs_train"]).mean())
    names = [name for name in REGRESSION if name in folds]
    rows = []
    for name in names:
        test, digits = corrected_t_test(folds[name].to_numpy(np.float64), share), card_songs.DECIMALS[name]
        interval = card_songs.written_range(test.low, test.high, digits)
        mean = card_songs.written(test.difference, digits)
        rows.append({"metric": card_songs.NAMES[name], "mean": mean, "95 % over folds": interval})
    tables = [(f"Mean over {len(folds)} folds", pd.DataFrame(rows), True)]
    coverage = report_tables.coverage(found)
    if coverage is not None and (coverage["model"] == model).any():
        tables.append(("Intervals by known songs", coverage[coverage["model"] == model].drop(columns="model"), True))
    shown_folds = folds[["repeat", "fold", *names]].astype({"repeat": "str", "fold": "str"})
    return part([], *tables, ("Each fold", shown_folds, False))


def of_songs(judged: Judged, others: Mapping[str, np.ndarray]) -> dict[str, Part]:
    """Metrics, groups of songs and calibration."""
    truth, prediction = judged.truth, judged.prediction
    parts = {"metrics": part([], ("All songs", card_songs.metrics(judged, others), True)), "groups": _groups(judged)}
    calibrated = [
        ("Predicted against true", plots.predicted_against_true(truth, prediction.mean, "")),
        ("Residuals", plots.residuals(truth, prediction.mean, "")),
    ]
    tables = []
    if prediction.probabilities is not None and prediction.edges is not None:
        figure = plots.calibration(truth, prediction.probabilities, prediction.edges, stacked=True)
        calibrated.append(("Distributions", figure))
        tables = [("What the intervals hold", card_songs.coverage(judged), True)]
    return parts | {"calibration": part(calibrated, *tables)}


def _groups(judged: Judged) -> Part:
    pictures, tables = [], []
    panels = {"rmse": "typical error (RMSE)", "residual": "true minus predicted"}
    for kind, (names, group) in card_songs.groups(judged).items():
        table = card_songs.by_group(judged, names, group)
        short = [name if len(name) < 16 else name[:14].rstrip() + "…" for name in names]
        figure = plots.errors_by_group(table, panels, short, kind, plots.line_styles([_NAME], None))
        pictures.append((f"By {kind}", figure))
        columns = ["songs", "rmse", "rmse_half", "residual", "residual_half", "inside 80 %", "width_80"]
        columns = ["name", *(name for name in columns if name in table)]
        tables.append((f"By {kind}", table[columns].rename(columns={"name": kind}), False))
    return part(pictures, *tables)


def importance(model: Model, songs: pd.DataFrame, shuffles: int, seed: int) -> Part:
    """What the network reads: `explain`'s permutation importance of this very network."""
    table = permutation_importance(
        model, songs, shuffles=shuffles, seed=seed, progress=lambda names: shown(names, "importance")
    )
    if table.empty:
        return part([])
    half = ((table["mse_rise_high"] - table["mse_rise_low"]) / 2).to_numpy()
    names = [plain(name) for name in table["feature"]]
    figure = plots.bars(names, table["mse_rise"].to_numpy(), half, "rise of the squared error (points²)", ".1f")
    numbers = pd.DataFrame(
        {"feature": names, "rise of MSE": [card_songs.written(rise, 2) for rise in table["mse_rise"]]}
    )
    numbers["95 %"] = report_tables.intervals(table, "mse_rise_low", "mse_rise_high")
    numbers["mean change, points"] = [card_songs.written(change, 2) for change in table["change"]]
    return part([(f"Permutation importance, {len(songs):,} songs", figure)], ("The numbers", numbers, False))
