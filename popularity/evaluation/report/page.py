"""The report: one page that holds everything, and a few plots as files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from popularity.data.splits import SplitKind
from popularity.errors import InputError
from popularity.evaluation.paired import ranked
from popularity.evaluation.report import errors, ranking
from popularity.evaluation.report.comparison import Comparison
from popularity.evaluation.report.sections import BUILDERS, section
from popularity.evaluation.report.style import CSS, svg_text
from popularity.evaluation.report.tables import LeftOut, Tables
from popularity.evaluation.report.words import WORDS
from popularity.io import check_folder, write_atomically

_PREFERRED = ("mamba", "lightgbm", "tabm")  # drawn wherever they were compared
_SHOWN = 4

# Nothing may be fetched: what the page needs is in it.
_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title><style>{css}</style></head><body>
"""


def report(
    folder: Path,
    songs: pd.DataFrame,
    *,
    split: SplitKind = "random",
    reference: str | None = None,
    title: str = "Song popularity: models compared",
    protocol: Mapping[str, object] | None = None,
) -> Path:
    """Write ``report.html`` and the plots ``ranking``, ``differences``, ``known_songs`` (``.svg`` and ``.png``).

    A part whose table is absent is replaced by a line that says so; a plot that cannot be drawn is not written, and an
    older one of its name is removed.

    Args:
        folder: the tables of a comparison: ``folds.parquet, predictions.parquet, summary.csv, hits.parquet,
            hit_summary.csv, claims.csv``, any of which may be absent, but not all.
        songs: the song table (n rows) that was compared on.
        split: the rule by which its folds were drawn; it decides which songs were known.
        reference: the model that others are compared with; None: the one whose ratio the summary gives as 1.
        title: heading of the page.
        protocol: what was compared and how, a name and a value each, shown at the top beside what ``protocol.json`` of
            the folder says.

    Returns:
        The path of the page.

    Raises:
        InputError: the folder holds none of the tables, a table lacks a column, the songs are not those compared, or an
            unknown model is asked for.
    """
    check_folder(folder)
    tables = Tables(folder, songs, split)
    models = _models(tables)
    if reference is not None and reference not in models and _has_scores(tables):
        raise InputError(f"{folder}: expected one of the models {', '.join(models)}, found {reference!r}")
    base = reference if reference is not None else _reference(tables, models)
    comparison = Comparison(tables, base, _focus(_widely_tested(tables, models), base))
    body = "".join(section(slug, comparison) for slug in BUILDERS)
    page = folder / "report.html"
    with write_atomically(page) as file:
        file.write(_HEAD.format(title=escape(title), css=CSS))
        file.write(_header(comparison, models, title, protocol or {}))
        file.write(f'<main id="main">{body}</main><footer><p>Colours are safe for colour-blind readers. ')
        file.write("Nothing on this page is fetched from elsewhere.</p></footer></body></html>\n")
    _write_plots(comparison)
    return page


def _models(tables: Tables) -> list[str]:
    """Every model, the best first where the tables tell."""
    for name in ("summary.csv", "folds.parquet", "predictions.parquet", "hits.parquet"):
        try:
            found = tables.table(name)
        except LeftOut:
            continue
        if "ratio_to_reference" in found:
            return ranked(found)["model"].tolist()
        if "mse" in found:
            return found.groupby("model", sort=False)["mse"].mean().sort_values(kind="stable").index.tolist()
        return list(dict.fromkeys(found["model"]))
    raise InputError(f"{tables.folder}: expected the tables of a comparison, such as folds.parquet, found none")


def _has_scores(tables: Tables) -> bool:
    """Whether popularity was predicted at all: a comparison of hit models alone has no reference to speak of."""
    try:
        return len(tables.table("folds.parquet")) > 0
    except LeftOut:
        return False


def _reference(tables: Tables, models: list[str]) -> str:
    try:
        summary = tables.table("summary.csv")
    except LeftOut:
        return "linear" if "linear" in models else models[-1]
    if "ratio_to_reference" in summary:
        ones = summary[summary["ratio_to_reference"] == 1]
        if "p_value" in summary and ones["p_value"].isna().any():  # another model can tie, but has a p-value
            ones = ones[ones["p_value"].isna()]
        if len(ones):
            return str(ones["model"].iloc[0])
    return "linear" if "linear" in models else models[-1]


def _widely_tested(tables: Tables, models: list[str]) -> list[str]:
    """Those tested on as many folds as any: errors on ten folds and on 25 do not belong into one picture."""
    try:
        counts = tables.table("folds.parquet")["model"].value_counts()
    except LeftOut:
        return models
    return [name for name in models if counts.get(name) == counts.max()]


def _focus(models: list[str], reference: str) -> tuple[str, ...]:
    """The models that plots of single songs show, of these and the reference."""
    models = models if reference in models else [*models, reference]
    wanted = [models[0], *(name for name in _PREFERRED if name in models), reference]
    wanted = list(dict.fromkeys(wanted))
    spare = [name for name in models if name not in wanted][: max(0, _SHOWN - len(wanted))]
    return tuple(name for name in models if name in wanted or name in spare)


def _header(c: Comparison, models: list[str], title: str, protocol: Mapping[str, object]) -> str:
    facts: list[tuple[str, str, str]] = []
    try:
        best = c.scores.iloc[0]
        sure = "" if pd.isna(best["ratio_low"]) else f", 95 %: {best['ratio_low']:.3f} to {best['ratio_high']:.3f}"
        apart = (c.scores["folds"] < best["folds"]).any()
        facts.append(("lowest error", str(best["model"]), f"of those on {best['folds']} folds" if apart else ""))
        facts.append(("its squared error", f"{best['ratio_to_reference']:.3f}", f"of {c.reference}'s{sure}"))
        folds = c.tables.table("folds.parquet")
        repeats, parts = folds["repeat"].nunique(), folds["fold"].nunique()
        few = int((folds.groupby("model").size() < repeats * parts).sum())
        facts.append(
            ("repeats × folds", f"{repeats} × {parts}", f"{few} of the models have fewer" if few else "for every model")
        )
    except LeftOut:
        pass
    facts.append(("models", str(len(models)), ""))
    facts.append(("songs", f"{len(c.tables.songs):,}", ""))
    tiles = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}{f'<small>{escape(note)}</small>' if note else ''}</dd></div>"
        for name, value, note in facts
    )
    links = "".join(f'<li><a href="#{slug}">{escape(WORDS[slug].title)}</a></li>' for slug in BUILDERS)
    rows = "".join(
        f'<tr><th scope="row" class="text">{escape(str(name))}</th><td class="text wrap">{escape(str(value))}</td></tr>'
        for name, value in {**_recorded(c.tables.folder), **protocol, "split": c.tables.split}.items()
    )
    return (
        f'<a class="skip" href="#main">Skip to the results</a><header><h1>{escape(title)}</h1><p class="lead">Every '
        "model was trained and tested on the same folds, and tested only on songs that it had not seen. "
        f'{_SPLITS[c.tables.split]}</p><dl class="facts">{tiles}</dl><details><summary>The protocol</summary>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="The protocol"><table><tbody>{rows}</tbody></table>'
        f'</div></details><nav aria-label="Sections"><ul>{links}</ul></nav></header>'
    )


def _recorded(folder: Path) -> dict[str, object]:
    path = folder / "protocol.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


_SPLITS = {
    "random": "Folds are drawn at random, so an artist of a test song is often known.",
    "artist": "No first-named artist of a test song is known; guests may be.",
    "credits": "No name credited on a test song is known. The most famous names hang together through guest credits "
    "and fill one fold, the same in every repeat, so repeats say less than their number suggests.",
    "album": "No album of a test song is known; its artist may be.",
    "time": "Models learn from older songs and are tested on newer ones.",
}


def _write_plots(c: Comparison) -> None:
    """Write the plots that a README shows, as SVG and as PNG with twice as many dots as units."""

    def others() -> Figure:
        if (c.scores["model"] == c.reference).all():
            raise LeftOut("there is only the reference")
        return ranking.differences(c.tables.table("folds.parquet"), c.scores, c.reference)

    drawings = {
        "ranking": lambda: ranking.ranking(c.scores, c.reference),
        "differences": others,
        "known_songs": lambda: errors.error_by_known_songs(c.by_known, c.drawn, c.reference),
    }
    for name, draw in drawings.items():
        vector, dots = c.tables.folder / f"{name}.svg", c.tables.folder / f"{name}.png"
        try:
            figure = draw()
        except LeftOut:
            vector.unlink(missing_ok=True)
            dots.unlink(missing_ok=True)
            continue
        with write_atomically(vector) as file:
            file.write(svg_text(figure, name))
        with write_atomically(dots, binary=True) as file:
            figure.savefig(file, format="png", dpi=144, metadata={"Software": None})
