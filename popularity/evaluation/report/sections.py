"""The sections of the page, from tables to markup, each with what one sees and what it does not prove."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import numpy as np
import pandas as pd

from popularity.evaluation.paired import ranked
from popularity.evaluation.report import errors, features, hits, ranking
from popularity.evaluation.report.comparison import Comparison
from popularity.evaluation.report.markup import folded, plot, plots, table
from popularity.evaluation.report.style import MOST, looks
from popularity.evaluation.report.tables import LeftOut
from popularity.evaluation.report.words import WORDS
from popularity.evaluation.significance import first_artists

LARGEST = 10
#: Columns of hits that are seen without scrolling; the others follow.
_FIRST = ("cutoff", "model", "folds", "auroc", "auroc_sd", "auroc_difference", "auroc_low", "auroc_high")
_CLAIMED = ("project", "model", "metric", "reported", "theirs", "honest")


def _claims(c: Comparison) -> str:
    claims = c.tables.table("claims.csv")
    last = claims.columns.intersection(["source", "method"])  # long texts, which nothing should hide behind
    claims = claims[[*claims.columns.difference(last, sort=False), *last]]
    return table(_ahead(claims, _CLAIMED), "Original claims beside measurements")


def _ahead(frame: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """These columns first, as far as there are any: a wide table shows its beginning."""
    first = [name for name in names if name in frame]
    return frame[[*first, *frame.columns.difference(first, sort=False)]]


def _list(names: object) -> str:
    return ", ".join(map(str, names))  # type: ignore[call-overload]


def _scores(c: Comparison) -> str:
    summary = ranked(c.tables.table("summary.csv"))
    try:
        folds = c.tables.table("folds.parquet")
    except LeftOut:
        folds = pd.DataFrame()
    if within := [name for name in ("within_5", "within_10") if name in folds]:
        means = folds.groupby("model")[within].mean()
        place = summary.columns.get_loc("seconds") if "seconds" in summary else summary.shape[1]
        for name in reversed(within):
            summary.insert(place, name, means[name].reindex(summary["model"]).to_numpy())
    return table(summary, "Mean scores over folds, best first", reference=c.reference)


def _ranking(c: Comparison) -> str:
    best = c.scores.iloc[0]
    label = f"{len(c.scores)} models by squared error relative to {c.reference}; "
    label += f"best: {best['model']} at {best['ratio_to_reference']:.3f}"
    shown = c.scores[["model", "folds", "ratio_to_reference", "ratio_low", "ratio_high"]]
    numbers = folded(shown, "Ratio of squared errors")
    return plots(
        plot(
            ranking.ranking(c.scores, c.reference), "ranking", "Squared error relative to the reference", label, numbers
        )
    )


def _differences(c: Comparison) -> str:
    if (c.scores["model"] == c.reference).all():
        raise LeftOut(f"there is no model beside the reference {c.reference}")
    figure = ranking.differences(c.tables.table("folds.parquet"), c.scores, c.reference)
    label = f"Difference in squared error to {c.reference}, for each fold and on average, with intervals"
    columns = ["model", "folds", "difference", "low", "high", "song_low", "song_high", "p_value", "wins"]
    shown = c.scores.loc[c.scores["model"] != c.reference, [name for name in columns if name in c.scores]]
    numbers = folded(shown, "Differences in points²")
    return plots(plot(figure, "differences", "Difference per fold", label, numbers)) + _repeated(c)


def _repeated(c: Comparison) -> str:
    try:
        found = c.tables.table("repeated_folds.csv")
    except LeftOut:
        return ""
    columns = {
        "model": "model", "mse_repeated": "MSE there", "difference_repeated": "difference there",
        "mse_others": "MSE on others", "difference_others": "difference on others", "low_others": "from (95 %)",
        "high_others": "to (95 %)",
    }  # fmt: skip
    if not found["folds_others"].any():
        return ""
    first, there, others = found.iloc[0], found["folds_repeated"].max(), found["folds_others"].max()
    caption = (
        f"Apart: {there} folds whose {first['songs']:,} songs (on average) are tested in several repeats, and {others} "
        f"others; differences of MSE to {first['against']}, over the folds that both have"
    )
    return table(found[list(columns)], caption, headings=columns, reference=first["against"], digits=2)


def _predicted(c: Comparison) -> str:
    parts = []
    for place, model in enumerate(c.drawn):
        part = c.predictions[c.predictions["model"] == model]
        truth, predicted = part["truth"].to_numpy(), part["prediction"].to_numpy()
        label = f"True over predicted popularity of {len(part):,} predictions by {model}"
        caption = f"{model} (darkest cell: {errors.cell_counts(truth, predicted).max():,.0f} predictions)"
        parts.append(plot(errors.predicted_against_true(truth, predicted), f"predicted{place}", caption, label))
    return plots(*parts)


def _residuals(c: Comparison) -> str:
    residuals = {m: c.predictions.loc[c.predictions["model"] == m, "residual"].to_numpy() for m in c.drawn}
    shown = pd.DataFrame(
        [
            {"model": model, "mean error": values.mean(), "sd": values.std(),
             "within 5 points": np.mean(abs(values) <= 5), "within 10 points": np.mean(abs(values) <= 10)}
            for model, values in residuals.items()
        ]
    )  # fmt: skip
    names = _list(residuals)
    return plots(
        plot(errors.residual_histogram(residuals, c.drawn), "residuals", "Spread of the errors", f"Errors of {names}",
             folded(shown, "Errors over all predictions", 3)),
        plot(errors.residual_quantiles(residuals, c.drawn), "quantiles", "Errors against a normal distribution (QQ)",
             f"Quantiles of the errors of {names} over normal quantiles"),
    )  # fmt: skip


def _bands(c: Comparison) -> str:
    predictions = c.predictions
    grouped = errors.grouped_errors(
        predictions, errors.band_of(predictions["truth"].to_numpy()), first_artists(c.tables.songs)
    )
    numbers = _group_numbers(grouped, errors.BANDS, "popularity")
    label = f"Typical and mean error of {_list(c.drawn)} over bands of true popularity"
    return plots(plot(errors.error_by_band(grouped, c.drawn), "bands", "Errors by true popularity", label, numbers))


def _known(c: Comparison) -> str:
    figure = errors.error_by_known_songs(c.by_known, c.drawn, c.reference)
    numbers = _group_numbers(c.by_known, errors.KNOWN, "known songs")
    label = f"Squared error of {_list(c.drawn)} over the number of known songs of the credited artists"
    return plots(plot(figure, "known", "Errors by known songs", label, numbers))


def _group_numbers(grouped: pd.DataFrame, names: tuple[str, ...], heading: str) -> str:
    shown = grouped.drop(columns="group")
    shown.insert(1, heading, [names[group] for group in grouped["group"]])
    halves = {"mse_half": "MSE ± (95 %)", "bias": "mean error", "bias_half": "mean error ± (95 %)"}
    return folded(shown.rename(columns=halves), f"Errors by {heading}")


def _hit_table(c: Comparison) -> str:
    summary = c.tables.table("hit_summary.csv")
    if "auroc" in summary:
        summary = summary.sort_values("auroc", ascending=False, kind="stable")
    if "skipped" in summary and not summary["skipped"].any():
        summary = summary.drop(columns="skipped")
    compared = None
    if "reference" in summary:
        compared = next(iter(summary["reference"].dropna()), None)
        summary = summary.drop(columns="reference")
    summary = _ahead(summary, _FIRST)
    cutoffs = hits.sort_cutoffs(summary["cutoff"].tolist())
    try:
        opened = c.hits["cutoff"].iloc[0]
    except LeftOut:
        opened = cutoffs[0]
    parts = []
    for cutoff in sorted(cutoffs, key=lambda cutoff: cutoff != opened):  # that one first, the others in order
        of_cutoff = summary[summary["cutoff"] == cutoff].drop(columns="cutoff")
        words = f"Hit: {hits.cutoff_name(cutoff)}"
        if cutoff == opened:
            parts.append(table(of_cutoff, words, reference=compared))
        else:
            parts.append(folded(of_cutoff, words, line=words, reference=compared))
    return "".join(parts)


def _curves(c: Comparison) -> str:
    roc, recall = hits.curves(c.hits, c.hit_scores, c.hit_looks)
    names, numbers = _list(c.hit_looks), folded(c.hit_scores, f"All models, hit: {c.hit_words}")
    return plots(
        plot(roc, "roc", f"ROC, hit: {c.hit_words}", f"ROC curves of {names}", numbers),
        plot(recall, "recall", f"Precision-recall, hit: {c.hit_words}", f"Precision-recall curves of {names}"),
    )


def _confusion(c: Comparison) -> str:
    counts = hits.confusion_counts(c.hits)
    label = f"Shares of hits and of others that were called hits, by {_list(c.hit_looks)}"
    numbers = folded(counts, "Counts over all folds and repeats", 0)
    figure = hits.confusion(counts, c.hit_looks)
    return plots(plot(figure, "confusion", f"Confusion, hit: {c.hit_words}", label, numbers))


def _cutoffs(c: Comparison) -> str:
    summary = c.tables.table("hit_summary.csv")
    if not any(name in summary for name in hits.MEASURES):
        raise LeftOut(f"hit_summary.csv has none of {_list(hits.MEASURES)}")
    try:
        chosen = c.hit_looks
    except LeftOut:  # the summary alone is there
        chosen = looks(list(dict.fromkeys(summary["model"]))[:MOST])
    figure = hits.against_cutoff(summary, chosen)
    return plots(plot(figure, "cutoffs", "Scores by cut-off", f"Scores of {_list(chosen)} over cut-offs"))


def _calibration(c: Comparison) -> str:
    figure = hits.calibration(c.hits, c.hit_looks)
    label = f"Share of hits over the probability given, by {_list(c.hit_looks)}"
    return plots(plot(figure, "calibration", f"Calibration, hit: {c.hit_words}", label))


def _correlations(c: Comparison) -> str:
    found = features.correlations(c.tables.songs)
    shown = found.rename_axis("column").reset_index()
    label = f"Rank correlations of {_list(found)}"
    numbers = folded(shown, "Spearman's rank correlations", 2)
    return plots(plot(features.correlation_map(found), "correlations", "Rank correlations", label, numbers))


def _coefficients(c: Comparison) -> str:
    found = features.coefficients(c.tables)
    label = f"Coefficients of {_list(found['feature'])}, largest first"
    numbers = folded(found, "Coefficients over folds", 2)
    return plots(
        plot(features.coefficient_bars(found), "coefficients", "Points per standard deviation", label, numbers)
    )


def _importance(c: Comparison) -> str:
    found = features.importance(c.tables)
    title = "Of a quick gradient boosting on the audio columns"
    label = f"Rise in squared error when {_list(found['feature'])} is shuffled"
    figure = features.importance_bars(found)
    return plots(plot(figure, "importance", title, label, folded(found, "Permutation importance", 2)))


def _largest(c: Comparison) -> str:
    model = c.focus[0]
    of_model = c.predictions[c.predictions["model"] == model]
    mean = of_model.groupby("row")[["prediction", "truth"]].mean()
    mean["error"] = mean["prediction"] - mean["truth"]
    named = c.tables.songs.loc[mean.index, ["title", "artist"]].fillna("unknown")
    song = named["title"] + " · " + named["artist"].str.replace(";", ", ")
    named = pd.DataFrame({"song": song, "true": mean["truth"], "predicted": mean["prediction"], "error": mean["error"]})
    ordered = named.sort_values("error", kind="stable")
    above, below = ordered[ordered["error"] > 0].tail(LARGEST)[::-1], ordered[ordered["error"] < 0].head(LARGEST)
    return plots(
        *(
            f"<div>{table(part, f'Predicted too {word} by {model}')}</div>"
            for part, word in ((above, "high"), (below, "low"))
        )
    )


BUILDERS: dict[str, Callable[[Comparison], str]] = {
    "scores": _scores,
    "ranking": _ranking,
    "differences": _differences,
    "claims": _claims,
    "predicted": _predicted,
    "residuals": _residuals,
    "bands": _bands,
    "known": _known,
    "hits": _hit_table,
    "curves": _curves,
    "confusion": _confusion,
    "cutoffs": _cutoffs,
    "calibration": _calibration,
    "correlations": _correlations,
    "coefficients": _coefficients,
    "importance": _importance,
    "largest": _largest,
}
"""The sections in order: what draws each, from the comparison to markup; raises ``LeftOut`` where it cannot."""


def section(slug: str, c: Comparison) -> str:
    """Return a section of the page, its text above its plots, or the reason why it is left out.

    Args:
        slug: its name in ``BUILDERS`` and ``WORDS``.
        c: what it draws from.
    """
    title, sees, limits = WORDS[slug]
    head = f'<h2 id="{slug}-h">{escape(title)}</h2>'
    kind = ""
    try:
        body = BUILDERS[slug](c)
        kind = ' class="one"' if body.count("<figure") == 1 else ""
        sees = escape(sees.format(reference=c.reference)).replace(" %", "&nbsp;%")
        head += f"<p><b>What you see.</b> {sees}</p>"
        head += f'<p class="limits"><b>What it does not prove.</b> {escape(limits)}</p>'
    except LeftOut as reason:
        body = f'<p class="skipped">Left out: {escape(str(reason))}.</p>'
    return f'<section id="{slug}" aria-labelledby="{slug}-h"{kind}><div>{head}</div>{body}</section>'
