"""``report.html`` and ``summary.md`` of a comparison, from the tables in its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from popularity.data.splits import largest_group
from popularity.evaluation.results import Results, read_results
from popularity.io import write_atomically
from popularity.reports import report_tables
from popularity.reports.pages import environment, write_page


def write_summary(folder: Path) -> Path:
    """Write ``summary.md`` from the tables of a comparison.

    Raises:
        InputError: The folder does not hold the tables of a comparison.
    """
    results = read_results(folder)
    names = ("scores", "differences", "coverage", "repeated", "hit_tables")
    tables = {name: getattr(report_tables, name)(results) for name in names}
    return _render("summary.md.jinja", folder / "summary.md", results, **tables)


def write_report(folder: Path) -> Path:
    """Write ``report.html`` from the tables of a comparison, and its main pictures as SVG files beside it.

    A part whose tables are absent is not on the page.

    Raises:
        InputError: The folder does not hold the tables of a comparison.
    """
    from popularity.reports.report_parts import FILES, report_parts  # matplotlib and scikit-learn are slow to import

    results = read_results(folder)
    parts = report_parts(results)
    page = _render("report.html.jinja", folder / "report.html", results, parts=parts)
    for slug, name in FILES.items():
        if slug not in parts:
            (folder / f"{name}.svg").unlink(missing_ok=True)  # of an earlier comparison
            continue
        with write_atomically(folder / f"{name}.svg") as file:
            file.write(parts[slug]["pictures"][0]["svg"])
    return page


def _render(template: str, path: Path, results: Results, **context: Any) -> Path:
    context |= {"protocol": results.protocol, "tables": results.tables, "reference": results.reference}
    split, songs = results.protocol.get("split"), results.tables.get("songs")
    if split in ("artist", "credits", "album") and songs is not None:
        context["groups"] = largest_group(songs, split, results.protocol["folds"])
    context["skipped"] = _skipped(results)
    context["lines"] = environment().get_template("protocol.txt.jinja").render(context).splitlines()
    return write_page(template, path, context)


def _skipped(results: Results) -> list[str]:
    """Folds of hits that no model was tested on, and why."""
    table = results.tables.get("hit_folds", pd.DataFrame(columns=["cutoff", "repeat", "fold", "skipped"]))
    rows = table.dropna(subset="skipped").drop_duplicates(["cutoff", "repeat", "fold"]).itertuples()
    return [f"cut-off {row.cutoff}, repeat {row.repeat}, fold {row.fold}: {row.skipped}" for row in rows]
