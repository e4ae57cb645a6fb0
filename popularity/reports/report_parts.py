"""The parts of the report, each with its pictures and tables; a part whose tables are absent is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from popularity import plots
from popularity.data.schema import AUDIO
from popularity.evaluation import results
from popularity.evaluation.results import Results
from popularity.inference.explain_columns import coefficients
from popularity.reports import report_tables
from popularity.reports.pages import Part, part, with_svg

#: Part to the name of the SVG file with its first picture.
FILES = {"ranking": "ranking", "differences": "differences", "known": "known_songs"}
LARGEST = 10
POPULARITY_BANDS = tuple(f"{low}–{100 if low == 90 else low + 9}" for low in range(0, 100, 10))
KNOWN = {"0": 0, "1": 1, "2–3": 2, "4–7": 4, "8–15": 8, "16+": 16}  # name of a group to its smallest number
MEASURES = {"auroc": "AUROC", "average_precision": "average precision", "brier": "Brier", "f1": "F1"}


def report_parts(found: Results) -> dict[str, Part]:
    """Return pictures (``heading, svg``) and tables (``caption, table, open``) by the name of each part."""
    parts = _comparison(found) | _songs(found) | _hits(found) | _columns(found)
    if (table := found.tables.get("published_results")) is not None:
        names = ["project", "model", "metric", "reported", "theirs", "honest", "honest_sd", "method", "source"]
        parts["published"] = part([], ("Published and measured", table[[n for n in names if n in table]], True))
    return with_svg(parts)


def _comparison(found: Results) -> dict[str, Part]:
    parts = {}
    if (scores := report_tables.scores(found)) is not None:
        parts["scores"] = part([], ("Mean over folds, best first", scores, True))
    if (coverage := report_tables.coverage(found)) is not None:
        parts["intervals"] = part([], ("By known songs of the credited artists", coverage, True))
    if found.reference is None or "folds" not in found.tables:
        return parts
    table = found.tables["differences"]
    names = {"ratio_to_reference": "mean", "ratio_low": "low", "ratio_high": "high"}
    label = f"squared error as a share of that of {found.reference}"
    figure = plots.forest(table[["model", "folds", *names]].rename(columns=names), 1.0, label, ".3f")
    ends = {"95 % over folds": report_tables.intervals(table, "ratio_low", "ratio_high", 3)}
    numbers = table[["model", "folds", "ratio_to_reference"]].assign(**ends)
    parts["ranking"] = part([("Squared error relative to the reference", figure)], ("Ratios", numbers, False))
    if (differences := report_tables.differences(found)) is not None:
        folds = found.tables["folds"].pivot_table(index=["repeat", "fold"], columns="model", values="mse")
        dots = {str(name): (folds[name] - folds[found.reference]).dropna().to_numpy() for name in folds}
        others = table[table["model"] != found.reference].rename(columns={"difference": "mean"})
        label = f"squared error minus that of {found.reference} (points²)"
        figure = plots.forest(others, 0.0, label, "+.2f", dots)
        parts["differences"] = part([("Difference per fold", figure)], ("Differences in points²", differences, True))
    if (repeated := report_tables.repeated(found)) is not None:
        caption = f"Differences to {found.tables['repeated_folds']['against'].iloc[0]}"
        parts["repeated"] = part([], (caption, repeated, True))
    return parts


def _songs(found: Results) -> dict[str, Part]:
    if not (models := found.focus()):
        return {}
    songs, reference = found.tables["songs"], found.reference or models[0]
    errors, styles = results.song_errors(found, models), plots.line_styles(models, found.reference)
    of_model = {model: errors[errors["model"] == model] for model in models}

    def each(plot: Callable[..., Figure]) -> list[tuple[str, Figure]]:
        return [(model, plot(rows["truth"], rows["prediction"], "")) for model, rows in of_model.items()]

    def grouped(rows: pd.DataFrame, groups: np.ndarray, names: Sequence[str], label: str, panels: Any) -> Part:
        table = results.grouped_errors(rows, groups, songs, reference)
        figure = plots.errors_by_group(table, panels, names, label, styles)
        shown = table.drop(columns="group").dropna(axis=1, how="all")
        shown.insert(1, label, [names[group] for group in table["group"]])
        return part([(f"Errors by {label}", figure)], ("The numbers", shown, False))

    spread = errors.groupby("model")["residual"].agg(mean="mean", sd="std").loc[models].reset_index()
    parts = {
        "predicted": part(each(plots.predicted_against_true)),
        "residuals": part(each(plots.residuals), ("The numbers: residuals in points", spread, False)),
    }
    bands = np.minimum(errors["truth"].to_numpy() // 10, 9).astype(int)
    panels = {"rmse": "typical error (RMSE)", "residual": "true minus predicted"}
    parts["bands"] = grouped(errors, bands, POPULARITY_BANDS, "true popularity", panels)
    known = errors.merge(results.known_songs(found), on=["repeat", "fold", "row"], validate="many_to_one")
    if known["known"].any():
        groups = np.searchsorted(list(KNOWN.values()), known["known"], side="right") - 1
        panels = {"mse": "squared error (points²)", "ratio": f"as a share of {reference}'s"}
        parts["known"] = grouped(known, groups, list(KNOWN), "known songs of the credited artists", panels)
    mean = of_model[models[0]].groupby("row")[["residual", "truth", "prediction"]].mean()
    named = songs.loc[mean.index, ["title", "artist"]].fillna("unknown")
    mean.insert(0, "song", named["title"] + " · " + named["artist"].str.replace(";", ", "))
    mean = mean.rename(columns={"truth": "true", "prediction": "predicted"}).sort_values("residual", kind="stable")
    low, high = mean[mean["residual"] > 0].tail(LARGEST)[::-1], mean[mean["residual"] < 0].head(LARGEST)
    captions = [f"Predicted too {word} by {models[0]}" for word in ("low", "high")]
    parts["largest"] = part([], (captions[0], low, True), (captions[1], high, True))
    return parts


def _hits(found: Results) -> dict[str, Part]:
    if not (of_cutoff := report_tables.hit_tables(found)):
        return {}
    summary, hits = found.tables["hit_summary"], found.tables.get("hits")
    words = {cutoff: report_tables.cutoff_words(cutoff) for cutoff in of_cutoff}
    chosen = next(iter(words))
    if hits is not None:  # the cut-off nearest to a quarter of hits is shown in full
        chosen = str((hits.groupby("cutoff")["hit"].mean() - 0.25).abs().sort_index().idxmin())
    first = sorted(of_cutoff, key=lambda cutoff: cutoff != chosen)

    def tables(names: list[str]) -> list[tuple[str, pd.DataFrame, bool]]:
        return [(f"Hit: {words[c]}", of_cutoff[c].drop(columns=names, errors="ignore"), c == chosen) for c in first]

    ranked = [name for name in of_cutoff[chosen] if name not in ("model", *report_tables.CALLED)]
    parts = {"hits": part([], *tables([*report_tables.CALLED])), "called": part([], *tables(ranked))}
    scores = of_cutoff[chosen].dropna(subset="auroc").set_index("model")
    focus = found.focus()
    models = sorted(scores.index, key=lambda name: name not in focus)[:6]  # best first within both
    styles = plots.line_styles(models, found.reference, plots.line_styles(focus, found.reference))
    measures = {name: label for name, label in MEASURES.items() if name in summary}
    short = {cutoff: text.replace("popularity of at least", "≥") for cutoff, text in words.items()}
    parts["cutoffs"] = part([("Metrics by cut-off", plots.scores_by_cutoff(summary, measures, short, styles))])
    if hits is None or not models:
        return parts
    hits = hits[hits["cutoff"] == chosen]
    called, hit = hits["probability"] >= hits["threshold"], hits["hit"].astype(bool)
    cells = {"hits found": hit & called, "hits missed": hit & ~called, "false alarms": ~hit & called}
    counts = pd.DataFrame({"model": hits["model"], **cells, "others passed": ~hit & ~called}).groupby("model").sum()
    shown = (f"Counts over all folds and repeats, hit: {words[chosen]}", counts.loc[scores.index].reset_index(), True)
    parts["called"] = part([], shown, *tables(ranked))
    roc, recall, reliability = plots.hit_curves(hits, scores, styles)
    heading = f"hit: {words[chosen]}"
    parts["curves"] = part([(f"ROC, {heading}", roc), (f"Precision-recall, {heading}", recall)])
    parts["calibration"] = part([(f"Calibration, {heading}", reliability)])
    return parts


def _columns(found: Results) -> dict[str, Part]:
    if not {"songs", "predictions"} <= found.tables.keys():
        return {}
    songs, folds = found.tables["songs"], results.fold_rows(found)
    columns = [name for name in AUDIO if name in songs and songs[name].nunique() > 1]
    if not columns:
        return {}
    table = coefficients(songs, columns, folds.values())
    correlations = songs[["popularity", *columns]].corr(method="spearman")
    heading, label = "Coefficients of least squares", "points per standard deviation"
    figure = plots.bars(table["feature"].tolist(), table["mean"].to_numpy(), table["half"].to_numpy(), label)
    return {
        "correlations": part([("Rank correlations", plots.correlation_map(correlations))]),
        "coefficients": part([(heading, figure)], (f"The numbers: {label}", table, False)),
    }
